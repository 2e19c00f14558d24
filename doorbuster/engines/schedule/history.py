"""What somebody at a terminal sees of a domain's jobs, and may do: run a tick now, or a failed one again.

The connections here are the operator's own, with the domain's schema as their search_path.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import asyncpg
import msgspec

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:
    # The class is generic for type checkers only.
    Connection = asyncpg.Connection
_WITHIN_S = 10.0

LIST_JOBS = """
SELECT j.job, j.kind, extract(epoch FROM j.every)::float8 AS every_s, to_char(j.at, 'HH24:MI') AS daily_at, j.zone,
    CASE j.kind WHEN 'sweep' THEN j.seen_until ELSE last.scheduled_for END AS last_run,
    extract(epoch FROM last.ended_at - last.started_at)::float8 AS took_s,
    CASE WHEN due.due_at < j.next_due THEN due.due_at ELSE j.next_due END AS next_due,
    CASE WHEN running.job IS NOT NULL THEN CASE WHEN running.lease_until > now.at THEN 'running' ELSE 'abandoned' END
        WHEN j.next_due + interval '10 seconds' < now.at AND j.lease_until < now.at THEN 'nobody runs it'
        WHEN j.kind = 'sweep' AND last.state = 'failed' AND last.ended_at > coalesce(j.succeeded_at, '-infinity')
            THEN 'failing'
        WHEN j.kind = 'sweep' THEN 'sweeping'
        WHEN due.due_at IS NOT NULL THEN CASE WHEN due.attempts > 0 THEN 'retrying' ELSE 'due' END
        ELSE coalesce(last.state, 'new') END AS state,
    CASE WHEN j.kind = 'batch' OR last.ended_at > coalesce(j.succeeded_at, '-infinity')
        THEN coalesce(due.error, running.error, last.error) END AS error,
    (SELECT count(*) FROM batch_run f WHERE f.job = j.job AND f.state = 'failed' AND j.kind = 'batch') AS failed
FROM batch_job j CROSS JOIN (SELECT clock_timestamp() AS at) AS now
LEFT JOIN LATERAL (SELECT * FROM batch_run r WHERE r.job = j.job AND r.state IN ('done', 'failed', 'skipped')
    ORDER BY r.scheduled_for DESC LIMIT 1) AS last ON true
LEFT JOIN LATERAL (SELECT * FROM batch_run r WHERE r.job = j.job AND r.state = 'due'
    ORDER BY r.due_at LIMIT 1) AS due ON true
LEFT JOIN batch_run running ON running.job = j.job AND running.state = 'running'
ORDER BY j.job
"""

LIST_RUNS = """
SELECT r.scheduled_for, r.state, r.by_hand, r.attempts, r.started_at, r.ended_at,
    extract(epoch FROM r.ended_at - r.started_at)::float8 AS took_s, r.error, r.result::text AS result,
    (SELECT count(*) FROM batch_chunk c WHERE c.job = r.job AND c.scheduled_for = r.scheduled_for) AS chunks
FROM batch_run r WHERE r.job = $1 ORDER BY r.scheduled_for DESC LIMIT $2
"""

RUN_NOW = """
INSERT INTO batch_run (job, scheduled_for, state, by_hand, due_at)
SELECT $1, coalesce($2, date_trunc('milliseconds', now.at)), 'due', true, now.at
FROM (SELECT clock_timestamp() AS at) AS now
WHERE coalesce($2, now.at) <= now.at ON CONFLICT DO NOTHING RETURNING scheduled_for
"""

RETRY = """
UPDATE batch_run SET state = 'due', by_hand = true, due_at = clock_timestamp(), attempts = 0, ended_at = NULL
WHERE job = $1 AND scheduled_for = $2 AND state = 'failed' RETURNING 1
"""


class NotPossible(Exception):
    """What was asked for cannot be done; the message says why and what can."""


class JobLine(msgspec.Struct, frozen=True):
    """A job or sweep as a list shows it. `took_s` and `error` are of its last ended run."""

    job: str
    kind: str
    every_s: float | None
    daily_at: str | None
    zone: str
    last_run: datetime | None
    took_s: float | None
    next_due: datetime
    state: str
    error: str | None
    failed: int
    """Ticks that failed for good and wait for `doorbuster jobs retry`."""


class RunLine(msgspec.Struct, frozen=True):
    """One tick of the history."""

    scheduled_for: datetime
    state: str
    by_hand: bool
    attempts: int
    started_at: datetime | None
    ended_at: datetime | None
    took_s: float | None
    error: str | None
    result: msgspec.Raw
    chunks: int


async def list_jobs(conn: Connection) -> list[JobLine]:
    """All jobs and sweeps of the domain."""
    return [msgspec.convert(dict(row), JobLine) for row in await conn.fetch(LIST_JOBS, timeout=_WITHIN_S)]


async def list_runs(conn: Connection, job: str, limit: int) -> list[RunLine]:
    """The newest ticks of a job, newest first; of a sweep, the rounds that found work or failed."""
    rows: list[dict[str, Any]] = [dict(row) for row in await conn.fetch(LIST_RUNS, job, limit, timeout=_WITHIN_S)]
    return [RunLine(**row | {"result": msgspec.Raw(row["result"].encode())}) for row in rows]


async def run_now(conn: Connection, job: str, scheduled_for: datetime | None = None) -> datetime:
    """Ask for a tick to be run now, by whichever scheduler looks next (within 3 s); returns the tick.

    Without a moment it is an extra one. Raises NotPossible for a tick that is known already, lies ahead, or is of a
    sweep.
    """
    kind = await conn.fetchval("SELECT kind FROM batch_job WHERE job = $1", job, timeout=_WITHIN_S)
    if kind is None:
        raise NotPossible(f"There is no job {job!r} here.")
    if kind == "sweep":
        raise NotPossible(f"{job} is a sweep: it runs all the time by itself.")
    tick: datetime | None = await conn.fetchval(RUN_NOW, job, scheduled_for, timeout=_WITHIN_S)
    if tick is not None:
        return tick
    state = await conn.fetchval(
        "SELECT state FROM batch_run WHERE job = $1 AND scheduled_for = $2", job, scheduled_for, timeout=_WITHIN_S
    )
    if state is None:
        raise NotPossible("That tick lies ahead; it will run by itself.")
    raise NotPossible(f"That tick is {state} already: each runs once. A failed one can be retried.")


async def retry_run(conn: Connection, job: str, scheduled_for: datetime) -> None:
    """Let a failed tick be tried again, from its first chunk that is not finished. Raises NotPossible otherwise."""
    if await conn.fetchval(RETRY, job, scheduled_for, timeout=_WITHIN_S):
        return
    state = await conn.fetchval(
        "SELECT state FROM batch_run WHERE job = $1 AND scheduled_for = $2", job, scheduled_for, timeout=_WITHIN_S
    )
    if state is None:
        raise NotPossible(f"{job} has no tick {scheduled_for.isoformat()}.")
    raise NotPossible(f"That tick is {state}; only a failed one is tried again.")
