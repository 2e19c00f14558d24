"""All SQL of payment. Locks: payments by id, then their attempts follow the payment's lock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import asyncpg

from doorbuster.domains.commerce.payment.models import Charge, Payment
from doorbuster.engines import event_log
from doorbuster.engines.payment_router.routing import Decision
from doorbuster.platform import db
from doorbuster.platform.db import Conn

DB = db.of("commerce.payment")

PAYMENT = "id, order_id, amount_minor, currency, state, code, request_hash, version, returning_minor, returned_minor"
ATTEMPT = "payment_id, number, provider, reference, idempotency_key, amount_minor, currency, state, provider_id, method"


Started = dict[UUID, tuple[Payment, UUID | None]]
"""Payments with the mark of the request that began them."""


def as_payment(row: Sequence[Any] | asyncpg.Record) -> Payment:
    return Payment(*row)


_START = f"""
WITH wished AS (
    SELECT * FROM json_to_recordset($1::json) AS n(payment_id uuid, order_id uuid, customer_id uuid,
           amount_minor bigint, currency text, request_hash text, mark uuid, provider text, code text, decision json)),
made AS (
    INSERT INTO payment (id, order_id, customer_id, amount_minor, currency, request_hash, state, code, started_by)
    SELECT payment_id, order_id, customer_id, amount_minor, currency, request_hash,
           CASE provider WHEN '' THEN 'failed' ELSE 'processing' END,
           code, mark FROM wished
     ORDER BY order_id, payment_id ON CONFLICT DO NOTHING RETURNING *),
attempts AS (
    INSERT INTO attempt (payment_id, number, provider, reference, idempotency_key, amount_minor, currency, state,
                         next_inquiry_at)
    SELECT m.id, 1, w.provider, m.id || '.1', m.id || '.1', m.amount_minor, m.currency, 'sending',
           clock_timestamp() + make_interval(secs => $2)
      FROM made m JOIN wished w ON w.payment_id = m.id WHERE w.provider <> ''),
decisions AS (
    INSERT INTO decision (payment_id, number, document)
    SELECT m.id, 1, w.decision FROM made m JOIN wished w ON w.payment_id = m.id)
SELECT {PAYMENT}, started_by FROM made
 UNION ALL
SELECT {PAYMENT}, started_by FROM payment WHERE id = ANY(ARRAY(SELECT payment_id FROM wished))
"""


async def start(charges: Sequence[tuple[Charge, UUID, Decision, bool]], first_look_s: float) -> Started:
    """Payments and their first attempts, marked, for those that collide with nothing, in a transaction of their own.

    Answers with every payment of these ids that was made or stood there before, and with its mark. One that no provider
    can take has failed at once.
    """
    wished = [
        {
            "payment_id": c.payment_id, "order_id": c.order_id, "customer_id": c.customer_id,
            "amount_minor": c.amount_minor, "currency": c.currency, "request_hash": c.request_hash, "mark": mark,
            "provider": decision.chosen, "decision": decision,
            "code": "" if decision.chosen else "no_provider" if is_known else "unknown_instrument",
        }
        for c, mark, decision, is_known in charges
    ]  # fmt: skip
    return _started(await DB.write(_START, db.rows(wished), first_look_s))


async def read_started(ids: Sequence[UUID]) -> Started:
    return _started(await DB.fetch(f"SELECT {PAYMENT}, started_by FROM payment WHERE id = ANY($1::uuid[])", ids))


def _started(rows: Sequence[asyncpg.Record]) -> Started:
    return {row[0]: (as_payment(row[:10]), row[10]) for row in rows}


async def read_by_ids(conn: Conn, ids: Sequence[UUID]) -> dict[UUID, Payment]:
    query = f"SELECT {PAYMENT} FROM payment WHERE id = ANY($1::uuid[])"
    return {row[0]: as_payment(row) for row in await conn.fetch(query, ids)}


async def read_live(order_ids: Sequence[UUID]) -> dict[UUID, Payment]:
    """The live payment of each order, by order."""
    rows = await DB.fetch(
        f"SELECT {PAYMENT} FROM payment WHERE order_id = ANY($1::uuid[])"
        " AND state IN ('processing', 'waiting', 'unknown', 'succeeded', 'refunding')",
        order_ids,
    )
    return {row["order_id"]: as_payment(row) for row in rows}


async def lock_payments(conn: Conn, ids: Sequence[UUID]) -> dict[UUID, tuple[Payment, asyncpg.Record | None]]:
    """Lock these payments and read each with its last attempt; one that was abandoned has none."""
    rows = await conn.fetch("SELECT * FROM lock_payments($1)", ids)
    return {row[0]: (as_payment(row[:10]), row[10]) for row in rows}


async def read_attempt(conn: Conn, payment_id: UUID, number: int) -> asyncpg.Record:
    """One attempt of a payment that is locked."""
    row = await conn.fetchrow(
        f"SELECT {ATTEMPT} FROM attempt WHERE payment_id = $1 AND number = $2", payment_id, number
    )
    assert row is not None, "an attempt that was sent is there"
    return row


async def write_settled(
    conn: Conn,
    attempts: Sequence[dict[str, object]],
    payments: Sequence[dict[str, object]],
    facts: Sequence[event_log.Fact] = (),
) -> None:
    """What attempts and payments came to, and the facts; the rows are locked, so the order of the parts is free."""
    await conn.execute(
        f"WITH facts AS ({event_log.insert_facts('$3')}),"
        " attempts AS (UPDATE attempt a SET state = n.state, code = n.code, repeat_with = n.repeat_with,"
        " provider_id = CASE WHEN n.provider_id = '' THEN a.provider_id ELSE n.provider_id END"
        " FROM json_to_recordset($1::json) AS n(payment_id uuid, number int, state text, provider_id text, code text,"
        "  repeat_with json)"
        " WHERE a.payment_id = n.payment_id AND a.number = n.number)"
        " UPDATE payment p SET state = n.state, code = n.code, version = n.version, updated_at = clock_timestamp()"
        " FROM json_to_recordset($2::json) AS n(id uuid, state text, code text, version bigint) WHERE p.id = n.id",
        db.rows(attempts),
        db.rows(payments),
        event_log.as_parameter(facts),
    )


async def stop_repeating(conn: Conn, payment_id: UUID) -> None:
    """From now on an attempt of this payment, that is locked, is only asked about."""
    await conn.execute(
        "UPDATE attempt SET repeat_with = NULL WHERE payment_id = $1 AND repeat_with IS NOT NULL", payment_id
    )


async def insert_attempts(conn: Conn, attempts: Sequence[dict[str, object]], first_look_s: float) -> None:
    """Next attempts of payments whose last one surely took nothing; the payments are locked."""
    await conn.execute(
        "WITH next AS (SELECT * FROM json_to_recordset($1::json) AS n(payment_id uuid, number int, provider text,"
        " amount_minor bigint, currency text, method text, decision json)),"
        " decisions AS (INSERT INTO decision (payment_id, number, document)"
        " SELECT payment_id, number, decision FROM next)"
        " INSERT INTO attempt (payment_id, number, provider, reference, idempotency_key, amount_minor, currency, state,"
        " method, next_inquiry_at) SELECT payment_id, number, provider, payment_id || '.' || number,"
        " payment_id || '.' || number, amount_minor, currency,"
        " CASE method WHEN 'card' THEN 'sending' ELSE 'opening' END, method,"
        " clock_timestamp() + make_interval(secs => $2) FROM next",
        db.rows(attempts),
        first_look_s,
    )


async def insert_abandoned(conn: Conn, charge: Charge) -> None:
    """A payment that never began, so that whoever would begin it late finds it failed."""
    await conn.execute(
        "INSERT INTO payment (id, order_id, customer_id, amount_minor, currency, request_hash, state, code)"
        " VALUES ($1, $2, $3, $4, $5, $6, 'failed', 'never_started') ON CONFLICT DO NOTHING",
        charge.payment_id, charge.order_id, charge.customer_id, charge.amount_minor, charge.currency,
        charge.request_hash,
    )  # fmt: skip


async def take_attempts_to_resolve(limit: int) -> list[asyncpg.Record]:
    """Open attempts whose inquiry is due, each pushed on so that one process at a time asks."""
    return await DB.fetch(
        # A transfer may take days, and its provider tells when it comes: asking is only for a message that was lost.
        "UPDATE attempt a SET inquiries = inquiries + 1, next_inquiry_at = clock_timestamp()"
        " + make_interval(secs => least(CASE code WHEN 'waiting_for_deposit' THEN 900 ELSE 60 END,"
        " 2 ^ least(inquiries, 10)))"
        " FROM (SELECT payment_id AS id, number AS no FROM attempt WHERE next_inquiry_at <= now()"
        "   AND state IN ('opening', 'window', 'closing', 'sending', 'unknown', 'pending')"
        "   ORDER BY next_inquiry_at LIMIT $1 FOR UPDATE SKIP LOCKED) due"
        " WHERE a.payment_id = due.id AND a.number = due.no"
        f" RETURNING {ATTEMPT}, inquiries, created_at, repeat_with::text,"
        " extract(epoch FROM clock_timestamp() - created_at)::float8 AS age_s",
        limit,
    )
