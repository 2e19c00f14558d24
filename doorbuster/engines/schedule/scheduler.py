"""The scheduler of one process: sleeps until the database says something is due, takes it, and runs it."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

import structlog

from doorbuster.engines.schedule import ledger
from doorbuster.engines.schedule.job import Job, Sweep
from doorbuster.engines.schedule.ledger import Fenced, Taken
from doorbuster.engines.schedule.metrics import RUNS, SECONDS, SINCE
from doorbuster.engines.schedule.registration import register_jobs
from doorbuster.engines.schedule.run import Run
from doorbuster.engines.schedule.sweeping import Sweeper
from doorbuster.platform import db, ids
from doorbuster.platform.errors import Unavailable

T = TypeVar("T")
_LOG = structlog.get_logger("schedule")
_LONGEST_SLEEP_S = 3.0
"""Also how long a tick that was asked for by hand may wait."""
_SHORTEST_SLEEP_S = 0.02
_AWAY_S = 0.5
_BROKEN_S = 1.0
_LONGEST_PAUSE_S = 60.0
_STOP_WITHIN_S = 5.0
_PRUNE_EVERY = 20


class Scheduler:
    """Guards the jobs and sweeps that one process offers to run. Any number of processes may offer the same ones."""

    def __init__(self, jobs: Sequence[Job | Sweep]) -> None:
        names = [job.name for job in jobs]
        assert len(set(names)) == len(names), "every job has a name of its own"
        self._me = f"{os.getpid()}-{ids.uuid7()}"
        by_domain: dict[str, list[Job]] = {}
        for job in jobs:
            if isinstance(job, Job):
                by_domain.setdefault(job.domain, []).append(job)
        self._runners = [_Runner(domain, offered, self._me) for domain, offered in by_domain.items()]
        self._sweepers = [Sweeper(job, self._me) for job in jobs if isinstance(job, Sweep)]
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin; returns at once, and goes on through outages of the database."""
        parts: list[_Runner | Sweeper] = [*self._runners, *self._sweepers]
        self._tasks = [asyncio.create_task(one.run()) for one in parts]

    async def stop(self) -> None:
        """Interrupt what runs (its finished chunks stay) and give all leases up, within about 5 s."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(one.give_up() for one in self._sweepers))
        self._tasks = []


class _Runner:
    """Guards what one process runs of one domain's jobs."""

    def __init__(self, domain: str, jobs: Sequence[Job], me: str) -> None:
        self._db = db.of(domain)
        self._domain = domain
        self._jobs = {job.name: job for job in jobs}
        self._me = me
        self._running: dict[str, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._ended = 0

    async def run(self) -> None:
        try:
            while True:
                pause = _AWAY_S
                try:
                    await register_jobs(self._db, self._jobs.values())
                    while True:
                        await self._sleep(await self._round())
                except Unavailable as error:
                    _LOG.warning("scheduler_waits", domain=self._domain, why=str(error))
                except Exception as error:
                    # A bug, or SQL that fails. A shop whose scheduler is silently gone is worse off than one whose
                    # scheduler complains once a second.
                    _LOG.error("scheduler_failed", domain=self._domain, exc_info=error)
                    pause = _BROKEN_S
                await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311  (jitter, not a secret)
        finally:
            tasks = list(self._running.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _round(self) -> float:
        """Take what is due; returns how long nothing will be, in seconds by the database's clock."""
        self._wake.clear()
        outlook = await ledger.look(self._db, list(self._jobs))
        for job in outlook:
            SINCE.labels(job.job).set(job.since_s)
        waits = [job.tick_s for job in outlook]
        waits += [job.start_s for job in outlook if job.start_s is not None and job.job not in self._running]
        wait_s = min(waits, default=_LONGEST_SLEEP_S)
        if wait_s > 0:
            return wait_s
        free = {name: job.lease_s for name, job in self._jobs.items() if name not in self._running}
        takings = await ledger.take_due(self._db, self._me, list(self._jobs), free)
        for name in takings.dropped:
            _LOG.error("ticks_dropped", job=name, limit=self._jobs[name].catch_up_limit)
        for name, tick, error in takings.given_up:
            RUNS.labels(name, "failed").inc()
            _LOG.error("job_failed", job=name, scheduled_for=tick.isoformat(), why=error)
        for taken in takings.runs:
            self._running[taken.job] = asyncio.create_task(self._attempt(self._jobs[taken.job], taken))
        return 0.0

    async def _sleep(self, seconds: float) -> None:
        try:
            # Never not at all: what is due may be another scheduler's, which is about to take it.
            async with asyncio.timeout(min(_LONGEST_SLEEP_S, max(_SHORTEST_SLEEP_S, seconds))):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _attempt(self, job: Job, taken: Taken) -> None:
        """Run one attempt and write how it ended, whatever happens."""
        started = asyncio.get_running_loop().time()
        run = Run(self._db, taken, job.lease_s)
        try:
            outcome = await self._outcome(job, taken, run)
        except asyncio.CancelledError:
            run.close()
            outcome = "stopped"
            await _within(_STOP_WITHIN_S / 2, ledger.hand_back(self._db, taken, run.notes), taken)
        except Exception as error:
            # Its lease ends, and whoever takes it over finds what was finished in the ledger.
            outcome = "lost"
            _LOG.warning("job_end_not_written", job=job.name, why=str(error), exc_info=error)
        finally:
            self._running.pop(job.name, None)
            self._wake.set()
        RUNS.labels(job.name, outcome).inc()
        SECONDS.labels(job.name).observe(asyncio.get_running_loop().time() - started)

    async def _outcome(self, job: Job, taken: Taken, run: Run) -> str:
        try:
            await _work(job, run)
        except Fenced as error:
            _LOG.warning("job_fenced", job=job.name, scheduled_for=taken.scheduled_for.isoformat(), why=str(error))
            return "fenced"
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            pause_s = min(_LONGEST_PAUSE_S, job.backoff_s * 2.0 ** min(10, taken.attempts - 1))
            state = await _until_written(job.lease_s, lambda: ledger.fail(self._db, taken, run.notes, said, pause_s))
            _LOG.error(
                "job_failed" if state == "failed" else "job_attempt_failed",
                job=job.name, scheduled_for=taken.scheduled_for.isoformat(), attempt=taken.attempts, exc_info=error,
            )  # fmt: skip
            return {"failed": "failed", "due": "retried"}.get(state, "fenced")
        done = await _until_written(job.lease_s, lambda: ledger.finish(self._db, taken, run.notes))
        if done and self._ended % _PRUNE_EVERY == 0:
            await ledger.prune(self._db, job.name, job.keep)
        self._ended += 1
        return "done" if done else "fenced"


class TookTooLong(Exception):
    """The work did not end within its job's `timeout_s`."""


async def _work(job: Job, run: Run) -> None:
    """The work beside its heartbeat, until the first of them ends or the time is up; none of it goes on after."""
    beat = asyncio.create_task(run.keep())
    work = asyncio.ensure_future(job.work(run))
    try:
        await asyncio.wait({beat, work}, timeout=job.timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if work.cancelled():
            raise RuntimeError("the work was cancelled from inside")
        if work.done():
            work.result()
        elif beat.done():
            beat.result()
        else:
            raise TookTooLong(f"not done within {job.timeout_s:g} s")
    finally:
        run.close()
        work.cancel()
        beat.cancel()
        _, deaf = await asyncio.wait({work, beat}, timeout=_STOP_WITHIN_S / 2)
        if deaf:
            _LOG.error("job_ignores_cancellation", job=job.name)


async def _until_written(within_s: float, write: Callable[[], Awaitable[T]]) -> T:
    """Write how an attempt ended, again while the database is away, no longer than the lease can last."""
    clock = asyncio.get_running_loop().time
    until = clock() + within_s
    while True:
        try:
            return await write()
        except Unavailable:
            if clock() >= until:
                raise
        await asyncio.sleep(0.2)


async def _within(seconds: float, write: Coroutine[Any, Any, bool], taken: Taken) -> None:
    try:
        async with asyncio.timeout(seconds):
            await write
    except (Unavailable, TimeoutError) as error:
        _LOG.warning("lease_not_given_up", job=taken.job, why=str(error))
