"""NICEPAY ("NicePay For Startups"): build requests, read answers. Pure. Sources per field: docs/psp/nicepay.md."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import quote, urlencode

import msgspec

from doorbuster.engines.payment_router.outcome import (
    EXPIRED,
    NOT_FOUND_YET,
    VOIDED,
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
from doorbuster.engines.payment_router.providers import nicepay_codes as codes
from doorbuster.engines.payment_router.providers import wire

_OK = "0000"
_HORIZON_S = 3_900.0
"""Past the hour of the net-cancel, and a little."""
_MIDNIGHT = dt.timedelta(minutes=1)

CAPABILITY = Capability(
    name="nicepay",
    # Its page on reconciliation is under construction, so there are no settlement rows.
    flows=frozenset({
        Flow.PREPARE_HERE, Flow.CONFIRM, Flow.CHARGE, Flow.VOID, Flow.INQUIRY, Flow.REFUND, Flow.REFUND_INQUIRY,
        Flow.NETCANCEL, Flow.WEBHOOK,
    }),
    methods=frozenset({Method.CARD, Method.WINDOW, Method.VIRTUAL_ACCOUNT}),
    # Under 1,000 won a card is refused (code 3041).
    amounts=(AmountLimit("KRW", 1_000, 10_000_000_000),),
    timeouts=Timeouts(connect_s=5, answer_s=30),
    instalment_months=frozenset(range(2, 13)),
    instalment_least_minor=50_000,
    partial_refund=True,
    inquiry_by_reference=True,
    idempotency=None,
    not_found_horizon_s=_HORIZON_S,
    netcancel_within_s=3_600.0,
    webhook=WebhookKind.SIGNED,
    webhook_reply=WebhookReply("text/html", b"OK"),
    retryable_declines=frozenset({"3051", "3056", "3057", "3061", "3091", "A241", "P021"}),
)  # fmt: skip


class _Vbank(msgspec.Struct, rename="camel"):
    vbank_code: str = ""
    vbank_number: str = ""
    vbank_exp_date: str = ""


class _Cancel(msgspec.Struct):
    tid: str
    amount: int
    reason: str


class _Payment(msgspec.Struct, rename="camel"):
    result_code: str
    tid: str
    order_id: str
    status: str
    amount: int
    balance_amt: int
    currency: str = "KRW"
    cancelled_tid: str | None = None
    vbank: _Vbank | None = None
    cancels: list[_Cancel] | None = None


class _Refusal(msgspec.Struct, rename="camel"):
    result_code: str


class _Hook(msgspec.Struct, rename="camel"):
    tid: str
    order_id: str
    amount: int
    edi_date: str
    signature: str
    status: str


def wire_reference(reference: str) -> str:
    """orderId: up to 64 characters, and never used again once paid; our dots become underscores."""
    return wire.underscored(reference)


def our_reference(wire_id: str) -> str:
    """The reverse; empty for an orderId that is none of ours."""
    return wire.dotted(wire_id)


def prepare_here(order: ChargeOrder, urls: ReturnUrls, login: Login, now: dt.datetime) -> Prepared:
    """What the browser gives to `AUTHNICE.requestPay({…})` (server approval)."""
    client: dict[str, str | int] = {
        "clientId": login.client_key, "method": "card", "orderId": wire_reference(order.reference),
        "amount": order.amount_minor, "goodsName": wire.shortened(order.title, 40, "order"), "returnUrl": urls.success,
        "currency": order.currency, "taxFreeAmt": order.tax_free_minor,
    }  # fmt: skip
    if order.method == Method.VIRTUAL_ACCOUNT:
        client |= {"method": "vbank", "vbankHolder": wire.shortened(order.title, 40, "order")}
    elif order.instalment_months > 1:
        # The manual's table spells this key so, with an a in the middle.
        client["cardQuata"] = f"{order.instalment_months:02d}"
    return Prepared(client)


def read_return(order: ChargeOrder, form: Mapping[str, str], login: Login) -> WindowReturn | Forged:
    """returnUrl is POSTed the result of the authentication, signed when it succeeded."""
    if form.get("orderId", wire_reference(order.reference)) != wire_reference(order.reference):
        return Forged("another order")
    if form.get("authResultCode") != _OK:
        return WindowReturn(code=form.get("authResultCode", "no_code")[:64])
    if form.get("amount") != str(order.amount_minor) or form.get("clientId") != login.client_key:
        return Forged("another amount or shop")
    if not _signed(form.get("signature", ""), form.get("authToken", "") + login.client_key + form["amount"], login):
        return Forged("wrong signature")
    token = form.get("tid", "")
    return WindowReturn(token=token) if wire.ID.fullmatch(token) else Forged("unusable tid")


def confirm_call(order: ChargeOrder, login: Login, now: dt.datetime) -> HttpCall:
    """Take the money with the window's tid. After a time-out NICEPAY demands a net-cancel."""
    tid, date = wire.path_id(order.token), _date(now)
    sign = _sign(f"{tid}{order.amount_minor}{date}", login)
    return _post(f"/v1/payments/{tid}", {"amount": order.amount_minor, "ediDate": date, "signData": sign}, login)


def read_confirm(order: ChargeOrder, answer: HttpAnswer) -> Result:
    """SUCCEEDED only for this tid, orderId, amount and currency with status paid."""
    payment = wire.read_json(answer.body, _Payment) if answer.status == 200 else None
    if payment is None or payment.result_code != _OK:
        return _from_refusal(answer, codes.DECLINES, codes.NOT_EXECUTED)
    if order.token and payment.tid != order.token:
        return Result(Outcome.UNKNOWN, code="another_payment")
    return _from_payment(order, payment)


def charge_call(order: ChargeOrder, login: Login, now: dt.datetime) -> HttpCall:
    """Take the money from a billing key (bid)."""
    bid, date, order_id = wire.path_id(order.instrument), _date(now), wire_reference(order.reference)
    body: dict[str, str | int | bool] = {
        "orderId": order_id, "amount": order.amount_minor, "goodsName": wire.shortened(order.title, 40, "order"),
        "cardQuota": order.instalment_months if order.instalment_months > 1 else 0, "useShopInterest": False,
        "taxFreeAmt": order.tax_free_minor, "ediDate": date, "signData": _sign(f"{order_id}{bid}{date}", login),
    }  # fmt: skip
    return _post(f"/v1/subscribe/{bid}/payments", body, login)


def read_charge(order: ChargeOrder, answer: HttpAnswer) -> Result:
    """As for a confirm, but the tid is new to us."""
    return read_confirm(msgspec.structs.replace(order, token=""), answer)


def void_call(order: ChargeOrder, login: Login, now: dt.datetime) -> HttpCall:
    """Close an account that nobody has paid into: a refund of all of it, without an account to pay back to."""
    whole = RefundOrder(
        order.provider, order.reference, order.idempotency_key, order.provider_id, order.amount_minor, order.currency,
        order.reference, order.amount_minor, reason="not paid",
    )  # fmt: skip
    return refund_call(whole, login, now)


def read_void(order: ChargeOrder, answer: HttpAnswer) -> Result:
    """NOT_EXECUTED (`voided`) when it stands cancelled; all else tells nothing, so ask."""
    result = read_charge(order, answer)
    return result if result.code == VOIDED else Result(Outcome.UNKNOWN, code=result.code)


def inquiry_call(order: ChargeOrder, login: Login, now: dt.datetime) -> HttpCall:
    """By tid where it is known, else by our orderId and the Korean day on which the attempt began; who began close to
    midnight may have been booked on either day, so the days are asked in turns."""
    if tid := order.provider_id or order.token:
        return _get(f"/v1/payments/{wire.path_id(tid)}", login)
    days = _days(order.began_at or now)
    query = urlencode({"orderDate": days[int(now.timestamp()) % len(days)]})
    return _get(f"/v1/payments/find/{quote(wire_reference(order.reference), safe='')}?{query}", login)


def read_inquiry(order: ChargeOrder, answer: HttpAnswer, *, age_s: float) -> Result:
    """What stands at NICEPAY; "no such payment" is final past the horizon, if its day is certain."""
    payment = wire.read_json(answer.body, _Payment) if answer.status == 200 else None
    if payment is not None and payment.result_code == _OK:
        return _from_payment(order, payment)
    refusal = wire.read_json(answer.body, _Refusal)
    if answer.status not in (200, 404) or refusal is None:
        return Result(Outcome.UNKNOWN, code=f"inquiry_{refusal.result_code if refusal else answer.status}")
    if refusal.result_code not in codes.NOT_FOUND:
        return Result(Outcome.UNKNOWN, code=f"inquiry_{refusal.result_code}")
    by_day = not (order.provider_id or order.token)
    if age_s < _HORIZON_S or (by_day and (order.began_at is None or len(_days(order.began_at)) > 1)):
        return Result(Outcome.UNKNOWN, code=NOT_FOUND_YET)
    return Result(Outcome.NOT_EXECUTED, code="not_found")


def refund_call(order: RefundOrder, login: Login, now: dt.datetime) -> HttpCall:
    """Give money back. A part needs an orderId of its own; all of it goes without an amount, as the manual has it."""
    wire_reference(order.charge_reference)  # Refused here, not when the answer is read and the money is back.
    tid, date = wire.path_id(order.provider_charge_id), _date(now)
    body: dict[str, str | int] = {
        "reason": wire.labelled(order.reason, wire_reference(order.reference), 100),
        "orderId": _cancel_id(order), "ediDate": date, "signData": _sign(f"{tid}{date}", login),
    }  # fmt: skip
    if order.is_partial or not order.charged_minor:
        body |= {"cancelAmt": order.amount_minor, "taxFreeAmt": order.tax_free_minor}
    if order.account is not None:
        body |= {
            "refundAccount": order.account.number, "refundBankCode": order.account.bank,
            "refundHolder": order.account.holder,
        }  # fmt: skip
    return _post(f"/v1/payments/{tid}/cancel", body, login)


def read_refund(order: RefundOrder, answer: HttpAnswer) -> Result:
    """SUCCEEDED only when this payment lists one cancel of this amount under our label."""
    payment = wire.read_json(answer.body, _Payment) if answer.status == 200 else None
    if payment is None or payment.result_code != _OK:
        return _from_refusal(answer, frozenset(), codes.REFUND_NOT_EXECUTED)
    return _from_cancels(order, payment) or Result(Outcome.UNKNOWN, code="another_refund")


def refund_inquiry_call(order: RefundOrder, login: Login, now: dt.datetime) -> HttpCall:
    """Read the payment again: its cancels bear our labels."""
    return _get(f"/v1/payments/{wire.path_id(order.provider_charge_id)}", login)


def read_refund_inquiry(order: RefundOrder, answer: HttpAnswer, *, age_s: float) -> Result:
    """Found under our label, or past the horizon not there."""
    payment = wire.read_json(answer.body, _Payment) if answer.status == 200 else None
    if payment is None or payment.result_code != _OK:
        return Result(Outcome.UNKNOWN, code=f"inquiry_{answer.status}")
    if (found := _from_cancels(order, payment)) is not None:
        return found
    if age_s >= _HORIZON_S and payment.amount - payment.balance_amt == order.refunded_minor:
        return Result(Outcome.NOT_EXECUTED, code="not_found")
    return Result(Outcome.UNKNOWN, code=NOT_FOUND_YET)


def netcancel_call(order: ChargeOrder, login: Login, now: dt.datetime) -> HttpCall:
    """Undo whatever this orderId did; for an hour after the attempt."""
    order_id, date = wire_reference(order.reference), _date(now)
    body = {"orderId": order_id, "ediDate": date, "signData": _sign(f"{order_id}{date}", login)}
    return _post("/v1/payments/netcancel", body, login)


def read_netcancel(order: ChargeOrder, answer: HttpAnswer) -> Result:
    """NOT_EXECUTED (`voided`) only when our payment stands cancelled in full; "no such payment" proves nothing yet."""
    payment = wire.read_json(answer.body, _Payment) if answer.status == 200 else None
    if payment is None or payment.result_code != _OK:
        refusal = wire.read_json(answer.body, _Refusal)
        return Result(Outcome.UNKNOWN, code=f"netcancel_{refusal.result_code if refusal else answer.status}")
    result = _from_payment(order, payment)
    voided = result.outcome is Outcome.NOT_EXECUTED and result.code == VOIDED
    return result if voided else Result(Outcome.UNKNOWN, result.provider_id, f"netcancel_{payment.status}")


def read_webhook(
    headers: Mapping[str, str], body: bytes, login: Login, now: dt.datetime
) -> WebhookHint | NotForUs | Forged:
    """The signature covers tid, amount and ediDate, so only the tid is sure. It has no age: a repeat is a repeat."""
    hook = wire.read_json(body, _Hook)
    if hook is None:
        return Forged("unreadable")
    if not _signed(hook.signature, f"{hook.tid}{hook.amount}{hook.edi_date}", login):
        return Forged("wrong signature")
    if wire.ID.fullmatch(hook.tid) is None:
        return Forged("unusable tid")
    reference = our_reference(hook.order_id)
    if not reference:
        return NotForUs(hook.status[:64])
    return WebhookHint(hashlib.sha256(body).hexdigest(), hook.status[:64], reference, hook.tid)


def _from_payment(order: ChargeOrder, payment: _Payment) -> Result:
    if payment.order_id != wire_reference(order.reference):
        return Result(Outcome.UNKNOWN, code="another_reference")
    if not wire.is_ours(order, payment.amount, payment.currency):
        return Result(Outcome.UNKNOWN, code="another_amount")
    if wire.ID.fullmatch(payment.tid) is None:
        return Result(Outcome.UNKNOWN, code="unusable_id")
    gone, tid, status = payment.amount - payment.balance_amt, payment.tid, payment.status
    if status == "paid" and gone == 0:
        return Result(Outcome.SUCCEEDED, tid)
    if status == "cancelled" and payment.balance_amt == 0:
        return Result(Outcome.NOT_EXECUTED, tid, VOIDED)
    if status == "partialCancelled" and 0 < gone < payment.amount:
        return Result(Outcome.SUCCEEDED, tid, refunded_minor=gone)
    if status == "ready":
        return Result(Outcome.PENDING, tid, WAITING_FOR_DEPOSIT, deposit=_deposit(payment.vbank))
    if status == "expired":
        return Result(Outcome.NOT_EXECUTED, tid, EXPIRED)
    if status == "failed":
        return Result(Outcome.DECLINED, tid, status)
    return Result(Outcome.UNKNOWN, tid, status)


def _deposit(vbank: _Vbank | None) -> Deposit | None:
    return None if vbank is None else Deposit(vbank.vbank_code, vbank.vbank_number, vbank.vbank_exp_date)


def _from_refusal(answer: HttpAnswer, declines: frozenset[str], refusals: frozenset[str]) -> Result:
    refusal = wire.read_json(answer.body, _Refusal)
    if refusal is None or refusal.result_code == _OK:
        return wire.unreadable(answer)
    code, readable = refusal.result_code, answer.status in (200, 400, 404)
    if readable and code in declines:
        return Result(Outcome.DECLINED, code=code)
    refused = answer.status in (401, 403) or (readable and code in refusals)
    return Result(Outcome.NOT_EXECUTED if refused else Outcome.UNKNOWN, code=code)


def _from_cancels(order: RefundOrder, payment: _Payment) -> Result | None:
    """None: the payment is the right one and does not list this refund."""
    # A cancel's answer may name the order of the payment or the one of the cancel; the manual does not say.
    orders = (wire_reference(order.charge_reference), wire_reference(order.reference), _cancel_id(order))
    ours = payment.tid == order.provider_charge_id and payment.order_id in orders
    if not ours or payment.currency.upper() != order.currency:
        return Result(Outcome.UNKNOWN, code="another_payment")
    found = [one for one in payment.cancels or [] if wire.is_labelled(one.reason, wire_reference(order.reference))]
    if not found:
        return None
    gone = payment.amount - payment.balance_amt
    fits = len(found) == 1 and found[0].amount == order.amount_minor and gone >= order.amount_minor
    if not fits or wire.ID.fullmatch(found[0].tid) is None:
        return Result(Outcome.UNKNOWN, code="another_refund")
    if payment.status in ("cancelled", "partialCancelled"):
        return Result(Outcome.SUCCEEDED, found[0].tid, refunded_minor=gone)
    return Result(Outcome.UNKNOWN, found[0].tid, payment.status)


def _cancel_id(order: RefundOrder) -> str:
    """The orderId of a part is spent even when the part is refused, so a try after a refusal has one of its own: the
    key that it was given."""
    key = order.idempotency_key
    return wire_reference(key if key.startswith(f"{order.reference}.") else order.reference)


def _days(began_at: dt.datetime) -> list[str]:
    """The Korean days on which it may have been booked: two when it began within a minute of midnight, by our clock."""
    around = (began_at - _MIDNIGHT, began_at + _MIDNIGHT)
    return sorted({moment.astimezone(wire.KST).strftime("%Y%m%d") for moment in around})


def _date(now: dt.datetime) -> str:
    """ediDate as the manual's samples write it: Korean time, milliseconds, `+0900`."""
    return now.astimezone(wire.KST).strftime("%Y-%m-%dT%H:%M:%S.000%z")


def _sign(text: str, login: Login) -> str:
    return hashlib.sha256((text + login.secret.reveal()).encode("utf-8", "replace")).hexdigest()


def _signed(given: str, text: str, login: Login) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), _sign(text, login).encode())


def _post(path: str, body: Mapping[str, object], login: Login) -> HttpCall:
    return HttpCall("POST", path, _headers(login), msgspec.json.encode(body))


def _get(path: str, login: Login) -> HttpCall:
    return HttpCall("GET", path, _headers(login))


def _headers(login: Login) -> dict[str, str]:
    return {
        "authorization": wire.basic(login.client_key, login.secret.reveal()),
        "content-type": "application/json;charset=utf-8",
    }
