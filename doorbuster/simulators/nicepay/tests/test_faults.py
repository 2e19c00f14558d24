"""Each fault on demand: what the caller of NICEPAY sees, and what was taken all the same; then kill -9."""

import http.client
import json
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from doorbuster.simulators.nicepay.signing import answer_signature
from doorbuster.simulators.nicepay.tests.caller import Nicepay, new_order

CUT = (http.client.RemoteDisconnected, ConnectionResetError)


def status_of(nicepay: Nicepay, bought: Any) -> str:
    """What the books say; an authentication nobody approved is "none"."""
    nicepay.faults()
    answer = nicepay.find(bought["orderId"])
    return str(answer.json["status"]) if answer.status == 200 else "none"


@pytest.mark.parametrize(("fault", "status", "code"), [("error_rate", 500, "9999"), ("rate_limit_rate", 429, "A246")])
def test_an_error_before_takes_nothing(nicepay: Nicepay, fault: str, status: int, code: str) -> None:
    bought = nicepay.buy()
    nicepay.faults(**{fault: 1})
    answer = nicepay.approve(bought)
    assert (answer.status, answer.json["resultCode"], set(answer.json)) == (status, code, {"resultCode", "resultMsg"})
    assert status_of(nicepay, bought) == "none"
    assert nicepay.approve(bought).status == 200


def test_a_reset_before_takes_nothing(nicepay: Nicepay) -> None:
    bought = nicepay.buy()
    nicepay.faults(reset_before_rate=1)
    with pytest.raises(ConnectionResetError):
        nicepay.approve(bought)
    assert status_of(nicepay, bought) == "none"


def test_an_error_after_hides_a_payment_that_was_taken_and_asking_again_does_not_show_it(nicepay: Nicepay) -> None:
    bought = nicepay.buy()
    nicepay.faults(error_after_capture_rate=1)
    assert nicepay.approve(bought).status == 500
    assert status_of(nicepay, bought) == "paid"
    assert nicepay.approve(bought).json["resultCode"] == "U114", "there is no key that replays the answer"


def test_a_timeout_after_holds_the_connection_and_then_closes_it(nicepay: Nicepay) -> None:
    bid, order_id = nicepay.bid(), new_order()
    nicepay.faults(timeout_after_capture_rate=1, hold_ms=300)
    began = time.monotonic()
    with pytest.raises(CUT):
        nicepay.charge(bid, orderId=order_id)
    assert 0.25 < time.monotonic() - began < 3
    assert status_of(nicepay, {"orderId": order_id}) == "paid"
    assert nicepay.charge(bid, orderId=order_id).json["resultCode"] == "U112"


def test_a_reset_after_hides_a_payment_that_was_taken(nicepay: Nicepay) -> None:
    bought = nicepay.buy()
    nicepay.faults(reset_after_capture_rate=1)
    with pytest.raises(ConnectionResetError):
        nicepay.approve(bought)
    assert status_of(nicepay, bought) == "paid"


def test_a_malformed_answer_is_half_of_the_true_one(nicepay: Nicepay) -> None:
    bought = nicepay.buy()
    nicepay.faults(malformed_rate=1)
    answer = nicepay.approve(bought)
    assert answer.status == 200
    with pytest.raises(json.JSONDecodeError):
        _ = answer.json
    assert status_of(nicepay, bought) == "paid"


@pytest.mark.parametrize("charset", ["utf-8", "euc-kr"])
def test_a_wrong_amount_is_in_the_answer_signed_and_not_in_the_books(nicepay: Nicepay, charset: str) -> None:
    bought = nicepay.buy(10_000, goodsName="상품")
    nicepay.faults(wrong_amount_rate=1)
    shown = json.loads(nicepay.approve(bought, returnCharSet=charset).raw.decode(charset))
    assert (shown["amount"], shown["balanceAmt"], shown["goodsName"]) == (10_001, 10_001, "상품")
    assert shown["signature"] == answer_signature(shown["tid"], 10_001, shown["ediDate"], nicepay.secret)
    nicepay.faults()
    assert nicepay.look(bought)["amount"] == 10_000


def test_a_slow_drip_comes_whole_in_the_end(nicepay: Nicepay) -> None:
    bought = nicepay.buy()
    nicepay.faults(slow_drip_rate=1, drip_ms=1)
    began = time.monotonic()
    answer = nicepay.approve(bought)
    assert time.monotonic() - began > 0.5
    assert (answer.status, answer.json["status"]) == (200, "paid")


def test_latency_delays_the_verdict(nicepay: Nicepay) -> None:
    bought = nicepay.buy()
    nicepay.faults(latency_ms=200)
    began = time.monotonic()
    assert nicepay.approve(bought).status == 200
    assert time.monotonic() - began > 0.2


def test_a_decline_rate_fails(nicepay: Nicepay) -> None:
    bought = nicepay.buy()
    nicepay.faults(decline_rate=1)
    answer = nicepay.approve(bought)
    assert (answer.status, answer.json["resultCode"], answer.json["status"]) == (200, "3095", "failed")
    nicepay.faults()
    assert nicepay.look(bought)["status"] == "failed"


def test_a_refund_whose_answer_is_lost_was_made_and_only_an_inquiry_tells(nicepay: Nicepay) -> None:
    payment, netted, order_id = nicepay.paid(), nicepay.paid(), new_order()
    nicepay.faults(reset_after_refund_rate=1)
    with pytest.raises(ConnectionResetError):
        nicepay.part(payment, 4_000, orderId=order_id)
    with pytest.raises(ConnectionResetError):
        nicepay.net_cancel(netted["orderId"])
    assert status_of(nicepay, payment) == "partialCancelled"
    assert status_of(nicepay, netted) == "cancelled"
    assert nicepay.part(payment, 4_000, orderId=order_id).json["resultCode"] == "U112"
    assert nicepay.look(payment)["balanceAmt"] == 6_000
    assert nicepay.net_cancel(netted["orderId"]).json["resultCode"] == "2015"


def test_down_cuts_every_connection_but_the_admin_doors(nicepay: Nicepay) -> None:
    bought = nicepay.buy()
    nicepay.faults(down=True)
    with pytest.raises(CUT):
        nicepay.approve(bought)
    with pytest.raises(CUT):
        nicepay.look(bought)
    assert status_of(nicepay, bought) == "none"


def test_an_inquiry_may_be_down_alone(nicepay: Nicepay) -> None:
    bought = nicepay.buy()
    nicepay.faults(inquiry_down=True)
    assert nicepay.approve(bought).json["status"] == "paid"
    for answer in (nicepay.get(f"/v1/payments/{bought['tid']}"), nicepay.find(bought["orderId"])):
        assert (answer.status, answer.json["resultCode"]) == (503, "U303")
    assert nicepay.net_cancel(bought["orderId"]).json["status"] == "cancelled"


def test_a_fault_may_strike_a_number_of_times_and_then_no_more(nicepay: Nicepay) -> None:
    nicepay.faults(error_after_capture_rate=1, times=2)
    assert [nicepay.approve(nicepay.buy()).status for _ in range(4)] == [500, 500, 200, 200]


def test_a_seed_throws_the_same_faults_again(nicepay: Nicepay) -> None:
    def statuses() -> list[int]:
        nicepay.faults(error_rate=0.5, seed=7)
        return [nicepay.approve(nicepay.buy()).status for _ in range(20)]

    first = statuses()
    assert set(first) == {200, 500}
    assert statuses() == first


def test_connections_are_refused_for_a_while_and_then_taken_again(own: Nicepay) -> None:
    bought = own.buy()
    own.admin("POST", "refuse", {"ms": 700})
    assert until(lambda: refused(own.port), 0.5), "nobody was refused"
    assert until(lambda: not refused(own.port), 5), "nobody was let in again"
    assert own.approve(bought).status == 200


@pytest.mark.parametrize("fault", ["timeout_after_capture_rate", "reset_after_capture_rate"])
def test_money_taken_before_a_kill_9_is_still_taken_after_it_and_is_taken_once(own: Nicepay, fault: str) -> None:
    bought = own.buy(12_345)
    own.faults(**{fault: 1, "hold_ms": 60_000})
    with pytest.raises(OSError):
        own.call("POST", f"/v1/payments/{bought['tid']}", {"amount": 12_345}, own.basic(), timeout_s=0.5)
    own.kill_and_restart()
    assert own.look(bought)["status"] == "paid"
    assert own.approve(bought).json["resultCode"] == "U114"
    summary = own.summary()
    assert (summary["captured"], summary["captured_minor"]) == (1, 12_345)
    assert own.net_cancel(bought["orderId"]).json["status"] == "cancelled"
    own.kill_and_restart()
    summary = own.summary()
    assert (summary["refunds"], summary["refunded_minor"]) == (1, 12_345)


def test_a_kill_9_while_the_network_thinks_leaves_an_authentication_that_can_be_approved(own: Nicepay) -> None:
    bought = own.buy()
    own.faults(latency_ms=60_000)
    with pytest.raises(OSError):
        own.call("POST", f"/v1/payments/{bought['tid']}", {"amount": 10_000}, own.basic(), timeout_s=0.3)
    own.kill_and_restart()
    assert own.find(bought["orderId"]).status == 404
    assert own.approve(bought).json["status"] == "paid"


def test_the_books_are_the_same_after_a_kill_9(own: Nicepay) -> None:
    payments = [own.paid(), own.paid(method="vbank"), own.charge(own.bid()).json, own.paid(20_000)]
    own.part(payments[3], 5_000)
    own.cancel(payments[0])
    declined = own.approve(own.buy(declineCode="3095")).json
    before = [own.look(payment) for payment in (*payments, declined)]
    summary = own.summary()
    captures = own.admin("GET", "ledger/captures")
    own.kill_and_restart()
    after = [own.look(payment) for payment in (*payments, declined)]
    fresh = {"ediDate", "signature"}
    assert [{k: v for k, v in p.items() if k not in fresh} for p in before] == [
        {k: v for k, v in p.items() if k not in fresh} for p in after
    ]
    assert own.summary() == summary
    assert own.admin("GET", "ledger/captures") == captures
    assert summary["declined"] == 1


def test_a_torn_last_line_is_a_payment_that_never_was_and_any_other_keeps_the_process_down(own: Nicepay) -> None:
    one, two = own.paid(), own.buy()
    assert own.approve(two).status == 200
    own.end()
    lines = own.ledger.read_bytes()
    own.ledger.write_bytes(lines[:-10])
    own.start()
    assert own.look(one)["status"] == "paid"
    assert own.find(two["orderId"]).status == 404
    own.end()
    own.ledger.write_bytes(b"{}\n" + lines)
    with pytest.raises(AssertionError):
        own.start()
    assert own.process.wait(10) == 1
    assert "line 1 cannot be read" in own.stderr


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


def test_every_decline_is_on_record_with_its_time(own: Nicepay) -> None:
    bought = own.buy(declineCode="3095")
    assert own.approve(bought).json["resultCode"] == "3095"
    assert own.charge(own.bid("1234567890123091")).json["resultCode"] == "3091"
    now_ms = own.admin("GET", "clock")["now_ms"]
    window, card = own.admin("GET", "ledger/declines")["data"]
    assert (window["psp_key"], window["reference"], window["amount_minor"]) == (
        bought["tid"],
        bought["orderId"],
        10_000,
    )
    assert (window["code"], card["code"], window["currency"]) == ("3095", "3091", "KRW")
    assert now_ms - 5_000 < window["at_ms"] <= card["at_ms"] <= now_ms
    own.kill_and_restart()
    assert own.admin("GET", "ledger/declines")["data"] == [window, card]
