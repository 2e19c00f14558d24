"""All SQL of order. One lock: orders by id."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from doorbuster.domains.commerce.order.models import OrderLine, OrderRow, ShipTo, Step
from doorbuster.engines import event_log
from doorbuster.platform import db
from doorbuster.platform.db import Conn

DB = db.of("commerce.order")
_LINES = msgspec.json.Decoder(tuple[OrderLine, ...])
_SHIP_TO = msgspec.json.Decoder(ShipTo)

_COLUMNS = (
    "o.id, o.customer_id, o.state, o.version, o.request_hash, o.deal_id, o.currency, o.total_minor, o.lines,"
    " o.ship_to, o.pays_at_once, o.payment_id, o.answer_version, o.cancel_key, o.cancel_hash, o.pay_by, o.attempt,"
    " o.created_at, o.updated_at, t.code, t.event"
)
_LAST = "FROM orders o JOIN transition t ON t.order_id = o.id AND t.version = o.version"


def _row(record: Sequence[Any] | asyncpg.Record) -> OrderRow:
    values = list(record)
    values[8] = _LINES.decode(values[8])
    values[9] = None if values[9] is None else _SHIP_TO.decode(values[9])
    return OrderRow(*values)


async def write_changes(
    conn: Conn,
    new: Sequence[dict[str, Any]],
    changed: Sequence[dict[str, Any]],
    steps: Sequence[dict[str, Any]],
    facts: Sequence[event_log.Fact],
) -> set[UUID]:
    """New orders (but for ids that exist), changed ones, all transitions and facts; returns which new ones were made.

    A transition or fact of a new order (version 1) is written only if the order is. Changed orders are locked, new ones
    nobody knows.
    """
    made = await conn.fetch(_WRITE, db.rows(new), db.rows(changed), db.rows(steps), event_log.as_parameter(facts))
    return {record[0] for record in made}


_NEW = (
    "id, customer_id, state, request_hash, deal_id, currency, total_minor, lines, ship_to, pays_at_once, payment_id,"
    " answer_version, pay_by, step_deadline"
)
_WRITE = f"""
WITH made AS (
    INSERT INTO orders ({_NEW}, created_at, updated_at)
    SELECT {_NEW}, at, at FROM json_to_recordset($1::json) AS n(id uuid, customer_id uuid, state text,
           request_hash text, deal_id uuid, currency text, total_minor bigint, lines jsonb, ship_to jsonb,
           pays_at_once boolean, payment_id uuid, answer_version bigint, pay_by timestamptz,
           step_deadline timestamptz, at timestamptz)
     ORDER BY id ON CONFLICT DO NOTHING RETURNING id),
changed AS (
    UPDATE orders o SET state = n.state, version = n.version, payment_id = n.payment_id, attempt = 0,
           answer_version = n.answer_version, cancel_key = n.cancel_key, cancel_hash = n.cancel_hash,
           step_deadline = n.step_deadline, updated_at = n.at
      FROM json_to_recordset($2::json) AS n(id uuid, state text, version bigint, payment_id uuid,
           answer_version bigint, cancel_key text, cancel_hash text, step_deadline timestamptz, at timestamptz)
     WHERE o.id = n.id),
steps AS (
    INSERT INTO transition (order_id, version, event, state, payment_id, code, at, trace_id)
    SELECT order_id, version, event, state, payment_id, code, at, trace_id
      FROM json_to_recordset($3::json) AS n(order_id uuid, version bigint, event text, state text, payment_id uuid,
           code text, at timestamptz, trace_id text)
     WHERE version > 1 OR order_id IN (SELECT id FROM made)),
facts AS (
    {event_log.insert_facts("$4", "aggregate_version > 1 OR key IN (SELECT id::text FROM made)")})
SELECT id FROM made
"""


async def lock_orders(conn: Conn, ids: Sequence[UUID]) -> tuple[datetime, dict[UUID, OrderRow]]:
    """Lock these orders and read them; the database's clock once they are locked (see lock_orders in the migration)."""
    records = await conn.fetch("SELECT * FROM lock_orders($1)", ids)
    return records[0][0], {record[1]: _row(record[1:]) for record in records if record[1] is not None}


async def read_orders(ids: Sequence[UUID]) -> dict[UUID, OrderRow]:
    query = f"SELECT {_COLUMNS} {_LAST} WHERE o.id = ANY($1::uuid[])"
    return {record[0]: _row(record) for record in await DB.fetch(query, list(ids))}


async def read_orders_in(conn: Conn, ids: Sequence[UUID]) -> dict[UUID, OrderRow]:
    query = f"SELECT {_COLUMNS} {_LAST} WHERE o.id = ANY($1::uuid[])"
    return {record[0]: _row(record) for record in await conn.fetch(query, ids)}


async def existing_ids(ids: Sequence[UUID]) -> set[UUID]:
    return {record[0] for record in await DB.fetch("SELECT id FROM orders WHERE id = ANY($1::uuid[])", list(ids))}


async def read_page(customer_id: UUID, before: tuple[datetime, UUID] | None, limit: int) -> list[OrderRow]:
    """A customer's orders, newest first, after a position."""
    records = await DB.fetch(
        f"SELECT {_COLUMNS} {_LAST} WHERE o.customer_id = $1"
        " AND ($2::timestamptz IS NULL OR (o.created_at, o.id) < ($2, $3))"
        " ORDER BY o.created_at DESC, o.id DESC LIMIT $4",
        customer_id,
        before[0] if before else None,
        before[1] if before else None,
        limit,
    )
    return [_row(record) for record in records]


async def read_steps(order_id: UUID) -> list[Step]:
    records = await DB.fetch(
        "SELECT version, event, state, at, code, payment_id, trace_id FROM transition"
        " WHERE order_id = $1 ORDER BY version",
        order_id,
    )
    return [Step(*record) for record in records]


async def read_step_of_payment(order_id: UUID, payment_id: UUID) -> list[Step]:
    records = await DB.fetch(
        "SELECT version, event, state, at, code, payment_id, trace_id FROM transition"
        " WHERE order_id = $1 AND payment_id = $2 ORDER BY version",
        order_id,
        payment_id,
    )
    return [Step(*record) for record in records]


async def take_due(limit: int) -> list[UUID]:
    """Orders whose step is overdue, each pushed on, so that one process at a time works on it."""
    records = await DB.fetch(
        "UPDATE orders SET attempt = attempt + 1,"
        " step_deadline = clock_timestamp() + make_interval(secs => 5 + least(60, 2 ^ least(attempt, 10)))"
        " WHERE id = ANY(ARRAY(SELECT id FROM orders WHERE step_deadline <= now() ORDER BY step_deadline"
        " LIMIT $1 FOR UPDATE SKIP LOCKED)) RETURNING id",
        limit,
    )
    return [record[0] for record in records]


async def nudge(conn: Conn, ids: Sequence[UUID]) -> None:
    """What these orders wait for has happened: the sweeper should look at once."""
    await conn.execute(
        "UPDATE orders SET step_deadline = clock_timestamp() WHERE id = ANY(ARRAY(SELECT id FROM orders"
        " WHERE id = ANY($1::uuid[]) AND state IN ('payment_waiting', 'payment_unknown', 'cancel_pending',"
        " 'cancelling', 'refunding')"
        " ORDER BY id FOR UPDATE))",
        ids,
    )


async def lock_and_doubt(conn: Conn, ids: Sequence[UUID]) -> None:
    """Paid orders whose payment is no longer what it was: the sweeper should look."""
    await conn.execute(
        "UPDATE orders SET step_deadline = clock_timestamp() WHERE id = ANY(ARRAY(SELECT id FROM orders"
        " WHERE id = ANY($1::uuid[]) AND state = 'paid' ORDER BY id FOR UPDATE))",
        ids,
    )


async def let_rest(order_id: UUID, version: int) -> None:
    """A paid order was looked at, and it stands as it did."""
    query = "UPDATE orders SET step_deadline = NULL WHERE id = $1 AND version = $2 AND state = 'paid' RETURNING id"
    await DB.write(query, order_id, version)


async def scan_window(behind_s: float) -> tuple[datetime, datetime]:
    """(from where, to where) the scan for orphaned holds goes next, by the database's clock."""
    record = await DB.fetchrow(
        "SELECT coalesce((SELECT upto FROM scan WHERE name = 'orphans'), 'epoch'::timestamptz),"
        " clock_timestamp() - make_interval(secs => $1)",
        behind_s,
    )
    assert record is not None
    return record[0], record[1]


async def move_scan(upto: datetime) -> None:
    await DB.fetch(
        "INSERT INTO scan (name, upto) VALUES ('orphans', $1)"
        " ON CONFLICT (name) DO UPDATE SET upto = greatest(scan.upto, excluded.upto) RETURNING upto",
        upto,
    )
