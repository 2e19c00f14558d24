"""Stripe, Payment Intents (API v1): build requests, read answers. Pure. Sources per field: docs/psp/stripe.md."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from urllib.parse import urlencode

import msgspec

from doorbuster.engines.payment_router.outcome import (
    AUTHORISED,
    NOT_FOUND_YET,
    VOIDED,
    WAITING_FOR_BUYER,
    ChargeOrder,
    HttpAnswer,
    HttpCall,
    Outcome,
    RefundOrder,
    Result,
)
from doorbuster.engines.payment_router.provider import (
    Capability,
    Flow,
    Forged,
    Idempotency,
    Login,
    Method,
    Prepared,
    ReturnUrls,
    Timeouts,
    WebhookKind,
    WebhookReply,
    WindowReturn,
)
from doorbuster.engines.payment_router.providers import stripe_codes as codes
from doorbuster.engines.payment_router.providers import wire
from doorbuster.engines.payment_router.providers.stripe_settlement import headers as _headers
from doorbuster.engines.payment_router.providers.stripe_settlement import read_settlement as read_settlement
from doorbuster.engines.payment_router.providers.stripe_settlement import read_settlement_csv as read_settlement_csv
from doorbuster.engines.payment_router.providers.stripe_settlement import settlement_call as settlement_call
from doorbuster.engines.payment_router.providers.stripe_webhook import read_webhook as read_webhook

_HORIZON_S = 7_200.0
"""A search may lag behind a capture; Stripe names a minute, and no limit during an outage."""

CAPABILITY = Capability(
    name="stripe",
    flows=frozenset({
        Flow.PREPARE, Flow.CONFIRM, Flow.CHARGE, Flow.CAPTURE, Flow.VOID, Flow.INQUIRY, Flow.REFUND,
        Flow.REFUND_INQUIRY, Flow.WEBHOOK, Flow.SETTLEMENT, Flow.SETTLEMENT_CSV,
    }),
    methods=frozenset({Method.CARD, Method.WINDOW}),
    amounts=codes.amounts(),
    timeouts=Timeouts(connect_s=5, answer_s=80),
    instrument_prefix="pm_",
    partial_refund=True,
    inquiry_by_reference=True,
    idempotency=Idempotency(retention_s=86_400, scope="account and endpoint", max_length=255),
    rate_limit_precedes_execution=True,
    not_found_horizon_s=_HORIZON_S,
    webhook=WebhookKind.SIGNED,
    webhook_reply=WebhookReply("text/plain", b"OK"),
    retryable_declines=codes.RETRYABLE,
)  # fmt: skip


class _Charge(msgspec.Struct):
    amount_refunded: int = 0


class _Error(msgspec.Struct):
    type: str
    code: str | None = None
    decline_code: str | None = None
    param: str | None = None
    payment_intent: _Intent | None = None


class _ErrorBody(msgspec.Struct):
    error: _Error


class _Intent(msgspec.Struct):
    id: str
    status: str
    amount: int
    currency: str
    amount_received: int = 0
    amount_capturable: int = 0
    client_secret: str | None = None
    metadata: dict[str, str] = {}
    last_payment_error: _Error | None = None
    latest_charge: _Charge | str | None = None


class _Found(msgspec.Struct):
    data: list[_Intent]
    has_more: bool


class _Refund(msgspec.Struct):
    id: str
    amount: int
    currency: str
    status: str | None
    payment_intent: str | None = None
    failure_reason: str | None = None
    metadata: dict[str, str] = {}


class _Refunds(msgspec.Struct):
    data: list[_Refund]
    has_more: bool


def wire_reference(reference: str) -> str:
    """Stripe keeps ours in metadata as it is, in up to 500 characters; ValueError for what is no reference."""
    wire.underscored(reference)
    return reference


def our_reference(wire_id: str) -> str:
    """The reverse; empty for metadata that somebody else wrote."""
    return wire.kept(wire_id)


def prepare_call(order: ChargeOrder, urls: ReturnUrls, login: Login, now: dt.datetime) -> HttpCall:
    """A PaymentIntent for the browser to authorise. Capture is manual, so no money moves before our confirm."""
    return _post("/v1/payment_intents", _intent(order) | {"capture_method": "manual"}, login, order, "prepare")


def read_prepare(order: ChargeOrder, answer: HttpAnswer) -> Prepared | Result:
    """The client secret is for this buyer's browser alone: it is passed on, never kept."""
    if answer.status != 200:
        return _from_error(order, answer)
    intent = wire.read_json(answer.body, _Intent)
    if intent is None:
        return wire.unreadable(answer)
    if (wrong := _not_ours(order, intent)) is not None:
        return wrong
    if intent.status != "requires_payment_method" or not intent.client_secret:
        return Result(Outcome.UNKNOWN, intent.id, intent.status)
    return Prepared({"client_secret": intent.client_secret}, intent.id)


def read_return(order: ChargeOrder, form: Mapping[str, str], login: Login) -> WindowReturn | Forged:
    """return_url brings payment_intent and redirect_status; the secret beside them is not looked at."""
    intent = form.get("payment_intent", "")
    if order.provider_id and intent != order.provider_id:
        return Forged("another payment")
    if wire.ID.fullmatch(intent) is None:
        return Forged("unusable payment_intent")
    status = form.get("redirect_status", "")
    # `pending` and `requires_capture` come from newer browsers; only a plain failure is worth no look.
    return WindowReturn(code="failed") if status == "failed" else WindowReturn(token=intent)


def confirm_call(order: ChargeOrder, login: Login, now: dt.datetime) -> HttpCall:
    """Capture what the browser authorised."""
    return _capture(order, order.token or order.provider_id, login)


def read_confirm(order: ChargeOrder, answer: HttpAnswer) -> Result:
    """SUCCEEDED only for this intent, our reference, amount and currency, with all of it received."""
    return read_charge(order, answer)


def charge_call(order: ChargeOrder, login: Login, now: dt.datetime) -> HttpCall:
    """Charge a saved payment method without the buyer. `order.customer` is the cus_… it belongs to."""
    form = _intent(order) | {
        "payment_method": wire.path_id(order.instrument), "confirm": "true", "off_session": "true",
        "capture_method": "automatic" if order.capture else "manual",
    }  # fmt: skip
    return _post("/v1/payment_intents", form, login, order, "charge")


def read_charge(order: ChargeOrder, answer: HttpAnswer) -> Result:
    """SUCCEEDED only with our reference, amount and currency, and all of it received."""
    if answer.status != 200:
        return _from_error(order, answer)
    intent = wire.read_json(answer.body, _Intent)
    return wire.unreadable(answer) if intent is None else _from_intent(order, intent)


def capture_call(order: ChargeOrder, login: Login, now: dt.datetime) -> HttpCall:
    """Take what was authorised, in full."""
    return _capture(order, order.provider_id, login)


def read_capture(order: ChargeOrder, answer: HttpAnswer) -> Result:
    """As for a charge."""
    return read_charge(order, answer)


def void_call(order: ChargeOrder, login: Login, now: dt.datetime) -> HttpCall:
    """Cancel the intent: what it holds is released, and it can take nothing more."""
    return _post(f"/v1/payment_intents/{wire.path_id(order.provider_id)}/cancel", {}, login, order, "void")


def read_void(order: ChargeOrder, answer: HttpAnswer) -> Result:
    """NOT_EXECUTED (`voided`) when it stands cancelled; a refusal tells nothing, so ask."""
    if answer.status != 200:
        refused = _from_error(order, answer)
        return Result(Outcome.UNKNOWN, refused.provider_id, refused.code)
    return read_charge(order, answer)


def inquiry_call(order: ChargeOrder, login: Login, now: dt.datetime) -> HttpCall:
    """By the intent's id where it is known, else a search for our reference."""
    if order.provider_id:
        path = f"/v1/payment_intents/{wire.path_id(order.provider_id)}?" + urlencode({"expand[]": "latest_charge"})
        return HttpCall("GET", path, _headers(login))
    query = f'metadata["reference"]:"{wire_reference(order.reference)}"'
    search = urlencode({"query": query, "limit": "10", "expand[]": "data.latest_charge"})
    return HttpCall("GET", "/v1/payment_intents/search?" + search, _headers(login))


def read_inquiry(order: ChargeOrder, answer: HttpAnswer, *, age_s: float) -> Result:
    """What stands at Stripe; a search that finds nothing is final past the horizon."""
    if answer.status != 200:
        return Result(Outcome.UNKNOWN, code=f"inquiry_{answer.status}")
    if order.provider_id:
        intent = wire.read_json(answer.body, _Intent)
        return wire.unreadable(answer) if intent is None else _from_intent(order, intent)
    found = wire.read_json(answer.body, _Found)
    if found is None:
        return wire.unreadable(answer)
    if len(found.data) > 1 or found.has_more:
        return Result(Outcome.UNKNOWN, code="more_than_one")
    if found.data:
        return _from_intent(order, found.data[0])
    if age_s >= _HORIZON_S:
        return Result(Outcome.NOT_EXECUTED, code="not_found")
    return Result(Outcome.UNKNOWN, code=NOT_FOUND_YET)


def refund_call(order: RefundOrder, login: Login, now: dt.datetime) -> HttpCall:
    """Give money back, all of it or a part."""
    form = {
        "payment_intent": wire.path_id(order.provider_charge_id),
        "amount": str(codes.to_wire(order.amount_minor, order.currency)),
        "metadata[reference]": wire_reference(order.reference),
        "metadata[charge_reference]": wire_reference(order.charge_reference),
    }
    return HttpCall("POST", "/v1/refunds", _headers(login, f"{order.idempotency_key}:refund"), _form(form))


def read_refund(order: RefundOrder, answer: HttpAnswer) -> Result:
    """SUCCEEDED only with our reference, intent, amount and currency."""
    if answer.status == 200:
        refund = wire.read_json(answer.body, _Refund)
        return wire.unreadable(answer) if refund is None else _from_refund(order, refund)
    body = wire.read_json(answer.body, _ErrorBody)
    if body is not None and answer.status == 400 and _asks_too_much(body.error):
        return Result(Outcome.NOT_EXECUTED, code="more_than_is_left")
    return _refused(body, answer)


def refund_inquiry_call(order: RefundOrder, login: Login, now: dt.datetime) -> HttpCall:
    """All refunds of the intent: a list, which does not lag as a search may."""
    query = urlencode({"payment_intent": wire.path_id(order.provider_charge_id), "limit": "100"})
    return HttpCall("GET", "/v1/refunds?" + query, _headers(login))


def read_refund_inquiry(order: RefundOrder, answer: HttpAnswer, *, age_s: float) -> Result:
    """Found under our reference, or past the horizon not there."""
    refunds = wire.read_json(answer.body, _Refunds) if answer.status == 200 else None
    if refunds is None:
        return Result(Outcome.UNKNOWN, code=f"inquiry_{answer.status}")
    mine = [one for one in refunds.data if one.metadata.get("reference") == wire_reference(order.reference)]
    if len(mine) == 1:
        return _from_refund(order, mine[0])
    if mine or refunds.has_more:
        return Result(Outcome.UNKNOWN, code="more_than_one")
    if age_s >= _HORIZON_S:
        return Result(Outcome.NOT_EXECUTED, code="not_found")
    return Result(Outcome.UNKNOWN, code=NOT_FOUND_YET)


def _not_ours(order: ChargeOrder, intent: _Intent) -> Result | None:
    if intent.metadata.get("reference") != wire_reference(order.reference):
        return Result(Outcome.UNKNOWN, code="another_reference")
    wrong_id = order.provider_id and intent.id != order.provider_id
    if wrong_id or wire.ID.fullmatch(intent.id) is None:
        return Result(Outcome.UNKNOWN, code="another_payment")
    if not wire.is_ours(order, codes.from_wire(intent.amount, order.currency), intent.currency):
        return Result(Outcome.UNKNOWN, code="another_amount")
    return None


def _from_intent(order: ChargeOrder, intent: _Intent) -> Result:
    if (wrong := _not_ours(order, intent)) is not None:
        return wrong
    key, status = intent.id, intent.status
    if status == "succeeded":
        if intent.amount_received != intent.amount:
            return Result(Outcome.UNKNOWN, key, "another_amount")
        gone = intent.latest_charge.amount_refunded if isinstance(intent.latest_charge, _Charge) else 0
        if gone == intent.amount:
            return Result(Outcome.NOT_EXECUTED, key, VOIDED)
        back = codes.from_wire(gone, order.currency)
        return Result(Outcome.SUCCEEDED, key, refunded_minor=back) if back >= 0 else Result(Outcome.UNKNOWN, key)
    if status == "requires_capture":
        held = intent.amount_capturable == intent.amount
        return Result(Outcome.PENDING, key, AUTHORISED) if held else Result(Outcome.UNKNOWN, key, "another_amount")
    if status == "canceled":
        return Result(Outcome.NOT_EXECUTED, key, VOIDED)
    if status == "processing":
        return Result(Outcome.PENDING, key, status)
    if status in ("requires_action", "requires_confirmation"):
        return Result(Outcome.PENDING, key, WAITING_FOR_BUYER)
    if status == "requires_payment_method":
        # In a window the buyer may try another card; a charge of ours has had its one try.
        if order.method == Method.WINDOW:
            return Result(Outcome.PENDING, key, WAITING_FOR_BUYER)
        declined = _declined(intent.last_payment_error)
        return Result(Outcome.DECLINED, key, declined) if declined else Result(Outcome.UNKNOWN, key, status)
    return Result(Outcome.UNKNOWN, key, status)


def _declined(error: _Error | None) -> str:
    """The allow-listed code of a decline, or empty."""
    if error is None or error.type != "card_error":
        return ""
    if error.code == "card_declined":
        return (error.decline_code or "card_declined") if error.decline_code in (None, *codes.DECLINES) else ""
    return error.code if error.code in codes.CARD_ERRORS and error.code is not None else ""


def _from_error(order: ChargeOrder, answer: HttpAnswer) -> Result:
    body = wire.read_json(answer.body, _ErrorBody)
    intent = body.error.payment_intent if body else None
    if body is not None and answer.status == 402 and (declined := _declined(body.error)):
        fits = intent is None or (_not_ours(order, intent) is None and intent.status == "requires_payment_method")
        key = intent.id if intent and fits else ""
        return Result(Outcome.DECLINED if fits else Outcome.UNKNOWN, key, declined)
    return _refused(body, answer)


def _refused(body: _ErrorBody | None, answer: HttpAnswer) -> Result:
    if body is None:
        return wire.unreadable(answer)
    error, code = body.error, body.error.code or body.error.type
    refused = answer.status in (400, 404) and error.type == "invalid_request_error" and code in codes.NOT_EXECUTED
    no_entry = answer.status in (401, 403) and error.type in ("invalid_request_error", "authentication_error")
    # Documented: a rate limit comes before the idempotency layer. A lock time-out is a 429 too, and is not.
    limited = answer.status == 429 and code in ("rate_limit", "rate_limit_error")
    return Result(Outcome.NOT_EXECUTED if refused or no_entry or limited else Outcome.UNKNOWN, code=code)


def _asks_too_much(error: _Error) -> bool:
    """More than is left of the charge is refused without a code: only the parameter is named."""
    return error.type == "invalid_request_error" and error.code is None and error.param == "amount"


def _from_refund(order: RefundOrder, refund: _Refund) -> Result:
    ours = refund.metadata.get("reference") == wire_reference(order.reference)
    ours = ours and refund.payment_intent == order.provider_charge_id and refund.currency.upper() == order.currency
    if not ours or codes.from_wire(refund.amount, order.currency) != order.amount_minor:
        return Result(Outcome.UNKNOWN, code="another_refund")
    if wire.ID.fullmatch(refund.id) is None:
        return Result(Outcome.UNKNOWN, code="unusable_id")
    if refund.status == "succeeded":
        return Result(Outcome.SUCCEEDED, refund.id)
    if refund.status in ("pending", "requires_action"):
        return Result(Outcome.PENDING, refund.id, refund.status)
    if refund.status in ("failed", "canceled"):
        return Result(Outcome.DECLINED, refund.id, refund.failure_reason or refund.status)
    return Result(Outcome.UNKNOWN, refund.id, refund.status or "no_status")


def _intent(order: ChargeOrder) -> dict[str, str]:
    form = {
        "amount": str(codes.to_wire(order.amount_minor, order.currency)), "currency": order.currency.lower(),
        "payment_method_types[]": "card", "metadata[reference]": wire_reference(order.reference),
    }  # fmt: skip
    if order.title:
        form["description"] = wire.shortened(order.title, 500, "order")
    return form | ({"customer": order.customer} if order.customer.startswith("cus_") else {})


def _capture(order: ChargeOrder, intent: str, login: Login) -> HttpCall:
    form = {"amount_to_capture": str(codes.to_wire(order.amount_minor, order.currency))}
    return _post(f"/v1/payment_intents/{wire.path_id(intent)}/capture", form, login, order, "capture")


def _post(path: str, form: dict[str, str], login: Login, order: ChargeOrder, operation: str) -> HttpCall:
    # A key used at one address is an error at another, so each operation has its own.
    return HttpCall("POST", path, _headers(login, f"{order.idempotency_key}:{operation}"), _form(form))


def _form(form: dict[str, str]) -> bytes:
    return urlencode(form).encode("ascii")
