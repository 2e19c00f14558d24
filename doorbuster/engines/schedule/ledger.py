"""The ledger of ticks: what is due, who runs it, how it ended. The database decides, by its own clock.

Each statement that belongs to a run compares owner, epoch and state, so that whoever lost its lease changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import msgspec

from doorbuster.platform.db import Conn, Database
from doorbuster.platform.errors import Unavailable

_LONGEST_ERROR = 2_000

LOOK = """
SELECT j.job, extract(epoch FROM clock_timestamp() - coalesce(j.succeeded_at, j.made_at))::float8 AS since_s,
    extract(epoch FROM j.next_due - clock_timestamp())::float8 AS tick_s,
    extract(epoch FROM least(
        (SELECT min(r.lease_until) FROM batch_run r WHERE r.job = j.job AND r.state = 'running'),
        (SELECT min(r.due_at) FROM batch_run r WHERE r.job = j.job AND r.state = 'due' AND NOT EXISTS (
            SELECT FROM batch_run x WHERE x.job = j.job AND x.state = 'running'))
    ) - clock_timestamp())::float8 AS start_s
FROM batch_job j WHERE j.job = ANY($1)
"""

LOCK_JOBS = (
    "SELECT job FROM batch_job WHERE job = ANY($1) AND kind = 'batch' ORDER BY job FOR NO KEY UPDATE SKIP LOCKED"
)

# A tick more than the limit is asked for, to be able to say that some were left out.
DECIDE = """
WITH now AS MATERIALIZED (SELECT clock_timestamp() AS at),
late AS (SELECT j.*, now.at AS decided_at FROM batch_job j, now WHERE j.job = ANY($1) AND j.next_due <= now.at),
ticks AS (
    SELECT late.job, late.overlap, late.decided_at, tick.at, row_number() OVER (
        PARTITION BY late.job ORDER BY tick.at DESC) <= late.catch_up_limit AS wanted
    FROM late, batch_ticks(late.every, late.at, late.zone, late.seen_until, late.decided_at,
        CASE late.catch_up WHEN 'latest' THEN 1 ELSE late.catch_up_limit + 1 END) AS tick(at)
),
made AS (
    INSERT INTO batch_run (job, scheduled_for, due_at, state, ended_at, error)
    SELECT job, at, at, CASE WHEN busy THEN 'skipped' ELSE 'due' END, CASE WHEN busy THEN decided_at END,
        CASE WHEN busy THEN 'an earlier tick was still running' END
    FROM (SELECT ticks.*, overlap = 'skip' AND EXISTS (
            SELECT FROM batch_run r WHERE r.job = ticks.job AND r.state = 'running') AS busy
        FROM ticks WHERE wanted) AS kept
    ON CONFLICT DO NOTHING
),
superseded AS (
    UPDATE batch_run r SET state = 'skipped', ended_at = late.decided_at, error = 'a newer tick took its place'
    FROM late WHERE r.job = late.job AND late.catch_up = 'latest' AND late.overlap = 'wait' AND r.state = 'due'
        AND r.attempts = 0 AND NOT r.by_hand
)
UPDATE batch_job j SET seen_until = late.decided_at,
    next_due = batch_next(late.every, late.at, late.zone, late.decided_at)
FROM late WHERE j.job = late.job
RETURNING j.job, EXISTS (SELECT FROM ticks WHERE ticks.job = j.job AND NOT wanted) AS dropped
"""

GIVE_UP = """
UPDATE batch_run r SET state = 'failed', ended_at = clock_timestamp(), lease_until = NULL, epoch = r.epoch + 1,
    error = format('its scheduler died or froze; that was attempt %s', r.attempts)
FROM (SELECT r.job, r.scheduled_for FROM batch_run r JOIN batch_job j USING (job)
    WHERE r.job = ANY($1) AND r.state = 'running' AND r.lease_until <= clock_timestamp()
        AND r.attempts >= j.max_attempts FOR UPDATE OF r SKIP LOCKED) AS dead
WHERE r.job = dead.job AND r.scheduled_for = dead.scheduled_for RETURNING r.job, r.scheduled_for, r.error
"""

TAKE = """
UPDATE batch_run r SET state = 'running', owner = $2, epoch = r.epoch + 1, attempts = r.attempts + 1,
    lease_until = clock_timestamp() + make_interval(secs => free.lease_s), started_at = clock_timestamp()
FROM (
    SELECT one.job, one.scheduled_for, wish.lease_s
    FROM unnest($1::text[], $3::float8[]) AS wish(job, lease_s), LATERAL (
        SELECT r.job, r.scheduled_for FROM batch_run r
        WHERE r.job = wish.job AND CASE r.state
            WHEN 'running' THEN r.lease_until <= clock_timestamp()
            WHEN 'due' THEN r.due_at <= clock_timestamp() AND NOT EXISTS (
                SELECT FROM batch_run x WHERE x.job = wish.job AND x.state = 'running')
            ELSE false END AND r.state IN ('due', 'running')
        ORDER BY r.scheduled_for LIMIT 1 FOR UPDATE SKIP LOCKED) AS one
) AS free
WHERE r.job = free.job AND r.scheduled_for = free.scheduled_for
RETURNING r.job, r.scheduled_for, r.epoch, r.attempts, r.result::text AS result
"""

LOCK_CHUNK = """
UPDATE batch_run SET lease_until = clock_timestamp() + make_interval(secs => $5)
WHERE job = $1 AND scheduled_for = $2 AND owner = $3 AND epoch = $4 AND state = 'running'
RETURNING set_config('idle_in_transaction_session_timeout', $6, true)
"""

NOTE_CHUNK = """
INSERT INTO batch_chunk (job, scheduled_for, chunk, epoch) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING RETURNING 1
"""

RENEW = """
UPDATE batch_run SET lease_until = clock_timestamp() + make_interval(secs => $5)
WHERE job = $1 AND scheduled_for = $2 AND owner = $3 AND epoch = $4 AND state = 'running' RETURNING 1
"""

KEEP_NOTES = """
UPDATE batch_run SET lease_until = clock_timestamp() + make_interval(secs => $5), result = $6::jsonb
WHERE job = $1 AND scheduled_for = $2 AND owner = $3 AND epoch = $4 AND state = 'running'
"""

FINISH = """
WITH ended AS (
    UPDATE batch_run SET state = 'done', ended_at = clock_timestamp(), lease_until = NULL, error = NULL,
        result = $5::jsonb
    WHERE job = $1 AND scheduled_for = $2 AND owner = $3 AND epoch = $4 AND state = 'running'
    RETURNING job, ended_at
)
UPDATE batch_job j SET succeeded_at = ended.ended_at FROM ended WHERE j.job = ended.job RETURNING 1
"""

FAIL = """
UPDATE batch_run r SET lease_until = NULL, error = $6, result = $5::jsonb,
    state = CASE WHEN r.attempts >= j.max_attempts THEN 'failed' ELSE 'due' END,
    ended_at = CASE WHEN r.attempts >= j.max_attempts THEN clock_timestamp() END,
    due_at = clock_timestamp() + make_interval(secs => $7)
FROM batch_job j
WHERE r.job = $1 AND r.scheduled_for = $2 AND r.owner = $3 AND r.epoch = $4 AND r.state = 'running' AND j.job = r.job
RETURNING r.state
"""

HAND_BACK = """
UPDATE batch_run SET state = 'due', lease_until = NULL, due_at = clock_timestamp(), attempts = attempts - 1,
    result = $5::jsonb
WHERE job = $1 AND scheduled_for = $2 AND owner = $3 AND epoch = $4 AND state = 'running' RETURNING 1
"""

PRUNE = """
DELETE FROM batch_run WHERE job = $1 AND scheduled_for IN (
    SELECT scheduled_for FROM batch_run WHERE job = $1 AND state IN ('done', 'failed', 'skipped')
    ORDER BY scheduled_for DESC OFFSET $2 LIMIT 100)
"""


class Fenced(Unavailable):
    """The run belongs to another scheduler, or to nobody; what was under way is rolled back."""


class Taken(msgspec.Struct, frozen=True):
    """A run that is mine while its lease lasts; owner and epoch say so in every statement."""

    job: str
    scheduled_for: datetime
    owner: str
    epoch: int
    attempts: int
    result: str

    @property
    def mine(self) -> tuple[str, datetime, str, int]:
        """The first four parameters of every statement about this run."""
        return self.job, self.scheduled_for, self.owner, self.epoch


class Outlook(msgspec.Struct, frozen=True):
    """A job by the database's clock, in seconds."""

    job: str
    tick_s: float
    """Until its next tick is to be decided."""
    start_s: float | None
    """Until a run may start or be taken over; None while there is none."""
    since_s: float
    """Since its last success."""


class Takings(msgspec.Struct, frozen=True):
    """What one look for work brought."""

    runs: tuple[Taken, ...]
    dropped: tuple[str, ...]
    """Jobs that make up for each tick, and missed more than their limit."""
    given_up: tuple[tuple[str, datetime, str], ...]


async def look(database: Database, jobs: Sequence[str]) -> list[Outlook]:
    """When there will be something to do, for all jobs of a domain in one statement."""
    return [Outlook(**dict(row)) for row in await database.fetch(LOOK, list(jobs))]


async def take_due(database: Database, owner: str, jobs: Sequence[str], leases: dict[str, float]) -> Takings:
    """Decide which ticks of these jobs are due, and take one run that may start now of each job that has a lease here.

    Jobs that another scheduler decides on at this moment are left to it. `leases` are seconds, by job.
    """
    async with database.transaction() as conn:
        locked = [row[0] for row in await conn.fetch(LOCK_JOBS, sorted(jobs))]
        if not locked:
            return Takings((), (), ())
        decided = await conn.fetch(DECIDE, locked)
        free = [job for job in locked if job in leases]
        given_up = await conn.fetch(GIVE_UP, free)
        # A statement of its own: it must see what was committed before the lock was had.
        taken = await conn.fetch(TAKE, free, owner, [leases[job] for job in free])
    return Takings(
        tuple(Taken(owner=owner, **dict(row)) for row in taken),
        tuple(row["job"] for row in decided if row["dropped"]),
        tuple((row["job"], row["scheduled_for"], row["error"]) for row in given_up),
    )


async def lock_chunk(conn: Conn, taken: Taken, chunk: str, lease_s: float) -> bool:
    """Lock the run until the transaction ends, or raise `Fenced`; then whether this chunk is still to be done.

    Should this process freeze now, the server ends the transaction after one lease in which nothing was said.
    """
    if not await conn.fetch(LOCK_CHUNK, *taken.mine, lease_s, str(int(lease_s * 1_000))):
        raise Fenced(f"Somebody else has {taken.job} of {taken.scheduled_for}")
    noted = await conn.fetch(NOTE_CHUNK, taken.job, taken.scheduled_for, chunk, taken.epoch)
    return bool(noted)


async def keep_notes(conn: Conn, taken: Taken, lease_s: float, notes: str) -> None:
    """At the end of a chunk: the notes, and a new end of the lease, which nobody could renew meanwhile."""
    await conn.execute(KEEP_NOTES, *taken.mine, lease_s, notes)


async def renew(database: Database, taken: Taken, lease_s: float) -> bool:
    """Whether the run is still mine; then for one more lease."""
    return bool(await database.write(RENEW, *taken.mine, lease_s))


async def finish(database: Database, taken: Taken, notes: str) -> bool:
    """The tick is complete; False when it was not mine to complete."""
    return bool(await database.write(FINISH, *taken.mine, notes))


async def fail(database: Database, taken: Taken, notes: str, error: str, pause_s: float) -> str:
    """This attempt failed: `due` again after the pause, or `failed` after the last; empty when it was not mine."""
    rows = await database.write(FAIL, *taken.mine, notes, error[:_LONGEST_ERROR], pause_s)
    return str(rows[0]["state"]) if rows else ""


async def hand_back(database: Database, taken: Taken, notes: str) -> bool:
    """Let somebody else go on at once; this start does not count as an attempt."""
    return bool(await database.write(HAND_BACK, *taken.mine, notes))


async def prune(database: Database, job: str, keep: int) -> None:
    """Remove ended runs, with their chunks, beyond the newest `keep`; at most 100 at a time."""
    await database.write(PRUNE, job, keep)
