"""Public verbs of stock. Every write goes through one writer per process, which mixes all operations in a batch."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from doorbuster.domains.item.stock import events, rules, store
from doorbuster.domains.item.stock.books import Books
from doorbuster.domains.item.stock.models import (
    Abandon,
    AllotmentLevel,
    Answer,
    Claim,
    CloseAllotment,
    Expire,
    Extend,
    Level,
    OpenAllotment,
    Operation,
    Release,
    Reservation,
    ReservationState,
    Reserve,
    SetOnHand,
)
from doorbuster.engines import event_log
from doorbuster.platform import settings, tracing
from doorbuster.platform.batching import Batcher, cause_of
from doorbuster.platform.calls import Ctx, command, query
from doorbuster.platform.db import Conn
from doorbuster.platform.errors import InvalidRequest, NotFound, Refusal

MAX_HOLD_S = 30 * 86_400
MAX_IMPORT = 5_000


class Made(msgspec.Struct, frozen=True):
    """One reservation of a scan: its id, state and when it was made."""

    reservation_id: UUID
    state: ReservationState
    created_at: datetime


@command
async def reserve(ctx: Ctx, wish: Reserve) -> Reservation:
    """Hold units for a customer, from free stock or, with a deal, from its allotment.

    All lines or none. The same id again answers with what stands; an id whose hold expired is judged anew.
    Refuses with UnknownOption, SoldOut, NotInDeal, DealNotOpen, DealClosed, LimitExceeded, IdempotencyKeyReused.
    """
    rules.check_lines(wish.lines)
    _check_hold(wish.hold_s)
    return _reservation(await _writer().submit(wish))


@command
async def claim(ctx: Ctx, reservation_id: UUID) -> Reservation:
    """The held units are sold. Refuses with HoldLost when the hold has ended. Twice is once."""
    return _reservation(await _writer().submit(Claim(reservation_id)))


@command
async def release(ctx: Ctx, reservation_id: UUID) -> Reservation:
    """Held or sold units come back and so does the customer's limit. Refuses with HoldLost if never reserved."""
    return _reservation(await _writer().submit(Release(reservation_id)))


@command
async def abandon(ctx: Ctx, reservation_id: UUID, made_at: datetime | None = None) -> Reservation:
    """End a hold whose order never came to be. Unlike `release` it is not final: the same id may reserve again.

    With `made_at` (the hold's `created_at`) a hold made anew since then is left alone.
    """
    return _reservation(await _writer().submit(Abandon(reservation_id, made_at)))


@command
async def extend(ctx: Ctx, reservation_id: UUID, hold_s: int) -> Reservation:
    """Keep the hold for at least `hold_s` seconds from now. Refuses with HoldLost when it has ended."""
    _check_hold(hold_s)
    return _reservation(await _writer().submit(Extend(reservation_id, hold_s)))


@command
async def set_on_hand(ctx: Ctx, wishes: tuple[SetOnHand, ...]) -> tuple[Level, ...]:
    """Set how many unsold units there are of each option, all in one transaction or none at all.

    Refuses with BelowReserved, WrongItem, PreconditionFailed, naming the first option that stood in the way.
    """
    if not 1 <= len(wishes) <= MAX_IMPORT:
        raise InvalidRequest(f"Set between 1 and {MAX_IMPORT} options at once")
    if any(not 0 <= wish.on_hand <= rules.MAX_QUANTITY * 1_000 for wish in wishes):
        raise InvalidRequest("on_hand must be between 0 and 1,000,000,000")
    if len(wishes) == 1:
        answer = await _writer().submit(wishes[0])
        assert isinstance(answer, Level)
        return (answer,)
    return await _importer().submit(wishes)


@command
async def open_allotment(ctx: Ctx, wish: OpenAllotment) -> None:
    """Cut a deal's units from free stock. Twice with the same content is once; another content is refused.

    Refuses with UnknownOption, SoldOut (not that many free), DealChanged.
    """
    rules.check_lines(wish.lines)
    if wish.opens_at >= wish.closes_at:
        raise InvalidRequest("A deal must open before it closes")
    await _writer().submit(wish)


@command
async def sweep(ctx: Ctx, limit: int) -> int:
    """End holds whose time has passed and close allotments past their window; returns how many were looked at.

    May run in any number of processes at once: each operation judges again under the locks.
    """
    work: list[Operation] = [Expire(key) for key in await store.expired_holds(limit)]
    work += [CloseAllotment(key) for key in await store.deals_to_close(limit)]
    await asyncio.gather(*(_writer().submit(operation) for operation in work))
    return len(work)


@query
async def levels(ctx: Ctx, option_ids: tuple[UUID, ...]) -> tuple[Level, ...]:
    """The options' stock as committed; options without stock are absent."""
    return tuple(Level(*row) for row in await store.read_levels(option_ids))


@query
async def level(ctx: Ctx, option_id: UUID) -> Level:
    """One option's stock. Refuses with NotFound."""
    found = await levels(ctx, (option_id,))
    if not found:
        raise NotFound(f"There is no stock of option {option_id}")
    return found[0]


@query
async def allotments(ctx: Ctx, deal_ids: tuple[UUID, ...]) -> tuple[AllotmentLevel, ...]:
    """What deals have remaining, by option."""
    return tuple(AllotmentLevel(*row) for row in await store.read_allotment_levels(deal_ids))


@query
async def made_between(ctx: Ctx, after: datetime, until: datetime, limit: int) -> tuple[Made, ...]:
    """Reservations made in (after, until], oldest first, at most `limit`: for the order's scan for orphans."""
    return tuple(Made(*row) for row in await store.reservations_between(after, until, limit))


def _reservation(answer: Answer) -> Reservation:
    assert isinstance(answer, Reservation)
    return answer


def _check_hold(hold_s: int) -> None:
    if not 1 <= hold_s <= MAX_HOLD_S:
        raise InvalidRequest(f"A hold lasts 1 to {MAX_HOLD_S} seconds")


_WRITER: Batcher[Operation, Answer] | None = None
_IMPORTER: Batcher[tuple[SetOnHand, ...], tuple[Level, ...]] | None = None


def _writer() -> Batcher[Operation, Answer]:
    global _WRITER
    if _WRITER is None:
        now = settings.current()
        _WRITER = Batcher("item.stock", _run, limit=now.batch_limit, writers=now.batch_writers)
    return _WRITER


def _importer() -> Batcher[tuple[SetOnHand, ...], tuple[Level, ...]]:
    """Imports one at a time, each a transaction of its own, with the patience and repeats of every write."""
    global _IMPORTER
    if _IMPORTER is None:
        _IMPORTER = Batcher("item.stock.import", _import, limit=1)
    return _IMPORTER


async def _import(imports: Sequence[tuple[SetOnHand, ...]]) -> list[tuple[Level, ...] | Refusal]:
    (wishes,) = imports
    try:
        return [tuple(answer for answer in await _run(wishes, all_or_none=True) if isinstance(answer, Level))]
    except Refusal as refusal:
        return [refusal]


class _Refused(Exception):
    """Carries the first refusal out of an all-or-none transaction, so that it rolls back."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


async def _run(operations: Sequence[Operation], *, all_or_none: bool = False) -> Sequence[Answer | Refusal]:
    """One batch: lock everything it touches in the one order, decide in arrival order, write, publish, commit."""
    try:
        async with store.DB.transaction() as conn:
            books = await _open_books(conn, operations)
            answers = [rules.decide(operation, books) for operation in operations]
            if all_or_none:
                for answer in answers:
                    if isinstance(answer, Refusal):
                        raise _Refused(answer)
            if books.is_touched:
                books.seal()
                await store.write_books(conn, books, _facts(books, _causes(operations, answers, books)))
        return answers
    except _Refused as refused:
        raise refused.refusal from None


async def _open_books(conn: Conn, operations: Sequence[Operation]) -> Books:
    option_ids: set[UUID] = set()
    deal_ids: set[UUID] = set()
    customers: set[tuple[UUID, UUID]] = set()
    new_ids: set[UUID] = set()
    known_ids: set[UUID] = set()
    closing: set[UUID] = set()
    missing: list[tuple[UUID, UUID]] = []
    entry_ids: list[UUID] = []
    for operation in operations:
        match operation:
            case Reserve():
                new_ids.add(operation.reservation_id)
                option_ids.update(line.option_id for line in operation.lines)
                if operation.deal_id is not None:
                    deal_ids.add(operation.deal_id)
                    customers.add((operation.deal_id, operation.customer_id))
            case SetOnHand():
                option_ids.add(operation.option_id)
                missing.append((operation.option_id, operation.item_id))
                entry_ids.append(operation.entry_id)
            case OpenAllotment():
                deal_ids.add(operation.deal_id)
                option_ids.update(line.option_id for line in operation.lines)
            case CloseAllotment():
                deal_ids.add(operation.deal_id)
                closing.add(operation.deal_id)
            case Claim() | Release() | Abandon() | Extend() | Expire():
                known_ids.add(operation.reservation_id)
    if missing:
        await store.add_missing(conn, missing)
    books = await store.lock_books(
        conn,
        option_ids=option_ids,
        deal_ids=deal_ids,
        customers=list(customers),
        new_ids=new_ids,
        known_ids=known_ids,
        closing=closing,
    )
    if entry_ids:
        books.done_entries = await store.find_entries(conn, entry_ids)
    for row in list(books.reservations.values()):
        locked = books.options.keys() >= set(row.option_ids) and row.deal_id in {None, *books.allotments}
        if row.id in known_ids and not locked:
            # Made by another process after the look at its lines: nothing of it is locked, so it does not exist yet.
            del books.reservations[row.id]
    return books


def _causes(operations: Sequence[Operation], answers: Sequence[Answer | Refusal], books: Books) -> dict[UUID, str]:
    """Traceparent by item and deal: a fact tells of everything a batch did to one, and carries on the last request."""
    causes: dict[UUID, str] = {}
    for operation, answer in zip(operations, answers, strict=True) if tracing.is_on() else ():
        if isinstance(answer, Refusal):
            continue
        match operation:
            case SetOnHand():
                touched = [operation.item_id]
            case Reserve() | OpenAllotment():
                touched = [books.options[line.option_id].item_id for line in operation.lines]
            case CloseAllotment():
                touched = [row.item_id for row in books.allotments.get(operation.deal_id, {}).values()]
            case Claim() | Release() | Abandon() | Extend() | Expire():
                row = books.reservations.get(operation.reservation_id)
                touched = [] if row is None else [*row.item_ids, *([row.deal_id] if row.deal_id else [])]
        if isinstance(operation, Reserve | OpenAllotment | CloseAllotment) and operation.deal_id is not None:
            touched.append(operation.deal_id)
        causes.update(dict.fromkeys(touched, cause_of(operation)))
    return causes


def _facts(books: Books, causes: Mapping[UUID, str]) -> list[event_log.Fact]:
    by_item: dict[UUID, list[Level]] = {}
    for option_id in books.touched_options:
        level_now = rules.level_of(option_id, books)
        by_item.setdefault(level_now.item_id, []).append(level_now)
    facts = [
        events.stock_changed(item_id, books.items[item_id].version, tuple(options), causes.get(item_id, ""))
        for item_id, options in by_item.items()
    ]
    for deal_id in books.touched_deals:
        rows = books.allotments[deal_id].values()
        options = tuple(
            AllotmentLevel(deal_id, row.option_id, row.quantity, row.remaining, row.reserved, row.sold) for row in rows
        )
        facts.append(
            events.allotment_changed(
                deal_id,
                sum(row.version for row in rows),
                all(r.closed for r in rows),
                options,
                causes.get(deal_id, ""),
            )
        )
    return facts
