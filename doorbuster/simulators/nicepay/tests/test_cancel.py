"""Cancels and net cancels of NICEPAY over real HTTP: the cap, the orderIds of parts, the hour, accounts."""

import concurrent.futures
import time

import pytest

from doorbuster.simulators.nicepay.payment import HOUR_MS
from doorbuster.simulators.nicepay.signing import hashed
from doorbuster.simulators.nicepay.tests.caller import REFUND_ACCOUNT, Nicepay, new_order

NOW = "2026-11-23T18:52:25.961+0900"


def code(answer: object) -> tuple[int, str]:
    return answer.status, answer.json["resultCode"]  # type: ignore[attr-defined]


def test_parts_have_tids_of_their_own_and_the_last_one_ends_it(nicepay: Nicepay) -> None:
    payment = nicepay.paid(10_000)
    first, second = nicepay.part(payment, 3_000).json, nicepay.part(payment, 2_000, reason="broken").json
    assert (first["status"], first["balanceAmt"], first["amount"]) == ("partialCancelled", 7_000, 10_000)
    assert [(c["amount"], c["reason"]) for c in second["cancels"]] == [(3_000, "why"), (2_000, "broken")]
    tids = [first["cancelledTid"], second["cancelledTid"], payment["tid"]]
    assert [c["tid"] for c in second["cancels"]] == tids[:2]
    assert len(set(tids)) == 3
    last = nicepay.part(payment, 5_000).json
    assert (last["status"], last["balanceAmt"]) == ("cancelled", 0)
    assert code(nicepay.part(payment, 1)) == (200, "2015")
    looked = nicepay.look(payment)
    assert (looked["cancels"], looked["cancelledTid"]) == (last["cancels"], None)


def test_a_cancel_sent_again_gives_nothing_back_again(nicepay: Nicepay) -> None:
    payment, order_id = nicepay.paid(10_000), new_order()
    assert code(nicepay.part(payment, 4_000, orderId=order_id)) == (200, "0000")
    assert code(nicepay.part(payment, 4_000, orderId=order_id)) == (200, "U112")
    assert nicepay.look(payment)["balanceAmt"] == 6_000
    whole = nicepay.paid()
    assert code(nicepay.cancel(whole)) == (200, "0000")
    assert code(nicepay.cancel(whole)) == (200, "2015")
    assert nicepay.look(whole)["balanceAmt"] == 0


def test_the_order_id_of_a_part_must_be_new_everywhere_and_is_used_up_by_a_refusal_also_over_a_kill_9(
    own: Nicepay,
) -> None:
    payment, other = own.paid(10_000), own.paid()
    assert code(own.part(payment, 1, orderId=payment["orderId"])) == (200, "U112")
    assert code(own.part(payment, 1, orderId=other["orderId"])) == (200, "U112")
    order_id = new_order()
    assert code(own.part(payment, 10_001, orderId=order_id)) == (200, "U123")
    own.kill_and_restart()
    assert code(own.part(payment, 10_000, orderId=order_id)) == (200, "U112")
    assert code(own.charge(own.bid(), orderId=order_id)) == (200, "U112")
    assert own.look(payment)["balanceAmt"] == 10_000


def test_parts_given_back_at_once_never_add_up_to_more_than_was_paid(nicepay: Nicepay) -> None:
    payment = nicepay.paid(10_000)
    nicepay.faults(latency_ms=50)
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        jobs = [pool.submit(nicepay.part, payment, 700) for _ in range(20)]
        codes = [job.result().json["resultCode"] for job in jobs]
    assert (codes.count("0000"), codes.count("U123")) == (14, 6)
    assert nicepay.look(payment)["balanceAmt"] == 200


def test_one_order_id_for_many_parts_at_once_gives_back_once(nicepay: Nicepay) -> None:
    payment, order_id = nicepay.paid(10_000), new_order()
    nicepay.faults(latency_ms=50)
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        jobs = [pool.submit(nicepay.part, payment, 700, orderId=order_id) for _ in range(10)]
        codes = [job.result().json["resultCode"] for job in jobs]
    assert (codes.count("0000"), codes.count("U112")) == (1, 9)
    assert nicepay.look(payment)["balanceAmt"] == 9_300


def test_the_cap_can_be_lifted(nicepay: Nicepay) -> None:
    nicepay.admin("PUT", "rules", {"over_refund": True})
    payment = nicepay.paid(10_000)
    assert [code(nicepay.part(payment, 7_000)) for _ in range(3)] == [(200, "0000")] * 3
    assert nicepay.look(payment)["balanceAmt"] == -11_000


def test_the_tax_free_part_is_given_back_to_the_won(nicepay: Nicepay) -> None:
    payment = nicepay.paid(10_000, taxFreeAmt=4_000)
    assert code(nicepay.part(payment, 5_000, taxFreeAmt=4_001)) == (200, "U319")
    assert code(nicepay.part(payment, 6_001)) == (200, "U318")
    assert code(nicepay.part(payment, 100, taxFreeAmt=101)) == (200, "U321")
    assert code(nicepay.part(payment, 5_000, taxFreeAmt=4_000)) == (200, "0000")
    assert code(nicepay.part(payment, 1, taxFreeAmt=1)) == (200, "U319")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"reason": None}, "U100"),
        ({"reason": "r" * 101}, "U105"),
        ({"reason": "이" * 34}, "U105"),
        ({"orderId": ""}, "U100"),
        ({"orderId": "o" * 65}, "U105"),
        ({"orderId": "two words"}, "U154"),
        ({"cancelAmt": 0}, "U142"),
        ({"cancelAmt": -1}, "U142"),
        ({"cancelAmt": "1000"}, "U133"),
        ({"taxFreeAmt": -1}, "U133"),
        ({"signData": "0" * 64, "ediDate": NOW}, "U312"),
        ({"mallReserved": "m" * 501}, "U105"),
        ({"refundHolder": "h" * 11}, "U105"),
    ],
)
def test_a_wrong_field_gives_nothing_back(nicepay: Nicepay, fields: dict[str, object], expected: str) -> None:
    payment = nicepay.paid()
    assert code(nicepay.cancel(payment, **fields)) == (200, expected)
    assert nicepay.look(payment)["balanceAmt"] == 10_000


def test_a_card_that_cannot_be_cancelled_in_parts_is_cancelled_whole(nicepay: Nicepay) -> None:
    payment = nicepay.paid(canPartCancel=False)
    assert payment["card"]["canPartCancel"] is False
    assert code(nicepay.part(payment, 1)) == (200, "1534")
    assert code(nicepay.part(payment, 10_000)) == (200, "0000")


def test_a_net_cancel_takes_the_payment_of_an_order_back_once(nicepay: Nicepay) -> None:
    payment = nicepay.paid()
    shown = nicepay.net_cancel(payment["orderId"]).json
    assert (shown["resultCode"], shown["status"], shown["tid"]) == ("0000", "cancelled", payment["tid"])
    assert (shown["balanceAmt"], shown["cancelledTid"]) == (0, payment["tid"])
    assert code(nicepay.net_cancel(payment["orderId"])) == (200, "2015")
    assert code(nicepay.cancel(payment)) == (200, "2015")
    assert nicepay.look(payment)["balanceAmt"] == 0


def test_a_net_cancel_of_what_never_was_finds_nothing(nicepay: Nicepay) -> None:
    assert code(nicepay.net_cancel(new_order())) == (404, "U107")
    declined = nicepay.buy(declineCode="3095")
    nicepay.approve(declined)
    assert code(nicepay.net_cancel(declined["orderId"])) == (404, "U107")
    assert code(nicepay.post("/v1/payments/netcancel", {})) == (200, "U100")


def test_many_net_cancels_and_cancels_at_once_give_back_once(nicepay: Nicepay) -> None:
    payment = nicepay.paid(10_000)
    before = nicepay.summary()["refunded_minor"]
    nicepay.faults(latency_ms=50)
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        jobs = [pool.submit(nicepay.net_cancel, payment["orderId"]) for _ in range(5)]
        jobs += [pool.submit(nicepay.cancel, payment) for _ in range(5)]
        codes = [job.result().json["resultCode"] for job in jobs]
    assert (codes.count("0000"), codes.count("2015")) == (1, 9)
    assert nicepay.summary()["refunded_minor"] == before + 10_000


def test_a_net_cancel_that_overtakes_the_approval_finds_nothing_and_the_money_is_taken(nicepay: Nicepay) -> None:
    """Why "no such transaction" is not the last word while the approval may still be on its way."""
    bought = nicepay.buy()
    nicepay.faults(latency_ms=2_000)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        approval = pool.submit(nicepay.approve, bought)
        time.sleep(0.7)
        nicepay.faults()
        assert code(nicepay.net_cancel(bought["orderId"])) == (404, "U107")
        assert not approval.done(), "the net cancel came before the verdict"
        assert code(approval.result()) == (200, "0000")
    assert code(nicepay.net_cancel(bought["orderId"])) == (200, "0000")


def test_a_net_cancel_comes_within_an_hour_and_a_cancel_later(own: Nicepay) -> None:
    payment = own.paid()
    own.advance(HOUR_MS + 60_000)
    assert code(own.net_cancel(payment["orderId"])) == (200, "2020")
    assert code(own.cancel(payment)) == (200, "0000")


def test_a_net_cancel_is_signed_with_the_order(nicepay: Nicepay) -> None:
    payment = nicepay.paid()
    wrong = hashed(payment["tid"], NOW, nicepay.secret)
    assert code(nicepay.net_cancel(payment["orderId"], ediDate=NOW, signData=wrong)) == (200, "U312")
    right = hashed(payment["orderId"], NOW, nicepay.secret)
    assert code(nicepay.net_cancel(payment["orderId"], ediDate=NOW, signData=right)) == (200, "0000")


def test_an_account_waits_for_its_deposit_and_is_then_given_back_to_another(nicepay: Nicepay) -> None:
    payment = nicepay.paid(method="vbank", vbankHolder="홍길동")
    assert (payment["status"], payment["payMethod"], payment["balanceAmt"], payment["card"]) == (
        "ready",
        "vbank",
        0,
        None,
    )
    assert set(payment["vbank"]) == {"vbankCode", "vbankName", "vbankNumber", "vbankExpDate", "vbankHolder"}
    assert payment["paidAt"] != "0", "the time of the issue: only the status says whether money came"
    captured = nicepay.summary()["captured"]
    assert nicepay.admin("POST", "deposit", {"tid": payment["tid"]})["status"] == "paid"
    assert nicepay.summary()["captured"] == captured + 1
    assert code(nicepay.cancel(payment)) == (200, "U100")
    assert code(nicepay.cancel(payment, refundAccount="1", refundBankCode="088")) == (200, "U100")
    assert code(nicepay.net_cancel(payment["orderId"])) == (200, "2014")
    assert code(nicepay.part(payment, 4_000, **REFUND_ACCOUNT)) == (200, "0000")
    assert nicepay.part(payment, 6_000, **REFUND_ACCOUNT).json["status"] == "cancelled"


def test_an_account_nobody_paid_into_is_cancelled_without_money(nicepay: Nicepay) -> None:
    before = nicepay.summary()
    payment, netted = nicepay.paid(method="vbank"), nicepay.paid(method="vbank")
    assert code(nicepay.part(payment, 1)) == (200, "1534")
    assert nicepay.cancel(payment).json["status"] == "cancelled"
    assert nicepay.net_cancel(netted["orderId"]).json["status"] == "cancelled"
    after = nicepay.summary()
    assert (after["captured"], after["refunds"]) == (before["captured"], before["refunds"])
    late = {"tid": payment["tid"]}
    bearer = {"Authorization": f"Bearer {nicepay.secret}"}
    assert nicepay.call("POST", "/admin/deposit", late, bearer).status == 400


def test_an_account_ends_and_takes_no_deposit_after_it_also_over_a_kill_9(own: Nicepay) -> None:
    payment, week = own.paid(method="vbank", vbankValidHours=1), own.paid(method="vbank")
    own.advance(HOUR_MS)
    own.kill_and_restart()
    assert own.look(payment)["status"] == "expired"
    assert own.look(week)["status"] == "ready"
    bearer = {"Authorization": f"Bearer {own.secret}"}
    assert own.call("POST", "/admin/deposit", {"tid": payment["tid"]}, bearer).status == 400
    assert code(own.cancel(payment)) == (200, "2014")
    own.advance(167 * HOUR_MS)
    assert own.look(week)["status"] == "expired"
