"""Each fault on demand: what the caller sees in Stripe's own form, and what was taken all the same."""

import http.client
import json
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from doorbuster.simulators.stripe.tests.conftest import Stripe


def taken(stripe: "Stripe", order: dict[str, Any]) -> int:
    """How often money was taken for this order, in the ledger."""
    stripe.faults()
    return sum(row["reference"] == order["metadata"]["order_id"] for row in stripe.captured())


def pay(stripe: "Stripe", order: dict[str, Any], key: str | None = None) -> Any:
    return stripe.post("payment_intents", order, key)


def test_an_error_before_takes_nothing_and_leaves_the_key_unused(stripe: "Stripe") -> None:
    order = stripe.order()
    stripe.faults(error_rate=1)
    answer = pay(stripe, order, "f-1")
    assert (answer.status, answer.json["error"]["type"]) == (500, "api_error")
    assert answer.headers["request-id"].startswith("req_")
    assert taken(stripe, order) == 0
    assert pay(stripe, order, "f-1").status == 200


def test_a_rate_limit_takes_nothing(stripe: "Stripe") -> None:
    order = stripe.order()
    stripe.faults(rate_limit_rate=1)
    assert pay(stripe, order).status == 429
    assert taken(stripe, order) == 0


def test_a_reset_before_takes_nothing(stripe: "Stripe") -> None:
    order = stripe.order()
    stripe.faults(reset_before_rate=1)
    with pytest.raises(ConnectionResetError):
        pay(stripe, order)
    assert taken(stripe, order) == 0


def test_an_error_after_hides_a_payment_that_was_taken(stripe: "Stripe") -> None:
    order = stripe.order()
    stripe.faults(error_after_capture_rate=1)
    answer = pay(stripe, order)
    assert (answer.status, answer.json["error"]["type"]) == (500, "api_error")
    assert taken(stripe, order) == 1


def test_a_timeout_after_holds_the_connection_and_then_closes_it(stripe: "Stripe") -> None:
    order = stripe.order()
    stripe.faults(timeout_after_capture_rate=1, hold_ms=300)
    began = time.monotonic()
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        pay(stripe, order, "f-2")
    assert 0.25 < time.monotonic() - began < 3
    assert taken(stripe, order) == 1
    assert pay(stripe, order, "f-2").json["status"] == "succeeded"
    assert taken(stripe, order) == 1


def test_a_reset_after_hides_a_payment_that_was_taken(stripe: "Stripe") -> None:
    order = stripe.order()
    stripe.faults(reset_after_capture_rate=1)
    with pytest.raises(ConnectionResetError):
        pay(stripe, order)
    assert taken(stripe, order) == 1


def test_a_fault_after_strikes_the_capture_of_a_hold_and_not_the_hold(stripe: "Stripe") -> None:
    order = stripe.order(capture_method="manual")
    stripe.faults(reset_after_capture_rate=1)
    held = pay(stripe, order).json
    with pytest.raises(ConnectionResetError):
        stripe.post(f"payment_intents/{held['id']}/capture")
    assert taken(stripe, order) == 1


def test_a_malformed_answer_is_half_of_the_true_one(stripe: "Stripe") -> None:
    order = stripe.order()
    stripe.faults(malformed_rate=1)
    answer = pay(stripe, order)
    assert (answer.status, "request-id" in answer.headers) == (200, True)
    with pytest.raises(json.JSONDecodeError):
        _ = answer.json
    assert taken(stripe, order) == 1


def test_a_wrong_amount_is_in_the_answer_and_not_in_the_books(stripe: "Stripe") -> None:
    stripe.faults(wrong_amount_rate=1)
    intent = pay(stripe, stripe.order(10_000)).json
    assert (intent["amount"], intent["amount_received"]) == (10_001, 10_001)
    stripe.faults()
    assert stripe.look(intent)["amount"] == 10_000


def test_a_slow_drip_comes_whole_in_the_end(stripe: "Stripe") -> None:
    stripe.faults(slow_drip_rate=1, drip_ms=1)
    began = time.monotonic()
    answer = pay(stripe, stripe.order())
    assert time.monotonic() - began > 0.5
    assert (answer.json["status"], "request-id" in answer.headers) == ("succeeded", True)


def test_latency_delays_the_verdict(stripe: "Stripe") -> None:
    stripe.faults(latency_ms=200)
    began = time.monotonic()
    assert pay(stripe, stripe.order()).status == 200
    assert time.monotonic() - began > 0.2


def test_a_decline_rate_declines_in_the_issuers_words(stripe: "Stripe") -> None:
    order = stripe.order()
    stripe.faults(decline_rate=1)
    answer = pay(stripe, order)
    error = answer.json["error"]
    assert (answer.status, error["code"], error["decline_code"]) == (402, "card_declined", "generic_decline")
    assert taken(stripe, order) == 0
    assert stripe.look(error["payment_intent"])["status"] == "requires_payment_method"


def test_a_refund_whose_answer_is_lost_was_made(stripe: "Stripe") -> None:
    intent = stripe.paid()
    stripe.faults(reset_after_refund_rate=1)
    with pytest.raises(ConnectionResetError):
        stripe.refund(intent, 100, "f-3")
    stripe.faults()
    assert [r["amount"] for r in stripe.get("refunds", payment_intent=intent["id"]).json["data"]] == [100]
    replay = stripe.refund(intent, 100, "f-3")
    assert (replay.status, replay.headers["idempotent-replayed"]) == (200, "true")
    assert len(stripe.get("refunds", payment_intent=intent["id"]).json["data"]) == 1


def test_down_cuts_every_connection_but_the_admin_doors(stripe: "Stripe") -> None:
    order = stripe.order()
    stripe.faults(down=True)
    for call in (lambda: pay(stripe, order), lambda: stripe.get("payment_intents")):
        with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
            call()
    assert taken(stripe, order) == 0


def test_an_inquiry_may_be_down_alone(stripe: "Stripe") -> None:
    stripe.faults(inquiry_down=True)
    intent = pay(stripe, stripe.order()).json
    answer = stripe.get(f"payment_intents/{intent['id']}")
    assert (answer.status, answer.json["error"]["type"]) == (503, "api_error")
    assert stripe.get("payment_intents/search", query="amount:1").status == 503


def test_a_seed_throws_the_same_faults_again_and_times_ends_them(stripe: "Stripe") -> None:
    def statuses(**faults: Any) -> list[int]:
        stripe.faults(seed=7, **faults)
        return [pay(stripe, stripe.order()).status for _ in range(12)]

    first = statuses(error_rate=0.5)
    assert set(first) == {200, 500}
    assert statuses(error_rate=0.5) == first
    assert statuses(error_after_capture_rate=1, times=2)[:4] == [500, 500, 200, 200]


def test_connections_are_refused_for_a_while_and_then_taken_again(own: "Stripe") -> None:
    own.admin("POST", "refuse", {"ms": 2_000})
    assert until(lambda: is_refused(own.port), 1.5), "nobody was refused"
    assert until(lambda: not is_refused(own.port), 10), "nobody was let in again"
    assert own.pay().status == 200


def is_refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except ConnectionRefusedError:
        return True
    return False


def until(is_so: Callable[[], bool], seconds: float) -> bool:
    give_up_at = time.monotonic() + seconds
    while time.monotonic() < give_up_at:
        if is_so():
            return True
        time.sleep(0.01)
    return False
