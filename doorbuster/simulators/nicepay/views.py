"""How a payment, a billing key, a token and the window's form look on the wire: values to JSON values, nothing else.

The payment object: the answer of common/test.md of github.com/nicepayments/nicepay-manual, field by field and in its
order, with `bank`, `cellphone` and `messageSource` as answers of 2023 and later have them (docs/psp/nicepay.md).
"""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from doorbuster.simulators.nicepay.errors import DECLINES, SUCCESS, SUCCESS_MESSAGE
from doorbuster.simulators.nicepay.payment import Cancel, Payment
from doorbuster.simulators.nicepay.signing import answer_signature, auth_signature, hashed

KST = timezone(timedelta(hours=9))
# Where the vendor's receipts would be; a reserved name, so nothing follows it by accident.
RECEIPTS = "https://npg.nicepay.invalid/issue/IssueLoader.do?type=0&innerWin=Y&TID="
CARD = {"cardCode": "04", "cardName": "삼성", "acquCardCode": "04", "acquCardName": "삼성"}
BANK = {"vbankCode": "088", "vbankName": "신한은행"}

View = dict[str, Any]


def iso(at_ms: int) -> str:
    """`yyyy-MM-dd'T'HH:mm:ss.SSS+0900`: the time of Seoul, the offset without a colon."""
    moment = datetime.fromtimestamp(at_ms // 1000, UTC).astimezone(KST)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}+0900"


def iso_or_zero(at_ms: int | None) -> str:
    """The text "0" for what has not happened; whole seconds, as in the vendor's examples."""
    return "0" if at_ms is None else iso(at_ms // 1000 * 1000)


def compact(at_ms: int) -> str:
    """`yyMMddHHmmss`, the time of Seoul, as it stands in a tid."""
    return f"{datetime.fromtimestamp(at_ms // 1000, UTC).astimezone(KST):%y%m%d%H%M%S}"


def day(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms // 1000, UTC).astimezone(KST):%Y%m%d}"


def payment_view(payment: Payment, at_ms: int, secret: str, cancel: Cancel | None = None) -> View:
    """The payment as told at `at_ms`; `cancel` is the one this answer is about.

    A declined payment has the network's code, and no signature: only a valid transaction is signed.
    """
    failure = payment.failure_code
    edi_date = iso(at_ms)
    signature = None if failure else answer_signature(payment.tid, payment.amount, edi_date, secret)
    view: View = {
        "resultCode": failure or SUCCESS,
        "resultMsg": DECLINES[failure] if failure else SUCCESS_MESSAGE,
        "tid": payment.tid,
        "cancelledTid": None if cancel is None else cancel.tid,
        "orderId": payment.order_id,
        "ediDate": edi_date,
        "signature": signature,
        "status": payment.status,
        # An account that waits has the time of its issue here: it is `status` that says whether money came.
        "paidAt": iso_or_zero(payment.paid_at_ms or payment.issued_at_ms),
        "failedAt": iso_or_zero(payment.failed_at_ms),
        "cancelledAt": iso_or_zero(payment.cancels[-1].at_ms if payment.cancels else None),
        "payMethod": payment.pay_method,
        "amount": payment.amount,
        "balanceAmt": payment.captured,
        "goodsName": payment.goods_name,
        "mallReserved": payment.mall_reserved,
        "useEscrow": False,
        "currency": "KRW",
        "channel": "pc",
        "approveNo": None if failure else "000000",
        "buyerName": payment.buyer_name,
        "buyerTel": payment.buyer_tel,
        "buyerEmail": payment.buyer_email,
        "receiptUrl": None if failure else RECEIPTS + payment.tid,
        "mallUserId": payment.mall_user_id,
        "issuedCashReceipt": False,
        "coupon": None,
        "card": _card(payment),
        "vbank": _account(payment),
        "bank": None,
        "cellphone": None,
        "cancels": [_cancel(cancel) for cancel in payment.cancels] or None,
        "cashReceipts": None,
        "messageSource": "external" if failure else "nicepay",
    }
    return view


def webhook_view(payment: Payment, at_ms: int, secret: str) -> View:
    """The answer of the API for what happened; a charge of a billing key has `bid` too."""
    last = payment.cancels[-1] if payment.cancels else None
    view = payment_view(payment, at_ms, secret, last)
    return view if payment.bid is None else {**view, "bid": payment.bid}


def form(payment: Payment, client_key: str, auth_token: str, secret: str) -> dict[str, str]:
    """What the browser posts to returnUrl after the window: form fields, all of them text."""
    return {
        "authResultCode": SUCCESS,
        "authResultMsg": "인증 성공",
        "tid": payment.tid,
        "clientId": client_key,
        "orderId": payment.order_id,
        "amount": str(payment.amount),
        "mallReserved": payment.mall_reserved or "",
        "authToken": auth_token,
        "signature": auth_signature(auth_token, client_key, payment.amount, secret),
    }


def registered_view(tid: str, order_id: str, bid: str, at_ms: int) -> View:
    """api/payment-subscribe.md: the answer to a billing key that was made."""
    return {
        "resultCode": SUCCESS,
        "resultMsg": "빌키가 정상적으로 생성되었습니다.",
        "tid": tid,
        "orderId": order_id,
        "bid": bid,
        "authDate": iso_or_zero(at_ms),
        "cardCode": CARD["cardCode"],
        "cardName": CARD["cardName"],
        "messageSource": "nicepay",
        "status": "issued",
    }


def deleted_view(tid: str, order_id: str, bid: str, at_ms: int) -> View:
    """api/payment-subscribe.md: the answer to a billing key that was deleted."""
    return {
        "resultCode": SUCCESS,
        "resultMsg": SUCCESS_MESSAGE,
        "tid": tid,
        "orderId": order_id,
        "bid": bid,
        "authDate": iso_or_zero(at_ms),
    }


def token_view(token: str, issued_at_ms: int, valid_ms: int, now_ms: int) -> View:
    """common/api.md: the answer to POST /v1/access-token, whose example has `expireAt`."""
    return {
        "resultCode": SUCCESS,
        "resultMsg": SUCCESS_MESSAGE,
        "accessToken": token,
        "tokenType": "Bearer",
        "expireAt": iso(issued_at_ms + valid_ms),
        "now": iso(now_ms),
    }


def amount_check_view(tid: str, is_valid: bool, at_ms: int, secret: str) -> View:
    """api/payment-window-client.md: 0000 whether or not the amounts are the same; `isValid` says it."""
    edi_date = iso(at_ms)
    return {
        "resultCode": SUCCESS,
        "resultMsg": SUCCESS_MESSAGE,
        "ediDate": edi_date,
        "signature": hashed(tid, edi_date, secret),
        "isValid": is_valid,
        "tid": tid,
    }


def _card(payment: Payment) -> View | None:
    if payment.pay_method == "vbank" or payment.paid_at_ms is None:
        return None
    return {
        "cardCode": CARD["cardCode"],
        "cardName": CARD["cardName"],
        "cardNum": payment.card_no[:6] + "*" * max(0, len(payment.card_no) - 10) + payment.card_no[-4:],
        "cardQuota": payment.card_quota,
        "isInterestFree": False,
        "cardType": "credit",
        "canPartCancel": payment.part_cancelable,
        "acquCardCode": CARD["acquCardCode"],
        "acquCardName": CARD["acquCardName"],
    }


def _account(payment: Payment) -> View | None:
    if payment.account is None:
        return None
    return {
        **BANK,
        "vbankNumber": payment.account.number,
        "vbankExpDate": iso_or_zero(payment.account.due_at_ms),
        "vbankHolder": payment.account.holder,
    }


def _cancel(cancel: Cancel) -> View:
    return {
        "tid": cancel.tid,
        "amount": cancel.amount,
        "cancelledAt": iso_or_zero(cancel.at_ms),
        "reason": cancel.reason,
        "receiptUrl": RECEIPTS + cancel.tid,
        "couponAmt": 0,
    }
