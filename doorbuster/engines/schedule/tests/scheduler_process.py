"""A scheduler as a process of its own, with a wrong clock, for tests that kill and freeze it; and with faults planted.

`python -m doorbuster.engines.schedule.tests.scheduler_process SETTINGS PLAN`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path
from unittest import mock

import msgspec

from doorbuster.engines.schedule import Every, Job, Run, Scheduler, Sweep, ledger
from doorbuster.engines.schedule.tests.books import DOMAIN, effect
from doorbuster.platform import db, settings, telemetry


class Plan(msgspec.Struct, frozen=True):
    """What this process offers to run, and what is wrong with it."""

    jobs: tuple[str, ...] = ("one",)
    every_s: float = 0.05
    chunks: int = 2
    dawdle_s: float = 0.0
    """Between two chunks."""
    lease_s: float = 1.0
    skew_s: float = 0.0
    """This much this process's clock is wrong."""
    plant: str = ""
    """`own-clock`: believes its own clock instead of the database's. `no-epoch`: does not ask whether it still owns."""
    linger_file: str = ""
    """Touched after the first chunk; then this process waits there, to be frozen or killed."""
    linger: str = "between"
    """`between` chunks, or `inside` one."""
    sweep_every_s: float = 0.0
    """Instead of the jobs, a sweep that notes who swept."""


def skew_clocks(skew_s: float) -> None:
    """Every clock of Python that tells the time of day is wrong by so much."""
    real, real_ns = time.time, time.time_ns
    time.time = lambda: real() + skew_s
    time.time_ns = lambda: real_ns() + int(skew_s * 1e9)


def plant_fault(plan: Plan) -> None:
    """Break this process's scheduler on purpose."""
    for name in [name for name in vars(ledger) if name.isupper()]:
        sql = getattr(ledger, name)
        if plan.plant == "own-clock" and isinstance(sql, str):
            own = f"(clock_timestamp() + interval '{plan.skew_s} seconds')"
            mock.patch.object(ledger, name, sql.replace("clock_timestamp()", own)).start()
        elif plan.plant == "no-epoch" and isinstance(sql, str):
            for fence in ("owner = $3 AND epoch = $4", "r.owner = $3 AND r.epoch = $4"):
                sql = sql.replace(fence, "$3::text IS NOT NULL AND $4::bigint IS NOT NULL")
            mock.patch.object(ledger, name, sql).start()


def job_of(plan: Plan, name: str) -> Job:
    """Chunks with one effect each, that say under which owner and epoch they were done."""

    async def work(run: Run) -> None:
        linger = Path(plan.linger_file) if plan.linger_file and not Path(plan.linger_file).exists() else None
        for number in range(plan.chunks):
            if number:
                await asyncio.sleep(plan.dawdle_s)
            async with run.chunk(str(number)) as conn:
                if conn is not None:
                    taken = run._taken
                    await effect(conn, run.job, run.scheduled_for, str(number), taken.owner, taken.epoch)
                    if linger and plan.linger == "inside":
                        linger.touch()
                        await asyncio.sleep(0.5)
            if linger and number == 0 and plan.linger == "between":
                linger.touch()
                await asyncio.sleep(0.5)

    return Job(
        name, DOMAIN, Every(plan.every_s), work, catch_up="each", catch_up_limit=5_000, lease_s=plan.lease_s,
        attempts=1_000, keep=100_000,
    )  # fmt: skip


async def note_sweep() -> int:
    """Say that this process swept."""
    me = str(os.getpid())
    await db.of(DOMAIN).write("INSERT INTO happening (job, what, owner) VALUES ('sweep', 'swept', $1) RETURNING 1", me)
    return 0


async def main(plan: Plan) -> None:
    jobs: list[Job | Sweep] = [job_of(plan, name) for name in plan.jobs]
    if plan.sweep_every_s:
        jobs = [Sweep("sweep", DOMAIN, plan.sweep_every_s, note_sweep, lease_s=plan.lease_s)]
    scheduler = Scheduler(jobs)
    await scheduler.start()
    await asyncio.sleep(150)


if __name__ == "__main__":
    settings.load(sys.argv[1])
    telemetry.configure("error")
    wanted = msgspec.json.decode(sys.argv[2], type=Plan)
    skew_clocks(wanted.skew_s)
    plant_fault(wanted)
    asyncio.run(main(wanted))
