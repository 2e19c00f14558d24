"""Exchanges as the providers' documents and SDKs show them, with orders that fit them. Sources: docs/psp/<name>.md."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec

from doorbuster.engines.payment_router.outcome import ChargeOrder, HttpAnswer, RefundOrder
from doorbuster.engines.payment_router.provider import Login, ReturnUrls, Secret

NOW = dt.datetime(2026, 11, 23, 7, 30, tzinfo=dt.UTC)
URLS = ReturnUrls("https://shop.example/paid", "https://shop.example/failed", "https://shop.example/left")
REFERENCE = "019aa0c2-5b7e-7cc1-9d3e-2f1a4b6c8d90.2"
UNDERSCORED = "019aa0c2-5b7e-7cc1-9d3e-2f1a4b6c8d90_2"
REFUND_REFERENCE = "019aa0c2-5b7e-7cc1-9d3e-2f1a4b6c8d90.2.1"
REFUND_UNDERSCORED = "019aa0c2-5b7e-7cc1-9d3e-2f1a4b6c8d90_2_1"


def answer(document: Any, status: int = 200) -> HttpAnswer:
    """This document as an answer; bytes go as they are."""
    return HttpAnswer(status, document if isinstance(document, bytes) else msgspec.json.encode(document))


# Toss Payments: docs.tosspayments.com shows this secret key in its samples; the payment is from tosspayments-rs.
TOSS_LOGIN = Login("https://api.tosspayments.com", Secret("test_sk_zXLkKEypNArWmo50nX3lmeaxYG5R"), "test_ck_public")
TOSS_BASIC = "Basic dGVzdF9za196WExrS0V5cE5BcldtbzUwblgzbG1lYXhZRzVSOg=="
TOSS_KEY = "Kl56WYb7w4vZnjEJeQVxn0ZyqmKWbD8PmOoBN0k12dzgRG9p"
TOSS_ORDER = ChargeOrder(
    "toss", REFERENCE, "key-1", 163020, "KRW", method="window", token=TOSS_KEY, title="토스 티셔츠 외 2건"
)  # fmt: skip
TOSS_PAYMENT: dict[str, Any] = {
    "mId": "tvivarepublica4", "lastTransactionKey": "7F8E548429D327BFE5ACEAF508E8DC36", "paymentKey": TOSS_KEY,
    "orderId": UNDERSCORED, "orderName": "www.hilti.co.kr", "taxExemptionAmount": 0, "status": "DONE",
    "requestedAt": "2023-12-01T00:05:06+09:00", "approvedAt": "2023-12-01T00:05:07+09:00", "useEscrow": False,
    "cultureExpense": False, "virtualAccount": None, "transfer": None, "cancels": None, "secret": None,
    "type": "NORMAL", "easyPay": None, "country": "KR", "failure": None, "isPartialCancelable": False,
    "currency": "KRW", "totalAmount": 163020, "balanceAmount": 163020, "suppliedAmount": 148200, "vat": 14820,
    "taxFreeAmount": 0, "method": "카드", "version": "2022-11-16",
    "card": {"issuerCode": "4V", "number": "40000000****109*", "installmentPlanMonths": 0, "amount": 163020},
}  # fmt: skip
TOSS_REFUND = RefundOrder(
    "toss", REFUND_REFERENCE, "key-2", TOSS_KEY, 1000, "KRW", charge_reference=REFERENCE, charged_minor=163020,
    reason="고객이 취소를 원함",
)  # fmt: skip
TOSS_CANCEL: dict[str, Any] = {
    "transactionKey": "A8992D33A3620C9D270A233360F00AD7",
    "cancelReason": f"고객이 취소를 원함 [{REFUND_UNDERSCORED}]", "taxExemptionAmount": 0,
    "canceledAt": "2024-12-04T11:01:16+09:00", "receiptKey": None, "cancelStatus": "DONE", "cancelRequestId": None,
    "cancelAmount": 1000, "taxFreeAmount": 0, "refundableAmount": 162020,
}  # fmt: skip
TOSS_REFUNDED = TOSS_PAYMENT | {"status": "PARTIAL_CANCELED", "balanceAmount": 162020, "cancels": [TOSS_CANCEL]}
TOSS_ACCOUNT = {
    "accountNumber": "79019639679511", "accountType": "고정", "bankCode": "11", "customerName": "김",
    "dueDate": "2025-11-30T15:17:19+09:00", "expired": False, "settlementStatus": "INCOMPLETED",
    "refundStatus": "NONE", "refundReceiveAccount": None,
}  # fmt: skip
# The pair of rows that the developers' community shows: a sale and its cancel.
TOSS_SALE: dict[str, Any] = {
    "mId": "TP01012100", "amount": 64601, "approvedAt": "2025-02-09T06:58:32+09:00", "cancel": None, "currency": "KRW",
    "easyPay": None, "fee": 1492, "fees": [{"fee": 1492, "type": "BASE"}], "interestFee": 0, "method": "카드",
    "orderId": UNDERSCORED, "paidOutDate": "2025-02-13", "paymentKey": "TP01020250209065811VYdf1",
    "payOutAmount": 63109, "soldDate": "2025-02-09", "supplyAmount": 1356,
    "transactionKey": "txrd_a01jkks4kdkvhqr2kge21gqawf8", "vat": 136, "virtualAccount": None,
}  # fmt: skip
TOSS_SALE_BACK: dict[str, Any] = TOSS_SALE | {
    "amount": -99800, "fee": -2250, "supplyAmount": -2045, "vat": -205, "payOutAmount": -97550,
    "transactionKey": "497BF239847238947B0491D84B4", "orderId": "EjBNtZK7j8q2TlGFLJ-9T",
    "cancel": {"transactionKey": "497BF239847238947B0491D84B4", "cancelAmount": 99800, "cancelStatus": "DONE"},
}  # fmt: skip

# NICEPAY: keys, signatures, tid, order and answer of the manual's README.
NICE_LOGIN = Login(
    "https://sandbox-api.nicepay.co.kr", Secret("9eb85607103646da9f9c02b128f2e5ee"),
    "S2_af4543a0be4d49a98122e01ec2059a56",
)  # fmt: skip
NICE_BASIC = (
    "Basic UzJfYWY0NTQzYTBiZTRkNDlhOTgxMjJlMDFlYzIwNTlhNTY6OWViODU2MDcxMDM2NDZkYTlmOWMwMmIxMjhmMmU1ZWU="
)  # fmt: skip
NICE_TID = "UT0000113m01012111051714341073"
NICE_REFERENCE = "c74a5960-830b-4cd8-82a9-fa1ce739a18f"
NICE_ORDER = ChargeOrder(
    "nicepay", NICE_REFERENCE, "key-1", 1004, "KRW", method="window", token=NICE_TID, title="나이스페이-상품",
    began_at=NOW,
)  # fmt: skip
NICE_RETURN = {
    "authResultCode": "0000", "authResultMsg": "인증 성공", "tid": NICE_TID,
    "clientId": "S2_af4543a0be4d49a98122e01ec2059a56", "orderId": NICE_REFERENCE, "amount": "1004", "mallReserved": "",
    "authToken": "NICEUNTTB06096FF8F653AA366E7EEED1101AAAE",
    "signature": "99ea68bf15681741e793ece56ab87891b9bdc94cd54abdcb55b2884f4336155a",
}  # fmt: skip
NICE_PAYMENT: dict[str, Any] = {
    "resultCode": "0000", "resultMsg": "정상 처리되었습니다.", "tid": NICE_TID, "cancelledTid": None,
    "orderId": NICE_REFERENCE, "ediDate": "2021-11-05T17:14:35.150+0900",
    "signature": "63b251b31c909eebef1a9f4fcc19e77bdcb8f64fc1066a29670f8627186865cd", "status": "paid",
    "paidAt": "2021-11-05T17:14:35.000+0900", "failedAt": "0", "cancelledAt": "0", "payMethod": "card", "amount": 1004,
    "balanceAmt": 1004, "goodsName": "나이스페이-상품", "mallReserved": None, "useEscrow": False, "currency": "KRW",
    "channel": "pc", "approveNo": "000000", "buyerName": None, "coupon": None, "vbank": None, "cancels": None,
    "card": {"cardCode": "04", "cardName": "삼성", "cardQuota": 0, "canPartCancel": True}, "cashReceipts": None,
}  # fmt: skip
NICE_REFUND = RefundOrder(
    "nicepay", REFUND_REFERENCE, "key-2", NICE_TID, 4, "KRW", charge_reference=NICE_REFERENCE, charged_minor=1004,
    reason="sample-code",
)  # fmt: skip
NICE_CANCEL = {
    "tid": "UT0000113m01012111051714341074", "amount": 4, "cancelledAt": "2021-11-05T17:20:00.000+0900",
    "reason": f"sample-code [{REFUND_UNDERSCORED}]", "receiptUrl": "", "couponAmt": 0,
}  # fmt: skip
NICE_REFUNDED = NICE_PAYMENT | {
    "status": "partialCancelled", "balanceAmt": 1000, "cancels": [NICE_CANCEL], "cancelledTid": NICE_CANCEL["tid"],
}  # fmt: skip

# KakaoPay: the samples of its pages on single payment, cancel and order, with our order id in place of theirs.
KAKAO_LOGIN = Login("https://open-api.kakaopay.com", Secret("DEV-SECRET"), merchant="TC0ONETIME")
KAKAO_TID = "T1234567890123456789"
KAKAO_ORDER = ChargeOrder(
    "kakaopay", REFERENCE, "key-1", 2200, "KRW", method="window", provider_id=KAKAO_TID, token="xxxxxxxxxxxxxxxxxxxx",
    customer="partner_user_id", title="초코파이",
)  # fmt: skip
KAKAO_SESSION = {
    "tid": KAKAO_TID, "next_redirect_app_url": "https://mockup-pg-web.kakao.com/v1/xxxxxxxxxx/aInfo",
    "next_redirect_mobile_url": "https://mockup-pg-web.kakao.com/v1/xxxxxxxxxx/mInfo",
    "next_redirect_pc_url": "https://mockup-pg-web.kakao.com/v1/xxxxxxxxxx/info",
    "android_app_scheme": "kakaotalk://kakaopay/pg?url=https://mockup-pg-web.kakao.com/v1/xxxxxxxxxx/order",
    "ios_app_scheme": "kakaotalk://kakaopay/pg?url=https://mockup-pg-web.kakao.com/v1/xxxxxxxxxx/order",
    "created_at": "2023-07-15T21:18:22",
}  # fmt: skip
_AMOUNT = {"total": 2200, "tax_free": 0, "vat": 200, "point": 0, "discount": 0, "green_deposit": 0}
_NONE = dict.fromkeys(_AMOUNT, 0)
KAKAO_APPROVAL: dict[str, Any] = {
    "aid": "A5678901234567890123", "tid": KAKAO_TID, "cid": "TC0ONETIME", "partner_order_id": UNDERSCORED,
    "partner_user_id": "partner_user_id", "payment_method_type": "MONEY", "item_name": "초코파이", "quantity": 1,
    "amount": _AMOUNT, "created_at": "2023-07-15T21:18:22", "approved_at": "2023-07-15T21:18:22",
}  # fmt: skip
KAKAO_PAID: dict[str, Any] = {
    "tid": KAKAO_TID, "cid": "TC0ONETIME", "status": "SUCCESS_PAYMENT", "partner_order_id": UNDERSCORED,
    "partner_user_id": "partner_user_id", "payment_method_type": "MONEY", "item_name": "초코파이", "quantity": 1,
    "amount": _AMOUNT, "canceled_amount": _NONE, "cancel_available_amount": _AMOUNT,
    "created_at": "2016-11-15T21:18:22", "approved_at": "2016-11-15T21:20:48",
    "payment_action_details": [{
        "aid": "A5678901234567890123", "payment_action_type": "PAYMENT", "payment_method_type": "MONEY",
        "amount": 2200, "point_amount": 0, "discount_amount": 0, "approved_at": "2016-11-15T21:20:48",
    }],
}  # fmt: skip
KAKAO_REFUND = RefundOrder(
    "kakaopay", REFUND_REFERENCE, "key-2", KAKAO_TID, 2200, "KRW", charge_reference=REFERENCE, charged_minor=2200,
)  # fmt: skip
KAKAO_CANCEL: dict[str, Any] = KAKAO_APPROVAL | {
    "aid": "A5678901234567890124", "status": "CANCEL_PAYMENT", "approved_cancel_amount": _AMOUNT,
    "canceled_amount": _AMOUNT, "cancel_available_amount": _NONE, "canceled_at": "2023-07-15T21:18:22",
    "payload": REFUND_UNDERSCORED,
}  # fmt: skip
KAKAO_REFUNDED: dict[str, Any] = KAKAO_PAID | {
    "status": "CANCEL_PAYMENT", "canceled_amount": _AMOUNT, "cancel_available_amount": _NONE,
    "payment_action_details": [*KAKAO_PAID["payment_action_details"], {
        "aid": "A5678901234567890124", "payment_action_type": "CANCEL", "amount": 2200, "payload": REFUND_UNDERSCORED,
    }],
}  # fmt: skip

# Stripe: the objects of its API reference, with our reference in the metadata.
STRIPE_LOGIN = Login(
    "https://api.stripe.com", Secret("sk_test_tR3PYbcVNZZ796tH88S4VQ2u"), "pk_test_public",
    (Secret("whsec_test_secret"), Secret("whsec_old_secret")),
)  # fmt: skip
STRIPE_ID = "pi_3MtwBwLkdIwHu7ix28a3tqPa"
STRIPE_ORDER = ChargeOrder(
    "stripe", REFERENCE, "key-1", 2000, "USD", "pm_card_visa", customer="cus_NffrFeUfNV2Hib", title="Two tickets"
)  # fmt: skip
STRIPE_INTENT: dict[str, Any] = {
    "id": STRIPE_ID, "object": "payment_intent", "amount": 2000, "amount_capturable": 0,
    "amount_details": {"tip": {}}, "amount_received": 2000, "application": None, "canceled_at": None,
    "capture_method": "automatic", "client_secret": f"{STRIPE_ID}_secret_YrKJUKribcBjcG8HVhfZluoGH",
    "confirmation_method": "automatic", "created": 1680800504, "currency": "usd", "customer": None,
    "last_payment_error": None, "latest_charge": "ch_3MmlLrLkdIwHu7ix0snN0B15", "livemode": False,
    "metadata": {"reference": REFERENCE}, "next_action": None, "payment_method_types": ["card"], "status": "succeeded",
}  # fmt: skip
STRIPE_OPEN = STRIPE_INTENT | {"status": "requires_payment_method", "amount_received": 0, "latest_charge": None}
STRIPE_DECLINE: dict[str, Any] = {"error": {
    "type": "card_error", "code": "card_declined", "decline_code": "insufficient_funds",
    "message": "Your card has insufficient funds.", "charge": "ch_3MmlLrLkdIwHu7ix0snN0B15",
    "doc_url": "https://stripe.com/docs/error-codes/card-declined", "payment_intent": STRIPE_OPEN,
}}  # fmt: skip
STRIPE_REFUND = RefundOrder(
    "stripe", REFUND_REFERENCE, "key-2", STRIPE_ID, 1000, "USD", charge_reference=REFERENCE, charged_minor=2000,
)  # fmt: skip
STRIPE_REFUNDED: dict[str, Any] = {
    "id": "re_1Nispe2eZvKYlo2Cd31jOCgZ", "object": "refund", "amount": 1000, "balance_transaction": None,
    "charge": "ch_3MmlLrLkdIwHu7ix0snN0B15", "created": 1692942318, "currency": "usd",
    "metadata": {"reference": REFUND_REFERENCE, "charge_reference": REFERENCE}, "payment_intent": STRIPE_ID,
    "reason": None, "receipt_number": None, "status": "succeeded",
}  # fmt: skip
