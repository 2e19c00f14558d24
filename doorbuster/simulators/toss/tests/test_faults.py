"""Each fault on demand: what the caller sees, and what was taken all the same."""

import http.client
import json
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from doorbuster.simulators.host.tests.processes import basic

if TYPE_CHECKING:
    from doorbuster.simulators.toss.tests.conftest import Toss


def status_of(toss: "Toss", bought: Any) -> str:
    toss.faults()
    return str(toss.look(bought)["status"])


def test_an_error_before_takes_nothing_and_leaves_the_key_unused(toss: "Toss") -> None:
    bought = toss.buy()
    toss.faults(error_rate=1)
    answer = toss.confirm(bought, "f-1")
    assert (answer.status, answer.json["code"]) == (500, "FAILED_INTERNAL_SYSTEM_PROCESSING")
    assert status_of(toss, bought) == "IN_PROGRESS"
    assert toss.confirm(bought, "f-1").status == 200


def test_a_rate_limit_takes_nothing(toss: "Toss") -> None:
    bought = toss.buy()
    toss.faults(rate_limit_rate=1)
    assert toss.confirm(bought).status == 429
    assert status_of(toss, bought) == "IN_PROGRESS"


def test_a_reset_before_takes_nothing(toss: "Toss") -> None:
    bought = toss.buy()
    toss.faults(reset_before_rate=1)
    with pytest.raises(ConnectionResetError):
        toss.confirm(bought)
    assert status_of(toss, bought) == "IN_PROGRESS"


def test_an_error_after_hides_a_payment_that_was_taken(toss: "Toss") -> None:
    bought = toss.buy()
    toss.faults(error_after_capture_rate=1)
    assert toss.confirm(bought, "f-2").status == 500
    assert status_of(toss, bought) == "DONE"
    assert toss.confirm(bought, "f-2").status == 200


def test_a_timeout_after_holds_the_connection_and_then_closes_it(toss: "Toss") -> None:
    bought = toss.buy()
    toss.faults(timeout_after_capture_rate=1, hold_ms=300)
    began = time.monotonic()
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        toss.confirm(bought)
    assert 0.25 < time.monotonic() - began < 3
    assert status_of(toss, bought) == "DONE"


def test_a_reset_after_hides_a_payment_that_was_taken(toss: "Toss") -> None:
    bought = toss.buy()
    toss.faults(reset_after_capture_rate=1)
    with pytest.raises(ConnectionResetError):
        toss.confirm(bought)
    assert status_of(toss, bought) == "DONE"


def test_a_malformed_answer_is_half_of_the_true_one(toss: "Toss") -> None:
    bought = toss.buy()
    toss.faults(malformed_rate=1)
    answer = toss.confirm(bought)
    assert answer.status == 200
    with pytest.raises(json.JSONDecodeError):
        _ = answer.json
    assert status_of(toss, bought) == "DONE"


def test_a_wrong_amount_is_in_the_answer_and_not_in_the_books(toss: "Toss") -> None:
    bought = toss.buy(10_000)
    toss.faults(wrong_amount_rate=1)
    assert toss.confirm(bought).json["totalAmount"] == 10_001
    toss.faults()
    assert toss.look(bought)["totalAmount"] == 10_000


def test_a_reset_in_the_middle_of_the_answer_takes_the_money(toss: "Toss") -> None:
    bought = toss.buy()
    toss.faults(reset_mid_answer_rate=1)
    body = json.dumps({name: bought[name] for name in ("paymentKey", "orderId", "amount")})
    connection = http.client.HTTPConnection("127.0.0.1", toss.port, timeout=5)
    connection.request("POST", "/v1/payments/confirm", body, {**basic(), "content-type": "application/json"})
    answer = connection.getresponse()
    whole = int(answer.getheader("content-length") or 0)
    assert answer.status == 200 and len(answer.read1(whole)) == whole // 2
    with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
        answer.read()
    connection.close()
    assert status_of(toss, bought) == "DONE"


def test_a_slow_drip_comes_whole_in_the_end(toss: "Toss") -> None:
    bought = toss.buy()
    toss.faults(slow_drip_rate=1, drip_ms=1)
    began = time.monotonic()
    answer = toss.confirm(bought)
    assert time.monotonic() - began > 0.5
    assert (answer.status, answer.json["status"]) == (200, "DONE")


def test_latency_delays_the_verdict(toss: "Toss") -> None:
    bought = toss.buy()
    toss.faults(latency_ms=200)
    began = time.monotonic()
    assert toss.confirm(bought).status == 200
    assert time.monotonic() - began > 0.2


def test_a_decline_rate_aborts(toss: "Toss") -> None:
    bought = toss.buy()
    toss.faults(decline_rate=1)
    answer = toss.confirm(bought)
    assert (answer.status, answer.json["code"]) == (403, "REJECT_CARD_COMPANY")
    assert status_of(toss, bought) == "ABORTED"


def test_a_refund_whose_answer_is_lost_was_made(toss: "Toss") -> None:
    payment = toss.paid()
    toss.faults(reset_after_refund_rate=1)
    with pytest.raises(ConnectionResetError):
        toss.cancel(payment, "f-3")
    assert status_of(toss, payment) == "CANCELED"
    assert toss.cancel(payment, "f-3").json["status"] == "CANCELED"


def test_down_cuts_every_connection_but_the_admin_doors(toss: "Toss") -> None:
    bought = toss.buy()
    toss.faults(down=True)
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        toss.confirm(bought)
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        toss.look(bought)
    assert status_of(toss, bought) == "IN_PROGRESS"


def test_an_inquiry_may_be_down_alone(toss: "Toss") -> None:
    bought = toss.buy()
    toss.faults(inquiry_down=True)
    assert toss.confirm(bought).status == 200
    assert toss.get(f"/v1/payments/{bought['paymentKey']}").status == 503
    assert toss.get("/v1/payments/none").status == 503


def test_a_fault_may_strike_a_number_of_times_and_then_no_more(toss: "Toss") -> None:
    toss.faults(error_after_capture_rate=1, times=2)
    assert [toss.confirm(toss.buy()).status for _ in range(4)] == [500, 500, 200, 200]


def test_a_seed_throws_the_same_faults_again(toss: "Toss") -> None:
    def statuses() -> list[int]:
        toss.faults(error_rate=0.5, seed=7)
        return [toss.confirm(toss.buy()).status for _ in range(20)]

    first = statuses()
    assert set(first) == {200, 500}
    assert statuses() == first


def test_connections_are_refused_for_a_while_and_then_taken_again(own: "Toss") -> None:
    bought = own.buy()
    own.admin("POST", "refuse", {"ms": 700})
    assert until(lambda: refused(own.port), 0.5), "nobody was refused"
    assert until(lambda: not refused(own.port), 5), "nobody was let in again"
    assert own.confirm(bought).status == 200


@pytest.mark.parametrize("code", ["REJECT_CARD_PAYMENT", "PROVIDER_ERROR", "UNKNOWN_PAYMENT_ERROR"])
def test_a_test_code_is_answered_and_nothing_happens(toss: "Toss", code: str) -> None:
    bought = toss.buy()
    assert toss.confirm(bought, TossPayments_Test_Code=code).json["code"] == code
    assert status_of(toss, bought) == "IN_PROGRESS"


@pytest.mark.parametrize(
    "faults", [b'{"error_rate": 2}', b'{"unknown": 1}', b'{"error_rate":0.6,"reset_before_rate":0.6}', b"x"]
)
def test_faults_that_cannot_be_are_refused(toss: "Toss", faults: bytes) -> None:
    bearer = {"Authorization": "Bearer test_sk_of_the_simulator"}
    assert toss.call("PUT", "/admin/faults", faults, bearer).status == 400
    assert toss.call("PUT", "/admin/faults", b"{}", {}).status == 401
    assert toss.call("GET", "/admin/nothing", None, bearer).status == 404


def refused(port: int) -> bool:
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
