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
from doorbuster.platform import db
from doorbuster.platform.db import Conn

DB = db.of("item.stock")

_RESERVATION = "id, customer_id, deal_id, state, option_ids, item_ids, quantities, request_hash, created_at, expires_at"


async def find_reservations(conn: Conn, ids: Sequence[UUID]) -> list[ReservationRow]:
    """Reservations by id, unlocked: their lines never change, so they say which rows to lock."""
    query = f"SELECT {_RESERVATION} FROM reservation WHERE id = ANY($1::uuid[])"
    return [ReservationRow(*row) for row in await conn.fetch(query, ids)]


async def find_deal_options(conn: Conn, deal_ids: Sequence[UUID]) -> list[UUID]:
    """The options that deals have allotments of; fixed when the deal is opened."""
    query = "SELECT DISTINCT option_id FROM allotment WHERE deal_id = ANY($1::uuid[])"
    return [row[0] for row in await conn.fetch(query, deal_ids)]


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


async def lock_options(conn: Conn, option_ids: Iterable[UUID]) -> dict[UUID, Count]:
    rows = await conn.fetch(
        "SELECT option_id, on_hand, reserved, allotted, sold, version, item_id FROM option_stock"
        " WHERE option_id = ANY($1::uuid[]) ORDER BY option_id FOR UPDATE",
        list(option_ids),
    )
    return {row[0]: Count(*row[1:]) for row in map(tuple, rows)}


async def lock_items(conn: Conn, item_ids: Iterable[UUID]) -> dict[UUID, Count]:
    rows = await conn.fetch(
        "SELECT item_id, on_hand, reserved, allotted, sold, version, item_id FROM item_stock"
        " WHERE item_id = ANY($1::uuid[]) ORDER BY item_id FOR UPDATE",
        list(item_ids),
    )
    return {row[0]: Count(*row[1:]) for row in map(tuple, rows)}


async def lock_allotments(conn: Conn, deal_ids: Iterable[UUID]) -> dict[UUID, dict[UUID, AllotmentRow]]:
    """Every allotment of the deals, not only the wanted ones: the first row serialises the deal's counters."""
    rows = await conn.fetch(
        "SELECT deal_id, option_id, item_id, quantity, remaining, reserved, sold, returned, per_customer_limit,"
        " opens_at, closes_at, closed, version FROM allotment"
        " WHERE deal_id = ANY($1::uuid[]) ORDER BY deal_id, option_id FOR UPDATE",
        list(deal_ids),
    )
    deals: dict[UUID, dict[UUID, AllotmentRow]] = {}
    for row in rows:
        deals.setdefault(row["deal_id"], {})[row["option_id"]] = AllotmentRow(*row)
    return deals


async def read_counters(conn: Conn, pairs: Sequence[tuple[UUID, UUID]]) -> dict[tuple[UUID, UUID], int]:
    rows = await conn.fetch(
        "SELECT deal_id, customer_id, taken FROM counter JOIN unnest($1::uuid[], $2::uuid[]) AS w(deal_id, customer_id)"
        " USING (deal_id, customer_id)",
        [pair[0] for pair in pairs],
        [pair[1] for pair in pairs],
    )
    return {(row[0], row[1]): row[2] for row in rows}


async def read_reservations_and_clock(conn: Conn, ids: Sequence[UUID]) -> tuple[datetime, dict[UUID, ReservationRow]]:
    """Reservations as they stand under the locks, and the database's clock, read after the locks."""
    columns = ", ".join(f"r.{column}" for column in _RESERVATION.split(", "))
    rows = await conn.fetch(
        f"SELECT clock_timestamp(), {columns} FROM (SELECT 1) AS one LEFT JOIN reservation r ON r.id = ANY($1::uuid[])",
        ids,
    )
    found = [ReservationRow(*tuple(row)[1:]) for row in rows if row[1] is not None]
    return rows[0][0], {row.id: row for row in found}


async def write_books(conn: Conn, books: Books) -> None:
    """One set-based statement per table, in the order of the locks."""
    if books.touched_options:
        await _write_counts(conn, books)
    for deal_id in books.touched_deals:
        for row in books.allotments[deal_id].values():
            row.version += 1
    allotments = [row for deal_id in books.touched_deals for row in books.allotments[deal_id].values()]
    if opened := [row for row in allotments if row.version == 1]:
        await _insert_allotments(conn, opened)
    if changed := [row for row in allotments if row.version > 1]:
        await conn.execute(
            "UPDATE allotment a SET remaining = n.remaining, reserved = n.reserved, sold = n.sold,"
            " returned = n.returned, closed = n.closed, version = n.version"
            " FROM json_to_recordset($1::json) AS n(deal_id uuid, option_id uuid, remaining bigint, reserved bigint,"
            " sold bigint, returned bigint, closed boolean, version bigint)"
            " WHERE a.deal_id = n.deal_id AND a.option_id = n.option_id",
            db.rows(changed),
        )
    if books.touched_counters:
        await conn.execute(
            "INSERT INTO counter (deal_id, customer_id, taken)"
            " SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bigint[]) AS n(d, c, t) ORDER BY d, c"
            " ON CONFLICT (deal_id, customer_id) DO UPDATE SET taken = excluded.taken",
            [key[0] for key in books.touched_counters],
            [key[1] for key in books.touched_counters],
            [books.counters[key] for key in books.touched_counters],
        )
    await _write_reservations(conn, books)
    if books.entries:
        await conn.execute(
            "INSERT INTO stock_entry (id, option_id, delta, reason, by_whom) SELECT * FROM json_to_recordset($1::json)"
            " AS n(id uuid, option_id uuid, delta bigint, reason text, by_whom uuid)",
            db.rows(books.entries),
        )


async def _write_counts(conn: Conn, books: Books) -> None:
    options = {key: books.options[key] for key in books.touched_options}
    items = {count.item_id: books.items[count.item_id] for count in options.values()}
    for table, key_name, counts in (("option_stock", "option_id", options), ("item_stock", "item_id", items)):
        await conn.execute(
            f"UPDATE {table} s SET on_hand = n.h, reserved = n.r, allotted = n.a, sold = n.s, version = n.v"
            " FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[])"
            f" AS n(key, h, r, a, s, v) WHERE s.{key_name} = n.key",
            list(counts),
            [count.on_hand for count in counts.values()],
            [count.reserved for count in counts.values()],
            [count.allotted for count in counts.values()],
            [count.sold for count in counts.values()],
            [count.version for count in counts.values()],
        )


async def _insert_allotments(conn: Conn, rows: Sequence[AllotmentRow]) -> None:
    await conn.execute(
        "INSERT INTO allotment (deal_id, option_id, item_id, quantity, remaining, reserved, sold, returned,"
        " per_customer_limit, opens_at, closes_at, closed, version)"
        " SELECT * FROM json_to_recordset($1::json) AS n(deal_id uuid, option_id uuid, item_id uuid, quantity bigint,"
        " remaining bigint, reserved bigint, sold bigint, returned bigint, per_customer_limit bigint,"
        " opens_at timestamptz, closes_at timestamptz, closed boolean, version bigint)",
        db.rows(rows),
    )


async def _write_reservations(conn: Conn, books: Books) -> None:
    if books.new_reservations:
        await conn.execute(
            f"INSERT INTO reservation ({_RESERVATION}) SELECT {_RESERVATION} FROM json_to_recordset($1::json)"
            " AS n(id uuid, customer_id uuid, deal_id uuid, state text, option_ids uuid[], item_ids uuid[],"
            " quantities bigint[], request_hash text, created_at timestamptz, expires_at timestamptz)",
            db.rows([books.reservations[key] for key in books.new_reservations]),
        )
    if changed := books.touched_reservations - books.new_reservations:
        rows = [books.reservations[key] for key in changed]
        await conn.execute(
            "UPDATE reservation r SET state = n.state, created_at = n.created_at, expires_at = n.expires_at"
            " FROM unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::timestamptz[])"
            " AS n(id, state, created_at, expires_at) WHERE r.id = n.id",
            [row.id for row in rows],
            [row.state for row in rows],
            [row.created_at for row in rows],
            [row.expires_at for row in rows],
        )


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
