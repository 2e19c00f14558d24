"""Sweeps: at most one process works at a time, each tick is begun once, and only rounds worth telling leave a row."""

from __future__ import annotations

import asyncio
from datetime import datetime

import msgspec
import structlog

from doorbuster.engines.schedule import ledger
from doorbuster.engines.schedule.job import Sweep
from doorbuster.engines.schedule.metrics import RUNS, SECONDS, SINCE
from doorbuster.engines.schedule.registration import register_sweep
from doorbuster.platform import db
from doorbuster.platform.errors import Refusal, Unavailable

_LOG = structlog.get_logger("schedule")
_MOST_ROUNDS = 100
"""Of one tick that finds something each time; then it waits for the next one, so that a stuck row cannot spin."""
_SHORTEST_SLEEP_S = 0.02
_AWAY_S = 0.5
_BROKEN_S = 1.0
_PRUNE_EVERY = 50
_CANCEL_WITHIN_S = 2.0
_LONGEST_ERROR = 2_000

# The tick of a round is begun by this statement and by nobody else: `next_due` moves on with it. The commit does not
# wait for the disk: after a crash of the server a tick may be swept twice, which costs nothing.
BEGIN_ROUND = """
WITH now AS MATERIALIZED (
    SELECT at, date_bin(every, at, timestamptz '1970-01-01 00:00:00Z') AS tick
    FROM clock_timestamp() AS at, make_interval(secs => $3) AS every
),
mine AS (
    UPDATE batch_job j SET owner = $2, epoch = j.epoch + (j.owner <> $2)::int, seen_until = now.tick,
        next_due = now.tick + make_interval(secs => $3), lease_until = now.at + make_interval(secs => $4),
        succeeded_at = CASE WHEN $5 AND j.owner = $2 THEN greatest(j.succeeded_at, j.seen_until)
            ELSE j.succeeded_at END
    FROM now WHERE j.job = $1 AND j.next_due <= now.at AND (j.owner = $2 OR j.lease_until <= now.at)
    RETURNING j.epoch, j.seen_until, j.next_due, set_config('synchronous_commit', 'off', true)
)
SELECT mine.epoch, mine.seen_until AS tick,
    extract(epoch FROM CASE WHEN mine.epoch IS NOT NULL THEN mine.next_due
        WHEN j.owner = $2 THEN j.next_due ELSE greatest(j.lease_until, j.next_due) END - now.at)::float8 AS wait_s,
    extract(epoch FROM now.at - coalesce(j.succeeded_at, j.made_at))::float8 AS since_s
FROM batch_job j CROSS JOIN now LEFT JOIN mine ON true WHERE j.job = $1
"""

RENEW = """
UPDATE batch_job SET lease_until = clock_timestamp() + make_interval(secs => $4)
WHERE job = $1 AND owner = $2 AND epoch = $3 RETURNING set_config('synchronous_commit', 'off', true)
"""

GIVE_UP = "UPDATE batch_job SET owner = '', lease_until = '-infinity' WHERE job = $1 AND owner = $2 RETURNING 1"

# Equal failures in a row share the row of the first, and `attempts` counts them.
RECORD = """
INSERT INTO batch_run (job, scheduled_for, state, owner, epoch, due_at, attempts, started_at, ended_at, error, result)
SELECT j.job, $4, $5, $2, $3, $4, 1, clock_timestamp() - make_interval(secs => $6), clock_timestamp(), $7, $8::jsonb
FROM batch_job j WHERE j.job = $1 AND j.owner = $2 AND j.epoch = $3
ON CONFLICT (job, scheduled_for) DO UPDATE SET attempts = batch_run.attempts + 1, ended_at = excluded.ended_at,
    started_at = excluded.started_at, owner = excluded.owner, epoch = excluded.epoch
RETURNING 1
"""


class Round(msgspec.Struct, frozen=True):
    """A tick that is mine to sweep."""

    tick: datetime
    epoch: int


class _Streak(msgspec.Struct, frozen=True):
    """Failures in a row that say the same, and the tick of the first."""

    error: str
    since: datetime


class Sweeper:
    """Guards one process's part in one sweep."""

    def __init__(self, sweep: Sweep, me: str) -> None:
        self._sweep = sweep
        self._db = db.of(sweep.domain)
        self._me = me
        self._ended_well = False
        self._streak: _Streak | None = None
        self._recorded = 0
        self._renewed_at = 0.0

    async def run(self) -> None:
        """Sweep, or stand by for whoever does, until cancelled."""
        registered = False
        while True:
            pause = _AWAY_S
            try:
                if not registered:
                    await register_sweep(self._db, self._sweep)
                    registered = True
                pause = await self._round()
            except Unavailable as error:
                _LOG.warning("sweeper_waits", sweeper=self._sweep.name, why=str(error))
            except Exception as error:
                # SQL that fails. It is loud in the log and in the metric of its absence, and is tried again.
                _LOG.error("sweeper_broken", sweeper=self._sweep.name, exc_info=error)
                pause = _BROKEN_S
            await asyncio.sleep(max(_SHORTEST_SLEEP_S, pause))

    async def give_up(self) -> None:
        """Let another process sweep at once."""
        try:
            async with asyncio.timeout(1):
                await self._db.write(GIVE_UP, self._sweep.name, self._me)
        except (Unavailable, TimeoutError) as error:
            _LOG.warning("lease_not_given_up", sweeper=self._sweep.name, why=str(error))

    async def _round(self) -> float:
        """Sweep if the tick is mine; returns how long nothing is to be done, by the database's clock."""
        sweep = self._sweep
        clock = asyncio.get_running_loop().time
        self._renewed_at = began = clock()
        rows = await self._db.write(BEGIN_ROUND, sweep.name, self._me, sweep.every_s, sweep.lease_s, self._ended_well)
        assert rows, f"{sweep.name} is not registered"
        SINCE.labels(sweep.name).set(rows[0]["since_s"])
        if rows[0]["epoch"] is None:
            return float(rows[0]["wait_s"])
        await self._tick(Round(rows[0]["tick"], rows[0]["epoch"]))
        return float(rows[0]["wait_s"]) - (clock() - began)

    async def _tick(self, tick: Round) -> None:
        """Work until nothing is found, then tell if there is anything to tell."""
        clock = asyncio.get_running_loop().time
        started, found, error = clock(), 0, ""
        for _ in range(_MOST_ROUNDS):
            try:
                more = await self._work(tick)
            except (Refusal, Unavailable, TimeoutError) as expected:
                error = f"{type(expected).__name__}: {expected}"[:_LONGEST_ERROR]
                _LOG.warning("sweeper_waits", sweeper=self._sweep.name, why=error)
                break
            except Exception as bug:
                # A bug in one round must not end the sweeper; it is loud in the log, the history and the metrics.
                error = f"{type(bug).__name__}: {bug}"[:_LONGEST_ERROR]
                _LOG.error("sweeper_failed", sweeper=self._sweep.name, exc_info=bug)
                break
            found += more
            if not more or not await self._renew(tick):
                break
        took_s = clock() - started
        self._ended_well = not error
        RUNS.labels(self._sweep.name, "failed" if error else "done").inc()
        SECONDS.labels(self._sweep.name).observe(took_s)
        if error and (self._streak is None or self._streak.error != error):
            self._streak = _Streak(error, tick.tick)
        elif not error:
            self._streak = None
        if found or error:
            await self._record(tick, found, took_s)

    async def _work(self, tick: Round) -> int:
        """One call of the work, keeping the lease meanwhile; what another has taken over is finished, not repeated."""
        clock = asyncio.get_running_loop().time
        until = clock() + self._sweep.timeout_s
        work = asyncio.ensure_future(self._sweep.work())
        try:
            while not work.done():
                if clock() >= until:
                    raise TimeoutError(f"not done within {self._sweep.timeout_s:g} s")
                await asyncio.wait({work}, timeout=min(self._sweep.lease_s / 3, max(0.0, until - clock())))
                if not work.done():
                    await self._renew(tick)
            if work.cancelled():
                raise RuntimeError("the work was cancelled from inside")
            return work.result()
        finally:
            if not work.done():
                work.cancel()
                await asyncio.wait({work}, timeout=_CANCEL_WITHIN_S)

    async def _renew(self, tick: Round) -> bool:
        """Keep the lease when a third of it has passed; whether another round is mine to do."""
        now = asyncio.get_running_loop().time()
        if now - self._renewed_at < self._sweep.lease_s / 3:
            return True
        try:
            async with asyncio.timeout(self._sweep.lease_s / 3):
                rows = await self._db.write(RENEW, self._sweep.name, self._me, tick.epoch, self._sweep.lease_s)
        except (Unavailable, TimeoutError) as error:
            _LOG.warning("lease_not_renewed", sweeper=self._sweep.name, why=str(error))
            return False
        self._renewed_at = now
        return bool(rows)

    async def _record(self, tick: Round, found: int, took_s: float) -> None:
        streak = self._streak
        await self._db.write(
            RECORD, self._sweep.name, self._me, tick.epoch, streak.since if streak else tick.tick,
            "failed" if streak else "done", took_s, streak.error if streak else None,
            msgspec.json.encode({"found": found}).decode(),
        )  # fmt: skip
        if self._recorded % _PRUNE_EVERY == 0:
            await ledger.prune(self._db, self._sweep.name, self._sweep.keep)
        self._recorded += 1
