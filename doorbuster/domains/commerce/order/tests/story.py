"""The props of order's tests: an item on sale, a shopper with a key, and ways to look behind the stage."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import msgspec

from doorbuster.domains.commerce import order, payment
from doorbuster.domains.item import catalog, price, stock
from doorbuster.platform import ids
from doorbuster.platform.calls import SYSTEM, Ctx

PRICE = 5_000
HOUR = timedelta(hours=1)


class Shelf(msgspec.Struct, frozen=True):
    """An item on sale, and perhaps a deal on it."""

    item_id: UUID
    option_ids: tuple[UUID, ...]
    deal_id: UUID | None = None


async def shelf(*quantities: int, limit: int | None = None, closes_in_s: float = 0.0) -> Shelf:
    """An item with an option per quantity, priced and stocked; all of it in a deal when a limit or a close is given."""
    names = tuple(catalog.OptionDraft((str(number),)) for number in range(len(quantities)))
    item = await catalog.create_item(
        SYSTEM,
        catalog.ItemDraft(f"item-{ids.uuid7()}", "Runner", status="active", option_names=("Size",), options=names),
    )
    option_ids = tuple(option.id for option in item.options)
    await price.import_prices(
        SYSTEM, tuple(price.ImportPrice(option_id, item.id, "USD", PRICE) for option_id in option_ids)
    )
    pairs = tuple(zip(option_ids, quantities, strict=True))
    await stock.set_on_hand(SYSTEM, tuple(stock.SetOnHand(ids.uuid7(), o, item.id, quantity) for o, quantity in pairs))
    if limit is None and not closes_in_s:
        return Shelf(item.id, option_ids)
    deal_id, now = ids.uuid7(), datetime.now(UTC)
    closes = now + (timedelta(seconds=closes_in_s) if closes_in_s else HOUR)
    await price.schedule_deal(
        SYSTEM,
        price.DealPrices(deal_id, tuple((option_id, PRICE // 2) for option_id in option_ids), now - HOUR, closes),
    )
    lines = tuple(stock.Line(option_id, quantity) for option_id, quantity in pairs if quantity)
    await stock.open_allotment(SYSTEM, stock.OpenAllotment(deal_id, lines, now - HOUR, closes, limit))
    return Shelf(item.id, option_ids, deal_id)


def shopper(subject: UUID | None = None, key: str | None = None) -> Ctx:
    """A caller with a fresh key, unless given."""
    return Ctx(subject=subject or uuid4(), roles=frozenset({"shopper"}), idempotency_key=key or uuid4().hex)


def again(ctx: Ctx, key: str | None = None) -> Ctx:
    """The same caller with another key."""
    return msgspec.structs.replace(ctx, idempotency_key=key or uuid4().hex)


def wish(here: Shelf, *quantities: int, card: str | None = None) -> order.Place:
    """So many of each option of a shelf, in reversed order, because nobody may rely on it."""
    lines = tuple(
        order.WishedLine(option_id, quantity)
        for option_id, quantity in zip(here.option_ids, quantities or (1,), strict=False)
        if quantity
    )
    return order.Place(lines[::-1], deal_id=here.deal_id, payment=order.Pay("card", card) if card else None)


async def counts(here: Shelf) -> list[tuple[int, int, int]]:
    """(available to everybody or in the deal, reserved, sold) of each option."""
    levels = {level.option_id: level for level in await stock.levels(SYSTEM, here.option_ids)}
    if here.deal_id is None:
        return [(levels[o].available, levels[o].reserved, levels[o].sold) for o in here.option_ids]
    inside = {one.option_id: one for one in await stock.allotments(SYSTEM, (here.deal_id,))}
    return [(inside[o].remaining, inside[o].reserved, inside[o].sold) for o in here.option_ids if o in inside]


async def time_passes(dsn: str, order_id: UUID) -> None:
    """Every deadline of this order, its payments and refunds has come; then the sweepers run a few rounds."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(
            'UPDATE "order".orders SET step_deadline = now() - interval \'1 s\''
            " WHERE id = $1 AND step_deadline IS NOT NULL AND state <> 'awaiting_payment'", order_id,
        )  # fmt: skip
        await connection.execute(
            "UPDATE payment.attempt SET next_inquiry_at = now() - interval '1 s', created_at = created_at - interval"
            " '25 s' WHERE payment_id IN (SELECT id FROM payment.payment WHERE order_id = $1)", order_id,
        )  # fmt: skip
        await connection.execute(
            "UPDATE payment.refund SET next_try_at = now() - interval '1 s'"
            " WHERE payment_id IN (SELECT id FROM payment.payment WHERE order_id = $1)", order_id,
        )  # fmt: skip
    finally:
        await connection.close()
    await payment.resolve(SYSTEM, 256)
    await order.sweep(SYSTEM, 256)


async def settled(dsn: str, ctx: Ctx, order_id: UUID, *states: str, within_s: float = 12.0) -> order.Order:
    """Let time pass until the order is in one of these states."""
    deadline = time.monotonic() + within_s
    while True:
        found = await order.get_order(ctx, order_id)
        if found.state in states:
            return found
        assert time.monotonic() < deadline, f"the order is {found.state} and not one of {states}"
        await time_passes(dsn, order_id)
        await asyncio.sleep(0.02)


async def execute(dsn: str, query: str, *args: Any) -> list[Any]:
    """Run a statement as the superuser."""
    connection = await asyncpg.connect(dsn)
    try:
        return list(await connection.fetch(query, *args))
    finally:
        await connection.close()


async def money(sandbox: Any, dsn: str, order_id: UUID) -> tuple[int, int]:
    """(captured, refunded) for an order in the provider's own ledger, in minor units."""
    captured = refunded = 0
    for row in await execute(
        dsn, "SELECT a.reference FROM payment.attempt a JOIN payment.payment p ON p.id = a.payment_id"
        " WHERE p.order_id = $1", order_id,
    ):  # fmt: skip
        for charge in await sandbox.charges(row["reference"]):
            captured += charge["amount_minor"] if charge["status"] == "captured" else 0
            refunded += charge.get("refunded_minor", 0)
    return captured, refunded
