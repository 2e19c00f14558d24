"""Exchanges of the vendor's manual, asked again: the answers have the manual's fields, in its order, of its types.

Examples: common/test.md, common/api.md and api/payment-subscribe.md of github.com/nicepayments/nicepay-manual, and
info/nicepay-info-sandbox.md of github.com/SeokRae/nicepay-manual-eng.
"""

import json
import re
from typing import Any

from doorbuster.simulators.nicepay.tests.caller import Nicepay, new_order

FORM = {
    "authResultCode": "0000",
    "authResultMsg": "인증 성공",
    "tid": "UT0000113m01012110051656331001",
    "clientId": "58e3b578555e45738d6b569e53d5ae54",
    "orderId": "b0980639-52db-4504-9e4d-97200827dc48",
    "amount": "1004",
    "mallReserved": "",
    "authToken": "NICEUNTT9FBBD87FD2393AFEE45A7DCA61C194AA",
    "signature": "7cc95c592e2a12f0292e1a20d68dd9eb8132fd3c0af675b981a4c1c2ce63a93b",
}

PAYMENT = json.loads("""{
    "resultCode": "0000", "resultMsg": "정상 처리되었습니다.", "tid": "UT0000113m01012110051656331001",
    "cancelledTid": null, "orderId": "b0980639-52db-4504-9e4d-97200827dc48",
    "ediDate": "2021-10-05T16:56:34.447+0900",
    "signature": "28c2e8bae912847541d4885db17648f963c7cc8e8249ff010097d6f1395df993", "status": "paid",
    "paidAt": "2021-10-05T16:56:34.000+0900", "failedAt": "0", "cancelledAt": "0", "payMethod": "card",
    "amount": 1004, "balanceAmt": 1004, "goodsName": "나이스페이-상품", "mallReserved": null, "useEscrow": false,
    "currency": "KRW", "channel": "pc", "approveNo": "000000", "buyerName": null, "buyerTel": null,
    "buyerEmail": null, "receiptUrl": "https://npg.example/issue", "mallUserId": null, "issuedCashReceipt": false,
    "coupon": null,
    "card": {"cardCode": "04", "cardName": "삼성", "cardNum": "12341234****1234", "cardQuota": 0,
        "isInterestFree": false, "cardType": "credit", "canPartCancel": true, "acquCardCode": "04",
        "acquCardName": "삼성"},
    "vbank": null, "cancels": null, "cashReceipts": null}""")

CANCEL = {
    "tid": "UT0000104m01012303141557092002",
    "amount": 1004,
    "cancelledAt": "2023-03-14T16:37:24.000+0900",
    "reason": "고객요청",
    "receiptUrl": "https://npg.example/issue",
    "couponAmt": 0,
}

# Between `vbank` and the end, answers of 2023 and later have these; the manual's example of 2021 has not.
NEWER = ["bank", "cellphone", "messageSource"]
DATE = re.compile(r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0900\Z")


def shape(value: Any) -> Any:
    """Names in order, types, and what form a text has."""
    if isinstance(value, dict):
        return [(name, shape(inner)) for name, inner in value.items() if name not in NEWER]
    if isinstance(value, list):
        return [shape(inner) for inner in value]
    if isinstance(value, str) and DATE.match(value):
        return "a date"
    if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value):
        return "a hash"
    return type(value).__name__


def test_the_window_posts_the_fields_of_the_manual(nicepay: Nicepay) -> None:
    bought = nicepay.buy(1004, goodsName="나이스페이-상품")
    assert shape(bought) == shape(FORM)
    assert (bought["authResultCode"], bought["authResultMsg"]) == ("0000", "인증 성공")
    assert re.fullmatch(r"NICEUNTT[0-9A-F]{32}", bought["authToken"])
    assert len(bought["tid"]) == len(FORM["tid"])


def test_an_approval_answers_the_object_of_the_manual(nicepay: Nicepay) -> None:
    bought = nicepay.buy(1004, goodsName="나이스페이-상품")
    shown = nicepay.post(f"/v1/payments/{bought['tid']}", {"amount": 1004}).json
    assert shape(shown) == shape(PAYMENT)
    same = set(PAYMENT) - {"tid", "orderId", "ediDate", "signature", "paidAt", "receiptUrl", "card"}
    assert {name: shown[name] for name in same} == {name: PAYMENT[name] for name in same}
    assert (shown["bank"], shown["cellphone"], shown["messageSource"]) == (None, None, "nicepay")


def test_an_inquiry_and_a_cancel_answer_the_object_of_the_manual(nicepay: Nicepay) -> None:
    payment = nicepay.paid(1004)
    assert shape(nicepay.look(payment)) == shape(nicepay.find(payment["orderId"]).json) == shape(PAYMENT)
    answer = nicepay.post(
        f"/v1/payments/{payment['tid']}/cancel", {"reason": "sample-code", "orderId": "merchant-order-id"}
    )
    shown = answer.json
    assert shape(shown["cancels"]) == shape([CANCEL])
    assert (shown["status"], shown["balanceAmt"], shown["amount"]) == ("cancelled", 0, 1004)
    assert shown["tid"] == shown["cancelledTid"] == shown["cancels"][0]["tid"] == payment["tid"]
    assert shown["orderId"] == payment["orderId"], "as in the example: the payment's, not the request's"
    assert shown["cancelledAt"] == shown["cancels"][0]["cancelledAt"]


def test_a_card_is_registered_charged_and_deleted_as_in_the_manual(nicepay: Nicepay) -> None:
    registered = nicepay.register().json
    assert list(registered)[:8] == [
        *("resultCode", "resultMsg", "tid", "orderId", "bid", "authDate", "cardCode", "cardName"),
    ]
    assert (registered["resultCode"], registered["status"]) == ("0000", "issued")
    assert re.fullmatch(r"BIKY[0-9a-z]{10}\d{16}", registered["bid"])
    bid, order_id = registered["bid"], new_order()
    body = {
        "orderId": order_id,
        "amount": 1004,
        "goodsName": "나이스상품",
        "cardQuota": 0,
        "useShopInterest": False,
    }
    shown = nicepay.post(f"/v1/subscribe/{bid}/payments", body).json
    assert shape(shown) == shape(PAYMENT)
    assert (shown["orderId"], shown["goodsName"], shown["status"]) == (order_id, "나이스상품", "paid")
    gone = nicepay.post(f"/v1/subscribe/{bid}/expire", {"orderId": new_order()}).json
    assert list(gone) == ["resultCode", "resultMsg", "tid", "orderId", "bid", "authDate"]
    assert (gone["resultCode"], gone["bid"]) == ("0000", bid)


def test_a_refusal_is_two_fields(nicepay: Nicepay) -> None:
    answer = nicepay.post("/v1/payments/nicuntct1m0101210727200708A058", {"amount": 1004})
    assert answer.json == {"resultCode": "U121", "resultMsg": "인증 요청내역이 존재하지 않습니다."}
