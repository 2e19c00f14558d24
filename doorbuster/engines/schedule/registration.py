"""Writing the schedules of this process's jobs and sweeps where the database can decide by them."""

from __future__ import annotations

from collections.abc import Iterable

from doorbuster.engines.schedule.job import Every, Job, Sweep
from doorbuster.platform.db import Database

REGISTER_JOB = """
INSERT INTO batch_job (job, kind, every, at, zone, catch_up, catch_up_limit, overlap, max_attempts,
    seen_until, next_due)
SELECT $1, 'batch', make_interval(secs => $2), $3::time, $4::text, $5, $6, $7, $8,
    now.at, batch_next(make_interval(secs => $2), $3::time, $4::text, now.at)
FROM (SELECT clock_timestamp() AS at) AS now
ON CONFLICT (job) DO UPDATE SET kind = 'batch', every = excluded.every, at = excluded.at, zone = excluded.zone,
    catch_up = excluded.catch_up, catch_up_limit = excluded.catch_up_limit, overlap = excluded.overlap,
    max_attempts = excluded.max_attempts,
    next_due = batch_next(excluded.every, excluded.at, excluded.zone, batch_job.seen_until)
"""

REGISTER_SWEEP = """
INSERT INTO batch_job (job, kind, every, catch_up, catch_up_limit, overlap, max_attempts, seen_until, next_due)
SELECT $1, 'sweep', every, 'latest', 1, 'skip', 1, tick - every, tick
FROM (SELECT every, date_bin(every, clock_timestamp(), timestamptz '1970-01-01 00:00:00Z') AS tick
    FROM make_interval(secs => $2) AS every) AS first
ON CONFLICT (job) DO UPDATE SET kind = 'sweep', every = excluded.every, at = NULL,
    next_due = least(batch_job.next_due, batch_job.seen_until + excluded.every)
"""


async def register_jobs(database: Database, jobs: Iterable[Job]) -> None:
    """A new job's first tick lies ahead; one whose schedule changed goes on from the last tick that was decided."""
    async with database.transaction() as conn:
        # By name, so that processes that start together do not wait for each other crosswise.
        for job in sorted(jobs, key=lambda job: job.name):
            when = job.schedule
            seconds, at, zone = (when.seconds, None, "UTC") if isinstance(when, Every) else (None, when.at, when.zone)
            await conn.execute(
                REGISTER_JOB, job.name, seconds, at, zone, job.catch_up, job.catch_up_limit, job.overlap, job.attempts
            )


async def register_sweep(database: Database, sweep: Sweep) -> None:
    """A new sweep is due at once."""
    await database.write(REGISTER_SWEEP, sweep.name, sweep.every_s)
