"""All SQL of deal. One lock: the deal by id."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from doorbuster.domains.activation.deal.models import DealRow, StoredLine
from doorbuster.platform import db
from doorbuster.platform.db import Conn

DB = db.of("activation.deal")
_LINES = msgspec.json.Decoder(tuple[StoredLine, ...])
_COLUMNS = (
    "id, merchant_id, title, request_hash, currency, per_customer_limit, opens_at, closes_at, lines, phase, refusal"
)


def _row(record: asyncpg.Record) -> DealRow:
    values = list(record)
    values[8] = _LINES.decode(values[8])
    values[10] = values[10].encode() if values[10] is not None else None
    return DealRow(*values)


async def clock() -> datetime:
    record = await DB.fetchrow("SELECT clock_timestamp()")
    assert record is not None
    return record[0]  # type: ignore[no-any-return]


async def insert(row: DealRow, patience_s: float) -> None:
    await DB.fetch(
        "INSERT INTO deals (id, merchant_id, title, request_hash, currency, per_customer_limit, opens_at, closes_at,"
        " lines, phase, step_deadline) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::jsonb, 'preparing',"
        " clock_timestamp() + make_interval(secs => $10)) ON CONFLICT DO NOTHING RETURNING id",
        row.id, row.merchant_id, row.title, row.request_hash, row.currency, row.per_customer_limit, row.opens_at,
        row.closes_at, db.rows(row.lines), patience_s,
    )  # fmt: skip


async def finish(deal_id: UUID, phase: str, refusal: str | None) -> None:
    """From preparing to ready or refused; does nothing to a deal that is not preparing."""
    await DB.fetch(
        "UPDATE deals SET phase = $2, refusal = $3::jsonb, step_deadline = NULL, version = version + 1"
        " WHERE id = $1 AND phase = 'preparing' RETURNING id",
        deal_id, phase, refusal,
    )  # fmt: skip


async def read(deal_id: UUID) -> DealRow | None:
    record = await DB.fetchrow(f"SELECT {_COLUMNS} FROM deals WHERE id = $1", deal_id)
    return None if record is None else _row(record)


async def read_page(now: datetime, before: tuple[datetime, UUID] | None, limit: int, closed: bool) -> list[DealRow]:
    """Prepared deals: those not closed at `now`, or with `closed` all; latest close first."""
    records = await DB.fetch(
        f"SELECT {_COLUMNS} FROM deals WHERE phase = 'ready' AND ($1 OR closes_at > $2)"
        " AND ($3::timestamptz IS NULL OR (closes_at, id) < ($3, $4)) ORDER BY closes_at DESC, id DESC LIMIT $5",
        closed,
        now,
        before[0] if before else None,
        before[1] if before else None,
        limit,
    )
    return [_row(record) for record in records]


async def take_unprepared(limit: int) -> list[DealRow]:
    records = await DB.fetch(
        "UPDATE deals SET step_deadline = clock_timestamp() + interval '10 seconds' WHERE id = ANY(ARRAY(SELECT id"
        " FROM deals WHERE phase = 'preparing' AND step_deadline <= now() LIMIT $1 FOR UPDATE SKIP LOCKED))"
        f" RETURNING {_COLUMNS}",
        limit,
    )
    return [_row(record) for record in records]


async def note_sold_out(conn: Conn, changes: Sequence[dict[str, Any]]) -> None:
    """Remember when a deal had nothing left for the first time, from the facts of stock."""
    await conn.execute(
        "UPDATE deals d SET sold_out_at = n.at, version = version + 1 FROM json_to_recordset($1::json)"
        " AS n(id uuid, at timestamptz) WHERE d.id = n.id AND d.sold_out_at IS NULL",
        db.rows(changes),
    )
