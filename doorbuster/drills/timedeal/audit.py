"""The audit after the rush: the shop's tables as superuser, the provider's own ledger, and PostgreSQL's log."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from doorbuster import invariants
from doorbuster.drills.timedeal.crowd_plan import Sale
from doorbuster.drills.timedeal.shop_findings import Answers, Audit, BookLine, Limits, Money

RESTS = frozenset({"paid", "cancelled", "expired", "refunded_no_stock", "awaiting_payment"})
HOLDS = frozenset({"awaiting_payment", "paid"})
"""At rest, these two still have their units."""
_POLL_S = 0.25
_QUERY_S = 60
_NAMED_MOST = 20
_LIVE_ATTEMPTS = ("sending", "unknown", "pending")


class OrderFact(msgspec.Struct, frozen=True):
    """An order as its table has it."""

    id: str
    customer_id: str
    state: str
    deal_id: str | None
    total_minor: int
    currency: str
    units: dict[str, int]


Where = Callable[[str], str]
"""By domain, the DSN of the database its tables are in, as superuser."""


async def until_at_rest(
    shop: Where, sale: Sale, within_s: float, tell: Callable[[str], None]
) -> tuple[float, list[str]]:
    """Wait until the sweepers have finished everything of this sale, at most `within_s`.

    Returns the seconds it took and a sentence for each thing that is still under way.
    """
    began = time.monotonic()
    while True:
        restless = await _restless(shop, sale)
        waited = time.monotonic() - began
        if not restless or waited >= within_s:
            return round(waited, 2), restless
        tell(f"the sweeper finishes {len(restless)} orders, payments and holds")
        await asyncio.sleep(_POLL_S)


async def _restless(shop: Where, sale: Sale) -> list[str]:
    async with _connected(shop("commerce.order")) as connection, _connected(shop("item.stock")) as stock:
        orders = await connection.fetch(
            'SELECT id, state FROM "order".orders WHERE NOT state = ANY($1) AND lines @> $2::jsonb',
            sorted(RESTS), _item_filter(sale), timeout=_QUERY_S,
        )  # fmt: skip
        attempts = await connection.fetch(
            'SELECT a.payment_id, a.state FROM payment.attempt a JOIN payment.payment p ON p.id = a.payment_id'
            ' JOIN "order".orders o ON o.id = p.order_id WHERE a.state = ANY($1) AND o.lines @> $2::jsonb',
            list(_LIVE_ATTEMPTS), _item_filter(sale), timeout=_QUERY_S,
        )  # fmt: skip
        refunds = await connection.fetch("SELECT id FROM payment.refund WHERE state = 'sending'", timeout=_QUERY_S)
        held = await stock.fetch(
            "SELECT id FROM stock.reservation WHERE state = 'held' AND $1 = ANY(item_ids)",
            UUID(sale.item_id), timeout=_QUERY_S,
        )  # fmt: skip
        holds = await connection.fetch(
            'SELECT id FROM unnest($1::uuid[]) AS held(id) WHERE NOT EXISTS (SELECT FROM "order".orders o'
            " WHERE o.id = held.id)",
            [row["id"] for row in held], timeout=_QUERY_S,
        )  # fmt: skip
    found = [f"order {row['id']} is {row['state']}" for row in orders]
    found += [f"the attempt of payment {row['payment_id']} is {row['state']}" for row in attempts]
    found += [f"refund {row['id']} is being sent" for row in refunds]
    return found + [f"the hold {row['id']} has no order" for row in holds]


async def audit(
    shop: Where, sale: Sale, answers: Answers, charges: Sequence[Mapping[str, Any]], log: Path, *,
    log_from: int = 0, deadlocks_before: int = 0, whole_shop: bool = True, restless: Iterable[str] = (),
) -> Audit:  # fmt: skip
    """Everything the marks need. `charges` is the provider's ledger; with `whole_shop` all of it must belong to orders
    of this shop's tables, else only charges of this sale's orders are judged."""
    async with _connected(shop("commerce.order")) as connection, _connected(shop("item.stock")) as stock:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            orders = await _orders(connection, sale)
            payments = await _payments(connection, charges)
        async with stock.transaction(isolation="repeatable_read", readonly=True):
            books = await _books(stock, sale, orders)
            counters = await stock.fetch(
                "SELECT customer_id, taken FROM stock.counter WHERE deal_id = $1", UUID(sale.deal_id), timeout=_QUERY_S
            )
        deadlocks = await deadlocks_counted(connection)
    checked, breaches = await invariants.check_by(shop)
    known = {order.id for order in orders}
    return Audit(
        orders_by_state=dict(Counter(order.state for order in orders).most_common()),
        missing=tuple(sorted(answers.accepted - known))[:_NAMED_MOST],
        unannounced=tuple(sorted(known - answers.accepted))[:_NAMED_MOST],
        restless=tuple(restless)[:_NAMED_MOST],
        books=books,
        money=judge_money(orders, payments, charges, whole_shop=whole_shop),
        limits=judge_limits(sale, orders, {str(row["customer_id"]): row["taken"] for row in counters}),
        invariants_checked=checked,
        invariant_breaches=tuple(f"{one.domain}.{one.name}: {one.promise} {one.rows[0]}" for one in breaches),
        deadlocks_counted=max(0, deadlocks - deadlocks_before),
        deadlocks_in_log=await asyncio.to_thread(deadlocks_in_log, log, log_from),
    )


async def existing(shop: Where, ids: Iterable[str]) -> frozenset[str]:
    """Which of these orders exist."""
    async with _connected(shop("commerce.order")) as connection:
        rows = await connection.fetch(
            'SELECT id FROM "order".orders WHERE id = ANY($1)', [UUID(one) for one in ids], timeout=_QUERY_S
        )
    return frozenset(str(row["id"]) for row in rows)


async def deadlocks_counted(connection: asyncpg.Connection[Any]) -> int:
    """PostgreSQL's own counter for the whole server; it starts anew after a crash, so the log is read too."""
    return int(await connection.fetchval("SELECT sum(deadlocks) FROM pg_stat_database") or 0)


@asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        yield connection
    finally:
        await connection.close()


def deadlocks_in_log(log: Path, from_byte: int = 0) -> int:
    """How often PostgreSQL wrote that it had to break a deadlock; a crash does not reset this."""
    with log.open("rb") as file:
        file.seek(from_byte)
        return sum(b"deadlock detected" in line for line in file)


async def _orders(connection: asyncpg.Connection[Any], sale: Sale) -> list[OrderFact]:
    rows = await connection.fetch(
        "SELECT id, customer_id, state, deal_id, total_minor, currency, lines::text AS lines"
        ' FROM "order".orders WHERE lines @> $1::jsonb',
        _item_filter(sale), timeout=_QUERY_S,
    )  # fmt: skip
    return [
        OrderFact(
            id=str(row["id"]),
            customer_id=str(row["customer_id"]),
            state=row["state"],
            deal_id=None if row["deal_id"] is None else str(row["deal_id"]),
            total_minor=row["total_minor"],
            currency=row["currency"],
            units={line["option_id"]: line["quantity"] for line in msgspec.json.decode(row["lines"])},
        )
        for row in rows
    ]


async def _payments(
    connection: asyncpg.Connection[Any], charges: Sequence[Mapping[str, Any]]
) -> dict[str, tuple[str, str, str]]:
    """payment id → (order id, payment's state, order's state), for every payment that the provider's ledger names."""
    wanted = {payment for charge in charges if (payment := payment_of(charge)) is not None}
    rows = await connection.fetch(
        'SELECT p.id, p.order_id, p.state, o.state AS order_state FROM payment.payment p'
        ' LEFT JOIN "order".orders o ON o.id = p.order_id WHERE p.id = ANY($1)',
        [UUID(one) for one in wanted], timeout=_QUERY_S,
    )  # fmt: skip
    return {str(row["id"]): (str(row["order_id"]), row["state"], row["order_state"] or "gone") for row in rows}


def payment_of(charge: Mapping[str, Any]) -> str | None:
    """The payment that a charge's reference names (`{payment_id}.{attempt}`); None when it names none of ours."""
    try:
        return str(UUID(str(charge["reference"]).rpartition(".")[0]))
    except ValueError:
        return None


async def _books(connection: asyncpg.Connection[Any], sale: Sale, orders: Sequence[OrderFact]) -> tuple[BookLine, ...]:
    sold: Counter[str] = Counter()
    reserved: Counter[str] = Counter()
    for order in orders:
        if order.state == "paid":
            sold.update(order.units)
        elif order.state in HOLDS:
            reserved.update(order.units)
    options = {
        str(row["option_id"]): row
        for row in await connection.fetch(
            "SELECT option_id, on_hand, reserved, sold FROM stock.option_stock WHERE item_id = $1", UUID(sale.item_id)
        )
    }
    item = await connection.fetchrow(
        "SELECT on_hand, reserved, sold FROM stock.item_stock WHERE item_id = $1", UUID(sale.item_id)
    )
    lines = [
        _line(f"option {number}", initial, options.get(option), sold[option], reserved[option])
        for number, (option, initial) in enumerate(zip(sale.option_ids, sale.stock, strict=True), start=1)
    ]
    return (*lines, _line("item", sum(sale.stock), item, sold.total(), reserved.total()))


def _line(name: str, initial: int, row: Any, sold: int, reserved: int) -> BookLine:
    if row is None:
        return BookLine(name, initial, 0, 0, 0, sold, reserved)
    return BookLine(name, initial, row["sold"], row["reserved"], row["on_hand"] - row["reserved"], sold, reserved)


def judge_money(
    orders: Sequence[OrderFact], payments: Mapping[str, tuple[str, str, str]], charges: Sequence[Mapping[str, Any]], *,
    whole_shop: bool,
) -> Money:  # fmt: skip
    """Paid orders = captured and kept payments at the provider: the same orders, the same amounts, each once."""
    ours = {order.id: order for order in orders}
    breaches: list[str] = []
    kept: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    captured_once: Counter[str] = Counter()
    captured = captured_minor = refunded = refunded_minor = declined = 0
    for charge in charges:
        payment_id = payment_of(charge)
        order_id, state, order_state = payments.get(payment_id or "", ("", "unknown to the shop", "none"))
        if order_id not in ours and not whole_shop:
            continue
        if charge.get("decline_code"):
            declined += 1
            continue
        captured_once[payment_id or str(charge["reference"])] += 1
        back, amount = charge.get("refunded_minor") or 0, charge["amount_minor"]
        captured, captured_minor = captured + 1, captured_minor + amount
        refunded, refunded_minor = refunded + bool(back), refunded_minor + back
        if 0 < back < amount:
            breaches.append(f"charge {charge['id']} was given back in part: {back} of {amount}")
        if back < amount:
            kept[order_id].append(charge)
            if state != "succeeded" or order_state != "paid":
                breaches.append(
                    f"charge {charge['id']} is kept, but its payment is {state} and its order {order_state}"
                )
    breaches += [f"payment {one} was captured {count} times" for one, count in captured_once.items() if count > 1]
    paid = [order for order in orders if order.state == "paid"]
    for order in paid:
        sums = [(charge["amount_minor"], charge["currency"]) for charge in kept.get(order.id, [])]
        if sums != [(order.total_minor, order.currency)]:
            breaches.append(f"order {order.id} is paid with {order.total_minor}, the provider keeps {sums}")
    return Money(
        paid_orders=len(paid),
        paid_minor=sum(order.total_minor for order in paid),
        captured=captured,
        captured_minor=captured_minor,
        refunded=refunded,
        refunded_minor=refunded_minor,
        declined=declined,
        breaches=tuple(breaches),
    )


def judge_limits(sale: Sale, orders: Sequence[OrderFact], counters: Mapping[str, int]) -> Limits:
    """Nobody's orders hold more of the deal than its limit, no option more than its allotment, and the stock's counters
    say the same as the orders."""
    held: Counter[str] = Counter()
    taken: Counter[str] = Counter()
    for order in orders:
        if order.deal_id == sale.deal_id and order.state in HOLDS:
            held[order.customer_id] += sum(order.units.values())
            taken.update(order.units)
    breaches = [
        f"customer {one} holds {units} of a deal limited to {sale.per_customer_limit}"
        for one, units in held.items()
        if units > sale.per_customer_limit
    ]
    breaches += [
        f"option {option} has {taken[option]} units in the deal, of an allotment of {units}"
        for option, units in zip(sale.option_ids, sale.allotment, strict=True)
        if taken[option] > units
    ]
    breaches += [
        f"customer {one} holds {held[one]} by the orders and {counters.get(one, 0)} by the counter"
        for one in held.keys() | counters.keys()
        if held[one] != counters.get(one, 0)
    ]
    return Limits(
        per_customer=sale.per_customer_limit,
        most_held_by_one=max(held.values(), default=0),
        customers_at_limit=sum(units == sale.per_customer_limit for units in held.values()),
        allotment=sum(sale.allotment),
        taken_in_deal=taken.total(),
        breaches=tuple(breaches),
    )


def _item_filter(sale: Sale) -> str:
    return msgspec.json.encode([{"item_id": sale.item_id}]).decode()
