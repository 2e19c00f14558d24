"""What goes wrong with a run: work that fails, hangs or is killed half-way, and a database that is away."""

from __future__ import annotations

import asyncio
import signal
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from doorbuster.engines.embedded import PostgresServer
from doorbuster.engines.schedule import Every, Job, NotPossible, Run, list_jobs, list_runs, retry_run
from doorbuster.engines.schedule.tests.books import DOMAIN, Books, effect, until
from doorbuster.engines.schedule.tests.hourly import Brittle, hourly, off_for, one_effect, settled
from doorbuster.engines.schedule.tests.scheduler_process import Plan


async def test_what_fails_is_tried_again_then_stands_there_with_its_error_and_can_be_retried(books: Books) -> None:
    work = Brittle()
    job = hourly(work, attempts=3, backoff_s=0.1)
    await off_for(books, job, "1 hour")
    await books.scheduler(job)
    assert await settled(books, "hourly", 1) == ["failed"]
    run = (await books.runs("hourly"))[0]
    assert run["attempts"] == 3 and run["error"] == "ValueError: the second cannot be done"
    starts = [one.at for one in await books.happenings() if one.what == "running"]
    assert starts[1] - starts[0] >= timedelta(seconds=0.1) and starts[2] - starts[1] >= timedelta(seconds=0.2)
    line = (await list_jobs(books.admin))[0]
    assert (line.state, line.failed, line.error) == ("failed", 1, "ValueError: the second cannot be done")
    assert [chunk for _, chunk in await books.effects("hourly")] == ["first"], "what failed left nothing"

    work.mended = True
    await retry_run(books.admin, "hourly", run["scheduled_for"])

    async def done() -> bool:
        return await books.states("hourly") == ["done"]

    await until(done)
    assert [chunk for _, chunk in await books.effects("hourly")] == ["first", "second"]
    told = (await list_runs(books.admin, "hourly", 10))[0]
    assert bytes(told.result) == b'{"first": 1, "second": 1}' and told.chunks == 2 and told.error is None
    with pytest.raises(NotPossible, match="only a failed one"):
        await retry_run(books.admin, "hourly", run["scheduled_for"])


async def test_work_that_takes_too_long_is_interrupted_and_counts_as_failed(books: Books) -> None:
    async def never(run: Run) -> None:
        async with run.chunk("endless") as conn:
            assert conn is not None
            await effect(conn, run.job, run.scheduled_for, "endless")
            await asyncio.sleep(60)

    job = hourly(never, timeout_s=0.3, attempts=2, backoff_s=0)
    await off_for(books, job, "1 hour")
    await books.scheduler(job)
    assert await settled(books, "hourly", 1) == ["failed"]
    assert (await books.runs("hourly"))[0]["error"] == "TookTooLong: not done within 0.3 s"
    assert await books.effects("hourly") == []


async def test_work_that_cancels_itself_is_a_failure_and_not_a_stop(books: Books) -> None:
    async def gives_in(run: Run) -> None:
        raise asyncio.CancelledError

    job = hourly(gives_in, attempts=2, backoff_s=0)
    await off_for(books, job, "1 hour")
    await books.scheduler(job)
    assert await settled(books, "hourly", 1) == ["failed"]
    assert "cancelled from inside" in (await books.runs("hourly"))[0]["error"]


async def test_a_tick_that_kills_its_schedulers_is_given_up_too(books: Books) -> None:
    await off_for(books, hourly(), "1 hour")
    await books.admin.execute(
        "INSERT INTO batch_run (job, scheduled_for, state, due_at, lease_until, attempts, owner)"
        " SELECT 'hourly', seen_until, 'running', now(), clock_timestamp(), 5, 'somebody dead' FROM batch_job"
    )
    await books.scheduler(hourly())
    states = await settled(books, "hourly", 2)
    assert sorted(states) == ["done", "failed"]
    assert {run["error"] for run in await books.runs("hourly")} == {
        None, "its scheduler died or froze; that was attempt 5",
    }  # fmt: skip


async def test_killed_between_two_chunks_the_next_one_goes_on_behind_the_first(books: Books, tmp_path: Path) -> None:
    linger = tmp_path / "lingers"
    first = books.process(Plan(every_s=0.5, chunks=3, lease_s=0.5, linger_file=str(linger)))

    async def lingers() -> bool:
        return linger.exists()

    await until(lingers)
    first.send_signal(signal.SIGKILL)
    first.wait(5)
    tick = (await books.effects("one"))[0][0]
    second = books.process(Plan(every_s=0.5, chunks=3, lease_s=0.5))

    async def done() -> bool:
        return any(one.what == "done" and one.tick == tick for one in await books.happenings())

    await until(done)
    second.kill()
    seen = [(one.what, one.chunk, one.epoch) for one in await books.happenings() if one.tick == tick]
    assert seen == [
        ("running", None, 1), ("effect", "0", 1),
        ("running", None, 2), ("effect", "1", 2), ("effect", "2", 2), ("done", None, 2),
    ]  # fmt: skip


async def test_a_scheduler_that_is_stopped_gives_its_lease_up_at_once(books: Books) -> None:
    async def long(run: Run) -> None:
        for number in range(3):
            async with run.chunk(str(number)) as conn:
                if conn is not None:
                    run.note(last=number)
                    await effect(conn, run.job, run.scheduled_for, str(number))
            await asyncio.sleep(0.3 if run.notes == '{"last":0}' else 0)

    job = hourly(long, lease_s=60)
    await off_for(books, job, "1 hour")
    first = await books.scheduler(job)

    async def begun() -> bool:
        return len(await books.effects("hourly")) == 1

    await until(begun)
    await first.stop()
    run = (await books.runs("hourly"))[0]
    assert (run["state"], run["attempts"], run["result"]) == ("due", 0, '{"last": 0}')
    await books.scheduler(job)
    assert await settled(books, "hourly", 1, within_s=10) == ["done"]
    assert [chunk for _, chunk in await books.effects("hourly")] == ["0", "1", "2"]


async def test_while_the_database_is_away_schedulers_wait_and_then_catch_up(
    books: Books, postgres: PostgresServer
) -> None:
    await books.scheduler(Job("often", DOMAIN, Every(0.2), one_effect, catch_up="each", lease_s=1, backoff_s=0))
    await settled(books, "often", 2)
    name = await books.admin.fetchval("SELECT current_database()")
    owner = await asyncpg.connect(postgres.dsn())
    await owner.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    mine = await books.admin.fetchval("SELECT pg_backend_pid()")
    await owner.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND pid <> $2", name, mine
    )
    await asyncio.sleep(0.1)
    before = len(await books.runs("often"))
    await asyncio.sleep(1)
    assert len(await books.runs("often")) == before
    await owner.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    await owner.close()
    await settled(books, "often", before + 6)
    done = [run["scheduled_for"] for run in await books.runs("often") if run["state"] == "done"]
    assert len(done) == round((done[-1] - done[0]) / timedelta(seconds=0.2)) + 1, "no tick is missing"
    effects = [tick for tick, _ in await books.effects("often")]
    assert len(effects) == len(set(effects)) and set(done) <= set(effects)
