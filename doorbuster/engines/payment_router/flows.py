"""Send a provider one call and classify what is known afterwards. Never raises for anything a provider does.

The attempt, or the refund, has been made durable before it comes here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
import structlog
from prometheus_client import Counter

from doorbuster.engines.payment_router import lines
from doorbuster.engines.payment_router.outcome import (
    ChargeOrder,
    HttpAnswer,
    HttpCall,
    Outcome,
    RefundOrder,
    Result,
)
from doorbuster.engines.payment_router.provider import Flow, Forged, NotForUs, WebhookHint
from doorbuster.engines.payment_router.providers import (
    CHARGES,
    INQUIRES,
    NETCANCELS,
    REFUND_INQUIRES,
    REFUNDS,
    WEBHOOKS,
)
from doorbuster.platform import clock, tracing

MAX_CODE = 64
_SAFE_PART = 0.9
_SOON_S = 60.0
_CHARGE_REPEATED_FOR_S = 120.0
_LOG = structlog.get_logger("payment_router")
CALLS = Counter("doorbuster_psp_calls_total", "Calls to providers", ["provider", "operation", "outcome"])


async def charge(order: ChargeOrder) -> Result:
    """Take the money, once. The attempt must already be durable."""
    provider = CHARGES[lines.kind_of(order.provider)]
    call = provider.charge_call(order, lines.login(order.provider), clock.utc_now())
    return await ask(order.provider, "charge", call, lambda answer: provider.read_charge(order, answer))


def may_repeat_charge(account: str, age_s: float) -> bool:
    """Whether a charge whose answer was lost `age_s` seconds ago is sent again under its key. Only while its buyer may
    still be waiting, and not where it is soon certain by asking alone that it never arrived."""
    capability = lines.capability_of(account)
    horizon_s = capability.not_found_horizon_s
    if capability.idempotency is None or (horizon_s is not None and horizon_s <= _SOON_S):
        return False
    return age_s < min(_CHARGE_REPEATED_FOR_S, capability.idempotency.retention_s * _SAFE_PART)


async def repeat_charge(order: ChargeOrder) -> Result:
    """The same charge under the same key: the provider answers as it did then, or takes the money now.

    That this call was refused or did not arrive says nothing of the first.
    """
    result = await charge(order)
    if result.outcome in (Outcome.NOT_SENT, Outcome.NOT_EXECUTED):
        return Result(Outcome.UNKNOWN, code=f"repeated_{result.code}")
    return result


async def inquire(order: ChargeOrder, *, age_s: float) -> Result:
    """Ask what became of an attempt that was sent `age_s` seconds ago. What is no answer leaves it UNKNOWN."""
    capability = lines.capability_of(order.provider)
    if not capability.inquiry_by_reference and not order.provider_id:
        return Result(Outcome.UNKNOWN, code="nothing_to_ask_by")
    provider = INQUIRES[lines.kind_of(order.provider)]
    call = provider.inquiry_call(order, lines.login(order.provider), clock.utc_now())
    return _asked(
        await ask(order.provider, "inquiry", call, lambda answer: provider.read_inquiry(order, answer, age_s=age_s))
    )


def must_netcancel(account: str, age_s: float) -> bool:
    """Whether the provider wants an outcome that is unknown after `age_s` seconds to be cancelled by reference."""
    within_s = lines.capability_of(account).netcancel_within_s
    return within_s is not None and age_s < within_s


async def netcancel(order: ChargeOrder) -> Result:
    """Cancel by reference whatever an attempt may have taken: NOT_EXECUTED when nothing is held, else UNKNOWN."""
    provider = NETCANCELS[lines.kind_of(order.provider)]
    call = provider.netcancel_call(order, lines.login(order.provider), clock.utc_now())
    return _asked(await ask(order.provider, "netcancel", call, lambda answer: provider.read_netcancel(order, answer)))


def may_repeat_refund(account: str, age_s: float) -> bool:
    """Whether a refund that was first sent `age_s` seconds ago can be sent again under its key and be executed once.
    If not, ask what became of it."""
    idempotency = lines.capability_of(account).idempotency
    return idempotency is not None and age_s < idempotency.retention_s * _SAFE_PART


async def refund(order: RefundOrder) -> Result:
    """Give the money back. Repeat only where `may_repeat_refund` says so, with the same key."""
    provider = REFUNDS[lines.kind_of(order.provider)]
    call = provider.refund_call(order, lines.login(order.provider), clock.utc_now())
    return await ask(order.provider, "refund", call, lambda answer: provider.read_refund(order, answer))


async def inquire_refund(order: RefundOrder, *, age_s: float) -> Result:
    """Ask what became of a refund that was sent `age_s` seconds ago. What is no answer leaves it UNKNOWN."""
    kind = lines.kind_of(order.provider)
    if Flow.REFUND_INQUIRY not in lines.capability_of(order.provider).flows:
        return Result(Outcome.UNKNOWN, code="refunds_cannot_be_asked_about")
    provider = REFUND_INQUIRES[kind]
    call = provider.refund_inquiry_call(order, lines.login(order.provider), clock.utc_now())
    return _asked(
        await ask(
            order.provider,
            "refund_inquiry",
            call,
            lambda answer: provider.read_refund_inquiry(order, answer, age_s=age_s),
        )
    )


def read_webhook(account: str, headers: Mapping[str, str], body: bytes) -> WebhookHint | NotForUs | Forged:
    """What a webhook says that came for an account, if it is to be believed so far as to ask. Header names in lower
    case. The account's provider must send webhooks."""
    provider = WEBHOOKS[lines.kind_of(account)]
    return provider.read_webhook(headers, body, lines.login(account), clock.utc_now())


async def ask(account: str, operation: str, call: HttpCall, read: Callable[[HttpAnswer], Result]) -> Result:
    """Send one call and read its answer, traced and counted."""
    with tracing.span(operation, tracing.CLIENT) as span:
        answer = await lines.send(account, operation, call)
        return _counted(account, operation, answer if isinstance(answer, Result) else read(answer), span)


def _asked(result: Result) -> Result:
    """A question that did not arrive says nothing of what it asked about."""
    if result.outcome is Outcome.NOT_SENT:
        return Result(Outcome.UNKNOWN, code=f"inquiry_{result.code}")
    return result


def _counted(provider: str, operation: str, result: Result, span: tracing.Span) -> Result:
    # A provider's words go into our records and logs: printable, short, and free of what PostgreSQL's text refuses.
    code = "".join(sign for sign in result.code if sign.isascii() and sign.isprintable())[:MAX_CODE]
    result = msgspec.structs.replace(result, code=code)
    CALLS.labels(provider, operation, result.outcome.value).inc()
    span.rename(f"{provider} {operation}")
    span.set("door.psp.provider", provider)
    span.set("door.psp.operation", operation)
    span.set("door.psp.outcome", result.outcome.value)
    if result.outcome in (Outcome.UNKNOWN, Outcome.NOT_SENT):
        span.fail(result.code)
    if result.outcome is Outcome.UNKNOWN:
        _LOG.warning("outcome_unknown", provider=provider, operation=operation, code=result.code)
    return result
