"""Seven ways to take stock for one order, in the order in which a shop finds them: one strategy each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from doorbuster.drills.timedeal.demand import ITEM_ID, Line, Order
from doorbuster.drills.timedeal.sessions import (
    LeftTheQueue,
    Opens,
    Place,
    Refused,
    Session,
    Shop,
    VersionConflict,
    hang_up,
    one_transaction_per_order,
)

MAX_BATCH = 512
MAX_QUEUED = 4096

RECORD_SALE = "INSERT INTO sale SELECT $1::int, unnest($2::int[]), unnest($3::int[])"
TAKE_OPTION = "UPDATE item_option SET left_units = left_units - $2 WHERE id = $1 RETURNING left_units"
TAKE_ITEM = "UPDATE item SET left_units = left_units - $2 WHERE id = $1 RETURNING left_units"
TAKE_OPTION_IF_LEFT = (
    "UPDATE item_option SET left_units = left_units - $2 WHERE id = $1 AND left_units >= $2 RETURNING left_units"
)
TAKE_ITEM_IF_LEFT = (
    "UPDATE item SET left_units = left_units - $2 WHERE id = $1 AND left_units >= $2 RETURNING left_units"
)
TAKE_OPTION_IF_UNCHANGED = (
    "UPDATE item_option SET left_units = left_units - $2, version = version + 1"
    " WHERE id = $1 AND version = $3 RETURNING version"
)
TAKE_ITEM_IF_UNCHANGED = (
    "UPDATE item SET left_units = left_units - $2, version = version + 1"
    " WHERE id = $1 AND version = $3 RETURNING version"
)


class Stage(msgspec.Struct, frozen=True):
    """One way of taking stock and what to say about it. `must_deadlock` keeps it open until a deadlock was seen."""

    name: str
    title: str
    order_of_statements: str
    cures: str
    leaves: str
    opens: Opens
    must_deadlock: bool = False


async def _record_sale(session: Session, order: Order) -> None:
    await session.run(
        "", RECORD_SALE, order.number, [line.option_id for line in order.lines], [line.quantity for line in order.lines]
    )


async def option_item_option_item(session: Session, order: Order) -> None:
    """The incident: the item's sum is kept after each option, so its row is locked between two options."""
    await _record_sale(session, order)
    for line in order.lines:
        await session.run(f"option {line.option_id}", TAKE_OPTION, line.option_id, line.quantity)
        await session.run(f"item {ITEM_ID}", TAKE_ITEM, ITEM_ID, line.quantity)


async def options_as_requested_item_last(session: Session, order: Order) -> None:
    """The first cure: the item once, at the end."""
    await _record_sale(session, order)
    for line in order.lines:
        await session.run(f"option {line.option_id}", TAKE_OPTION, line.option_id, line.quantity)
    await session.run(f"item {ITEM_ID}", TAKE_ITEM, ITEM_ID, order.units)


async def options_if_left_as_requested(session: Session, order: Order) -> None:
    """The decision and the change in one statement, still in the order of the request."""
    await _record_sale(session, order)
    await _take_if_left(session, order, order.lines)


async def options_if_left_by_key(session: Session, order: Order) -> None:
    """Every buyer takes the options in the same order, then the item: no cycle can close."""
    await _record_sale(session, order)
    await _take_if_left(session, order, tuple(sorted(order.lines, key=lambda line: line.option_id)))


async def _take_if_left(session: Session, order: Order, lines: tuple[Line, ...]) -> None:
    for line in lines:
        if not await session.run(f"option {line.option_id}", TAKE_OPTION_IF_LEFT, line.option_id, line.quantity):
            raise Refused("sold_out")
    if not await session.run(f"item {ITEM_ID}", TAKE_ITEM_IF_LEFT, ITEM_ID, order.units):
        raise Refused("sold_out")


async def options_if_unchanged(session: Session, order: Order) -> None:
    """Read without locks, write only what nobody changed since: the editor's cure, tried on buyers."""
    wanted = [line.option_id for line in order.lines]
    read = await session.run("", "SELECT id, left_units, version FROM item_option WHERE id = ANY($1)", wanted)
    [item] = await session.run("", "SELECT version FROM item WHERE id = $1", ITEM_ID)
    seen = {row["id"]: row for row in read}
    if any(seen[line.option_id]["left_units"] < line.quantity for line in order.lines):
        raise Refused("sold_out")
    await _record_sale(session, order)
    for line in order.lines:
        version = seen[line.option_id]["version"]
        row = f"option {line.option_id}"
        if not await session.run(row, TAKE_OPTION_IF_UNCHANGED, line.option_id, line.quantity, version):
            raise VersionConflict
    if not await session.run(f"item {ITEM_ID}", TAKE_ITEM_IF_UNCHANGED, ITEM_ID, order.units, item["version"]):
        raise VersionConflict


def one_piece_only(order: Order) -> None:
    """The stop-gap's rule."""
    if order.units > 1:
        raise Refused("one_per_customer", reached_database=False)


class _Waiting(msgspec.Struct):
    order: Order
    answer: asyncio.Future[None]


@asynccontextmanager
async def many_buyers_per_transaction(shop: Shop) -> AsyncIterator[Place]:
    """One writer takes whatever queued while the previous batch was committing, and sells it in one transaction."""
    waiting: asyncio.Queue[_Waiting] = asyncio.Queue(MAX_QUEUED)
    session = Session(shop, await shop.scratch.connect())

    async def place(order: Order) -> None:
        entry = _Waiting(order, asyncio.get_running_loop().create_future())
        await waiting.put(entry)
        await entry.answer

    writer = asyncio.create_task(_write_batches(shop, session, waiting))
    try:
        yield place
    finally:
        writer.cancel()
        await asyncio.gather(writer, return_exceptions=True)
        await hang_up([session])


async def _write_batches(shop: Shop, session: Session, waiting: asyncio.Queue[_Waiting]) -> None:
    while True:
        batch = [await waiting.get()]
        while len(batch) < MAX_BATCH and not waiting.empty():
            batch.append(waiting.get_nowait())
        refused: dict[int, Exception]
        try:
            if shop.bell.is_set():
                refused = {entry.order.number: LeftTheQueue() for entry in batch}
            else:
                refused = await _sell_batch(session, [entry.order for entry in batch])
        except Exception as problem:
            # The buyers must hear of it, else they wait for ever; the stage then ends with this error.
            for entry in batch:
                if not entry.answer.done():
                    entry.answer.set_exception(problem)
            raise
        for entry in batch:
            if entry.answer.done():
                continue
            if (refusal := refused.get(entry.order.number)) is not None:
                entry.answer.set_exception(refusal)
            else:
                entry.answer.set_result(None)


async def _sell_batch(session: Session, orders: list[Order]) -> dict[int, Exception]:
    """Locks by key, decides each order in arrival order, writes each row once. Returns the refusals by order number."""
    await session.begin(None)
    wanted = sorted({line.option_id for order in orders for line in order.lines})
    locked = await session.run(
        "", "SELECT id, left_units FROM item_option WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE", wanted
    )
    await session.run("", "SELECT id FROM item WHERE id = $1 FOR NO KEY UPDATE", ITEM_ID)
    left = {row["id"]: row["left_units"] for row in locked}
    sold: list[tuple[int, int, int]] = []
    refused: dict[int, Exception] = {}
    for order in orders:
        if any(left[line.option_id] < line.quantity for line in order.lines):
            refused[order.number] = Refused("sold_out")
            continue
        for line in order.lines:
            left[line.option_id] -= line.quantity
            sold.append((order.number, line.option_id, line.quantity))
    if not sold:
        await session.rollback()
        return refused
    numbers, options, quantities = (list(column) for column in zip(*sold, strict=True))
    await session.run("", RECORD_SALE.replace("$1::int", "unnest($1::int[])"), numbers, options, quantities)
    await session.run(
        "",
        "UPDATE item_option o SET left_units = n.left_units"
        " FROM unnest($1::int[], $2::int[]) AS n (id, left_units) WHERE o.id = n.id",
        list(left),
        list(left.values()),
    )
    await session.run(f"item {ITEM_ID}", TAKE_ITEM, ITEM_ID, sum(quantities))
    await session.commit()
    return refused


STAGES: tuple[Stage, ...] = (
    Stage(
        name="original",
        title="The incident: option, item, option, item",
        order_of_statements="for each option in the order of the request: UPDATE option; UPDATE item",
        cures="Nothing: this is how the shop sold. CHECK (left_units >= 0) keeps it from overselling, by an error.",
        leaves="A buyer of two options holds the item and waits for the second option; its holder waits for the item.",
        opens=one_transaction_per_order(option_item_option_item),
        must_deadlock=True,
    ),
    Stage(
        name="one_per_customer",
        title="The stop-gap: one piece per customer",
        order_of_statements="orders of more than one piece are refused; then UPDATE option; UPDATE item",
        cures="No deadlock: everybody takes one option, then the item.",
        leaves="The business: every order of more than one piece is turned away.",
        opens=one_transaction_per_order(option_item_option_item, one_piece_only),
    ),
    Stage(
        name="item_last",
        title="The first cure: the item once, at the end",
        order_of_statements="UPDATE each option in the order of the request; UPDATE item once",
        cures="Nobody waits for an option while holding the item; its row is held for one statement and the commit.",
        leaves="Two buyers with the same two options in reversed order still wait for each other.",
        opens=one_transaction_per_order(options_as_requested_item_last),
        must_deadlock=True,
    ),
    Stage(
        name="conditional_update",
        title="Decide and change in one statement",
        order_of_statements="UPDATE … WHERE left_units >= quantity, options in the order of the request; item last",
        cures="Sold out is zero rows instead of an error, and a row seen as sold out is not locked at all.",
        leaves="Deadlocks of reversed options stay; what was taken before the sold-out option has to be rolled back.",
        opens=one_transaction_per_order(options_if_left_as_requested),
        must_deadlock=False,
    ),
    Stage(
        name="version_column",
        title="Optimistic: read, then write what nobody changed",
        order_of_statements="SELECT; UPDATE … WHERE version = seen, options as requested; item last; retry",
        cures="No lost update without a lock held while reading: right where editors meet.",
        leaves="On a hot row nearly every writer but one has read an old version: a storm of conflicts, retries,"
        " refusals; and the row locks of its UPDATEs are still taken in the order of the request.",
        opens=one_transaction_per_order(options_if_unchanged),
    ),
    Stage(
        name="fixed_order",
        title="The cure: one order for everybody",
        order_of_statements="UPDATE … WHERE left_units >= quantity, options by key; item once, last",
        cures="No cycle can close, so no deadlock, for any order of the request and without a limit per customer.",
        leaves="One transaction per order holds the hot row until its commit is durable: that rate is the ceiling.",
        opens=one_transaction_per_order(options_if_left_by_key),
    ),
    Stage(
        name="group_commit",
        title="Ours: many buyers in one transaction, in that order",
        order_of_statements="lock options by key, then the item; decide buyers in arrival order; one write per table",
        cures="One commit is shared by all who queued meanwhile; no deadlock, and the ceiling of the hot row is gone.",
        leaves="Latency is bounded by one batch; a connection lost at COMMIT is an unknown outcome for a whole batch.",
        opens=many_buyers_per_transaction,
    ),
)
