"""Jobs in one process on a real database: ticks, catching up, overlaps, runs by hand, and the history."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from typing import Any, Literal

import asyncpg
import pytest
from prometheus_client import REGISTRY

from doorbuster.engines.schedule import Daily, Every, Job, NotPossible, Run, ledger, list_jobs, run_now
from doorbuster.engines.schedule.tests.books import DOMAIN, Books, until
from doorbuster.engines.schedule.tests.hourly import Brittle, hourly, off_for, one_effect, settled


async def test_a_new_job_does_not_run_before_its_first_tick(books: Books) -> None:
    await off_for(books, hourly(), "0 hours")
    await books.scheduler(hourly())
    await asyncio.sleep(0.3)
    assert await books.runs("hourly") == []
    assert await books.admin.fetchval(
        "SELECT next_due = date_trunc('hour', clock_timestamp()) + interval '1 hour' FROM batch_job"
    )


@pytest.mark.parametrize(("catch_up", "count"), [("latest", 1), ("each", 3)])
async def test_after_being_off_the_newest_ticks_are_made_up_for(
    books: Books, catch_up: Literal["latest", "each"], count: int
) -> None:
    job = hourly(catch_up=catch_up, catch_up_limit=3)
    await off_for(books, job, "5 hours")
    await books.scheduler(job)
    assert await settled(books, "hourly", count) == ["done"] * count
    newest = await books.admin.fetchval("SELECT date_trunc('hour', clock_timestamp())")
    ticks = [newest - timedelta(hours=back) for back in reversed(range(count))]
    assert [tick for tick, _ in await books.effects("hourly")] == ticks, "in their order"
    await asyncio.sleep(0.2)
    assert len(await books.runs("hourly")) == count


async def test_a_changed_schedule_goes_on_from_the_last_tick_that_was_decided(books: Books) -> None:
    await off_for(books, hourly(), "5 hours")
    await books.scheduler(Job("hourly", DOMAIN, Every(7_200), one_effect, catch_up="each"))

    async def all_done() -> bool:
        return set(await books.states("hourly")) == {"done"}

    await until(all_done)
    assert len(await books.states("hourly")) in (2, 3), "of five hours"
    assert all(run["scheduled_for"].hour % 2 == 0 for run in await books.runs("hourly"))


async def slow(run: Run) -> None:
    await asyncio.sleep(0.35)
    await one_effect(run)


async def test_a_tick_waits_for_an_earlier_one_and_each_has_its_turn(books: Books) -> None:
    await books.scheduler(Job("slow", DOMAIN, Every(0.2), slow, catch_up="each"))
    await settled(books, "slow", 4)
    seen = [(one.what, one.tick) for one in await books.happenings() if one.what != "effect"][:8]
    assert [what for what, _ in seen] == ["running", "done"] * 4
    ticks = [tick for _, tick in seen[::2]]
    assert [later - first for first, later in pairwise(ticks)] == [timedelta(seconds=0.2)] * 3


async def test_a_tick_that_comes_too_early_is_skipped_if_so_wanted(books: Books) -> None:
    await books.scheduler(Job("slow", DOMAIN, Every(0.1), slow, catch_up="each", overlap="skip"))
    states = await settled(books, "slow", 10)
    assert states.count("done") >= 2 and states.count("skipped") >= 4
    errors = {run["error"] for run in await books.runs("slow") if run["state"] == "skipped"}
    assert errors == {"an earlier tick was still running"}


async def test_of_ticks_that_wait_only_the_newest_is_run_when_that_is_the_policy(books: Books) -> None:
    await books.scheduler(Job("slow", DOMAIN, Every(0.1), slow))
    states = await settled(books, "slow", 10)
    assert states.count("done") >= 2
    errors = {run["error"] for run in await books.runs("slow") if run["state"] == "skipped"}
    assert errors == {"a newer tick took its place"}
    done = [one.tick for one in await books.happenings() if one.what == "done"]
    assert done == sorted(done)


async def test_two_runs_of_a_job_cannot_stand_as_running(books: Books) -> None:
    await off_for(books, hourly(), "0 hours")
    running = (
        "INSERT INTO batch_run (job, scheduled_for, state, due_at, lease_until)"
        " VALUES ('hourly', $1, 'running', now(), now())"
    )
    await books.admin.execute(running, datetime(2026, 1, 1, tzinfo=UTC))
    with pytest.raises(asyncpg.UniqueViolationError):
        await books.admin.execute(running, datetime(2026, 1, 2, tzinfo=UTC))


async def test_a_daily_tick_follows_the_clocks_of_its_zone(books: Books) -> None:
    """New York: on 8 March 2026 there is no 02:30, on 1 November 2026 there are two 01:30. Seoul never changes."""

    async def ticks(at: str, zone: str, after: str, upto: str) -> list[str]:
        rows = await books.admin.fetch(
            "SELECT tick FROM batch_ticks(NULL, $1::text::time, $2, $3::text::timestamptz, $4::text::timestamptz, 10)"
            " AS tick ORDER BY tick", at, zone, after, upto,
        )  # fmt: skip
        found = [row["tick"] for row in rows]
        chained, last = [], datetime.fromisoformat(after)
        for _ in found:
            last = await books.admin.fetchval("SELECT batch_next(NULL, $1::text::time, $2, $3)", at, zone, last)
            chained.append(last)
        assert chained == found, "one by one they are the same"
        return [tick.astimezone(UTC).strftime("%d %H:%M") for tick in found]

    spring = await ticks("02:30", "America/New_York", "2026-03-07 00:00+00:00", "2026-03-10 00:00+00:00")
    assert spring == ["07 07:30", "08 07:30", "09 06:30"]
    autumn = await ticks("01:30", "America/New_York", "2026-10-31 00:00+00:00", "2026-11-03 00:00+00:00")
    assert autumn == ["31 05:30", "01 06:30", "02 06:30"]
    seoul = await ticks("03:00", "Asia/Seoul", "2026-03-07 00:00+00:00", "2026-03-09 18:00:00+00:00")
    assert seoul == ["07 18:00", "08 18:00", "09 18:00"]


async def test_a_daily_job_runs_for_the_local_day(books: Books) -> None:
    job = Job("daily", DOMAIN, Daily(time(4, 15), "Asia/Seoul"), one_effect, catch_up="each")
    await off_for(books, job, "2 days")
    await books.scheduler(job)
    states = await settled(books, "daily", 2)
    assert states == ["done", "done"]
    assert {run["scheduled_for"].strftime("%H:%M") for run in await books.runs("daily")} == {"19:15"}


async def test_a_tick_is_run_by_hand_once(books: Books) -> None:
    await books.scheduler(hourly())

    async def known() -> bool:
        return bool(await list_jobs(books.admin))

    await until(known)
    past = datetime(2026, 2, 3, 4, tzinfo=UTC)
    assert await run_now(books.admin, "hourly", past) == past
    extra = await run_now(books.admin, "hourly")
    assert await settled(books, "hourly", 2, within_s=5) == ["done", "done"]
    assert [tick for tick, _ in await books.effects("hourly")] == [past, extra]
    with pytest.raises(NotPossible, match="done already"):
        await run_now(books.admin, "hourly", past)
    with pytest.raises(NotPossible, match="lies ahead"):
        await run_now(books.admin, "hourly", datetime(2100, 1, 1, tzinfo=UTC))
    with pytest.raises(NotPossible, match="no job"):
        await run_now(books.admin, "nightly")


async def test_history_keeps_the_newest_runs_only(books: Books) -> None:
    await books.scheduler(Job("often", DOMAIN, Every(0.05), one_effect, keep=5))

    async def many() -> bool:
        return sum(one.what == "done" for one in await books.happenings()) >= 65

    await until(many, 30)
    # Pruned at every twentieth end; ticks that were skipped meanwhile stand there as well.
    ended = [state for state in await books.states("often") if state in ("done", "skipped")]
    assert len(ended) < 65 and ended.count("done") <= 5 + 20 + 5
    assert await books.admin.fetchval("SELECT count(*) FROM batch_chunk") <= 31


async def test_outcomes_are_counted(books: Books) -> None:
    def count(outcome: str) -> float:
        return REGISTRY.get_sample_value("doorbuster_job_runs_total", {"job": "hourly", "outcome": outcome}) or 0.0

    before = count("done"), count("retried"), count("failed")
    work = Brittle()
    job = hourly(work, attempts=2, backoff_s=0)
    await off_for(books, job, "1 hour")
    await books.scheduler(job)
    await settled(books, "hourly", 1)
    work.mended = True
    await run_now(books.admin, "hourly")
    await settled(books, "hourly", 2)
    await asyncio.sleep(0.1)
    assert (count("done"), count("retried"), count("failed")) == (before[0] + 1, before[1] + 1, before[2] + 1)
    since = REGISTRY.get_sample_value("doorbuster_job_since_success_seconds", {"job": "hourly"})
    assert since is not None and since < 5


async def test_an_idle_scheduler_asks_once_in_three_seconds_for_all_jobs_of_a_domain(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    hour = (await books.admin.fetchval("SELECT clock_timestamp() AT TIME ZONE 'UTC'")).hour
    far = Daily(time((hour + 12) % 24, 0))
    await books.scheduler(*(Job(f"daily-{number}", DOMAIN, far, one_effect) for number in range(8)))
    asked: list[tuple[int, str]] = []

    def counted(method: str) -> None:
        real = getattr(asyncpg.Connection, method)

        async def ask(self: asyncpg.Connection[asyncpg.Record], query: str, *args: Any, **how: Any) -> Any:
            asked.append((self.get_server_pid(), query))
            return await real(self, query, *args, **how)

        monkeypatch.setattr(asyncpg.Connection, method, ask)

    for method in ("execute", "fetch", "fetchrow", "fetchval"):
        counted(method)
    await asyncio.sleep(1)
    before = len(asked)
    await asyncio.sleep(9)
    window = asked[before:]
    # Other tests of the session may have left a whole shop running in this process.
    here = await books.admin.fetch("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
    mine = [query for pid, query in window if pid in {row["pid"] for row in here}]
    assert 2 <= len(mine) <= 4 and set(mine) == {ledger.LOOK}
