"""All SQL of stock. Locks are taken in one order for every operation: options, items, allotments, each by key.

Counters and reservations need no lock of their own: whoever changes a deal's counter holds the first allotment row of
that deal, and whoever changes a reservation holds the rows of its options, so both are read after those locks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from doorbuster.domains.item.stock.books import AllotmentRow, Books, Count, ReservationRow
from doorbuster.engines import event_log
from doorbuster.platform import db
from doorbuster.platform.db import Conn

DB = db.of("item.stock")

_RESERVATION = "id, customer_id, deal_id, state, option_ids, item_ids, quantities, request_hash, created_at, expires_at"


async def add_missing(conn: Conn, pairs: Sequence[tuple[UUID, UUID]]) -> None:
    """Rows of zero for options (and their items) that stock has not seen, in key order."""
    option_ids, item_ids = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    await conn.execute(
        "INSERT INTO option_stock (option_id, item_id) SELECT * FROM unnest($1::uuid[], $2::uuid[]) AS n(o, i)"
        " ORDER BY o ON CONFLICT DO NOTHING",
        option_ids,
        item_ids,
    )
    await conn.execute(
        "INSERT INTO item_stock (item_id) SELECT DISTINCT item_id FROM option_stock WHERE option_id = ANY($1::uuid[])"
        " ORDER BY item_id ON CONFLICT DO NOTHING",
        option_ids,
    )


async def find_entries(conn: Conn, ids: Sequence[UUID]) -> set[UUID]:
    """Which of these entries are in the ledger already. Read under the options' locks."""
    return {row[0] for row in await conn.fetch("SELECT id FROM stock_entry WHERE id = ANY($1::uuid[])", ids)}


async def lock_books(
    conn: Conn,
    *,
    option_ids: Iterable[UUID],
    deal_ids: Iterable[UUID],
    customers: Sequence[tuple[UUID, UUID]],
    new_ids: Iterable[UUID],
    known_ids: Iterable[UUID],
    closing: Iterable[UUID],
) -> Books:
    """Lock and read everything for one batch in one call (see lock_books in the migration for the order)."""
    row = await conn.fetchrow(
        "SELECT * FROM lock_books($1, $2, $3, $4, $5, $6, $7)",
        list(option_ids),
        list(deal_ids),
        [pair[0] for pair in customers],
        [pair[1] for pair in customers],
        list(new_ids),
        list(known_ids),
        list(closing),
    )
    assert row is not None
    options, items, allotments, counters, reservations, moment = row
    deals: dict[UUID, dict[UUID, AllotmentRow]] = {}
    for one in allotments:
        deals.setdefault(one["deal_id"], {})[one["option_id"]] = AllotmentRow(**one)
    return Books(
        now=moment,
        options={one["option_id"]: _count(one) for one in options},
        items={one["item_id"]: _count(one) for one in items},
        allotments=deals,
        counters={(one["deal_id"], one["customer_id"]): one["taken"] for one in counters},
        reservations={one["id"]: ReservationRow(*one) for one in reservations},
    )


def _count(row: asyncpg.Record) -> Count:
    return Count(row["on_hand"], row["reserved"], row["allotted"], row["sold"], row["version"], row["item_id"])


async def write_books(conn: Conn, books: Books, facts: Sequence[event_log.Fact]) -> None:
    """Write everything the batch changed and publish its facts: one set-based statement per table, in one round trip.

    Every row written is locked, or new; so the order in which PostgreSQL runs the parts does not matter.
    """
    allotments = [row for deal_id in books.touched_deals for row in books.allotments[deal_id].values()]
    options = {key: books.options[key] for key in books.touched_options}
    items = {count.item_id: books.items[count.item_id] for count in options.values()}
    await conn.execute(
        _WRITE,
        db.rows([_counted(key, count) for key, count in options.items()]),
        db.rows([_counted(key, count) for key, count in items.items()]),
        db.rows([row for row in allotments if row.version > 1]),
        db.rows([row for row in allotments if row.version == 1]),
        db.rows([{"d": key[0], "c": key[1], "t": books.counters[key]} for key in books.touched_counters]),
        db.rows([books.reservations[key] for key in books.new_reservations]),
        db.rows([books.reservations[key] for key in books.touched_reservations - books.new_reservations]),
        db.rows(books.entries),
        event_log.as_parameter(facts),
    )


def _counted(key: UUID, count: Count) -> dict[str, object]:
    return {
        "k": key, "h": count.on_hand, "r": count.reserved, "a": count.allotted, "s": count.sold, "v": count.version,
    }  # fmt: skip


_COUNTS = "json_to_recordset({}::json) AS n(k uuid, h bigint, r bigint, a bigint, s bigint, v bigint)"
_RESERVATIONS = (
    "json_to_recordset({}::json) AS n(id uuid, customer_id uuid, deal_id uuid, state text, option_ids uuid[],"
    " item_ids uuid[], quantities bigint[], request_hash text, created_at timestamptz, expires_at timestamptz)"
)
_ALLOTMENTS = (
    "json_to_recordset({}::json) AS n(deal_id uuid, option_id uuid, item_id uuid, quantity bigint, remaining bigint,"
    " reserved bigint, sold bigint, returned bigint, per_customer_limit bigint, opens_at timestamptz,"
    " closes_at timestamptz, closed boolean, version bigint)"
)
_WRITE = f"""
WITH options AS (
    UPDATE option_stock s SET on_hand = n.h, reserved = n.r, allotted = n.a, sold = n.s, version = n.v
      FROM {_COUNTS.format("$1")} WHERE s.option_id = n.k),
items AS (
    UPDATE item_stock s SET on_hand = n.h, reserved = n.r, allotted = n.a, sold = n.s, version = n.v
      FROM {_COUNTS.format("$2")} WHERE s.item_id = n.k),
allotments AS (
    UPDATE allotment a SET remaining = n.remaining, reserved = n.reserved, sold = n.sold, returned = n.returned,
           closed = n.closed, version = n.version
      FROM {_ALLOTMENTS.format("$3")} WHERE a.deal_id = n.deal_id AND a.option_id = n.option_id),
opened AS (
    INSERT INTO allotment (deal_id, option_id, item_id, quantity, remaining, reserved, sold, returned,
                           per_customer_limit, opens_at, closes_at, closed, version)
    SELECT * FROM {_ALLOTMENTS.format("$4")}),
counters AS (
    INSERT INTO counter (deal_id, customer_id, taken)
    SELECT d, c, t FROM json_to_recordset($5::json) AS n(d uuid, c uuid, t bigint)
    ON CONFLICT (deal_id, customer_id) DO UPDATE SET taken = excluded.taken),
made AS (
    INSERT INTO reservation ({_RESERVATION}) SELECT {_RESERVATION} FROM {_RESERVATIONS.format("$6")}),
changed AS (
    UPDATE reservation r SET state = n.state, created_at = n.created_at, expires_at = n.expires_at
      FROM {_RESERVATIONS.format("$7")} WHERE r.id = n.id),
facts AS (
    {event_log.insert_facts("$9")})
INSERT INTO stock_entry (id, option_id, delta, reason, by_whom)
SELECT * FROM json_to_recordset($8::json) AS n(id uuid, option_id uuid, delta bigint, reason text, by_whom uuid)
"""


async def read_levels(option_ids: Sequence[UUID]) -> list[asyncpg.Record]:
    return await DB.fetch(
        "SELECT option_id, item_id, on_hand, reserved, allotted, sold, on_hand - reserved - allotted, version"
        " FROM option_stock WHERE option_id = ANY($1::uuid[])",
        list(option_ids),
    )


async def read_allotment_levels(deal_ids: Sequence[UUID]) -> list[asyncpg.Record]:
    return await DB.fetch(
        "SELECT deal_id, option_id, quantity, remaining, reserved, sold FROM allotment"
        " WHERE deal_id = ANY($1::uuid[]) ORDER BY deal_id, option_id",
        list(deal_ids),
    )


async def expired_holds(limit: int) -> list[UUID]:
    query = "SELECT id FROM reservation WHERE state = 'held' AND expires_at <= now() ORDER BY expires_at LIMIT $1"
    return [row[0] for row in await DB.fetch(query, limit)]


async def deals_to_close(limit: int) -> list[UUID]:
    query = "SELECT DISTINCT deal_id FROM allotment WHERE NOT closed AND closes_at <= clock_timestamp() LIMIT $1"
    return [row[0] for row in await DB.fetch(query, limit)]


async def reservations_between(after: datetime, until: datetime, limit: int) -> list[asyncpg.Record]:
    return await DB.fetch(
        "SELECT id, state, created_at FROM reservation WHERE created_at > $1 AND created_at <= $2"
        " ORDER BY created_at LIMIT $3",
        after,
        until,
        limit,
    )
