"""How a payment, a billing key, a transaction and a webhook look on the wire: values to JSON values, nothing else.

The Payment object of version 2022-11-16: docs.tosspayments.com/reference (Payment 객체) and the example answers of
docs.tosspayments.com/common/apis/{get-payment,cancel-payment}.
"""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from doorbuster.simulators.toss.errors import ERRORS
from doorbuster.simulators.toss.payment import Account, Cancel, Move, Payment, vat_of

KST = timezone(timedelta(hours=9))
VERSION = "2022-11-16"
MERCHANT_ID = "tvivarepublica"
# Where the vendor's receipts and windows would be; a reserved name, so nothing follows it by accident.
DASHBOARD = "https://dashboard.tosspayments.invalid"

View = dict[str, Any]


def kst(at_ms: int | None) -> str | None:
    """ISO 8601 with the offset of Seoul and no fraction, as in `2022-01-01T00:00:00+09:00`."""
    return None if at_ms is None else datetime.fromtimestamp(at_ms // 1000, KST).isoformat()


def kst_date(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms // 1000, KST).date().isoformat()


def kst_micros(at_ms: int) -> str:
    """`yyyy-MM-dd'T'HH:mm:ss.SSSSSS` without an offset, as webhooks have it."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone(KST).strftime("%Y-%m-%dT%H:%M:%S.%f")


def payment_view(payment: Payment) -> View:
    failure = payment.failure_code
    taxable = payment.balance - payment.tax_free_balance
    vat = vat_of(taxable)
    return {
        "mId": MERCHANT_ID,
        "lastTransactionKey": payment.last_transaction_key,
        "paymentKey": payment.key,
        "orderId": payment.order_id,
        "orderName": payment.order_name,
        "taxExemptionAmount": 0,
        "status": payment.status,
        "requestedAt": kst(payment.requested_at_ms),
        "approvedAt": kst(payment.approved_at_ms),
        "useEscrow": False,
        "cultureExpense": False,
        "card": _card(payment),
        "virtualAccount": None if payment.account is None else _account(payment.account),
        "transfer": {"bankCode": "88", "settlementStatus": "INCOMPLETED"} if payment.method == "계좌이체" else None,
        "mobilePhone": _mobile_phone(payment),
        "giftCertificate": None,
        "cashReceipt": None,
        "cashReceipts": None,
        "discount": None,
        "cancels": [_cancel(cancel) for cancel in payment.cancels] or None,
        "secret": payment.secret,
        "type": payment.type,
        "easyPay": _easy_pay(payment),
        "country": "KR",
        "failure": None if failure is None else {"code": failure, "message": _message(failure)},
        "isPartialCancelable": payment.partial_cancelable,
        "receipt": {"url": f"{DASHBOARD}/receipt/{payment.key}"} if payment.last_transaction_key else None,
        "checkout": {"url": f"{DASHBOARD}/v1/payments/{payment.key}/checkout"},
        "currency": "KRW",
        "totalAmount": payment.amount,
        "balanceAmount": payment.balance,
        "suppliedAmount": taxable - vat,
        "vat": vat,
        "taxFreeAmount": payment.tax_free_balance,
        "method": payment.method,
        "version": VERSION,
        "metadata": None,
    }


def billing_view(billing_key: str, customer_key: str, at_ms: int) -> View:
    """docs.tosspayments.com/guides/v2/billing/integration: the answer to issuing a billing key."""
    card = {
        "issuerCode": "61",
        "acquirerCode": "31",
        "number": "43301234****123*",
        "cardType": "신용",
        "ownerType": "개인",
    }
    return {
        "mId": MERCHANT_ID,
        "customerKey": customer_key,
        "authenticatedAt": kst(at_ms),
        "method": "카드",
        "billingKey": billing_key,
        "card": card,
        "cardCompany": "현대",
        "cardNumber": card["number"],
    }


def transaction_view(payment: Payment, move: Move) -> View:
    """docs.tosspayments.com/guides/apis/transactions; `amount` is negative for a cancellation."""
    return {
        "mId": MERCHANT_ID,
        "transactionKey": move.transaction_key,
        "paymentKey": payment.key,
        "orderId": payment.order_id,
        "currency": "KRW",
        "method": payment.method,
        "customerKey": payment.customer_key,
        "useEscrow": False,
        "receiptUrl": f"{DASHBOARD}/receipt/{payment.key}",
        "amount": move.amount,
        "status": move.status,
        "transactionAt": kst(move.at_ms),
    }


def status_webhook(payment: Payment, at_ms: int) -> View:
    return {"eventType": "PAYMENT_STATUS_CHANGED", "createdAt": kst_micros(at_ms), "data": payment_view(payment)}


def deposit_webhook(payment: Payment, at_ms: int) -> View:
    """docs.tosspayments.com/en/webhooks: a flat body without `eventType`; `secret` is the payment's own."""
    return {
        "createdAt": kst_micros(at_ms),
        "secret": payment.secret,
        "status": payment.status,
        "transactionKey": payment.last_transaction_key,
        "orderId": payment.order_id,
    }


def _message(code: str) -> str:
    return ERRORS[code][1] if code in ERRORS else "The time to pay is over."


def _card(payment: Payment) -> View | None:
    if payment.method != "카드" or payment.approved_at_ms is None:
        return None
    return {
        "issuerCode": "61",
        "acquirerCode": "31",
        "number": "43301234****123*",
        "installmentPlanMonths": payment.installment_months,
        "isInterestFree": False,
        "interestPayer": None,
        "approveNo": "00000000",
        "useCardPoint": False,
        "cardType": "신용",
        "ownerType": "개인",
        "acquireStatus": "READY",
        "amount": payment.amount,
    }


def _account(account: Account) -> View:
    return {
        "accountNumber": account.number,
        "accountType": "일반",
        "bankCode": account.bank_code,
        "customerName": account.customer_name,
        "dueDate": kst(account.due_at_ms),
        "expired": account.expired,
        "settlementStatus": "INCOMPLETED",
        "refundStatus": "NONE",
        "refundReceiveAccount": None,
    }


def _mobile_phone(payment: Payment) -> View | None:
    if payment.method != "휴대폰" or payment.approved_at_ms is None:
        return None
    return {
        "customerMobilePhone": "01000000000",
        "settlementStatus": "INCOMPLETED",
        "receiptUrl": f"{DASHBOARD}/receipt/{payment.key}",
    }


def _easy_pay(payment: Payment) -> View | None:
    if payment.method != "간편결제" or payment.approved_at_ms is None:
        return None
    return {"provider": "토스페이", "amount": payment.amount, "discountAmount": 0}


def _cancel(cancel: Cancel) -> View:
    return {
        "transactionKey": cancel.transaction_key,
        "cancelReason": cancel.reason,
        "taxExemptionAmount": 0,
        "canceledAt": kst(cancel.at_ms),
        "transferDiscountAmount": 0,
        "easyPayDiscountAmount": 0,
        "receiptKey": None,
        "cancelAmount": cancel.amount,
        "taxFreeAmount": cancel.tax_free,
        "refundableAmount": cancel.refundable_after,
        "cancelStatus": "DONE",
        "cancelRequestId": None,
    }
