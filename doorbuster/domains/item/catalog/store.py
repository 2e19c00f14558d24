"""All SQL of the catalogue. Locks: items by id; whoever changes an item's options or media holds the item."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from doorbuster.domains.item.catalog.models import Item, ItemCard, ItemFilter, Media, Option, OptionRef, PageStart
from doorbuster.platform import db
from doorbuster.platform.db import Conn
from doorbuster.platform.errors import Unavailable

DB = db.of("item.catalog")

# One statement, so that an item and its options are of one snapshot.
_ITEM = """
SELECT i.id, i.handle, i.title, i.description, i.brand, i.category, i.tags, i.status, i.option_names,
       i.version, i.created_at, i.updated_at,
       (SELECT coalesce(json_agg(json_build_object('id', o.id, 'values', o.option_values, 'sku', o.sku,
                 'barcode', o.barcode, 'active', o.active) ORDER BY o.position), '[]')
          FROM options o WHERE o.item_id = i.id) AS options,
       (SELECT coalesce(json_agg(json_build_object('url', m.url, 'alt', m.alt, 'position', m.position)
                 ORDER BY m.position), '[]')
          FROM media m WHERE m.item_id = i.id) AS media
  FROM items i
"""
_options = msgspec.json.Decoder(tuple[Option, ...])
_media = msgspec.json.Decoder(tuple[Media, ...])


def _item(row: asyncpg.Record) -> Item:
    return Item(
        id=row["id"],
        handle=row["handle"],
        title=row["title"],
        description=row["description"],
        brand=row["brand"],
        category=row["category"],
        tags=tuple(row["tags"]),
        status=row["status"],
        option_names=tuple(row["option_names"]),
        options=_options.decode(row["options"]),
        media=_media.decode(row["media"]),
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


async def find_items(item_ids: Sequence[UUID]) -> list[Item]:
    return [_item(row) for row in await DB.fetch(f"{_ITEM} WHERE i.id = ANY($1::uuid[])", item_ids)]


async def find_options(option_ids: Sequence[UUID]) -> list[OptionRef]:
    rows = await DB.fetch(
        "SELECT o.id, o.item_id, i.handle, i.title, o.option_values, o.sku, o.active AND i.status = 'active'"
        " FROM options o JOIN items i ON i.id = o.item_id WHERE o.id = ANY($1::uuid[])",
        option_ids,
    )
    return [OptionRef(row[0], row[1], row[2], row[3], tuple(row[4]), row[5], row[6]) for row in rows]


async def find_cards(wanted: ItemFilter, after: PageStart | None, limit: int) -> list[ItemCard]:
    """Active items, newest first."""
    rows = await DB.fetch(
        "SELECT i.id, i.handle, i.title, i.brand, i.category, i.tags, i.version, i.created_at,"
        "       m.url, m.alt, m.position"
        "  FROM items i LEFT JOIN media m ON m.item_id = i.id AND m.position = 0"
        " WHERE i.status = 'active'"
        "   AND ($1::text IS NULL OR i.category = $1) AND ($2::text IS NULL OR i.brand = $2)"
        "   AND ($3::text IS NULL OR i.handle = $3)"
        "   AND ($4::timestamptz IS NULL OR (i.created_at, i.id) < ($4, $5::uuid))"
        " ORDER BY i.created_at DESC, i.id DESC LIMIT $6",
        wanted.category,
        wanted.brand,
        wanted.handle,
        after.created_at if after else None,
        after.id if after else None,
        limit,
    )
    return [_card(row) for row in rows]


def _card(row: asyncpg.Record) -> ItemCard:
    return ItemCard(
        id=row["id"],
        handle=row["handle"],
        title=row["title"],
        brand=row["brand"],
        category=row["category"],
        tags=tuple(row["tags"]),
        media=Media(row["url"], row["alt"], row["position"]) if row["url"] is not None else None,
        version=row["version"],
        created_at=row["created_at"],
    )


@asynccontextmanager
async def writing() -> AsyncIterator[Conn]:
    """A transaction; `Unavailable` when somebody else (a long import) keeps the locks."""
    try:
        async with DB.transaction() as conn:
            yield conn
    except asyncpg.LockNotAvailableError as error:
        raise Unavailable("Others are changing the same items") from error


async def lock_item(conn: Conn, item_id: UUID) -> Item | None:
    # The lock first, in a statement of its own: the next statement's snapshot then sees what the last holder did.
    await conn.execute("SELECT FROM items WHERE id = $1 FOR UPDATE", item_id)
    row = await conn.fetchrow(f"{_ITEM} WHERE i.id = $1", item_id)
    return _item(row) if row else None


async def lock_handles(conn: Conn, handles: Sequence[str]) -> dict[str, Item]:
    """The items that have these handles, locked in the order of their ids."""
    await conn.execute("SELECT FROM items WHERE handle = ANY($1::text[]) ORDER BY id FOR UPDATE", handles)
    rows = await conn.fetch(f"{_ITEM} WHERE i.handle = ANY($1::text[])", handles)
    return {row["handle"]: _item(row) for row in rows}


async def put_items(conn: Conn, items: Sequence[Item]) -> None:
    """Insert or overwrite. In the order of handles, so that two imports wait for each other rather than deadlock."""
    await conn.execute(
        "INSERT INTO items SELECT * FROM json_to_recordset($1::json) AS n(id uuid, handle text, title text,"
        " description text, brand text, category text, tags text[], status text, option_names text[],"
        " version bigint, created_at timestamptz, updated_at timestamptz) ORDER BY n.handle"
        " ON CONFLICT (id) DO UPDATE SET handle = excluded.handle, title = excluded.title,"
        " description = excluded.description, brand = excluded.brand, category = excluded.category,"
        " tags = excluded.tags, status = excluded.status, option_names = excluded.option_names,"
        " version = excluded.version, updated_at = excluded.updated_at",
        db.rows(items),
    )


async def retire_options(conn: Conn, item_ids: Sequence[UUID]) -> None:
    # First all are inactive, then the new ones become active: so options may swap their values.
    await conn.execute("UPDATE options SET active = false WHERE item_id = ANY($1::uuid[]) AND active", item_ids)


async def put_options(conn: Conn, items: Sequence[Item]) -> None:
    rows: list[dict[str, Any]] = [
        {
            "id": option.id,
            "item_id": item.id,
            "position": position,
            "option_values": option.values,
            "sku": option.sku,
            "barcode": option.barcode,
            "active": option.active,
        }
        for item in items
        for position, option in enumerate(item.options)
    ]
    await conn.execute(
        "INSERT INTO options SELECT * FROM json_to_recordset($1::json) AS n(id uuid, item_id uuid, position integer,"
        " option_values text[], sku text, barcode text, active boolean)"
        " ON CONFLICT (id) DO UPDATE SET position = excluded.position, option_values = excluded.option_values,"
        " sku = excluded.sku, barcode = excluded.barcode, active = excluded.active",
        db.rows(rows),
    )


async def drop_media(conn: Conn, item_ids: Sequence[UUID]) -> None:
    await conn.execute("DELETE FROM media WHERE item_id = ANY($1::uuid[])", item_ids)


async def put_media(conn: Conn, items: Sequence[Item]) -> None:
    rows = [
        {"item_id": item.id, "position": one.position, "url": one.url, "alt": one.alt}
        for item in items
        for one in item.media
    ]
    await conn.execute(
        "INSERT INTO media SELECT * FROM json_to_recordset($1::json)"
        " AS n(item_id uuid, position integer, url text, alt text)",
        db.rows(rows),
    )
