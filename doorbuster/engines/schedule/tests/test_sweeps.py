"""Sweeps: one process at a time, each tick begun once, taken over within a lease, and silent while nothing is found."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter

import msgspec

from doorbuster.engines.schedule import Sweep, list_jobs
from doorbuster.engines.schedule.tests.books import DOMAIN, Books, until
from doorbuster.engines.schedule.tests.scheduler_process import Plan
from doorbuster.platform.errors import Unavailable

SWEEP = Plan(sweep_every_s=0.1, lease_s=0.8)


async def swept(books: Books) -> list[tuple[int, float]]:
    """(process, when) of each round so far."""
    rows = await books.admin.fetch(
        "SELECT owner::int, extract(epoch FROM at)::float8 FROM happening WHERE what = 'swept' ORDER BY number"
    )
    return [(row[0], row[1]) for row in rows]


async def test_of_three_processes_one_sweeps_and_each_tick_is_begun_once(books: Books) -> None:
    processes = [books.process(msgspec.structs.replace(SWEEP, skew_s=skew)) for skew in (-30, 0, 30)]

    async def busy() -> bool:
        return len(await swept(books)) > 5

    await until(busy)
    # All three are there for sure; from now on the same one keeps it.
    await asyncio.sleep(1.5)
    known = len(await swept(books))
    await asyncio.sleep(3)
    rounds = await swept(books)
    ticks = Counter(int(at / SWEEP.sweep_every_s) for _, at in rounds[known:])
    # A round may begin late and write in the next tick's time, next to that one's own; it is not begun again.
    span = (rounds[-1][1] - rounds[known][1]) / SWEEP.sweep_every_s
    assert len(rounds) - known <= span + 2 and max(ticks.values()) <= 2
    owners = Counter(owner for owner, _ in rounds[known:])
    assert owners.most_common(1)[0][1] >= 0.8 * sum(owners.values()), "it does not wander"
    assert set(owners) <= {process.pid for process in processes}
    assert await books.admin.fetchval("SELECT count(*) FROM batch_run") == 0, "empty rounds leave no history"


async def gap_after(books: Books, how: signal.Signals) -> float:
    """Seconds without a sweep after its holder got this signal."""
    processes = [books.process(SWEEP), books.process(SWEEP)]

    async def busy() -> bool:
        return len(await swept(books)) > 5

    await until(busy)
    await asyncio.sleep(1.5)
    holder = (await swept(books))[-1][0]
    os.kill(holder, how)
    began = time.monotonic()

    async def another() -> bool:
        return (await swept(books))[-1][0] != holder

    await until(another)
    gap = time.monotonic() - began
    for process in processes:
        process.kill()
    return gap


async def test_a_killed_sweeper_is_replaced_within_its_lease(books: Books) -> None:
    assert await gap_after(books, signal.SIGKILL) < SWEEP.lease_s + 0.7


async def test_a_frozen_sweeper_is_replaced_within_its_lease(books: Books) -> None:
    assert await gap_after(books, signal.SIGSTOP) < SWEEP.lease_s + 0.7


class Overdue:
    """Something to sweep: so many are overdue, and taken up two at a time."""

    def __init__(self, count: int = 0) -> None:
        self.count = count
        self.calls: list[float] = []
        self.broken: Exception | None = None
        self.takes_s = 0.0

    async def __call__(self) -> int:
        self.calls.append(time.monotonic())
        await asyncio.sleep(self.takes_s)
        if self.broken is not None:
            raise self.broken
        found = min(2, self.count)
        self.count -= found
        return found


async def test_what_is_found_is_worked_off_at_once_and_told_in_one_row(books: Books) -> None:
    work = Overdue(7)
    await books.scheduler(Sweep("overdue", DOMAIN, 2.0, work))

    async def told() -> bool:
        return bool(await books.runs("overdue"))

    await until(told)
    run = (await books.runs("overdue"))[0]
    assert (run["state"], run["result"]) == ("done", '{"found": 7}')
    assert len(work.calls) == 5 and work.calls[-1] - work.calls[0] < 0.5
    assert len(await books.runs("overdue")) == 1


async def test_work_that_always_finds_something_waits_for_its_next_tick(books: Books) -> None:
    work = Overdue(10**9)
    await books.scheduler(Sweep("overdue", DOMAIN, 60.0, work))

    async def told() -> bool:
        return bool(await books.runs("overdue"))

    await until(told)
    await asyncio.sleep(0.3)
    assert len(work.calls) == 100


async def test_what_becomes_overdue_is_found_within_a_second(books: Books) -> None:
    work = Overdue()
    await books.scheduler(Sweep("overdue", DOMAIN, 0.5, work))

    async def looked() -> bool:
        return len(work.calls) >= 2

    await until(looked)
    for pause in (0.0, 0.17, 0.31):
        await asyncio.sleep(pause)
        work.count = 1

        async def found() -> bool:
            return work.count == 0

        assert await until(found) < 1


async def test_equal_failures_in_a_row_share_a_row_and_the_sweep_goes_on(books: Books) -> None:
    work = Overdue()
    work.broken = Unavailable("The provider is away")
    await books.scheduler(Sweep("overdue", DOMAIN, 0.1, work))

    async def failed_often() -> bool:
        runs = await books.runs("overdue")
        return bool(runs) and runs[0]["attempts"] >= 4

    await until(failed_often)
    line = (await list_jobs(books.admin))[0]
    assert line.state == "failing" and "The provider is away" in str(line.error)
    work.broken = ZeroDivisionError("a bug")

    async def told_of_the_bug() -> bool:
        return [run["error"] for run in await books.runs("overdue")][1:] == ["ZeroDivisionError: a bug"]

    await until(told_of_the_bug)
    work.broken = None

    async def well() -> bool:
        return (await list_jobs(books.admin))[0].state == "sweeping"

    await until(well)
    assert await books.states("overdue") == ["failed", "failed"]
    assert (await list_jobs(books.admin))[0].error is None


async def test_a_long_round_keeps_its_lease_and_a_second_process_waits(books: Books) -> None:
    first, second = Overdue(), Overdue()
    first.takes_s = 1.5
    await books.scheduler(Sweep("overdue", DOMAIN, 0.2, first, lease_s=0.5))

    async def begun() -> bool:
        return bool(first.calls)

    await until(begun)
    await books.scheduler(Sweep("overdue", DOMAIN, 0.2, second, lease_s=0.5))
    await asyncio.sleep(1.2)
    assert second.calls == []


async def test_a_round_that_never_ends_is_interrupted(books: Books) -> None:
    work = Overdue()
    work.takes_s = 60
    await books.scheduler(Sweep("overdue", DOMAIN, 60.0, work, timeout_s=0.3))

    async def told() -> bool:
        return bool(await books.runs("overdue"))

    await until(told)
    assert (await books.runs("overdue"))[0]["error"] == "TimeoutError: not done within 0.3 s"


async def test_a_sweeper_that_stops_lets_another_begin_at_once(books: Books) -> None:
    first, second = Overdue(), Overdue()
    scheduler = await books.scheduler(Sweep("overdue", DOMAIN, 0.1, first, lease_s=30))

    async def begun() -> bool:
        return bool(first.calls)

    await until(begun)
    await scheduler.stop()
    await books.scheduler(Sweep("overdue", DOMAIN, 0.1, second, lease_s=30))

    async def went_on() -> bool:
        return bool(second.calls)

    await until(went_on, within_s=10)
    calls = len(first.calls)
    await asyncio.sleep(0.3)
    assert len(first.calls) == calls
