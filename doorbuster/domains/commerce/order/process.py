"""The order process: from wherever an order stands, take the next step until it is at rest or must wait.

Each step calls a service that may be called twice with the same id, then writes what followed. A crash between the
two leaves an order that the sweeper finds by its deadline and drives from here again.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

import structlog

from doorbuster.domains.commerce import payment
from doorbuster.domains.commerce.order import journal, rules, store
from doorbuster.domains.commerce.order.journal import Advance
from doorbuster.domains.commerce.order.models import OrderRow
from doorbuster.domains.item import stock
from doorbuster.engines import payment_router
from doorbuster.platform import ids, settings, tracing
from doorbuster.platform.calls import SYSTEM, Ctx
from doorbuster.platform.errors import Refusal, Unavailable

_LOG = structlog.get_logger("order")
_MAX_STEPS = 8
_AT_ONCE = 32
_SCAN_PAGE = 1_000


def payment_id_of_placing(order_id: UUID) -> UUID:
    """The payment that a placing request with an instrument makes; one per order for ever."""
    return ids.derived_id("payment", str(order_id), "placing")


def hold_s(*, pays: bool) -> int:
    """How long units are held: the payment window, and with a payment under way until its outcome is surely known."""
    now = settings.current()
    horizon = payment_router.horizon_s() if pays else 0.0
    return int(now.payment_window_s + horizon + 300)


def charge_of(row: OrderRow, instrument: str, request_hash: str) -> payment.Charge:
    """What the order asks payment to take."""
    assert row.payment_id is not None
    return payment.Charge(
        payment_id=row.payment_id,
        order_id=row.id,
        customer_id=row.customer_id,
        amount_minor=row.total_minor,
        currency=row.currency,
        instrument=instrument,
        request_hash=request_hash,
    )


async def drive(ctx: Ctx, row: OrderRow) -> OrderRow:
    """Take steps until the order is at rest or waits for something outside. Bounded; safe to run twice at once."""
    for _ in range(_MAX_STEPS):
        before = row.version
        match row.state:
            case "paying" | "payment_waiting" | "payment_unknown" | "cancel_pending":
                row = await _ask_payment(ctx, row)
            case "captured":
                row = await _take_stock(ctx, row)
            case "refunding":
                row = await _refund(ctx, row, "refunded")
            case "cancelling":
                await _release(ctx, row)
                row = await _refund(ctx, row, "cancelled")
            case "expiring":
                await _release(ctx, row)
                row = (await journal.write(Advance(row.id, "expired"))).row
            case _:
                return row
        if row.version == before:
            return row
    return row


async def settle(ctx: Ctx, row: OrderRow, paid: payment.Payment) -> OrderRow:
    """Write what a payment came to and go on from there."""
    event = rules.EVENT_OF_PAYMENT[paid.state]
    captured = Advance(row.id, event, payment_id=paid.payment_id, code=paid.code)
    if event == "captured" and row.state == "paying":
        # The common way: the payment's own row is durable proof, so stock is claimed first and both steps are written
        # in one commit. Killed in between, the sweeper finds the order still paying and asks payment.
        claimed = "claimed" if await _claim(ctx, row) else "no_stock"
        _, written = await asyncio.gather(journal.write(captured), journal.write(Advance(row.id, claimed)))
        return await drive(ctx, await _not_for_nobody(ctx, written.row))
    written = await journal.write(captured)
    if written.row.state in ("captured", "cancelling"):
        return await drive(ctx, written.row)
    return written.row


async def _ask_payment(ctx: Ctx, row: OrderRow) -> OrderRow:
    assert row.payment_id is not None
    found = await payment.find(ctx, row.payment_id)
    if found is None:
        # Nobody began it and, after this, nobody can: a request that was asleep finds it failed.
        found = await payment.abandon(ctx, charge_of(row, "", ""))
    if found.state == "waiting" and row.state == "cancel_pending":
        await payment.leave(ctx, row.payment_id)
        found = await payment.find(ctx, row.payment_id) or found
    event = rules.EVENT_OF_PAYMENT[found.state]
    if (row.state, event) not in rules.NEXT:
        if row.state == "payment_waiting":
            await _hold_on(ctx, row)
        return row
    return (await journal.write(Advance(row.id, event, payment_id=found.payment_id, code=found.code))).row


async def _hold_on(ctx: Ctx, row: OrderRow) -> None:
    """Whoever has yet to pay keeps the units, however long the transfer takes."""
    try:
        await stock.extend(ctx, row.id, hold_s(pays=True))
    except stock.HoldLost:
        _LOG.warning("hold_lost_while_waiting", order_id=str(row.id))


async def look_again(ctx: Ctx, row: OrderRow) -> OrderRow:
    """A paid order whose payment is in doubt: it waits again, or it is at rest as before."""
    looked = await _ask_payment(ctx, row)
    if looked.version == row.version:
        await store.let_rest(row.id, row.version)
    return looked


async def _take_stock(ctx: Ctx, row: OrderRow) -> OrderRow:
    event = "claimed" if await _claim(ctx, row) else "no_stock"
    return await _not_for_nobody(ctx, (await journal.write(Advance(row.id, event))).row)


async def _not_for_nobody(ctx: Ctx, row: OrderRow) -> OrderRow:
    """Units that were taken while the order was ended by someone else go back: whoever ended it came too early to."""
    if row.state not in rules.HOLDS_UNITS:
        await _release(ctx, row)
    return row


async def _claim(ctx: Ctx, row: OrderRow) -> bool:
    """Claim the held units; if the hold was lost, hold them again within limit and allotment, else give up."""
    try:
        await stock.claim(ctx, row.id)
    except stock.HoldLost:
        return await _hold_again(ctx, row)
    return True


async def _hold_again(ctx: Ctx, row: OrderRow) -> bool:
    wish = stock.Reserve(
        reservation_id=row.id,
        customer_id=row.customer_id,
        lines=tuple(stock.Line(line.option_id, line.quantity) for line in row.lines),
        hold_s=hold_s(pays=True),
        deal_id=row.deal_id,
        request_hash=row.request_hash,
    )
    try:
        await stock.reserve(ctx, wish)
        await stock.claim(ctx, row.id)
    except Refusal as refusal:
        _LOG.warning("paid_without_stock", order_id=str(row.id), code=refusal.code)
        return False
    return True


async def _release(ctx: Ctx, row: OrderRow) -> None:
    try:
        await stock.release(ctx, row.id)
    except stock.HoldLost as lost:
        # Every order had a hold; one that stock does not know has nothing to give back.
        _LOG.warning("nothing_to_release", order_id=str(row.id), state=lost.members.get("state"))


async def _refund(ctx: Ctx, row: OrderRow, then: str) -> OrderRow:
    """Give the money back if any was taken; the order rests only when the provider has confirmed it."""
    if row.payment_id is not None and await payment.find(ctx, row.payment_id) is not None:
        paid = await payment.give_back(ctx, row.payment_id, reason=then)
        if paid.state == "refunding":
            return row
    return (await journal.write(Advance(row.id, then))).row


async def sweep(ctx: Ctx, limit: int) -> int:
    """Take up orders whose step is overdue, in this process, a bounded number at once; returns how many."""
    due = await store.take_due(limit)
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(row: OrderRow) -> None:
        async with gate:
            try:
                with tracing.begin("take up order"):
                    if row.state == "awaiting_payment":
                        row = (await journal.write(Advance(row.id, "expire"))).row
                    elif row.state == "paid":
                        row = await look_again(SYSTEM, row)
                    await drive(SYSTEM, row)
            except (Refusal, Unavailable) as error:
                # Its deadline was pushed on as it was taken; it comes again.
                _LOG.warning("sweep_postponed", order_id=str(row.id), state=row.state, why=str(error))

    rows = await store.read_orders(due)
    await asyncio.gather(*(one(row) for row in rows.values()))
    return len(due)


async def release_orphans(ctx: Ctx) -> int:
    """Give up holds whose order never came to be. Looks at each hold once, when no order can follow any more."""
    after, until = await store.scan_window(journal.PLACE_WITHIN_S + 10)
    released = 0
    while True:
        made = await stock.made_between(ctx, after, until, _SCAN_PAGE)
        held = {one.reservation_id: one.created_at for one in made if one.state == "held"}
        for reservation_id in held.keys() - await store.existing_ids(list(held)):
            # Only the hold that was seen: its owner may be holding anew under the same key by now.
            await stock.abandon(ctx, reservation_id, held[reservation_id])
            released += 1
        full = len(made) == _SCAN_PAGE
        # Several holds of one batch share their moment; step back so that none at the edge of a page is missed.
        after = made[-1].created_at - timedelta(microseconds=1) if full else until
        await store.move_scan(after)
        if not full or made[0].created_at == made[-1].created_at:
            return released
