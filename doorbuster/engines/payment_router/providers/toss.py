"""Toss Payments, core API: build requests, read answers. Pure. Sources per field: docs/psp/toss.md."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping
from urllib.parse import quote

import msgspec

from doorbuster.engines.payment_router.outcome import (
    EXPIRED,
    NOT_FOUND_YET,
    VOIDED,
    WAITING_FOR_BUYER,
    WAITING_FOR_DEPOSIT,
    ChargeOrder,
    Deposit,
    HttpAnswer,
    HttpCall,
    Outcome,
    RefundOrder,
    Result,
)
from doorbuster.engines.payment_router.provider import (
    AmountLimit,
    Capability,
    Flow,
    Forged,
    Idempotency,
    Login,
    Method,
    NotForUs,
    Prepared,
    ReturnUrls,
    Timeouts,
    WebhookHint,
    WebhookKind,
    WebhookReply,
    WindowReturn,
)
from doorbuster.engines.payment_router.providers import toss_codes as codes
from doorbuster.engines.payment_router.providers import wire
from doorbuster.engines.payment_router.providers.toss_settlement import read_settlement as read_settlement
from doorbuster.engines.payment_router.providers.toss_settlement import settlement_call as settlement_call

_HORIZON_S = 3_600.0

CAPABILITY = Capability(
    name="toss",
    flows=frozenset({
        Flow.PREPARE_HERE, Flow.CONFIRM, Flow.CHARGE, Flow.VOID, Flow.INQUIRY, Flow.REFUND, Flow.REFUND_INQUIRY,
        Flow.WEBHOOK, Flow.SETTLEMENT,
    }),
    methods=frozenset({Method.CARD, Method.WINDOW, Method.VIRTUAL_ACCOUNT}),
    # The least is documented for cards (100) and accounts (200); the most is our own cautious limit.
    amounts=(AmountLimit("KRW", 200, 10_000_000_000),),
    timeouts=Timeouts(connect_s=5, answer_s=60),
    instalment_months=frozenset(range(2, 13)),
    instalment_least_minor=50_000,
    partial_refund=True,
    inquiry_by_reference=True,
    idempotency=Idempotency(retention_s=15 * 86_400, scope="key, API key, address and method", max_length=300),
    not_found_horizon_s=_HORIZON_S,
    webhook=WebhookKind.HINT,
    webhook_reply=WebhookReply("text/plain", b"OK"),
    retryable_declines=frozenset({
        "REJECT_CARD_COMPANY", "NOT_SUPPORTED_CARD_TYPE", "NOT_SUPPORTED_INSTALLMENT_PLAN_CARD_OR_MERCHANT",
        "NOT_SUPPORTED_MONTHLY_INSTALLMENT_PLAN",
    }),
)  # fmt: skip


class _Failure(msgspec.Struct):
    code: str


class _Cancel(msgspec.Struct, rename="camel"):
    transaction_key: str
    cancel_amount: int
    cancel_reason: str
    cancel_status: str | None = None


class _VirtualAccount(msgspec.Struct, rename="camel"):
    account_number: str
    bank_code: str = ""
    due_date: str | None = None


class _Payment(msgspec.Struct, rename="camel"):
    payment_key: str
    order_id: str
    status: str
    currency: str
    total_amount: int
    balance_amount: int
    failure: _Failure | None = None
    cancels: list[_Cancel] | None = None
    virtual_account: _VirtualAccount | None = None


class _Hint(msgspec.Struct, rename="camel"):
    payment_key: str = ""
    order_id: str = ""


class _Webhook(msgspec.Struct, rename="camel"):
    event_type: str = ""
    data: _Hint | None = None
    order_id: str = ""
    transaction_key: str = ""
    """A DEPOSIT_CALLBACK has its members at the top, without `data`."""


def wire_reference(reference: str) -> str:
    """orderId: 6 to 64 of letters, digits, `-`, `_`, `=`; our dots become underscores."""
    return wire.underscored(reference)


def our_reference(wire_id: str) -> str:
    """The reverse; empty for an orderId that is none of ours."""
    return wire.dotted(wire_id)


def prepare_here(order: ChargeOrder, urls: ReturnUrls, login: Login, now: dt.datetime) -> Prepared:
    """What the browser gives to the payment window: `payment({customerKey}).requestPayment({…})`."""
    client: dict[str, str | int] = {
        "clientKey": login.client_key,
        "method": "VIRTUAL_ACCOUNT" if order.method == Method.VIRTUAL_ACCOUNT else "CARD",
        "currency": order.currency,
        "amount": order.amount_minor,
        "orderId": wire_reference(order.reference),
        "orderName": wire.shortened(order.title, 100, "order"),
        "successUrl": urls.success,
        "failUrl": urls.failure,
        "taxFreeAmount": order.tax_free_minor,
    }
    if order.customer:
        # Without one the page uses the SDK's own constant for a buyer without a name.
        client["customerKey"] = order.customer
    if order.instalment_months > 1:
        client["cardInstallmentPlan"] = order.instalment_months
    return Prepared(client)


def read_return(order: ChargeOrder, form: Mapping[str, str], login: Login) -> WindowReturn | Forged:
    """successUrl brings paymentKey, orderId and amount; failUrl a code, and the orderId unless the buyer left."""
    if "paymentKey" not in form:
        if form.get("orderId", wire_reference(order.reference)) != wire_reference(order.reference):
            return Forged("another order")
        return WindowReturn(code=form.get("code", "no_code")[:64])
    if form.get("orderId") != wire_reference(order.reference):
        return Forged("another order")
    if form.get("amount") != str(order.amount_minor):
        return Forged("another amount")
    if wire.ID.fullmatch(form["paymentKey"]) is None:
        return Forged("unusable paymentKey")
    return WindowReturn(token=form["paymentKey"])


def confirm_call(order: ChargeOrder, login: Login, now: dt.datetime) -> HttpCall:
    """Take the money; within 10 minutes of the buyer's authentication."""
    body = {
        "paymentKey": order.token, "orderId": wire_reference(order.reference), "amount": order.amount_minor,
    }  # fmt: skip
    return _post("/v1/payments/confirm", body, login, order.idempotency_key)


def read_confirm(order: ChargeOrder, answer: HttpAnswer) -> Result:
    """SUCCEEDED only for this paymentKey, orderId, amount and currency with status DONE."""
    if answer.status != 200:
        return _from_error(answer)
    payment = wire.read_json(answer.body, _Payment)
    if payment is None:
        return wire.unreadable(answer)
    if order.token and payment.payment_key != order.token:
        return Result(Outcome.UNKNOWN, code="another_payment")
    return _from_payment(order, payment)


def charge_call(order: ChargeOrder, login: Login, now: dt.datetime) -> HttpCall:
    """Take the money from a billing key; `order.customer` is the customerKey it was issued to."""
    body: dict[str, str | int] = {
        "customerKey": order.customer, "amount": order.amount_minor, "orderId": wire_reference(order.reference),
        "orderName": wire.shortened(order.title, 100, "order"), "taxFreeAmount": order.tax_free_minor,
    }  # fmt: skip
    if order.instalment_months > 1:
        body["cardInstallmentPlan"] = order.instalment_months
    path = "/v1/billing/" + quote(wire.path_id(order.instrument), safe="")
    return _post(path, body, login, order.idempotency_key)


def read_charge(order: ChargeOrder, answer: HttpAnswer) -> Result:
    """As for a confirm, but the paymentKey is new to us."""
    return read_confirm(msgspec.structs.replace(order, token=""), answer)


def void_call(order: ChargeOrder, login: Login, now: dt.datetime) -> HttpCall:
    """Close an account that nobody has paid into: a cancel without an amount or an account to pay back to.

    One that has been paid into meanwhile is refused, because it would need that account."""
    path = f"/v1/payments/{quote(wire.path_id(order.provider_id), safe='')}/cancel"
    return _post(path, {"cancelReason": "not paid"}, login, f"{order.idempotency_key}:void")


def read_void(order: ChargeOrder, answer: HttpAnswer) -> Result:
    """NOT_EXECUTED (`voided`) when it stands cancelled; all else tells nothing, so ask."""
    result = read_charge(order, answer)
    return result if result.code == VOIDED else Result(Outcome.UNKNOWN, code=result.code)


def inquiry_call(order: ChargeOrder, login: Login, now: dt.datetime) -> HttpCall:
    """Ask by our orderId."""
    return _get(f"/v1/payments/orders/{wire_reference(order.reference)}", login)


def read_inquiry(order: ChargeOrder, answer: HttpAnswer, *, age_s: float) -> Result:
    """What stands at Toss; "no such payment" is final past the horizon."""
    if answer.status == 200:
        payment = wire.read_json(answer.body, _Payment)
        return wire.unreadable(answer) if payment is None else _from_payment(order, payment)
    failure = wire.read_json(answer.body, _Failure)
    if answer.status == 404 and failure is not None and failure.code == "NOT_FOUND_PAYMENT":
        if age_s >= _HORIZON_S:
            return Result(Outcome.NOT_EXECUTED, code="not_found")
        return Result(Outcome.UNKNOWN, code=NOT_FOUND_YET)
    return Result(Outcome.UNKNOWN, code=failure.code if failure else f"unreadable_{answer.status}")


def refund_call(order: RefundOrder, login: Login, now: dt.datetime) -> HttpCall:
    """Give money back, all of it or a part. A deposit that came in needs the account to pay it back to."""
    wire_reference(order.charge_reference)  # Refused here, not when the answer is read and the money is back.
    body: dict[str, object] = {
        "cancelReason": wire.labelled(order.reason, wire_reference(order.reference), 200),
        "taxFreeAmount": order.tax_free_minor,
    }
    # An amount makes it a partial cancel, which some cards and an unpaid account refuse.
    if order.is_partial or not order.charged_minor:
        body["cancelAmount"] = order.amount_minor
    if order.account is not None:
        body["refundReceiveAccount"] = {
            "bank": order.account.bank, "accountNumber": order.account.number, "holderName": order.account.holder,
        }  # fmt: skip
    path = f"/v1/payments/{quote(wire.path_id(order.provider_charge_id), safe='')}/cancel"
    return _post(path, body, login, order.idempotency_key)


def read_refund(order: RefundOrder, answer: HttpAnswer) -> Result:
    """SUCCEEDED only when this payment lists one cancel of this amount under our label."""
    if answer.status == 200:
        return _from_cancels(order, answer) or Result(Outcome.UNKNOWN, code="another_refund")
    failure = wire.read_json(answer.body, _Failure)
    if failure is None:
        return wire.unreadable(answer)
    if answer.status in codes.REFUSAL_STATUSES and failure.code in codes.REFUND_NOT_EXECUTED:
        return Result(Outcome.NOT_EXECUTED, code=failure.code)
    return Result(Outcome.UNKNOWN, code=failure.code)


def refund_inquiry_call(order: RefundOrder, login: Login, now: dt.datetime) -> HttpCall:
    """Read the payment again: its cancels bear our labels."""
    return _get(f"/v1/payments/{quote(wire.path_id(order.provider_charge_id), safe='')}", login)


def read_refund_inquiry(order: RefundOrder, answer: HttpAnswer, *, age_s: float) -> Result:
    """Found under our label, or past the horizon not there."""
    if answer.status != 200:
        return Result(Outcome.UNKNOWN, code=f"inquiry_{answer.status}")
    if (found := _from_cancels(order, answer)) is not None:
        return found
    payment = wire.read_json(answer.body, _Payment)
    gone = payment.total_amount - payment.balance_amount if payment else -1
    if age_s >= _HORIZON_S and gone == order.refunded_minor:
        return Result(Outcome.NOT_EXECUTED, code="not_found")
    return Result(Outcome.UNKNOWN, code=NOT_FOUND_YET)


def read_webhook(
    headers: Mapping[str, str], body: bytes, login: Login, now: dt.datetime
) -> WebhookHint | NotForUs | Forged:
    """Toss signs no payment webhook, so this is a hint. The body's digest identifies the event: a retry repeats it."""
    event = wire.read_json(body, _Webhook)
    if event is None:
        return Forged("unreadable")
    kind = event.event_type or "DEPOSIT_CALLBACK"
    if kind not in ("PAYMENT_STATUS_CHANGED", "DEPOSIT_CALLBACK"):
        return NotForUs(kind[:64])
    told = event.data or _Hint(order_id=event.order_id)
    reference = our_reference(told.order_id)
    if not reference:
        return NotForUs(kind)
    usable = wire.ID.fullmatch(told.payment_key) is not None
    return WebhookHint(hashlib.sha256(body).hexdigest(), kind, reference, told.payment_key if usable else "")


def _from_payment(order: ChargeOrder, payment: _Payment) -> Result:
    if payment.order_id != wire_reference(order.reference):
        return Result(Outcome.UNKNOWN, code="another_reference")
    if not wire.is_ours(order, payment.total_amount, payment.currency):
        return Result(Outcome.UNKNOWN, code="another_amount")
    if wire.ID.fullmatch(payment.payment_key) is None:
        return Result(Outcome.UNKNOWN, code="unusable_id")
    gone = payment.total_amount - payment.balance_amount
    key, status = payment.payment_key, payment.status
    if status == "DONE" and gone == 0:
        return Result(Outcome.SUCCEEDED, key)
    # A cancel of everything is shown as PARTIAL_CANCELED in one documented answer, so the balance decides.
    if status in ("CANCELED", "PARTIAL_CANCELED") and payment.balance_amount == 0:
        return Result(Outcome.NOT_EXECUTED, key, VOIDED)
    if status == "PARTIAL_CANCELED" and 0 < gone < payment.total_amount:
        return Result(Outcome.SUCCEEDED, key, refunded_minor=gone)
    if status == "WAITING_FOR_DEPOSIT":
        return Result(Outcome.PENDING, key, WAITING_FOR_DEPOSIT, deposit=_deposit(payment.virtual_account))
    if status in ("READY", "IN_PROGRESS"):
        return Result(Outcome.PENDING, key, WAITING_FOR_BUYER)
    if status == "EXPIRED":
        return Result(Outcome.NOT_EXECUTED, key, EXPIRED)
    if status == "ABORTED":
        code = payment.failure.code if payment.failure else "aborted"
        return Result(Outcome.DECLINED if code in codes.DECLINES else Outcome.NOT_EXECUTED, key, code)
    return Result(Outcome.UNKNOWN, key, status)


def _deposit(account: _VirtualAccount | None) -> Deposit | None:
    return None if account is None else Deposit(account.bank_code, account.account_number, account.due_date or "")


def _from_error(answer: HttpAnswer) -> Result:
    failure = wire.read_json(answer.body, _Failure)
    if failure is None:
        return wire.unreadable(answer)
    if answer.status in codes.DECLINE_STATUSES and failure.code in codes.DECLINES:
        return Result(Outcome.DECLINED, code=failure.code)
    if answer.status in codes.REFUSAL_STATUSES and failure.code in codes.NOT_EXECUTED:
        return Result(Outcome.NOT_EXECUTED, code=failure.code)
    return Result(Outcome.UNKNOWN, code=failure.code)


def _from_cancels(order: RefundOrder, answer: HttpAnswer) -> Result | None:
    """None: the payment is the right one and does not list this refund."""
    payment = wire.read_json(answer.body, _Payment)
    if payment is None:
        return wire.unreadable(answer)
    ours = payment.payment_key == order.provider_charge_id and payment.currency.upper() == order.currency
    if not ours or payment.order_id != wire_reference(order.charge_reference):
        return Result(Outcome.UNKNOWN, code="another_payment")
    label = wire_reference(order.reference)
    found = [cancel for cancel in payment.cancels or [] if wire.is_labelled(cancel.cancel_reason, label)]
    if not found:
        return None
    if len(found) > 1 or found[0].cancel_amount != order.amount_minor:
        return Result(Outcome.UNKNOWN, code="another_refund")
    back, gone = found[0], payment.total_amount - payment.balance_amount
    if wire.ID.fullmatch(back.transaction_key) is None:
        return Result(Outcome.UNKNOWN, code="unusable_id")
    if back.cancel_status == "IN_PROGRESS":
        return Result(Outcome.PENDING, back.transaction_key, "cancel_in_progress")
    # An older version of the API leaves cancelStatus out; then the payment's own state must say it.
    said = back.cancel_status == "DONE" or (
        back.cancel_status is None and payment.status in ("CANCELED", "PARTIAL_CANCELED")
    )
    if said and gone >= order.amount_minor:
        return Result(Outcome.SUCCEEDED, back.transaction_key, refunded_minor=gone)
    return Result(Outcome.UNKNOWN, back.transaction_key, back.cancel_status or payment.status)


def _post(path: str, body: Mapping[str, object], login: Login, key: str) -> HttpCall:
    headers = {
        "authorization": wire.basic(login.secret.reveal(), ""), "content-type": "application/json",
        "idempotency-key": key,
    }  # fmt: skip
    return HttpCall("POST", path, headers, msgspec.json.encode(body))


def _get(path: str, login: Login) -> HttpCall:
    return HttpCall("GET", path, {"authorization": wire.basic(login.secret.reveal(), "")})
