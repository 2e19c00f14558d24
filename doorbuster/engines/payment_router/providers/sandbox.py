"""The sandbox provider's wire format (doorbuster/simulators/sandbox): build requests, read answers. Pure."""

from __future__ import annotations

import datetime as dt
import re
from urllib.parse import urlencode

import msgspec

from doorbuster.engines.payment_router.outcome import (
    NOT_FOUND_YET,
    ChargeOrder,
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
    Idempotency,
    Login,
    Method,
    Timeouts,
)
from doorbuster.engines.payment_router.providers.sandbox_settlement import read_settlement as read_settlement
from doorbuster.engines.payment_router.providers.sandbox_settlement import settlement_call as settlement_call
from doorbuster.platform import money

_DECLINES = frozenset({"card_declined", "insufficient_funds", "expired_card"})
_NOT_EXECUTED_CODES = frozenset({
    "invalid_instrument", "invalid_body", "invalid_json", "idempotency_key_required", "idempotency_key_invalid",
    "invalid_secret", "body_too_large",
})  # fmt: skip
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""All that the decoder raises for bytes that are not the JSON we expect; nesting without end is the last one."""
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

CAPABILITY = Capability(
    name="sandbox",
    flows=frozenset({Flow.CHARGE, Flow.INQUIRY, Flow.REFUND, Flow.SETTLEMENT}),
    methods=frozenset({Method.CARD}),
    amounts=tuple(AmountLimit(currency, 1, money.MAX_MINOR) for currency in money.currencies()),
    timeouts=Timeouts(connect_s=3, answer_s=10),
    instrument_prefix="tok_",
    partial_refund=True,
    inquiry_by_reference=True,
    # It keeps keys in its ledger for good; a year stands for that.
    idempotency=Idempotency(retention_s=31_536_000, scope="account", max_length=255),
    # It captures on receipt or never, so "no such charge" is soon final.
    not_found_horizon_s=20.0,
    retryable_declines=frozenset({"card_declined"}),
)


class _Charge(msgspec.Struct):
    id: str
    reference: str
    status: str
    amount_minor: int
    currency: str
    decline_code: str | None = None


class _Charges(msgspec.Struct):
    data: list[_Charge]


class _Refund(msgspec.Struct):
    id: str
    charge_id: str
    reference: str
    amount_minor: int
    status: str


class _Error(msgspec.Struct):
    type: str
    code: str


class _ErrorBody(msgspec.Struct):
    error: _Error


def wire_reference(reference: str) -> str:
    """The sandbox takes ours as it is."""
    return reference


def our_reference(wire_id: str) -> str:
    """The same."""
    return wire_id


def charge_call(order: ChargeOrder, login: Login, now: dt.datetime) -> HttpCall:
    """The request that takes the money."""
    body = {
        "reference": order.reference,
        "amount_minor": order.amount_minor,
        "currency": order.currency,
        "instrument": order.instrument,
    }
    return HttpCall("POST", "/v1/charges", _headers(login, order.idempotency_key), msgspec.json.encode(body))


def read_charge(order: ChargeOrder, answer: HttpAnswer) -> Result:
    """Classify by exact evidence: a 200 must name our reference, amount and currency."""
    try:
        if answer.status == 200:
            return _from_charge(order, msgspec.json.decode(answer.body, type=_Charge))
        error = msgspec.json.decode(answer.body, type=_ErrorBody).error
    except _UNREADABLE:
        return Result(Outcome.UNKNOWN, code=f"unreadable_{answer.status}")
    if answer.status == 402 and error.type == "card_error" and error.code in _DECLINES:
        return Result(Outcome.DECLINED, code=error.code)
    if answer.status in (400, 401, 413) and error.code in _NOT_EXECUTED_CODES:
        return Result(Outcome.NOT_EXECUTED, code=error.code)
    return Result(Outcome.UNKNOWN, code=error.code)


def inquiry_call(order: ChargeOrder, login: Login, now: dt.datetime) -> HttpCall:
    """Ask what became of an attempt, by our own reference."""
    path = "/v1/charges?" + urlencode({"reference": order.reference})
    return HttpCall("GET", path, _headers(login))


def read_inquiry(order: ChargeOrder, answer: HttpAnswer, *, age_s: float) -> Result:
    """Captured beats declined beats nothing; nothing found is final only past the horizon."""
    if answer.status != 200:
        return Result(Outcome.UNKNOWN, code=f"inquiry_{answer.status}")
    try:
        charges = msgspec.json.decode(answer.body, type=_Charges).data
    except _UNREADABLE:
        return Result(Outcome.UNKNOWN, code="inquiry_unreadable")
    results = [_from_charge(order, charge) for charge in charges if charge.reference == order.reference]
    if len(results) < len(charges):
        return Result(Outcome.UNKNOWN, code="another_reference")
    for wanted in (Outcome.SUCCEEDED, Outcome.UNKNOWN, Outcome.DECLINED):
        for result in results:
            if result.outcome is wanted:
                return result
    assert CAPABILITY.not_found_horizon_s is not None
    if age_s < CAPABILITY.not_found_horizon_s:
        return Result(Outcome.UNKNOWN, code=NOT_FOUND_YET)
    return Result(Outcome.NOT_EXECUTED, code="not_found")


def refund_call(order: RefundOrder, login: Login, now: dt.datetime) -> HttpCall:
    """The request that gives money back; the same key again replays the first answer."""
    body = {"charge_id": order.provider_charge_id, "amount_minor": order.amount_minor, "reference": order.reference}
    return HttpCall("POST", "/v1/refunds", _headers(login, order.idempotency_key), msgspec.json.encode(body))


def read_refund(order: RefundOrder, answer: HttpAnswer) -> Result:
    """Succeeded only with our reference and amount; a refund is never given up as failed by an unclear answer."""
    try:
        if answer.status == 200:
            refund = msgspec.json.decode(answer.body, type=_Refund)
            mine = refund.reference == order.reference and refund.amount_minor == order.amount_minor
            mine = mine and refund.charge_id == order.provider_charge_id and _ID.fullmatch(refund.id) is not None
            if refund.status == "succeeded" and mine:
                return Result(Outcome.SUCCEEDED, provider_id=refund.id)
            return Result(Outcome.UNKNOWN, code="another_refund")
        error = msgspec.json.decode(answer.body, type=_ErrorBody).error
    except _UNREADABLE:
        return Result(Outcome.UNKNOWN, code=f"unreadable_{answer.status}")
    if answer.status in (400, 404) and error.code in {"refund_exceeds_capture", "charge_not_found"}:
        return Result(Outcome.NOT_EXECUTED, code=error.code)
    return Result(Outcome.UNKNOWN, code=error.code)


def _from_charge(order: ChargeOrder, charge: _Charge) -> Result:
    if charge.reference != order.reference:
        return Result(Outcome.UNKNOWN, code="another_reference")
    if not (charge.amount_minor == order.amount_minor and charge.currency == order.currency):
        return Result(Outcome.UNKNOWN, code="another_amount")
    if _ID.fullmatch(charge.id) is None:
        return Result(Outcome.UNKNOWN, code="unusable_id")
    if charge.status == "declined" and charge.decline_code in _DECLINES:
        return Result(Outcome.DECLINED, provider_id=charge.id, code=charge.decline_code)
    if charge.status == "captured":
        return Result(Outcome.SUCCEEDED, provider_id=charge.id)
    return Result(Outcome.UNKNOWN, provider_id=charge.id, code=charge.status)


def _headers(login: Login, key: str = "") -> dict[str, str]:
    headers = {"authorization": f"Bearer {login.secret.reveal()}", "content-type": "application/json"}
    return headers | {"idempotency-key": key} if key else headers
