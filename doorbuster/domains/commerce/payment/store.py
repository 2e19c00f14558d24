"""All SQL of payment. Locks: payments by id, then their attempts follow the payment's lock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import asyncpg

from doorbuster.domains.commerce.payment.models import Charge, Payment
from doorbuster.engines import event_log
from doorbuster.platform import db
from doorbuster.platform.db import Conn

DB = db.of("commerce.payment")

_PAYMENT = "id, order_id, amount_minor, currency, state, code, request_hash, version"
_ATTEMPT = "payment_id, number, provider, reference, idempotency_key, amount_minor, currency, state, provider_id"


Started = dict[UUID, tuple[Payment, UUID | None]]
"""Payments with the mark of the request that began them."""


def _payment(row: Sequence[Any] | asyncpg.Record) -> Payment:
    return Payment(*row)


_START = f"""
WITH wished AS (
    SELECT * FROM json_to_recordset($1::json) AS n(payment_id uuid, order_id uuid, customer_id uuid,
           amount_minor bigint, currency text, request_hash text, mark uuid)),
made AS (
    INSERT INTO payment (id, order_id, customer_id, amount_minor, currency, request_hash, state, started_by)
    SELECT payment_id, order_id, customer_id, amount_minor, currency, request_hash, 'processing', mark FROM wished
     ORDER BY order_id, payment_id ON CONFLICT DO NOTHING RETURNING *),
attempts AS (
    INSERT INTO attempt (payment_id, number, provider, reference, idempotency_key, amount_minor, currency, state,
                         next_inquiry_at)
    SELECT id, 1, $2, id || '.1', id || '.1', amount_minor, currency, 'sending',
           clock_timestamp() + make_interval(secs => $3) FROM made)
SELECT {_PAYMENT}, started_by FROM made
 UNION ALL
SELECT {_PAYMENT}, started_by FROM payment WHERE id = ANY(ARRAY(SELECT payment_id FROM wished))
"""


async def start(charges: Sequence[tuple[Charge, UUID]], provider: str, first_look_s: float) -> Started:
    """Payments and their first attempts, marked, for those that collide with nothing, in a transaction of their own.

    Answers with every payment of these ids that was made or stood there before, and with its mark.
    """
    wished = [
        {
            "payment_id": c.payment_id, "order_id": c.order_id, "customer_id": c.customer_id,
            "amount_minor": c.amount_minor, "currency": c.currency, "request_hash": c.request_hash, "mark": mark,
        }
        for c, mark in charges
    ]  # fmt: skip
    return _started(await DB.write(_START, db.rows(wished), provider, first_look_s))


async def read_started(ids: Sequence[UUID]) -> Started:
    return _started(await DB.fetch(f"SELECT {_PAYMENT}, started_by FROM payment WHERE id = ANY($1::uuid[])", ids))


def _started(rows: Sequence[asyncpg.Record]) -> Started:
    return {row[0]: (_payment(row[:8]), row[8]) for row in rows}


async def read_by_ids(conn: Conn, ids: Sequence[UUID]) -> dict[UUID, Payment]:
    query = f"SELECT {_PAYMENT} FROM payment WHERE id = ANY($1::uuid[])"
    return {row[0]: _payment(row) for row in await conn.fetch(query, ids)}


async def read_live(order_ids: Sequence[UUID]) -> dict[UUID, Payment]:
    """The live payment of each order, by order."""
    rows = await DB.fetch(
        f"SELECT {_PAYMENT} FROM payment WHERE order_id = ANY($1::uuid[])"
        " AND state IN ('processing', 'unknown', 'succeeded', 'refunding')",
        order_ids,
    )
    return {row["order_id"]: _payment(row) for row in rows}


async def lock_payments(conn: Conn, ids: Sequence[UUID]) -> dict[UUID, tuple[Payment, asyncpg.Record | None]]:
    """Lock these payments and read each with its last attempt; one that was abandoned has none."""
    rows = await conn.fetch("SELECT * FROM lock_payments($1)", ids)
    return {row[0]: (_payment(row[:8]), row[8]) for row in rows}


async def write_settled(
    conn: Conn,
    attempts: Sequence[dict[str, object]],
    payments: Sequence[dict[str, object]],
    facts: Sequence[event_log.Fact] = (),
) -> None:
    """What attempts and payments came to, and the facts; the rows are locked, so the order of the parts is free."""
    await conn.execute(
        f"WITH facts AS ({event_log.insert_facts('$3')}),"
        " attempts AS (UPDATE attempt a SET state = n.state, code = n.code,"
        " provider_id = CASE WHEN n.provider_id = '' THEN a.provider_id ELSE n.provider_id END"
        " FROM json_to_recordset($1::json) AS n(payment_id uuid, number int, state text, provider_id text, code text)"
        " WHERE a.payment_id = n.payment_id AND a.number = n.number)"
        " UPDATE payment p SET state = n.state, code = n.code, version = n.version, updated_at = clock_timestamp()"
        " FROM json_to_recordset($2::json) AS n(id uuid, state text, code text, version bigint) WHERE p.id = n.id",
        db.rows(attempts),
        db.rows(payments),
        event_log.as_parameter(facts),
    )


async def insert_abandoned(conn: Conn, charge: Charge) -> None:
    """A payment that never began, so that whoever would begin it late finds it failed."""
    await conn.execute(
        "INSERT INTO payment (id, order_id, customer_id, amount_minor, currency, request_hash, state, code)"
        " VALUES ($1, $2, $3, $4, $5, $6, 'failed', 'never_started') ON CONFLICT DO NOTHING",
        charge.payment_id, charge.order_id, charge.customer_id, charge.amount_minor, charge.currency,
        charge.request_hash,
    )  # fmt: skip


async def insert_refund(conn: Conn, refund_id: UUID, attempt: asyncpg.Record, provider_id: str, reason: str) -> None:
    await conn.execute(
        "INSERT INTO refund (id, payment_id, provider, provider_id, amount_minor, currency, reason, state)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, 'sending') ON CONFLICT DO NOTHING",
        refund_id, attempt["payment_id"], attempt["provider"], provider_id, attempt["amount_minor"],
        attempt["currency"], reason,
    )  # fmt: skip


async def take_attempts_to_resolve(limit: int) -> list[asyncpg.Record]:
    """Open attempts whose inquiry is due, each pushed on so that one process at a time asks."""
    return await DB.fetch(
        f"UPDATE attempt SET inquiries = inquiries + 1, next_inquiry_at = clock_timestamp()"
        " + make_interval(secs => least(60, 2 ^ least(inquiries, 10)))"
        " WHERE reference = ANY(ARRAY(SELECT reference FROM attempt"
        "   WHERE state IN ('sending', 'unknown', 'pending') AND next_inquiry_at <= now()"
        "   ORDER BY next_inquiry_at LIMIT $1 FOR UPDATE SKIP LOCKED))"
        f" RETURNING {_ATTEMPT}, extract(epoch FROM clock_timestamp() - created_at)::float8 AS age_s",
        limit,
    )


async def take_refunds_to_send(limit: int, payment_id: UUID | None = None) -> list[asyncpg.Record]:
    """Refunds whose try is due (or those of one payment, now), each pushed on so that one process at a time sends."""
    return await DB.fetch(
        "UPDATE refund SET tries = tries + 1, next_try_at = clock_timestamp()"
        " + make_interval(secs => 15 + least(60, 2 ^ least(tries, 10)))"
        " WHERE id = ANY(ARRAY(SELECT id FROM refund WHERE state = 'sending' AND next_try_at <= now()"
        "   AND ($2::uuid IS NULL OR payment_id = $2) ORDER BY next_try_at LIMIT $1 FOR UPDATE SKIP LOCKED))"
        " RETURNING id, payment_id, provider, provider_id, amount_minor, currency, refusals",
        limit,
        payment_id,
    )


async def settle_refund(conn: Conn, refund_id: UUID) -> None:
    await conn.execute("UPDATE refund SET state = 'succeeded', code = '' WHERE id = $1", refund_id)


async def refuse_refund(refund_id: UUID, refusals: int, code: str, pause_s: float) -> None:
    """The provider refused the try that followed `refusals` refusals; the next one is made under another key."""
    await DB.fetch(
        "UPDATE refund SET refusals = $2 + 1, code = $3,"
        " next_try_at = clock_timestamp() + make_interval(secs => $4)"
        " WHERE id = $1 AND state = 'sending' AND refusals = $2 RETURNING id",
        refund_id,
        refusals,
        code,
        pause_s,
    )


async def retry_refund_at_once(refund_id: UUID, pause_s: float) -> None:
    """The last try's outcome is unclear: bring the next one forward from the lease's end."""
    await DB.fetch(
        "UPDATE refund SET next_try_at = clock_timestamp() + make_interval(secs => $2)"
        " WHERE id = $1 AND state = 'sending' RETURNING id",
        refund_id,
        pause_s,
    )
