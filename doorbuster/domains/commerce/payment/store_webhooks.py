"""The SQL of webhooks: an event is written once, and with it the wish to look at its attempt again."""

from __future__ import annotations

from uuid import UUID

import asyncpg

from doorbuster.domains.commerce.payment.store import ATTEMPT, DB


async def hear(account: str, event_id: str, kind: str, payment_id: UUID, number: int, pause_s: float) -> bool:
    """Note an event and look at its attempt now, or `pause_s` seconds after the last look.

    False: this event was heard before, or there is no such attempt at this account."""
    rows = await DB.write(
        "WITH heard AS (INSERT INTO webhook_event (account, event_id, kind, payment_id, number)"
        " SELECT $1, $2, $3, $4, $5 WHERE EXISTS"
        "  (SELECT FROM attempt WHERE payment_id = $4 AND number = $5 AND provider = $1)"
        " ON CONFLICT DO NOTHING RETURNING payment_id, number)"
        " UPDATE attempt a SET look_at = greatest(clock_timestamp(), coalesce(a.looked_at, '-infinity')"
        "  + make_interval(secs => $6)) FROM heard WHERE a.payment_id = heard.payment_id AND a.number = heard.number"
        " RETURNING a.number",
        account, event_id, kind, payment_id, number, pause_s,
    )  # fmt: skip
    return bool(rows)


async def take_attempts_to_look_at(limit: int) -> list[asyncpg.Record]:
    """Attempts that a provider has told something of, each taken by one process at a time; should it die, they come
    again a minute later."""
    return await DB.fetch(
        "UPDATE attempt a SET look_at = clock_timestamp() + interval '60 seconds', looked_at = clock_timestamp()"
        " FROM (SELECT payment_id AS id, number AS no FROM attempt WHERE look_at <= now()"
        "   ORDER BY look_at LIMIT $1 FOR UPDATE SKIP LOCKED) due"
        " WHERE a.payment_id = due.id AND a.number = due.no"
        f" RETURNING {ATTEMPT}, created_at, look_at,"
        " extract(epoch FROM clock_timestamp() - created_at)::float8 AS age_s",
        limit,
    )


async def looked(row: asyncpg.Record) -> None:
    """This look is over, unless something was told meanwhile."""
    await DB.write(
        "UPDATE attempt SET look_at = NULL WHERE payment_id = $1 AND number = $2 AND look_at = $3 RETURNING number",
        row["payment_id"], row["number"], row["look_at"],
    )  # fmt: skip


async def forget_events(older_than_days: int) -> int:
    """Events that nobody sends again any more."""
    rows = await DB.write(
        "DELETE FROM webhook_event WHERE (account, event_id) IN (SELECT account, event_id FROM webhook_event"
        " WHERE received_at < clock_timestamp() - make_interval(days => $1) LIMIT 5000) RETURNING 1",
        older_than_days,
    )
    return len(rows)
