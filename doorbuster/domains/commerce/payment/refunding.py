"""Money back: written under the payment's lock, sent to the provider that took it, asked about before it is sent anew.

A refund is never given up: a provider that refuses is asked again later under a new key, and a person is told. A person
is told too of one that nobody can say anything of.
"""

from __future__ import annotations

from uuid import UUID

import asyncpg
import msgspec
import structlog
from prometheus_client import Counter

from doorbuster.domains.commerce.payment import errors, events, settling, store, store_refunds
from doorbuster.domains.commerce.payment.models import MatterKind, Payment, Refund
from doorbuster.engines import payment_router
from doorbuster.engines.payment_router import Outcome, RefundAccount, RefundOrder, Result
from doorbuster.engines.payment_router.provider import Flow
from doorbuster.platform import ids, settings, tracing
from doorbuster.platform.db import Conn
from doorbuster.platform.errors import IdempotencyKeyReused, NotFound

_LOG = structlog.get_logger("payment")
_REFUSED_PAUSE_S = 3_600.0
_UNCLEAR_PAUSE_S = 2.0
_LONGEST_PAUSE_S = 60.0
_MOST_IN_A_ROW = 8
_REPEATED_FOR_S = 600.0
REFUSED = Counter("doorbuster_refunds_refused_total", "Refunds a provider refused: a person should look", ["provider"])


async def owe_all(payment_id: UUID, reason: str) -> bool:
    """Write down that what is left of a payment goes back. False: nothing was taken, or nothing is left.

    Raises NotFound for a payment that never began.
    """
    async with store.DB.transaction() as conn:
        payment, attempt = await _lock(conn, payment_id)
        if payment.state != "succeeded" or attempt is None:
            # Nobody is to be charged any more for what is wanted back.
            await store.stop_repeating(conn, payment_id)
            return payment.state == "refunding"
        refund_id = ids.derived_id("refund", str(payment_id), attempt["provider_id"])
        await _owe(conn, payment, attempt, refund_id, payment.amount_minor - payment.returning_minor, reason)
        return True


async def owe(payment_id: UUID, refund_id: UUID, amount_minor: int | None, reason: str) -> None:
    """Write down that a part of a payment goes back, under an id of its own; the same again changes nothing.

    Raises NotFound, NotCaptured, RefundTooLarge, NoPartialRefund, and IdempotencyKeyReused for the same id with another
    content.
    """
    async with store.DB.transaction() as conn:
        payment, attempt = await _lock(conn, payment_id)
        known = await store_refunds.read_refund(conn, refund_id)
        if known is not None:
            if known.reason != reason or amount_minor not in (None, known.amount_minor):
                raise IdempotencyKeyReused()
            return
        if payment.state not in ("succeeded", "refunding", "refunded") or attempt is None:
            raise errors.NotCaptured(f"It is {payment.state}", state=payment.state)
        left_minor = payment.amount_minor - payment.returning_minor
        wanted_minor = left_minor if amount_minor is None else amount_minor
        if not 0 < wanted_minor <= left_minor:
            raise errors.RefundTooLarge(f"{left_minor} is left of it", left_minor=left_minor)
        if wanted_minor < payment.amount_minor and not payment_router.capability_of(attempt["provider"]).partial_refund:
            raise errors.NoPartialRefund(f"Give back all of it: {payment.amount_minor}")
        await _owe(conn, payment, attempt, refund_id, wanted_minor, reason)


async def _lock(conn: Conn, payment_id: UUID) -> tuple[Payment, asyncpg.Record | None]:
    payment, attempt = (await store.lock_payments(conn, [payment_id])).get(payment_id, (None, None))
    if payment is None:
        raise NotFound(f"There is no payment {payment_id}")
    return payment, attempt


async def _owe(
    conn: Conn, payment: Payment, attempt: asyncpg.Record, refund_id: UUID, amount_minor: int, reason: str
) -> None:
    await store_refunds.insert_refund(
        conn, refund_id, attempt, attempt["provider_id"], amount_minor, reason, is_late=False
    )
    if payment.returning_minor + amount_minor == payment.amount_minor:
        await store_refunds.mark_refunding(conn, payment.payment_id)


async def send_of(payment_id: UUID) -> None:
    """Send what a payment owes now, one after the other, while each is confirmed; the rest is sent by the sweeper."""
    for _ in range(_MOST_IN_A_ROW):
        due = await store_refunds.take_refunds_to_send(1, payment_id)
        if not due or not await send(due[0]):
            return


async def send(row: asyncpg.Record) -> bool:
    """One try of a refund that was taken for it. True: the provider has confirmed it."""
    account = None if row["refund_to"] is None else msgspec.json.decode(row["refund_to"], type=RefundAccount)
    if row["needs_account"] and account is None:
        await _refused(row, Result(Outcome.NOT_EXECUTED, code="refund_account_missing"))
        return False
    order = RefundOrder(
        provider=row["provider"],
        reference=str(row["id"]),
        # After a refusal a new key: the old one would replay the refusal for ever.
        idempotency_key=str(row["id"]) if row["refusals"] == 0 else f"{row['id']}.{row['refusals']}",
        provider_charge_id=row["provider_id"],
        amount_minor=row["amount_minor"],
        currency=row["currency"],
        charge_reference=row["charge_reference"],
        charged_minor=row["charged_minor"],
        refunded_minor=row["returned_minor"],
        reason=row["reason"],
        account=account,
    )
    can_be_asked = Flow.REFUND_INQUIRY in payment_router.capability_of(row["provider"]).flows
    asks = row["is_open"] and not _is_repeated(row, can_be_asked)
    if asks:
        result = await payment_router.inquire_refund(order, age_s=row["sent_s"])
    else:
        result = await _sent(row, order, can_be_asked)
    match result.outcome:
        case Outcome.SUCCEEDED:
            await _settle(row, result.provider_id)
            return True
        case Outcome.NOT_EXECUTED if asks:
            # It never arrived: send it, under a new key.
            await store_refunds.refuse_refund(row["id"], row["refusals"], result.code, _UNCLEAR_PAUSE_S)
        case Outcome.NOT_EXECUTED | Outcome.DECLINED:
            await _refused(row, result)
        case outcome:
            is_open = row["is_open"] or outcome is not Outcome.NOT_SENT
            pause_s = min(_LONGEST_PAUSE_S, max(_UNCLEAR_PAUSE_S, row["age_s"] / 10))
            await store_refunds.retry_refund(row["id"], pause_s, is_open=is_open)
            # A refund that the provider says is under way may take it days.
            if outcome is not Outcome.PENDING and row["age_s"] > settings.current().payment_case_after_s:
                await _open_case(row, "unknown_refund", result)
    return False


def _is_repeated(row: asyncpg.Record, can_be_asked: bool) -> bool:
    """Whether an open refund is sent again under its key. Not for ever where there is another way: a key may have kept
    an error, and while it is sent nobody can say that it never arrived."""
    long_enough = can_be_asked and row["age_s"] > _REPEATED_FOR_S
    return not long_enough and payment_router.may_repeat_refund(row["provider"], row["age_s"])


async def _sent(row: asyncpg.Record, order: RefundOrder, can_be_asked: bool) -> Result:
    """One sending. Where the answer says nothing of what stands now, it is asked about at once."""
    if row["is_open"]:
        await store_refunds.send_again(row["id"])
    result = await payment_router.refund(order)
    # The key repeats its first answer for as long as it is kept.
    stale = result.outcome is Outcome.PENDING or (result.outcome is Outcome.UNKNOWN and row["is_open"])
    return await payment_router.inquire_refund(order, age_s=0.0) if stale and can_be_asked else result


async def _refused(row: asyncpg.Record, result: Result) -> None:
    REFUSED.labels(row["provider"]).inc()
    _LOG.error(
        "refund_refused", payment_id=str(row["payment_id"]), refund_id=str(row["id"]), code=result.code,
        what_to_do="look at the charge at the provider; it is asked again every hour until it pays",
    )  # fmt: skip
    await store_refunds.refuse_refund(row["id"], row["refusals"], result.code, _REFUSED_PAUSE_S)
    await _open_case(row, "refund_refused", result)


async def _open_case(row: asyncpg.Record, kind: MatterKind, result: Result) -> None:
    await store_refunds.open_matter(ids.uuid7(), kind, row["payment_id"], row["provider"], result.code, None, row["id"])


async def _settle(row: asyncpg.Record, transaction_id: str) -> None:
    async with store.DB.transaction() as conn:
        payment, _ = (await store.lock_payments(conn, [row["payment_id"]]))[row["payment_id"]]
        known = await store_refunds.read_refund(conn, row["id"])
        if known is None or known.state == "succeeded":
            return  # somebody else's answer to the same key was quicker
        trace = tracing.current_traceparent()
        given_back = events.MoneyMoved(
            row["id"], payment.payment_id, payment.order_id, row["provider"], row["provider_id"], transaction_id,
            str(row["id"]), -row["amount_minor"], row["currency"], row["reason"],
        )  # fmt: skip
        facts = [events.money_moved(given_back, payment.version, trace)]
        completes = not row["is_late"] and payment.returned_minor + row["amount_minor"] == payment.amount_minor
        if completes:
            facts.insert(0, settling.fact_of(payment, "refunded", "", trace))
        await store_refunds.settle_refund(conn, row["id"], transaction_id, facts, completes)


async def settle_by_hand(refund_id: UUID, transaction_id: str) -> None:
    """A person has seen that it went back, or gave it back; twice is once."""
    await _settle(await store_refunds.read_refund_to_settle(refund_id), transaction_id)


async def read(refund_id: UUID) -> Refund:
    """A refund as it stands."""
    async with store.DB.connection() as conn:
        found = await store_refunds.read_refund(conn, refund_id)
    assert found is not None, "a refund that was written is there"
    return found
