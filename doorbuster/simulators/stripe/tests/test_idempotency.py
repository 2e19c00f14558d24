"""The idempotency rules of Stripe, and money under kill -9."""

import concurrent.futures
import http.client
import time
from typing import TYPE_CHECKING, Any

import pytest

from doorbuster.simulators.host.tests.processes import SECRET

if TYPE_CHECKING:
    from doorbuster.simulators.stripe.tests.conftest import Stripe

HOUR_MS = 3_600_000


def code_of(answer: Any) -> Any:
    return answer.json["error"].get("code")


def type_of(answer: Any) -> Any:
    return answer.json["error"]["type"]


def test_the_same_key_replays_the_first_answer_byte_for_byte(stripe: "Stripe") -> None:
    order = stripe.order(expand=["latest_charge"])
    first = stripe.post("payment_intents", order, "key-1")
    assert "idempotent-replayed" not in first.headers
    stripe.refund(first.json, 100)
    again = stripe.post("payment_intents", order, "key-1")
    assert (again.status, again.raw) == (first.status, first.raw)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["original-request"] == first.headers["request-id"] != again.headers["request-id"]
    assert again.headers["idempotency-key"] == "key-1"


def test_the_order_of_the_parameters_is_not_a_difference(stripe: "Stripe") -> None:
    order = stripe.order()
    first = stripe.post("payment_intents", order, "key-order")
    assert stripe.post("payment_intents", dict(reversed(order.items())), "key-order").raw == first.raw


def test_other_parameters_with_the_same_key_are_an_error_and_do_nothing(stripe: "Stripe") -> None:
    before = stripe.summary()["captured"]
    stripe.pay(key="key-params")
    other = stripe.pay(key="key-params")
    assert (other.status, type_of(other)) == (400, "idempotency_error")
    assert stripe.summary()["captured"] == before + 1


def test_another_endpoint_with_the_same_key_is_an_error(stripe: "Stripe") -> None:
    """A key cannot cross endpoints: github.com/odoo/odoo pull request 101243."""
    held = stripe.pay(capture_method="manual", key="key-endpoint").json
    captured = stripe.post(f"payment_intents/{held['id']}/capture", {}, "key-endpoint")
    assert (captured.status, type_of(captured)) == (400, "idempotency_error")
    assert stripe.look(held)["status"] == "requires_capture"


def test_a_key_of_one_intent_does_not_answer_for_another_with_the_same_parameters(stripe: "Stripe") -> None:
    one, two = stripe.opened(), stripe.opened()
    assert stripe.post(f"payment_intents/{one['id']}/cancel", {}, "key-ids").json["id"] == one["id"]
    other = stripe.post(f"payment_intents/{two['id']}/cancel", {}, "key-ids")
    assert (other.status, type_of(other)) == (400, "idempotency_error")
    assert stripe.look(two)["status"] == "requires_payment_method"


def test_a_decline_is_replayed_and_asks_no_issuer_again(stripe: "Stripe") -> None:
    order = stripe.order(payment_method="pm_card_chargeDeclined")
    first = stripe.post("payment_intents", order, "key-decline")
    again = stripe.post("payment_intents", order, "key-decline")
    assert (first.status, again.raw, again.headers["idempotent-replayed"]) == (402, first.raw, "true")


def test_a_refusal_that_ran_is_replayed_also_when_it_would_be_allowed_now(stripe: "Stripe") -> None:
    held = stripe.pay(capture_method="manual").json
    first = stripe.refund(held, key="key-refused")
    assert code_of(first) == "charge_not_refundable"
    stripe.post(f"payment_intents/{held['id']}/capture")
    assert stripe.refund(held, key="key-refused").raw == first.raw
    assert stripe.refund(held, key="key-refused-2").status == 200


@pytest.mark.parametrize(
    ("wrong", "status"),
    [({"colour": "red"}, 400), ({"amount": "ten"}, 400), ({"payment_method": "pm_none"}, 400), ({"amount": 0}, 400)],
)
def test_what_was_not_let_in_leaves_the_key_unused(stripe: "Stripe", wrong: dict[str, Any], status: int) -> None:
    """docs.stripe.com/api/idempotent_requests: nothing is saved when the parameters fail validation."""
    order = stripe.order()
    key = f"key-invalid-{next(iter(wrong.values()))}"
    assert stripe.post("payment_intents", {**order, **wrong}, key).status == status
    right = stripe.post("payment_intents", order, key)
    assert (right.status, "idempotent-replayed" in right.headers) == (200, False)


def test_a_500_after_it_began_is_what_the_key_answers_from_then_on(stripe: "Stripe") -> None:
    """docs.stripe.com/api/idempotent_requests: including 500 errors."""
    stripe.admin("PUT", "rules", {"failing": 1})
    order = stripe.order()
    before = stripe.summary()["captured"]
    first = stripe.post("payment_intents", order, "key-500")
    assert (first.status, type_of(first), first.headers["stripe-should-retry"]) == (500, "api_error", "false")
    again = stripe.post("payment_intents", order, "key-500")
    assert (again.status, again.raw, again.headers["idempotent-replayed"]) == (500, first.raw, "true")
    assert stripe.summary()["captured"] == before
    assert stripe.post("payment_intents", order, "key-500-b").status == 200


def test_a_500_that_hides_a_payment_is_replayed_and_only_an_inquiry_tells(stripe: "Stripe") -> None:
    stripe.faults(error_after_capture_rate=1)
    order = stripe.order()
    first = stripe.post("payment_intents", order, "key-hidden")
    stripe.faults()
    again = stripe.post("payment_intents", order, "key-hidden")
    assert (first.status, again.status, again.raw) == (500, 500, first.raw)
    query = f"metadata['order_id']:'{order['metadata']['order_id']}'"
    (hit,) = stripe.get("payment_intents/search", query=query).json["data"]
    assert (hit["status"], hit["amount_received"]) == ("succeeded", 10_000)


def test_one_of_many_at_once_pays_and_the_others_are_told_to_wait(stripe: "Stripe") -> None:
    before = stripe.summary()["captured"]
    order = stripe.order()
    stripe.faults(latency_ms=300)
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        jobs = [pool.submit(stripe.post, "payment_intents", order, "key-many") for _ in range(20)]
        answers = [job.result() for job in jobs]
    assert [answer.status for answer in answers].count(200) == 1
    others = [answer for answer in answers if answer.status != 200]
    assert {(a.status, type_of(a), code_of(a)) for a in others} == {
        (409, "idempotency_error", "idempotency_key_in_use")
    }
    stripe.faults()
    assert stripe.post("payment_intents", order, "key-many").headers["idempotent-replayed"] == "true"
    assert stripe.summary()["captured"] == before + 1


def test_other_parameters_are_an_error_also_while_the_first_is_in_progress(stripe: "Stripe") -> None:
    stripe.faults(latency_ms=300)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        answers = [job.result() for job in [pool.submit(stripe.pay, key="key-race") for _ in range(2)]]
    assert sorted(answer.status for answer in answers) == [200, 400]


def test_confirms_at_once_with_keys_of_their_own_pay_once(stripe: "Stripe") -> None:
    intent = stripe.opened()
    before = stripe.summary()["captured"]
    stripe.faults(latency_ms=100)
    path, fields = f"payment_intents/{intent['id']}/confirm", {"payment_method": "pm_card_visa"}
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        jobs = [pool.submit(stripe.post, path, fields, f"key-own-{n}") for n in range(20)]
        answers = [job.result() for job in jobs]
    assert [answer.status for answer in answers].count(200) == 1
    assert {code_of(a) for a in answers if a.status != 200} == {"payment_intent_unexpected_state"}
    assert stripe.summary()["captured"] == before + 1


def test_parts_given_back_at_once_never_add_up_to_more_than_was_taken(stripe: "Stripe") -> None:
    intent = stripe.paid(10_000)
    stripe.faults(latency_ms=50)
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        jobs = [pool.submit(stripe.refund, intent, 700, f"part-{n}") for n in range(20)]
        statuses = [job.result().status for job in jobs]
    assert (statuses.count(200), statuses.count(400)) == (14, 6)
    assert stripe.look(intent, "latest_charge")["latest_charge"]["amount_refunded"] == 9_800


def test_a_key_has_at_most_255_characters(stripe: "Stripe") -> None:
    assert stripe.pay(key="k" * 256).status == 400
    assert stripe.pay(key="").status == 400
    assert stripe.pay(key="k" * 255).status == 200


def test_a_key_means_nothing_to_a_read_or_to_another_account(stripe: "Stripe") -> None:
    intent = stripe.pay(key="key-scope").json
    headers = {"Authorization": f"Bearer {SECRET}", "Idempotency-Key": "key-scope"}
    assert stripe.call("GET", f"/v1/payment_intents/{intent['id']}", None, headers).status == 200
    theirs = stripe.post("payment_intents", stripe.order(), "key-scope", headers={"Stripe-Account": "acct_2"})
    assert (theirs.status, theirs.json["id"] != intent["id"]) == (200, True)


def test_a_rate_limit_comes_before_the_key(stripe: "Stripe") -> None:
    """docs.stripe.com/error-low-level: the rate limiter runs before the idempotency layer."""
    order = stripe.order()
    first = stripe.post("payment_intents", order, "key-429")
    stripe.faults(rate_limit_rate=1)
    limited = stripe.post("payment_intents", order, "key-429")
    assert (limited.status, code_of(limited)) == (429, "rate_limit")
    stripe.faults()
    assert stripe.post("payment_intents", order, "key-429").raw == first.raw


def test_a_key_is_forgotten_after_24_hours_and_then_pays_again(own: "Stripe") -> None:
    order = own.order()
    first = own.post("payment_intents", order, "key-old")
    own.advance(24 * HOUR_MS - 60_000)
    assert own.post("payment_intents", order, "key-old").raw == first.raw
    own.advance(60_000)
    second = own.post("payment_intents", order, "key-old")
    assert (second.status, second.json["id"] != first.json["id"]) == (200, True)
    assert own.summary()["references_captured_twice"] == [order["metadata"]["order_id"]]


@pytest.mark.parametrize("fault", ["timeout_after_capture_rate", "reset_after_capture_rate"])
def test_money_taken_before_a_kill_9_is_still_taken_after_it_and_its_key_still_answers(
    own: "Stripe", fault: str
) -> None:
    order = own.order(12_345, expand=["latest_charge"])
    own.faults(**{fault: 1, "hold_ms": 60_000})
    with pytest.raises(OSError):
        own.post("payment_intents", order, "key-kill", timeout_s=0.5)
    own.kill_and_restart()
    assert own.summary()["captured_minor"] == 12_345
    replay = own.post("payment_intents", order, "key-kill")
    assert (replay.status, replay.json["amount_received"], replay.headers["idempotent-replayed"]) == (
        200,
        12_345,
        "true",
    )
    assert own.summary()["captured"] == 1


def test_everything_is_the_same_after_a_kill_9(own: "Stripe") -> None:
    order = own.order(expand=["latest_charge"])
    first = own.post("payment_intents", order, "key-a")
    held = own.pay(capture_method="manual").json
    own.pay(payment_method="pm_card_chargeDeclined")
    refund = own.refund(first.json, 400, "key-r", metadata={"a": "b"})
    own.post(f"payment_intents/{held['id']}/capture", {"amount_to_capture": 500})
    paths = ["payment_intents", "charges", "refunds", "events", "balance_transactions"]
    own.advance(5_000)

    def everything() -> list[bytes]:
        return [own.get(path, limit=100).raw for path in paths]

    before = everything(), own.summary(), own.captured()
    own.kill_and_restart()
    assert (everything(), own.summary(), own.captured()) == before
    assert own.post("payment_intents", order, "key-a").raw == first.raw
    assert own.refund(first.json, 400, "key-r", metadata={"a": "b"}).raw == refund.raw
    assert own.refund(first.json, 401, "key-r", metadata={"a": "b"}).status == 400


def test_many_payments_under_kill_9_in_the_middle_are_each_taken_once(own: "Stripe") -> None:
    orders = [own.order(100 + n) for n in range(40)]
    lost: list[int] = []

    def pay_until_answered(at: int) -> Any:
        give_up_at = time.monotonic() + 30
        while time.monotonic() < give_up_at:
            try:
                answer = own.post("payment_intents", orders[at], f"key-storm-{at}")
            except (OSError, http.client.HTTPException):
                lost.append(at)
                time.sleep(0.05)
                continue
            if answer.status == 200:
                return answer.json
            assert answer.status == 409, answer.raw
        raise AssertionError(f"payment {at} was never answered")

    own.faults(latency_ms=60)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(pay_until_answered, at) for at in range(len(orders))]
        for _ in range(2):
            time.sleep(0.15)
            own.kill_and_restart()
            own.faults(latency_ms=60)
        paid = [job.result() for job in jobs]
    assert lost, "nobody was hit by the kill"
    summary = own.summary()
    assert (summary["captured"], summary["captured_minor"]) == (40, sum(order["amount"] for order in orders))
    assert summary["references_captured_twice"] == []
    assert sorted(row["psp_key"] for row in own.captured()) == sorted(intent["id"] for intent in paid)


def test_a_torn_last_line_is_a_payment_that_never_was_and_any_other_keeps_the_process_down(own: "Stripe") -> None:
    one, two = own.paid(), own.paid()
    own.end()
    lines = own.ledger.read_bytes()
    own.ledger.write_bytes(lines[:-10])
    own.start()
    assert own.look(one)["status"] == "succeeded"
    assert own.get(f"payment_intents/{two['id']}").status == 404
    own.end()
    own.ledger.write_bytes(lines[:200] + b"x" + lines[200:])
    with pytest.raises(AssertionError, match="cannot be read"):
        own.start()
