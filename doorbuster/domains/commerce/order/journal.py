"""The one writer of orders: placements and transitions of many requests in one transaction (group commit)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from doorbuster.domains.commerce.order import errors, events, rules, store
from doorbuster.domains.commerce.order.models import OrderLine, OrderRow, ShipTo
from doorbuster.engines import event_log
from doorbuster.platform import settings, tracing
from doorbuster.platform.batching import Batcher, cause_of
from doorbuster.platform.errors import NotFound, OutcomeUnknown, Refusal

PLACE_WITHIN_S = 20.0
"""An order must be written so soon after its hold was made; the scan gives up older holds without an order."""


class Placement(msgspec.Struct, frozen=True):
    """A new order. `place_by` is judged by the database's clock as it is written."""

    id: UUID
    customer_id: UUID
    request_hash: str
    currency: str
    total_minor: int
    lines: tuple[OrderLine, ...]
    place_by: datetime
    deal_id: UUID | None = None
    ship_to: ShipTo | None = None
    payment_id: UUID | None = None


class Advance(msgspec.Struct, frozen=True):
    """One step of an order that exists."""

    id: UUID
    event: str
    payment_id: UUID | None = None
    code: str = ""
    cancel_key: str | None = None
    cancel_hash: str | None = None


class Written(msgspec.Struct, frozen=True):
    """The order as it now stands, and whether this request is what moved it."""

    row: OrderRow
    moved: bool


_WRITER: Batcher[Placement | Advance, Written] | None = None

_TRIED: dict[tuple[UUID, str, UUID | None], int] = {}
"""(order, event, payment) → version that a batch of this process wrote but whose COMMIT was lost: when the batch is run
again it finds its own work done, and must still say that this request is what did it. At most _MOST_TRIED; whoever is
forgotten is told that another did it, and the sweeper finishes."""
_MOST_TRIED = 10_000


async def write(change: Placement | Advance) -> Written:
    """Write one change in the next batch.

    A placement of an id that exists, and a step that the table does not have from here, move nothing and answer with
    the order as it stands. Refuses with PlacedTooLate and NotFound.
    """
    global _WRITER
    if _WRITER is None:
        now = settings.current()
        _WRITER = Batcher("commerce.order", _run, limit=now.batch_limit, writers=now.batch_writers)
    return await _WRITER.submit(change)


async def _run(changes: Sequence[Placement | Advance]) -> Sequence[Written | Refusal]:
    wrote: dict[tuple[UUID, str, UUID | None], int] = {}
    try:
        answers = await _write(changes, wrote)
    except OutcomeUnknown:
        _TRIED.update(wrote)
        while len(_TRIED) > _MOST_TRIED:
            del _TRIED[next(iter(_TRIED))]
        raise
    if _TRIED:
        done = {change.id for change in changes}
        for key in [key for key in _TRIED if key[0] in done]:
            del _TRIED[key]
    return answers


async def _write(
    changes: Sequence[Placement | Advance], wrote: dict[tuple[UUID, str, UUID | None], int]
) -> list[Written | Refusal]:
    """One batch: lock, decide in arrival order, write and publish in one statement, commit."""
    placements: dict[UUID, Placement] = {}
    for change in changes:
        if isinstance(change, Placement):
            placements.setdefault(change.id, change)
    step_ids = list({change.id for change in changes if isinstance(change, Advance)})
    async with store.DB.transaction() as conn:
        now, locked = await store.lock_orders(conn, step_ids)
        book = _Book(now, locked, wrote)
        advanced = {id(change): book.advance(change) for change in changes if isinstance(change, Advance)}
        # A repeat of a placement may share the batch with a step of its order: what is locked is there already.
        new = [book.place(one) for one in placements.values() if one.id not in locked and book.now < one.place_by]
        made: set[UUID] = set()
        if new or book.moved:
            changed = [book.as_update(key) for key in book.moved]
            made = await store.write_changes(conn, new, changed, book.transitions, book.facts)
        known = {key: Written(book.keep(key), True) for key in made}
        if rest := [key for key in placements if key not in made]:
            for row in (await store.read_orders_in(conn, rest)).values():
                known[row.id] = Written(row, row.version == 1 and book.is_mine(row))
    answers: list[Written | Refusal] = []
    for change in changes:
        if isinstance(change, Advance):
            answers.append(advanced[id(change)])
        else:
            answers.append(known.get(change.id) or errors.PlacedTooLate())
            if change.id in known:
                # The same placement twice in one batch: one of them made it, the other is a repeat.
                known[change.id] = Written(known[change.id].row, False)
    return answers


class _Book:
    """The batch's orders in memory, and what is to be written of them."""

    def __init__(
        self, now: datetime, orders: dict[UUID, OrderRow], wrote: dict[tuple[UUID, str, UUID | None], int]
    ) -> None:
        self.now = now
        self.orders = orders
        self.wrote = wrote
        self._told: set[UUID] = set()
        self.moved: dict[UUID, None] = {}
        self.transitions: list[dict[str, Any]] = []
        self.facts: list[event_log.Fact] = []

    def place(self, one: Placement) -> dict[str, Any]:
        """The row of a new order; its transition and fact are written only if it is really made."""
        event = "placed" if one.payment_id is None else "placed_paying"
        state = rules.NEXT[("", event)]
        pay_by = self.now + timedelta(seconds=settings.current().payment_window_s)
        row = OrderRow(
            id=one.id,
            customer_id=one.customer_id,
            state=state,
            version=1,
            request_hash=one.request_hash,
            deal_id=one.deal_id,
            currency=one.currency,
            total_minor=one.total_minor,
            lines=one.lines,
            ship_to=one.ship_to,
            pays_at_once=one.payment_id is not None,
            payment_id=one.payment_id,
            answer_version=1 if one.payment_id is None else None,
            cancel_key=None,
            cancel_hash=None,
            pay_by=pay_by,
            attempt=0,
            created_at=self.now,
            updated_at=self.now,
            event=event,
        )
        self.orders[one.id] = row
        self._write_down(row, "OrderPlaced", cause_of(one))
        return {
            "id": row.id,
            "customer_id": row.customer_id,
            "state": state,
            "request_hash": row.request_hash,
            "deal_id": row.deal_id,
            "currency": row.currency,
            "total_minor": row.total_minor,
            "lines": row.lines,
            "ship_to": row.ship_to,
            "pays_at_once": row.pays_at_once,
            "payment_id": row.payment_id,
            "answer_version": row.answer_version,
            "pay_by": pay_by,
            "step_deadline": self._deadline(row),
            "at": self.now,
        }

    def keep(self, key: UUID) -> OrderRow:
        """The order was really made, by this batch."""
        row = self.orders[key]
        self.wrote[(row.id, row.event, row.payment_id)] = row.version
        return row

    def advance(self, step: Advance) -> Written | Refusal:
        row = self.orders.get(step.id)
        if row is None:
            return NotFound("There is no such order")
        state = rules.decide(row, step.event, step.payment_id, self.now)
        if state is None:
            same = row.event == step.event and (step.payment_id or row.payment_id) == row.payment_id
            return Written(row, same and self.is_mine(row))
        version = row.version + 1
        answers = row.pays_at_once and row.answer_version is None and state in rules.ANSWERS
        row = msgspec.structs.replace(
            row,
            state=state,
            version=version,
            payment_id=step.payment_id if step.event == "pay" else row.payment_id,
            answer_version=version if answers else row.answer_version,
            cancel_key=step.cancel_key or row.cancel_key,
            cancel_hash=step.cancel_hash or row.cancel_hash,
            updated_at=self.now,
            event=step.event,
            code=step.code,
        )
        self.orders[row.id] = row
        self.moved[row.id] = None
        self._write_down(row, rules.PUBLISHED.get(state), cause_of(step))
        return Written(row, True)

    def is_mine(self, row: OrderRow) -> bool:
        """Whether a run of this process whose COMMIT was lost wrote this version; said once, to the first who asks."""
        tried = _TRIED.get((row.id, row.event, row.payment_id)) == row.version and row.id not in self._told
        if tried:
            self._told.add(row.id)
        return tried

    def as_update(self, key: UUID) -> dict[str, Any]:
        row = self.orders[key]
        return {
            "id": row.id,
            "state": row.state,
            "version": row.version,
            "payment_id": row.payment_id,
            "answer_version": row.answer_version,
            "cancel_key": row.cancel_key,
            "cancel_hash": row.cancel_hash,
            "step_deadline": self._deadline(row),
            "at": self.now,
        }

    def _write_down(self, row: OrderRow, fact: str | None, traceparent: str) -> None:
        if row.version > 1:
            self.wrote[(row.id, row.event, row.payment_id)] = row.version
        self.transitions.append({
            "order_id": row.id, "version": row.version, "event": row.event, "state": row.state,
            "payment_id": row.payment_id, "code": row.code, "at": self.now,
            "trace_id": tracing.trace_id_of(traceparent),
        })  # fmt: skip
        if fact is not None:
            content = events.OrderFact(
                row.id, row.customer_id, row.state, row.currency, row.total_minor, row.lines, row.deal_id
            )
            self.facts.append(events.order_fact(fact, content, row.version, traceparent))

    def _deadline(self, row: OrderRow) -> datetime | None:
        if row.state in rules.AT_REST:
            return None
        if row.state == "awaiting_payment":
            return row.pay_by
        patience = rules.PATIENCE_S[row.state]
        if row.state == "paying":
            patience += settings.current().payment_timeout_s
        return self.now + timedelta(seconds=patience)
