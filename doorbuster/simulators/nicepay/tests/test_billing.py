"""Billing keys of NICEPAY over real HTTP: registered encrypted, charged once per orderId, deleted for good."""

import concurrent.futures
from typing import Any

import pytest

from doorbuster.simulators.nicepay.payment import DAY_MS
from doorbuster.simulators.nicepay.signing import hashed
from doorbuster.simulators.nicepay.tests.caller import Nicepay, encrypted, new_order

NOW = "2026-11-23T18:52:25.961+0900"


def code(answer: object) -> tuple[int, str]:
    return answer.status, answer.json["resultCode"]  # type: ignore[attr-defined]


def test_a_charge_takes_the_money_at_once_and_is_found_and_cancelled_like_any_other(nicepay: Nicepay) -> None:
    bid = nicepay.bid("5361121234561234")
    answer = nicepay.charge(bid, 50_000, cardQuota=3, mallReserved="note", buyerName="Kim")
    shown = answer.json
    assert code(answer) == (200, "0000")
    assert (shown["status"], shown["mallReserved"], shown["buyerName"]) == ("paid", "note", "Kim")
    assert (shown["card"]["cardNum"], shown["card"]["cardQuota"]) == ("536112******1234", 3)
    assert nicepay.find(shown["orderId"]).json["tid"] == shown["tid"]
    assert nicepay.cancel(shown).json["status"] == "cancelled"


def test_a_card_may_be_encrypted_with_the_whole_key(nicepay: Nicepay) -> None:
    plain = "cardNo=1234567890123456&expYear=49&expMonth=12&idNo=800101&cardPw=12"
    enc_data = encrypted(plain, nicepay.secret, 32)
    body = {"encData": enc_data, "orderId": new_order()}
    answer = nicepay.post("/v1/subscribe/regist", {**body, "encMode": "A2"})
    assert (code(answer), answer.json["status"]) == ((200, "0000"), "issued")
    assert code(nicepay.post("/v1/subscribe/regist", body)) == (200, "F101")
    assert code(nicepay.post("/v1/subscribe/regist", {**body, "encMode": "A3"})) == (200, "U132")


@pytest.mark.parametrize(
    ("plain", "expected"),
    [
        ("cardNo=1234&expYear=49&expMonth=12", "U317"),
        ("cardNo=1234567890123456&expYear=49&expMonth=13", "U317"),
        ("cardNo=1234567890123456&expYear=2049&expMonth=12", "U317"),
        ("cardNo=1234567890123456", "U317"),
        ("nothing", "U317"),
    ],
)
def test_a_card_that_lacks_a_field_is_not_registered(nicepay: Nicepay, plain: str, expected: str) -> None:
    body = {"encData": encrypted(plain, nicepay.secret), "orderId": new_order()}
    assert code(nicepay.post("/v1/subscribe/regist", body)) == (200, expected)


def test_an_order_id_is_charged_once_also_by_many_at_once(nicepay: Nicepay) -> None:
    bid, order_id = nicepay.bid(), new_order()
    before = nicepay.summary()["captured"]
    nicepay.faults(latency_ms=200)
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        jobs = [pool.submit(nicepay.charge, bid, orderId=order_id) for _ in range(20)]
        codes = [job.result().json["resultCode"] for job in jobs]
    assert (codes.count("0000"), codes.count("U112")) == (1, 19)
    nicepay.faults()
    assert code(nicepay.charge(bid, orderId=order_id)) == (200, "U112")
    assert nicepay.net_cancel(order_id).json["status"] == "cancelled"
    assert code(nicepay.charge(bid, orderId=order_id)) == (200, "U112"), "used, also after it was taken back"
    assert nicepay.summary()["captured"] == before + 1


def test_a_decline_frees_the_order_id_and_is_found_by_its_tid_alone(nicepay: Nicepay) -> None:
    bid, order_id = nicepay.bid(), new_order()
    nicepay.admin("POST", "bid", {"bid": bid, "declineCode": "3081"})
    answer = nicepay.charge(bid, orderId=order_id)
    assert (code(answer), answer.json["status"], answer.json["card"]) == ((200, "3081"), "failed", None)
    assert code(nicepay.find(order_id)) == (404, "U107")
    assert nicepay.look(answer.json)["status"] == "failed"
    nicepay.admin("POST", "bid", {"bid": bid, "declineCode": None})
    assert code(nicepay.charge(bid, orderId=order_id)) == (200, "0000")


@pytest.mark.parametrize(
    ("card_no", "amount", "quota", "expected"),
    [
        ("1234567890123011", 10_000, 0, "3011"),
        ("1234567890123095", 10_000, 0, "3095"),
        ("1234567890123456", 999, 0, "3041"),
        ("1234567890123456", 49_999, 2, "3024"),
        ("1234567890123456", 50_000, 1, "3022"),
    ],
)
def test_the_network_says_no_as_its_code_table_has_it(
    nicepay: Nicepay, card_no: str, amount: int, quota: int, expected: str
) -> None:
    answer = nicepay.charge(nicepay.bid(card_no), amount, cardQuota=quota)
    assert (code(answer), answer.json["status"]) == ((200, expected), "failed")


def test_a_card_that_expired_is_declined(own: Nicepay) -> None:
    now = own.admin("GET", "clock")["now_ms"]
    assert code(own.charge(own.bid(expires="2001"))) == (200, "3021")
    bid = own.bid(expires="4912")
    assert code(own.charge(bid)) == (200, "0000")
    assert own.admin("GET", "clock")["now_ms"] < now + DAY_MS


def test_a_deleted_key_is_gone_for_good_also_over_a_kill_9(own: Nicepay) -> None:
    bid, kept = own.bid(), own.bid()
    path = f"/v1/subscribe/{bid}/expire"
    assert code(own.post(path, {"orderId": new_order()})) == (200, "0000")
    own.kill_and_restart()
    assert code(own.post(path, {"orderId": new_order()})) == (200, "U115")
    assert code(own.charge(bid)) == (200, "U115")
    assert code(own.charge(kept)) == (200, "0000")
    assert code(own.charge("BIKYnictest00m1104191651325596")) == (200, "U309")
    assert code(own.post("/v1/subscribe/BIKYnictest00m1104191651325596/expire", {"orderId": "o"})) == (200, "U115")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"orderId": None}, "U100"),
        ({"goodsName": None}, "U100"),
        ({"goodsName": "상" * 14}, "U105"),
        ({"cardQuota": None}, "U100"),
        ({"cardQuota": "0"}, "U133"),
        ({"useShopInterest": None}, "U100"),
        ({"useShopInterest": "false"}, "U133"),
        ({"useShopInterest": True}, "U132"),
        ({"taxFreeAmt": 10_001}, "U321"),
        ({"mallReserved": "m" * 501}, "U105"),
        ({"signData": "0" * 64, "ediDate": NOW}, "U312"),
        ({"amount": None}, "U100"),
        ({"amount": -1}, "U127"),
    ],
)
def test_a_wrong_field_charges_nothing_and_leaves_the_order_id_unused(
    nicepay: Nicepay, fields: dict[str, Any], expected: str
) -> None:
    bid, order_id = nicepay.bid(), new_order()
    assert code(nicepay.charge(bid, **{"orderId": order_id, **fields})) == (200, expected)
    assert code(nicepay.charge(bid, orderId=order_id)) == (200, "0000")


def test_each_call_signs_what_the_manual_says(nicepay: Nicepay) -> None:
    bid, order_id = nicepay.bid(), new_order()
    right = hashed(order_id, bid, NOW, nicepay.secret)
    assert code(nicepay.charge(bid, orderId=order_id, ediDate=NOW, signData=right)) == (200, "0000")
    order_id = new_order()
    right = hashed(order_id, NOW, nicepay.secret)
    assert code(nicepay.register(orderId=order_id, ediDate=NOW, signData=right)) == (200, "0000")
    body = {"orderId": order_id, "ediDate": NOW, "signData": right}
    assert code(nicepay.post(f"/v1/subscribe/{bid}/expire", body)) == (200, "U312")
    body["signData"] = hashed(order_id, bid, NOW, nicepay.secret)
    assert code(nicepay.post(f"/v1/subscribe/{bid}/expire", body)) == (200, "0000")


def test_a_failure_of_nicepay_itself_takes_the_charge_back(nicepay: Nicepay) -> None:
    bid, order_id = nicepay.bid(), new_order()
    nicepay.admin("POST", "bid", {"bid": bid, "declineCode": "U503"})
    assert code(nicepay.charge(bid, orderId=order_id)) == (200, "U503")
    shown = nicepay.find(order_id).json
    assert (shown["status"], shown["balanceAmt"]) == ("cancelled", 0)
