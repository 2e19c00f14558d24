"""Our requests are the ones that the providers' documents and SDKs show."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest
from msgspec.structs import replace

from doorbuster.engines.payment_router.outcome import HttpCall, RefundAccount
from doorbuster.engines.payment_router.providers import kakaopay, nicepay, stripe, toss
from doorbuster.engines.payment_router.tests import documented as doc

KEY = doc.TOSS_KEY


def sent(call: HttpCall) -> tuple[str, str, dict[str, Any]]:
    """Method, path and body of a call; a form's body as its fields."""
    body = dict(parse_qsl(call.body.decode())) if b"=" in call.body[:40] and not call.body.startswith(b"{") else None
    return call.method, call.path, body if body is not None else msgspec.json.decode(call.body or b"{}")


def test_toss_is_asked_as_its_documents_ask() -> None:
    confirm = toss.confirm_call(doc.TOSS_ORDER, doc.TOSS_LOGIN, doc.NOW)
    assert sent(confirm) == (
        "POST", "/v1/payments/confirm", {"paymentKey": KEY, "orderId": doc.UNDERSCORED, "amount": 163020},
    )  # fmt: skip
    assert confirm.headers["authorization"] == doc.TOSS_BASIC
    assert confirm.headers["idempotency-key"] == "key-1"
    billing = replace(
        doc.TOSS_ORDER, instrument="Z_t5vOvQxrj4499PeiJcjen28-V2RyqgYTwN44Rdzk0=", customer="aENcQAtPdYbTjGhtQnNVj"
    )
    method, path, body = sent(toss.charge_call(billing, doc.TOSS_LOGIN, doc.NOW))
    assert (method, path) == ("POST", "/v1/billing/Z_t5vOvQxrj4499PeiJcjen28-V2RyqgYTwN44Rdzk0%3D")
    assert body == {
        "customerKey": "aENcQAtPdYbTjGhtQnNVj", "amount": 163020, "orderId": doc.UNDERSCORED,
        "orderName": "토스 티셔츠 외 2건", "taxFreeAmount": 0,
    }  # fmt: skip
    inquiry = toss.inquiry_call(doc.TOSS_ORDER, doc.TOSS_LOGIN, doc.NOW)
    assert (inquiry.method, inquiry.path, inquiry.body) == ("GET", f"/v1/payments/orders/{doc.UNDERSCORED}", b"")
    refund = replace(doc.TOSS_REFUND, account=RefundAccount("88", "1101234567270", "윤한빈"))
    assert sent(toss.refund_call(refund, doc.TOSS_LOGIN, doc.NOW)) == (
        "POST", f"/v1/payments/{KEY}/cancel",
        {
            "cancelReason": doc.TOSS_CANCEL["cancelReason"], "cancelAmount": 1000, "taxFreeAmount": 0,
            "refundReceiveAccount": {"bank": "88", "accountNumber": "1101234567270", "holderName": "윤한빈"},
        },
    )  # fmt: skip
    whole = replace(doc.TOSS_REFUND, amount_minor=163020)
    assert "cancelAmount" not in sent(toss.refund_call(whole, doc.TOSS_LOGIN, doc.NOW))[2]
    client = toss.prepare_here(doc.TOSS_ORDER, doc.URLS, doc.TOSS_LOGIN, doc.NOW).client
    assert (client["method"], client["orderId"], client["amount"]) == ("CARD", doc.UNDERSCORED, 163020)
    later = toss.prepare_here(replace(doc.TOSS_ORDER, method="virtual_account"), doc.URLS, doc.TOSS_LOGIN, doc.NOW)
    assert later.client["method"] == "VIRTUAL_ACCOUNT"


def test_nicepay_is_asked_as_its_manual_asks() -> None:
    confirm = nicepay.confirm_call(doc.NICE_ORDER, doc.NICE_LOGIN, doc.NOW)
    method, path, body = sent(confirm)
    assert (method, path, body["amount"]) == ("POST", f"/v1/payments/{doc.NICE_TID}", 1004)
    assert confirm.headers["authorization"] == doc.NICE_BASIC
    assert body["ediDate"] == "2026-11-23T16:30:00.000+0900"
    assert body["signData"] == nicepay._sign(f"{doc.NICE_TID}1004{body['ediDate']}", doc.NICE_LOGIN)
    billing = replace(doc.NICE_ORDER, instrument="BIKYnicuntct2m2107272028532670")
    method, path, body = sent(nicepay.charge_call(billing, doc.NICE_LOGIN, doc.NOW))
    assert (method, path) == ("POST", "/v1/subscribe/BIKYnicuntct2m2107272028532670/payments")
    wanted = {"orderId": doc.NICE_REFERENCE, "amount": 1004, "goodsName": "나이스페이-상품", "cardQuota": 0}
    assert {name: body[name] for name in wanted} == wanted and body["useShopInterest"] is False
    found = nicepay.inquiry_call(replace(doc.NICE_ORDER, token=""), doc.NICE_LOGIN, doc.NOW)
    assert (found.method, found.path) == ("GET", f"/v1/payments/find/{doc.NICE_REFERENCE}?orderDate=20261123")
    known = nicepay.inquiry_call(doc.NICE_ORDER, doc.NICE_LOGIN, doc.NOW)
    assert known.path == f"/v1/payments/{doc.NICE_TID}"
    method, path, body = sent(nicepay.netcancel_call(doc.NICE_ORDER, doc.NICE_LOGIN, doc.NOW))
    assert (method, path, body["orderId"]) == ("POST", "/v1/payments/netcancel", doc.NICE_REFERENCE)
    part = sent(nicepay.refund_call(doc.NICE_REFUND, doc.NICE_LOGIN, doc.NOW))[2]
    assert (part["cancelAmt"], part["orderId"]) == (4, doc.REFUND_UNDERSCORED)
    assert part["reason"] == f"sample-code [{doc.REFUND_UNDERSCORED}]" and len(part["reason"].encode()) <= 100
    again = replace(doc.NICE_REFUND, reference="refund-1", idempotency_key="refund-1.2")
    refused_twice = sent(nicepay.refund_call(again, doc.NICE_LOGIN, doc.NOW))[2]
    assert (refused_twice["orderId"], refused_twice["reason"]) == ("refund-1_2", "sample-code [refund-1]")
    whole = sent(nicepay.refund_call(replace(doc.NICE_REFUND, amount_minor=1004), doc.NICE_LOGIN, doc.NOW))[2]
    assert "cancelAmt" not in whole


def test_kakaopay_is_asked_as_its_pages_ask() -> None:
    ready = kakaopay.prepare_call(doc.KAKAO_ORDER, doc.URLS, doc.KAKAO_LOGIN, doc.NOW)
    assert ready.headers == {"authorization": "SECRET_KEY DEV-SECRET", "content-type": "application/json"}
    assert sent(ready) == (
        "POST", "/online/v1/payment/ready",
        {
            "cid": "TC0ONETIME", "partner_order_id": doc.UNDERSCORED, "partner_user_id": "partner_user_id",
            "item_name": "초코파이", "quantity": 1, "total_amount": 2200, "tax_free_amount": 0,
            "approval_url": doc.URLS.success, "fail_url": doc.URLS.failure, "cancel_url": doc.URLS.cancel,
        },
    )  # fmt: skip
    assert sent(kakaopay.confirm_call(doc.KAKAO_ORDER, doc.KAKAO_LOGIN, doc.NOW)) == (
        "POST", "/online/v1/payment/approve",
        {
            "cid": "TC0ONETIME", "tid": doc.KAKAO_TID, "partner_order_id": doc.UNDERSCORED,
            "partner_user_id": "partner_user_id", "pg_token": "xxxxxxxxxxxxxxxxxxxx", "total_amount": 2200,
        },
    )  # fmt: skip
    order = ("POST", "/online/v1/payment/order", {"cid": "TC0ONETIME", "tid": doc.KAKAO_TID})
    assert sent(kakaopay.inquiry_call(doc.KAKAO_ORDER, doc.KAKAO_LOGIN, doc.NOW)) == order
    assert sent(kakaopay.refund_inquiry_call(doc.KAKAO_REFUND, doc.KAKAO_LOGIN, doc.NOW)) == order
    assert sent(kakaopay.refund_call(doc.KAKAO_REFUND, doc.KAKAO_LOGIN, doc.NOW)) == (
        "POST", "/online/v1/payment/cancel",
        {
            "cid": "TC0ONETIME", "tid": doc.KAKAO_TID, "cancel_amount": 2200, "cancel_tax_free_amount": 0,
            "cancel_available_amount": 2200, "payload": doc.REFUND_UNDERSCORED,
        },
    )  # fmt: skip
    with pytest.raises(ValueError, match="tid"):
        kakaopay.inquiry_call(replace(doc.KAKAO_ORDER, provider_id=""), doc.KAKAO_LOGIN, doc.NOW)


def test_a_refund_that_could_not_be_recognised_is_not_asked_for() -> None:
    for provider, order, login in (
        (toss, doc.TOSS_REFUND, doc.TOSS_LOGIN), (nicepay, doc.NICE_REFUND, doc.NICE_LOGIN),
        (kakaopay, doc.KAKAO_REFUND, doc.KAKAO_LOGIN), (stripe, doc.STRIPE_REFUND, doc.STRIPE_LOGIN),
    ):  # fmt: skip
        for nameless in (replace(order, charge_reference=""), replace(order, reference="")):
            with pytest.raises(ValueError, match="reference"):
                provider.refund_call(nameless, login, doc.NOW)


def test_stripe_is_asked_as_its_reference_asks() -> None:
    charge = stripe.charge_call(doc.STRIPE_ORDER, doc.STRIPE_LOGIN, doc.NOW)
    assert sent(charge) == (
        "POST", "/v1/payment_intents",
        {
            "amount": "2000", "currency": "usd", "payment_method": "pm_card_visa", "confirm": "true",
            "off_session": "true", "capture_method": "automatic", "payment_method_types[]": "card",
            "metadata[reference]": doc.REFERENCE, "description": "Two tickets", "customer": "cus_NffrFeUfNV2Hib",
        },
    )  # fmt: skip
    assert charge.headers["content-type"] == "application/x-www-form-urlencoded"
    assert charge.headers["authorization"] == "Bearer sk_test_tR3PYbcVNZZ796tH88S4VQ2u"
    known = replace(doc.STRIPE_ORDER, provider_id=doc.STRIPE_ID)
    capture = stripe.capture_call(known, doc.STRIPE_LOGIN, doc.NOW)
    assert sent(capture) == ("POST", f"/v1/payment_intents/{doc.STRIPE_ID}/capture", {"amount_to_capture": "2000"})
    void = stripe.void_call(known, doc.STRIPE_LOGIN, doc.NOW)
    assert sent(void) == ("POST", f"/v1/payment_intents/{doc.STRIPE_ID}/cancel", {})
    prepare = stripe.prepare_call(doc.STRIPE_ORDER, doc.URLS, doc.STRIPE_LOGIN, doc.NOW)
    assert sent(prepare)[2]["capture_method"] == "manual" and "confirm" not in sent(prepare)[2]
    keys = [call.headers["idempotency-key"] for call in (charge, capture, void, prepare)]
    assert len(set(keys)) == 4, "a key that crosses endpoints is an error at Stripe"
    search = urlsplit(stripe.inquiry_call(doc.STRIPE_ORDER, doc.STRIPE_LOGIN, doc.NOW).path)
    assert search.path == "/v1/payment_intents/search"
    assert dict(parse_qsl(search.query))["query"] == f'metadata["reference"]:"{doc.REFERENCE}"'
    by_id = stripe.inquiry_call(known, doc.STRIPE_LOGIN, doc.NOW)
    assert by_id.path.startswith(f"/v1/payment_intents/{doc.STRIPE_ID}?")
    assert sent(stripe.refund_call(doc.STRIPE_REFUND, doc.STRIPE_LOGIN, doc.NOW)) == (
        "POST", "/v1/refunds",
        {
            "payment_intent": doc.STRIPE_ID, "amount": "1000", "metadata[reference]": doc.REFUND_REFERENCE,
            "metadata[charge_reference]": doc.REFERENCE,
        },
    )  # fmt: skip
