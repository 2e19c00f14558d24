"""What is open is asked about until it is settled; what nothing settles is told to a person, and asked about still."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from uuid import UUID

import asyncpg
import msgspec
import structlog

from doorbuster.domains.commerce.payment import (
    errors,
    refunding,
    rules,
    sessions,
    settling,
    store,
    store_refunds,
    store_webhooks,
    webhooks,
)
from doorbuster.domains.commerce.payment.models import HandSettlement, Matter, MatterKind
from doorbuster.domains.commerce.payment.settling import Known
from doorbuster.engines import payment_router
from doorbuster.engines.payment_router import NOT_FOUND_YET, WAITING_FOR_DEPOSIT, ChargeOrder, Outcome, Result
from doorbuster.engines.payment_router.provider import Flow
from doorbuster.platform import ids, settings, tracing
from doorbuster.platform.errors import NotFound

_LOG = structlog.get_logger("payment")
_AT_ONCE = 16
_MOST_CONFIRMS = 3
"""So often a confirm is sent again that a provider seems not to have heard."""


async def resolve(limit: int) -> int:
    """Ask about open attempts and send refunds that are due; returns how many were taken up."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def attempt(row: asyncpg.Record) -> None:
        async with gate:
            with tracing.begin("resolve payment"):
                await _resolve_attempt(row)

    async def give(row: asyncpg.Record) -> None:
        async with gate:
            with tracing.begin("repeat refund"):
                await refunding.send(row)

    async def look(row: asyncpg.Record) -> None:
        async with gate:
            with tracing.begin("look at payment"):
                await _look(row)

    looks = await store_webhooks.take_attempts_to_look_at(limit)
    attempts = await store.take_attempts_to_resolve(limit)
    refunds = await store_refunds.take_refunds_to_send(limit)
    # One that fails must not keep the others, or the refunds, from their turn; it is taken up again by its own time.
    work = [attempt(row) for row in attempts] + [give(row) for row in refunds]
    work += [look(row) for row in looks]
    failed = [error for error in await asyncio.gather(*work, return_exceptions=True) if error is not None]
    await store_refunds.close_settled_matters()
    if failed:
        raise failed[0]
    return len(attempts) + len(refunds) + len(looks)


async def _resolve_attempt(row: asyncpg.Record) -> None:
    if row["state"] in rules.IN_WINDOW:
        result = await sessions.resolve(row)
    else:
        result = await _asked(row)
        if result is None:
            return
        await settling.settler().submit(Known(row["payment_id"], row["number"], result))
        await webhooks.differs(row, result)
    is_open = result is not None and result.outcome in (Outcome.UNKNOWN, Outcome.PENDING)
    # A transfer may take days; that it has not come is no case.
    if result is None or not is_open or result.code == WAITING_FOR_DEPOSIT:
        return
    if row["age_s"] > settings.current().payment_case_after_s:
        await _tell(row, result)


async def _asked(row: asyncpg.Record) -> Result | None:
    """What is known of an attempt once its provider was asked; None: somebody else has settled it."""
    order = _order(row)
    result = await payment_router.inquire(order, age_s=row["age_s"])
    if result.outcome is Outcome.UNKNOWN and payment_router.must_netcancel(row["provider"], row["age_s"]):
        state, _ = await store_refunds.standing_of(row["payment_id"], row["number"])
        # A webhook may have been quicker, and what it has found is not to be cancelled.
        return await payment_router.netcancel(order) if state in rules.LIVE_ATTEMPT else None
    if result.code == NOT_FOUND_YET and row["repeat_with"] is not None:
        return await _repeated(row, order) or result
    if row["method"] == "card" or result.outcome is not Outcome.PENDING:
        return result
    if result.code not in payment_router.NOT_CONFIRMED:
        return result
    # The confirm never arrived, and its token takes the money once, however often it is brought.
    if row["inquiries"] <= _MOST_CONFIRMS and (again := await sessions.order_to_confirm(row["payment_id"])) is not None:
        return await sessions.take_money(again)
    # Too late for that. What a provider can end is ended; elsewhere it expires, and the inquiry says so.
    if row["provider_id"] and Flow.VOID in payment_router.capability_of(row["provider"]).flows:
        return await payment_router.end_session(order)
    return result


async def _repeated(row: asyncpg.Record, order: ChargeOrder) -> Result | None:
    """What a provider that knows nothing of a charge says when it is sent again; None: it is not to be."""
    if not payment_router.may_repeat_charge(row["provider"], row["age_s"]):
        return None
    known_by = msgspec.json.decode(row["repeat_with"], type=dict[str, str])
    return await payment_router.repeat_charge(
        msgspec.structs.replace(order, instrument=known_by["key"], customer=known_by["customer"])
    )


async def _look(row: asyncpg.Record) -> None:
    """Ask about an attempt that its provider has told something of, whatever we think that became of it."""
    result = await payment_router.inquire(_order(row), age_s=row["age_s"])
    await settling.settler().submit(Known(row["payment_id"], row["number"], result))
    await webhooks.differs(row, result)
    await store_webhooks.looked(row)


def _order(row: asyncpg.Record) -> ChargeOrder:
    return ChargeOrder(
        row["provider"], row["reference"], row["idempotency_key"], row["amount_minor"], row["currency"],
        method=row["method"], provider_id=row["provider_id"], began_at=row["created_at"],
    )  # fmt: skip


async def _tell(row: asyncpg.Record, result: Result) -> None:
    opened = await store_refunds.open_matter(
        ids.uuid7(), "unknown_outcome", row["payment_id"], row["provider"], result.code, row["number"], None
    )
    if opened:
        _LOG.error(
            "outcome_stays_unknown", payment_id=str(row["payment_id"]), provider=row["provider"], code=result.code,
            reference=row["reference"], what_to_do="look for this reference at the provider, then settle the case",
        )  # fmt: skip


_FITTING: Mapping[MatterKind, tuple[str, ...]] = {
    "unknown_outcome": ("succeeded", "not_executed"), "provider_differs": ("noted",),
    # Not "not_executed": the next try may be on its way, and another one under another key would pay twice.
    "refund_refused": ("succeeded",), "unknown_refund": ("succeeded",),
}  # fmt: skip


async def settle_by_hand(matter_id: UUID, seen: HandSettlement, actor: str) -> Matter:
    """What a person saw at the provider becomes the outcome of an attempt, or of a refund, that nothing else settled.

    Money that turns out to have been taken after all still goes back by itself. Raises NotFound, MatterSettled,
    OutcomeDoesNotFit.
    """
    async with store.DB.transaction() as conn:
        matter = await store_refunds.lock_matter(conn, matter_id)
        if matter is None:
            raise NotFound("There is no such case")
        if matter.closed_at is not None:
            raise errors.MatterSettled(f"By {matter.closed_by}")
        if seen.outcome not in _FITTING[matter.kind]:
            raise errors.OutcomeDoesNotFit(f"Say {' or '.join(_FITTING[matter.kind])}", kind=matter.kind)
        if matter.kind == "unknown_outcome":
            assert matter.number is not None
            row = await store.read_attempt(conn, matter.payment_id, matter.number)
            if row["state"] not in rules.LIVE_ATTEMPT | rules.IN_WINDOW:
                raise errors.MatterSettled(f"The attempt is {row['state']} by now")
    if matter.kind == "unknown_outcome" and matter.number is not None:
        result = Result(Outcome(seen.outcome), provider_id=seen.provider_id, code="settled_by_hand")
        await settling.settler().submit(Known(matter.payment_id, matter.number, result))
    elif matter.refund_id is not None:
        await refunding.settle_by_hand(matter.refund_id, seen.provider_id)
    async with store.DB.transaction() as conn:
        await store_refunds.close_matter(conn, matter_id, actor, seen.note)
        closed = await store_refunds.lock_matter(conn, matter_id)
    assert closed is not None
    return closed
