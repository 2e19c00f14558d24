"""What schedulers did, as the database saw it, and the checker that reads it back.

Triggers write every start and end of a tick into `happening`, and work writes its effects there, all numbered by one
sequence while the run's row is locked: so the order of the numbers is the order in which things became true.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from doorbuster.engines.schedule import Job, Scheduler, Sweep
from doorbuster.platform import db
from doorbuster.platform.db import Conn

DOMAIN = "test.jobs"

WATCH = """
CREATE TABLE happening (
    number bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(),
    job text NOT NULL, tick timestamptz, what text NOT NULL, owner text, epoch bigint, chunk text
);
CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.state <> OLD.state OR NEW.epoch <> OLD.epoch THEN
        INSERT INTO happening (job, tick, what, owner, epoch)
        VALUES (NEW.job, NEW.scheduled_for, NEW.state, NEW.owner, NEW.epoch);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER watch AFTER UPDATE ON batch_run FOR EACH ROW EXECUTE FUNCTION watch();
"""


class Happening(msgspec.Struct, frozen=True):
    """One thing that became true: a state of a tick, or the `effect` of a chunk."""

    number: int
    at: datetime
    job: str
    tick: datetime
    what: str
    owner: str
    epoch: int
    chunk: str | None


async def effect(conn: Conn, job: str, tick: datetime, chunk: str, owner: str = "", epoch: int = 0) -> None:
    """What work does in a chunk. Nothing in the table stops a second copy."""
    await conn.execute(
        "INSERT INTO happening (job, tick, what, owner, epoch, chunk) VALUES ($1, $2, 'effect', $3, $4, $5)",
        job, tick, owner, epoch, chunk,
    )  # fmt: skip


class Books:
    """The tables of one test, and the schedulers and processes that it started."""

    def __init__(self, admin: asyncpg.Connection[asyncpg.Record], settings_file: Path) -> None:
        self.admin = admin
        self.settings_file = settings_file
        self.processes: list[subprocess.Popen[bytes]] = []
        self._schedulers: list[Scheduler] = []

    async def scheduler(self, *jobs: Job | Sweep) -> Scheduler:
        """A running scheduler in this process; stopped at the end of the test."""
        made = Scheduler(jobs)
        self._schedulers.append(made)
        await made.start()
        return made

    def process(self, plan: Any) -> subprocess.Popen[bytes]:
        """A scheduler as a process of its own; killed at the end of the test."""
        module = "doorbuster.engines.schedule.tests.scheduler_process"
        argv = [sys.executable, "-m", module, str(self.settings_file), msgspec.json.encode(plan).decode()]
        made = subprocess.Popen(argv)
        self.processes.append(made)
        return made

    async def close(self) -> None:
        """Leave nothing running, also after a test that failed half-way."""
        for process in self.processes:
            process.kill()
            process.wait(5)
        for scheduler in self._schedulers:
            await scheduler.stop()

    async def happenings(self) -> list[Happening]:
        rows = await self.admin.fetch("SELECT * FROM happening ORDER BY number")
        return [msgspec.convert(dict(row), Happening) for row in rows]

    async def effects(self, job: str) -> list[tuple[datetime, str | None]]:
        return [(one.tick, one.chunk) for one in await self.happenings() if one.what == "effect" and one.job == job]

    async def runs(self, job: str) -> list[asyncpg.Record]:
        return list(await self.admin.fetch("SELECT * FROM batch_run WHERE job = $1 ORDER BY scheduled_for", job))

    async def states(self, job: str) -> list[str]:
        return [row["state"] for row in await self.runs(job)]

    async def missed_for(self, job: str, interval: str) -> None:
        """As if every scheduler had been off for so long."""
        await self.admin.execute(
            "UPDATE batch_job SET seen_until = seen_until - $2::text::interval,"
            " next_due = next_due - $2::text::interval WHERE job = $1", job, interval,
        )  # fmt: skip


async def until(condition: Callable[[], Awaitable[bool]], within_s: float = 10.0) -> float:
    """Wait for it; returns how many seconds that took."""
    started = time.monotonic()
    while not await condition():
        assert time.monotonic() - started < within_s, "it did not happen in time"
        await asyncio.sleep(0.02)
    return time.monotonic() - started


def domain_database() -> db.Database:
    return db.of(DOMAIN)


def faults(seen: list[Happening], expected: dict[str, list[datetime]], chunks: int, every: timedelta) -> dict[str, int]:
    """What went wrong with these ticks, by kind; all zero when each completed once and in its time.

    `early`: work before the tick was due by the database's clock. `overlapping`: a tick that began while another of its
    job ran. `fenced_out`: an effect or an end by somebody whose epoch was over. `skipped_ticks`: between the first and
    the last one expected, a multiple of `every` is missing.
    """
    found: Counter[str] = Counter()
    ended: Counter[tuple[str, datetime]] = Counter()
    effects: Counter[tuple[str, datetime, str | None]] = Counter()
    epoch: dict[tuple[str, datetime], int] = defaultdict(int)
    running: dict[str, datetime] = {}
    for one in seen:
        tick = (one.job, one.tick)
        if one.what in ("running", "effect") and one.at < one.tick:
            found["early"] += 1
        if one.what == "running":
            found["overlapping"] += running.get(one.job, one.tick) != one.tick
            running[one.job], epoch[tick] = one.tick, one.epoch
        elif one.what == "effect":
            found["fenced_out"] += one.epoch != epoch[tick] or running.get(one.job) != one.tick
            effects[*tick, one.chunk] += 1
        else:
            found["fenced_out"] += one.epoch != epoch[tick]
            found["ended_otherwise"] += one.what not in ("done", "due")
            ended[tick] += one.what == "done"
            running.pop(one.job, None)
    for job, ticks in expected.items():
        for at in ticks:
            found["not_completed"] += ended[job, at] == 0
            found["completed_again"] += max(0, ended[job, at] - 1)
            for number in range(chunks):
                times = effects[job, at, str(number)]
                found["chunks_lost"] += times == 0
                found["chunks_again"] += max(0, times - 1)
        found["skipped_ticks"] += round((ticks[-1] - ticks[0]) / every) + 1 - len(ticks) if ticks else 0
    return dict(+found)
