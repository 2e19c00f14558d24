"""The SQL of refunds and of matters for a person. A refund is written and settled under the lock of its payment."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from doorbuster.domains.commerce.payment.models import Matter, Refund
from doorbuster.domains.commerce.payment.store import DB
from doorbuster.engines import event_log
from doorbuster.platform.db import Conn

_REFUND = "id, payment_id, amount_minor, currency, state, reason, code, created_at, settled_at"
_HEAD_START_S = 2.0
_DUE = "next_try_at <= now() AND $2::uuid IS NULL"
_DUE_OF_PAYMENT = "payment_id = $2 AND (next_try_at <= now() OR tries = 0)"
_MATTER = "id, kind, payment_id, number, refund_id, provider, code, opened_at, closed_at, closed_by, note"


async def insert_refund(
    conn: Conn,
    refund_id: UUID,
    attempt: asyncpg.Record,
    provider_id: str,
    amount_minor: int,
    reason: str,
    is_late: bool,
) -> None:
    """Money of an attempt that is owed back; the payment is locked. What is the payment's own counts against its limit,
    which the table holds, and whoever asked for it has a head start on the sweeper: it sends at once and can answer."""
    await conn.execute(
        "WITH owed AS (INSERT INTO refund (id, payment_id, provider, provider_id, amount_minor, currency, reason,"
        " state, is_late, charge_reference, charged_minor, next_try_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, 'sending', $8, $9, $10, clock_timestamp()"
        "  + CASE WHEN $8 THEN interval '0' ELSE make_interval(secs => $11) END)"
        " ON CONFLICT DO NOTHING RETURNING payment_id)"
        " UPDATE payment SET returning_minor = returning_minor + $5"
        " WHERE NOT $8 AND id = (SELECT payment_id FROM owed)",
        refund_id, attempt["payment_id"], attempt["provider"], provider_id, amount_minor, attempt["currency"], reason,
        is_late, attempt["reference"], attempt["amount_minor"], _HEAD_START_S,
    )  # fmt: skip


async def read_refunds(payment_id: UUID) -> list[Refund]:
    """All refunds of a payment, oldest first; money that came late is left out, for it was never the payment's."""
    rows = await DB.fetch(
        f"SELECT {_REFUND} FROM refund WHERE payment_id = $1 AND NOT is_late ORDER BY created_at, id", payment_id
    )
    return [Refund(*row) for row in rows]


async def read_refund(conn: Conn, refund_id: UUID) -> Refund | None:
    row = await conn.fetchrow(f"SELECT {_REFUND} FROM refund WHERE id = $1", refund_id)
    return None if row is None else Refund(*row)


async def read_refund_to_settle(refund_id: UUID) -> asyncpg.Record:
    """What of a refund its settlement needs."""
    row = await DB.fetchrow(
        "SELECT id, payment_id, provider, provider_id, amount_minor, currency, reason, is_late FROM refund"
        " WHERE id = $1",
        refund_id,
    )
    assert row is not None, "a refund that a case names is there"
    return row


async def take_refunds_to_send(limit: int, payment_id: UUID | None = None) -> list[asyncpg.Record]:
    """Refunds whose try is due (of one payment: also what nobody has tried yet), each pushed on so that one process at
    a time sends. Of each payment the oldest goes first: what has gone back before must be known.

    One that is not open will be sent, so it is open from now on; `is_open` says whether it was before."""
    return await DB.fetch(
        "UPDATE refund SET tries = tries + 1, next_try_at = clock_timestamp()"
        " + make_interval(secs => 15 + least(60, 2 ^ least(tries, 10))),"
        " is_open = true, sent_at = CASE WHEN due.was_open THEN sent_at ELSE clock_timestamp() END"
        " FROM (SELECT id AS due_id, is_open AS was_open FROM refund r WHERE state = 'sending'"
        f"   AND {_DUE if payment_id is None else _DUE_OF_PAYMENT}"
        "   AND NOT EXISTS (SELECT FROM refund o WHERE o.payment_id = r.payment_id AND o.provider_id = r.provider_id"
        "     AND o.state = 'sending' AND (o.created_at, o.id) < (r.created_at, r.id))"
        "   ORDER BY next_try_at LIMIT $1 FOR UPDATE SKIP LOCKED) due WHERE id = due.due_id"
        " RETURNING id, payment_id, provider, provider_id, amount_minor, currency, reason, refusals, is_late,"
        " due.was_open AS is_open, charge_reference, charged_minor,"
        " extract(epoch FROM clock_timestamp() - created_at)::float8 AS age_s,"
        " extract(epoch FROM clock_timestamp() - coalesce(sent_at, created_at))::float8 AS sent_s,"
        " (SELECT coalesce(sum(amount_minor), 0)::bigint FROM refund o WHERE o.payment_id = refund.payment_id"
        "  AND o.provider_id = refund.provider_id AND o.state = 'succeeded') AS returned_minor,"
        " (SELECT a.method = 'virtual_account' FROM attempt a WHERE a.payment_id = refund.payment_id"
        "  AND a.reference = refund.charge_reference) AS needs_account,"
        " (SELECT refund_to::text FROM session s WHERE s.payment_id = refund.payment_id) AS refund_to",
        limit,
        payment_id,
    )


async def settle_refund(
    conn: Conn, refund_id: UUID, transaction_id: str, facts: Sequence[event_log.Fact], completes: bool
) -> None:
    """The provider has given it back; the payment is locked. `completes`: all of the payment's money has gone back."""
    await conn.execute(
        f"WITH facts AS ({event_log.insert_facts('$3')}),"
        " given AS (UPDATE refund SET state = 'succeeded', code = '', is_open = false, transaction_id = $2,"
        " settled_at = clock_timestamp() WHERE id = $1 RETURNING payment_id, amount_minor, is_late)"
        " UPDATE payment p SET returned_minor = returned_minor + given.amount_minor, version = version + 1,"
        " state = CASE WHEN $4 THEN 'refunded' ELSE state END, code = CASE WHEN $4 THEN '' ELSE code END,"
        " updated_at = clock_timestamp() FROM given WHERE p.id = given.payment_id AND NOT given.is_late",
        refund_id,
        transaction_id,
        event_log.as_parameter(facts),
        completes,
    )


async def mark_refunding(conn: Conn, payment_id: UUID) -> None:
    """All of the payment's money is on its way back; the payment is locked."""
    await conn.execute(
        "UPDATE payment SET state = 'refunding', code = '', version = version + 1, updated_at = clock_timestamp()"
        " WHERE id = $1",
        payment_id,
    )


async def refuse_refund(refund_id: UUID, refusals: int, code: str, pause_s: float) -> None:
    """The provider refused the try that followed `refusals` refusals; the next one is made under another key."""
    await DB.fetch(
        "UPDATE refund SET refusals = $2 + 1, code = $3, is_open = false,"
        " next_try_at = clock_timestamp() + make_interval(secs => $4)"
        " WHERE id = $1 AND state = 'sending' AND refusals = $2 RETURNING id",
        refund_id,
        refusals,
        code,
        pause_s,
    )


async def send_again(refund_id: UUID) -> None:
    """An open refund is about to be sent once more, under the same key."""
    await DB.fetch("UPDATE refund SET sent_at = clock_timestamp() WHERE id = $1 RETURNING id", refund_id)


async def retry_refund(refund_id: UUID, pause_s: float, *, is_open: bool) -> None:
    """Bring the next try forward from the lease's end. `is_open`: some try so far may have reached the provider."""
    await DB.fetch(
        "UPDATE refund SET is_open = $3, next_try_at = clock_timestamp() + make_interval(secs => $2)"
        " WHERE id = $1 AND state = 'sending' RETURNING id",
        refund_id,
        pause_s,
        is_open,
    )


async def standing_of(payment_id: UUID, number: int) -> tuple[str, int]:
    """The state of an attempt, and how much of its payment is on its way back or has gone; minor units."""
    row = await DB.fetchrow(
        "SELECT a.state, p.returning_minor FROM attempt a JOIN payment p ON p.id = a.payment_id"
        " WHERE a.payment_id = $1 AND a.number = $2", payment_id, number,
    )  # fmt: skip
    assert row is not None, "an attempt that was sent is there"
    return str(row[0]), int(row[1])


async def open_matter(
    matter_id: UUID, kind: str, payment_id: UUID, provider: str, code: str, number: int | None, refund_id: UUID | None
) -> bool:
    """False: it is open already."""
    rows = await DB.write(
        "INSERT INTO matter (id, kind, payment_id, provider, code, number, refund_id)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7)"
        " ON CONFLICT DO NOTHING RETURNING id",
        matter_id, kind, payment_id, provider, code, number, refund_id,
    )  # fmt: skip
    return bool(rows)


async def close_settled_matters() -> int:
    """Close what has settled itself since it was opened."""
    rows = await DB.write(
        "UPDATE matter m SET closed_at = clock_timestamp(), closed_by = 'the provider''s answer'"
        " WHERE closed_at IS NULL"
        " AND CASE kind"
        " WHEN 'unknown_outcome' THEN NOT EXISTS (SELECT FROM attempt a WHERE a.payment_id = m.payment_id"
        "  AND a.number = m.number AND a.state IN ('sending', 'unknown', 'pending'))"
        " WHEN 'provider_differs' THEN false ELSE NOT EXISTS"
        "  (SELECT FROM refund r WHERE r.id = m.refund_id AND r.state = 'sending') END RETURNING id"
    )
    return len(rows)


async def read_matters(is_open: bool, before: tuple[datetime, UUID] | None, limit: int) -> list[Matter]:
    """Matters, the newest first, after a position."""
    at, matter_id = before or (None, None)
    rows = await DB.fetch(
        f"SELECT {_MATTER} FROM matter WHERE (closed_at IS NULL) = $1"
        " AND ($2::timestamptz IS NULL OR (opened_at, id) < ($2, $3)) ORDER BY opened_at DESC, id DESC LIMIT $4",
        is_open, at, matter_id, limit,
    )  # fmt: skip
    return [Matter(*row) for row in rows]


async def lock_matter(conn: Conn, matter_id: UUID) -> Matter | None:
    row = await conn.fetchrow(f"SELECT {_MATTER} FROM matter WHERE id = $1 FOR UPDATE", matter_id)
    return None if row is None else Matter(*row)


async def close_matter(conn: Conn, matter_id: UUID, closed_by: str, note: str) -> None:
    await conn.execute(
        "UPDATE matter SET closed_at = clock_timestamp(), closed_by = $2, note = $3 WHERE id = $1",
        matter_id, closed_by, note,
    )  # fmt: skip
