"""The promise: each tick completes once, and each chunk's effect happens once, whatever becomes of schedulers."""

from __future__ import annotations

import ast
import asyncio
import random
import re
import signal
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from doorbuster.engines import schedule
from doorbuster.engines.schedule.tests.books import Books, Happening, faults, until
from doorbuster.engines.schedule.tests.scheduler_process import Plan

SKEWS = (-30.0, 30.0, -12.5, 17.0, 0.0)
JOBS = ("north", "east", "south", "west")
EVERY_S = 0.1
TICKS = 1_000
_TIME_OF_DAY = re.compile(r"(.*\.)?(utc_now|utcnow|now|today|time_ns|localtime|gmtime)|time\.time|time")


async def done(books: Books) -> int:
    return int(await books.admin.fetchval("SELECT count(*) FROM batch_run WHERE state = 'done'"))


async def expected(books: Books) -> dict[str, list[datetime]]:
    """The ticks that are done, and by job all those before: what must have completed by now."""
    rows = await books.admin.fetch(
        "SELECT job, scheduled_for FROM batch_run r WHERE scheduled_for <= (SELECT max(d.scheduled_for)"
        " FROM batch_run d WHERE d.job = r.job AND d.state = 'done') ORDER BY job, scheduled_for"
    )
    by_job: dict[str, list[datetime]] = {}
    for job, tick in rows:
        by_job.setdefault(job, []).append(tick)
    return by_job


class Crowd:
    """Schedulers that are killed and frozen at random, by a seed."""

    def __init__(self, books: Books, seed: int, plan: Plan) -> None:
        self._books = books
        self._dice = random.Random(seed)
        self._plan = plan
        self.kills = self.freezes = 0
        self._all = [self._start(skew_s) for skew_s in SKEWS]

    def _start(self, skew_s: float) -> tuple[float, subprocess.Popen[bytes]]:
        plan = {**{name: getattr(self._plan, name) for name in self._plan.__struct_fields__}, "skew_s": skew_s}
        return skew_s, self._books.process(plan)

    async def trouble(self) -> None:
        """Kill one and start it again, or freeze one for up to twice its lease; half the time one that is at work."""
        place = self._dice.randrange(len(self._all))
        if self._dice.random() < 0.5:
            owner = await self._books.admin.fetchval("SELECT owner FROM batch_run WHERE state = 'running' LIMIT 1")
            at_work = [n for n, (_, process) in enumerate(self._all) if (owner or "").startswith(f"{process.pid}-")]
            place = at_work[0] if at_work else place
        skew_s, process = self._all[place]
        if self._dice.random() < 0.3:
            process.send_signal(signal.SIGKILL)
            process.wait(5)
            self._all[place] = self._start(skew_s)
            self.kills += 1
        else:
            process.send_signal(signal.SIGSTOP)
            self.freezes += 1
            await asyncio.sleep(self._dice.uniform(0.2, 2.0) * self._plan.lease_s)
            process.send_signal(signal.SIGCONT)
        await asyncio.sleep(self._dice.uniform(0.2, 0.8))


async def test_a_thousand_ticks_complete_exactly_once_through_kills_freezes_and_wrong_clocks(books: Books) -> None:
    plan = Plan(jobs=JOBS, every_s=EVERY_S, chunks=2, dawdle_s=0.02, lease_s=0.6)
    crowd = Crowd(books, 7, plan)
    started = time.monotonic()
    while await done(books) < TICKS:
        assert time.monotonic() - started < 150, "too slow"
        await crowd.trouble()
    for process in books.processes:
        process.kill()
    for process in books.processes:
        process.wait(5)
    ticks = await expected(books)
    # Those that were under way at the end are somebody's to finish: a last scheduler, with a clock of its own.
    books.process(Plan(jobs=JOBS, every_s=EVERY_S, chunks=2, lease_s=0.6, skew_s=30))

    async def all_done() -> bool:
        last = {job: of_job[-1] for job, of_job in ticks.items()}
        rows = await books.admin.fetch("SELECT job, scheduled_for FROM batch_run WHERE state <> 'done'")
        return all(row["scheduled_for"] > last[row["job"]] for row in rows)

    await until(all_done, 20)
    seen = await books.happenings()
    total = sum(len(of_job) for of_job in ticks.values())
    taken_over = sum(one.what == "running" and one.epoch > 1 for one in seen)
    print(f"{total} ticks, {crowd.kills} kills, {crowd.freezes} freezes, {taken_over} taken over,"
          f" {time.monotonic() - started:.1f} s")  # fmt: skip
    assert total >= TICKS and crowd.kills >= 3 and crowd.freezes >= 5 and taken_over >= 3
    assert faults(seen, ticks, 2, timedelta(seconds=EVERY_S)) == {}


async def freeze_in_the_middle(books: Books, tmp_path: Path, plan: Plan) -> dict[str, int]:
    """One scheduler is frozen while it lingers, another takes its tick over, then it wakes; what the checker finds."""
    linger = tmp_path / "lingers"
    slow = msgspec.structs.replace(plan, linger_file=str(linger))
    first = books.process(slow)
    await until(lambda: exists(linger))
    first.send_signal(signal.SIGSTOP)
    # It dawdles, so that the one that wakes surely finds chunks that are still to be done.
    second = books.process(msgspec.structs.replace(plan, plant="", dawdle_s=0.8))

    async def taken_over() -> bool:
        return any(one.what == "running" and one.epoch == 2 for one in await books.happenings())

    await until(taken_over)
    first.send_signal(signal.SIGCONT)
    before = await done(books)

    async def went_on() -> bool:
        return await done(books) > before

    await until(went_on)
    for _ in range(100 if plan.plant else 0):
        # A busy machine lets the one that woke go on late.
        if await _faults(books, plan):
            break
        await asyncio.sleep(0.1)
    for process in (first, second):
        process.kill()
        process.wait(5)
    return await _faults(books, plan)


async def _faults(books: Books, plan: Plan) -> dict[str, int]:
    seen = await books.happenings()
    complete = [one.tick for one in seen if one.what == "done"]
    ticks = [tick for tick in dict.fromkeys(one.tick for one in seen) if tick <= max(complete)]
    return faults(seen, {"one": ticks}, plan.chunks, timedelta(seconds=plan.every_s))


async def exists(file: Path) -> bool:
    return file.exists()


SLOW = Plan(every_s=0.5, chunks=4, dawdle_s=0.15, lease_s=0.5)


@pytest.mark.parametrize("linger", ["between", "inside"])
async def test_a_scheduler_that_slept_through_its_lease_commits_nothing(
    books: Books, tmp_path: Path, linger: str
) -> None:
    assert await freeze_in_the_middle(books, tmp_path, msgspec.structs.replace(SLOW, linger=linger)) == {}


async def test_the_checker_finds_a_scheduler_without_the_fence(books: Books, tmp_path: Path) -> None:
    found = await freeze_in_the_middle(books, tmp_path, msgspec.structs.replace(SLOW, plant="no-epoch"))
    assert found.get("fenced_out", 0) > 0


@pytest.mark.parametrize(("plant", "clean"), [("", True), ("own-clock", False)])
async def test_only_the_databases_clock_decides_and_the_checker_finds_one_that_believes_its_own(
    books: Books, plant: str, clean: bool
) -> None:
    plan = Plan(every_s=0.2, skew_s=30.0, plant=plant)
    process = books.process(plan)

    async def some_done() -> bool:
        return await done(books) >= 10

    await until(some_done)
    process.kill()
    process.wait(5)
    found = faults(await books.happenings(), await expected(books), plan.chunks, timedelta(seconds=plan.every_s))
    assert (found == {}) is clean, found
    assert (found.get("early", 0) == 0) is clean


@pytest.mark.parametrize("seen", ["lost", "twice", "skipped", "overlapped"])
def test_the_checker_finds_each_kind_of_fault(seen: str) -> None:
    first = datetime(2026, 5, 1, tzinfo=UTC)
    ticks = [first + timedelta(seconds=number) for number in range(3)]
    events: list[Happening] = []

    def add(tick: datetime, *whats: str) -> None:
        for what in whats:
            chunk = "0" if what == "effect" else None
            events.append(Happening(len(events), tick, "one", tick, what, "me", 1, chunk))

    for tick in ticks:
        add(tick, "running", "effect", "done")
    assert faults(events, {"one": ticks}, 1, timedelta(seconds=1)) == {}
    if seen == "lost":
        missing = [one for one in events if one.tick != ticks[1]]
        assert faults(missing, {"one": ticks}, 1, timedelta(seconds=1)) == {"not_completed": 1, "chunks_lost": 1}
    elif seen == "twice":
        add(ticks[2], "running", "effect", "done")
        found = faults(events, {"one": ticks}, 1, timedelta(seconds=1))
        assert found == {"completed_again": 1, "chunks_again": 1}
    elif seen == "skipped":
        assert faults(events, {"one": [ticks[0], ticks[2]]}, 1, timedelta(seconds=1)) == {"skipped_ticks": 1}
    else:
        late = events[:2] + events[3:4] + events[2:3] + events[4:]
        assert faults(late, {"one": ticks}, 1, timedelta(seconds=1))["overlapping"] == 1


def test_no_clock_of_python_tells_the_scheduler_the_time_of_day() -> None:
    """Durations may be measured; what time it is, only the database says."""
    folder = Path(schedule.__file__).parent
    asked = []
    for file in sorted(folder.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and _TIME_OF_DAY.fullmatch(ast.unparse(node.func)):
                asked.append(f"{file.name}:{node.lineno}")
    assert asked == []
    assert _TIME_OF_DAY.fullmatch("datetime.now") and not _TIME_OF_DAY.fullmatch("asyncio.get_running_loop().time")
