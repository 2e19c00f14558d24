"""All SQL of price. One writer at a time holds the one lock of this domain; reads take no lock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from uuid import UUID

import asyncpg

from doorbuster.domains.item.price.models import ListPrice, Sale
from doorbuster.domains.item.price.rules import Priced
from doorbuster.platform import db
from doorbuster.platform.db import Conn
from doorbuster.platform.errors import Unavailable

DB = db.of("item.price")

_WRITER_LOCK = 0x0D00_0971
_LIST = "l.option_id, l.item_id, l.currency, l.list_minor, l.compare_at_minor, l.version"
_SALE = "s.id, s.option_id, s.deal_id, s.price_minor, s.starts_at, s.ends_at"

# The moment is read once, after the snapshot was taken: what the shelf shows is judged by one clock, the database's.
# Finished sales for everybody are left out, so that an option's history does not make its quote dearer.
_SHELF = f"""
WITH moment AS MATERIALIZED (SELECT clock_timestamp() AS at)
SELECT {_LIST}, {_SALE}, m.at
  FROM moment m
 CROSS JOIN list_price l
  LEFT JOIN sale s ON s.option_id = l.option_id
       AND (s.deal_id = ANY($2::uuid[]) OR (s.deal_id IS NULL AND s.ends_at > m.at))
"""
_OF_OPTIONS = (
    f"{_SHELF} WHERE l.option_id = ANY($1::uuid[]) AND NOT EXISTS (SELECT 1 FROM listing i"
    " WHERE i.item_id = l.item_id AND NOT l.option_id = ANY(i.option_ids))"
)
_OF_ITEM = f"{_SHELF} WHERE l.item_id = $1"


def _shelf(rows: Iterable[asyncpg.Record]) -> tuple[dict[UUID, Priced], datetime | None]:
    shelf: dict[UUID, tuple[ListPrice, list[Sale]]] = {}
    now = None
    for row in rows:
        fields = tuple(row)
        _, sales = shelf.setdefault(fields[0], (ListPrice(*fields[:6]), []))
        if fields[6] is not None:
            sales.append(Sale(*fields[6:12]))
        now = fields[12]
    return dict(shelf), now


async def find_shelf(
    option_ids: Sequence[UUID], deal_ids: Sequence[UUID]
) -> tuple[dict[UUID, Priced], datetime | None]:
    """List prices with sales that may hold now, those of these deals included, and the moment; None without rows."""
    return _shelf(await DB.fetch(_OF_OPTIONS, option_ids, deal_ids))


async def find_item_shelf(item_id: UUID) -> tuple[dict[UUID, Priced], datetime | None]:
    return _shelf(await DB.fetch(_OF_ITEM, item_id, []))


async def find_list_price(option_id: UUID) -> ListPrice | None:
    row = await DB.fetchrow(f"SELECT {_LIST} FROM list_price l WHERE option_id = $1", option_id)
    return ListPrice(*row) if row else None


@asynccontextmanager
async def lock_writing() -> AsyncIterator[Conn]:
    """A transaction that changes prices alone. Rules look at several rows (the options of an item, the sales of a deal)
    that do not exist yet, so there is nothing to lock by key; changes are rare and short.
    """
    try:
        async with DB.transaction() as conn:
            await conn.execute("SELECT pg_advisory_xact_lock($1)", _WRITER_LOCK)
            yield conn
    except asyncpg.LockNotAvailableError as error:
        raise Unavailable("Other prices are being changed") from error


async def find_prices(conn: Conn, option_ids: Sequence[UUID]) -> dict[UUID, ListPrice]:
    query = f"SELECT {_LIST} FROM list_price l WHERE option_id = ANY($1::uuid[])"
    return {row[0]: ListPrice(*row) for row in await conn.fetch(query, option_ids)}


async def find_siblings(conn: Conn, item_ids: Sequence[UUID]) -> list[ListPrice]:
    rows = await conn.fetch(f"SELECT {_LIST} FROM list_price l WHERE item_id = ANY($1::uuid[])", item_ids)
    return [ListPrice(*row) for row in rows]


async def count_unfinished_sales(conn: Conn, option_ids: Sequence[UUID]) -> dict[UUID, int]:
    rows = await conn.fetch(
        "SELECT option_id, count(*) FROM sale WHERE option_id = ANY($1::uuid[]) AND ends_at > clock_timestamp()"
        " GROUP BY option_id",
        option_ids,
    )
    return {row[0]: row[1] for row in rows}


async def put_prices(conn: Conn, prices: Sequence[ListPrice]) -> None:
    """Insert or overwrite."""
    await conn.execute(
        "INSERT INTO list_price (option_id, item_id, currency, list_minor, compare_at_minor, version, updated_at)"
        " SELECT n.*, clock_timestamp() FROM json_to_recordset($1::json) AS n(option_id uuid, item_id uuid,"
        " currency text, list_minor bigint, compare_at_minor bigint, version bigint)"
        " ON CONFLICT (option_id) DO UPDATE SET item_id = excluded.item_id, currency = excluded.currency,"
        " list_minor = excluded.list_minor, compare_at_minor = excluded.compare_at_minor,"
        " version = excluded.version, updated_at = excluded.updated_at",
        db.rows(prices),
    )


async def add_sales(conn: Conn, sales: Sequence[Sale]) -> None:
    await conn.execute(
        "INSERT INTO sale SELECT * FROM json_to_recordset($1::json) AS n(id uuid, option_id uuid, deal_id uuid,"
        " price_minor bigint, starts_at timestamptz, ends_at timestamptz)",
        db.rows(sales),
    )


async def find_deal_sales(conn: Conn, deal_id: UUID) -> list[Sale]:
    rows = await conn.fetch(f"SELECT {_SALE} FROM sale s WHERE deal_id = $1", deal_id)
    return [Sale(*row) for row in rows]


async def find_sale(conn: Conn, sale_id: UUID) -> Sale | None:
    row = await conn.fetchrow(f"SELECT {_SALE} FROM sale s WHERE id = $1", sale_id)
    return Sale(*row) if row else None


async def drop_deal_sales(conn: Conn, deal_id: UUID) -> None:
    await conn.execute("DELETE FROM sale WHERE deal_id = $1", deal_id)


async def put_listings(conn: Conn, listings: Sequence[tuple[UUID, int, Sequence[UUID]]]) -> None:
    """Insert or overwrite by something newer."""
    await conn.execute(
        "INSERT INTO listing (item_id, version, option_ids) SELECT * FROM json_to_recordset($1::json)"
        " AS n(item_id uuid, version bigint, option_ids uuid[]) ON CONFLICT (item_id) DO UPDATE"
        " SET version = excluded.version, option_ids = excluded.option_ids WHERE listing.version < excluded.version",
        db.rows([{"item_id": one[0], "version": one[1], "option_ids": one[2]} for one in listings]),
    )
