"""The daily job: each tick once, whoever is killed; missed days made up; one dead provider keeps nobody else."""

from __future__ import annotations

import asyncio
import datetime as dt
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import msgspec
import pytest

from doorbuster.domains.commerce import ledger
from doorbuster.domains.commerce.ledger import store
from doorbuster.domains.commerce.ledger.tests.job_process import job_of
from doorbuster.domains.commerce.ledger.tests.till import Till, hear
from doorbuster.engines.schedule import RunLine, Scheduler, list_jobs, list_runs, retry_run, run_now
from doorbuster.platform import settings
from doorbuster.platform.calls import SYSTEM
from doorbuster.platform.settings import ProviderLogin

pytestmark = pytest.mark.usefixtures("sound_books")


@pytest.fixture
def name() -> str:
    """A job of its own for each test."""
    return f"reconcile {uuid4().hex[:8]}"


@asynccontextmanager
async def scheduling(name: str) -> AsyncIterator[None]:
    """The job is at work in this process."""
    scheduler = Scheduler([job_of(name)])
    await scheduler.start()
    try:
        yield
    finally:
        await scheduler.stop()


async def until(done: Callable[[], Awaitable[bool]], within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not await done():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.03)


async def ask(name: str) -> dt.datetime:
    """Have it run as of now, once it is known."""

    async def known() -> bool:
        async with store.DB.connection() as conn:
            return any(line.job == name for line in await list_jobs(cast(Any, conn)))

    await until(known)
    async with store.DB.connection() as conn:
        return await run_now(cast(Any, conn), name, None)


async def newest(name: str) -> RunLine:
    async with store.DB.connection() as conn:
        return (await list_runs(cast(Any, conn), name, 1))[0]


async def ended(name: str, state: str = "done") -> dict[str, Any]:
    """What its newest tick has noted, once it has ended like this."""

    async def done() -> bool:
        return (await newest(name)).state in ("done", "failed")

    await until(done)
    line = await newest(name)
    assert line.state == state, line.error
    return dict(msgspec.json.decode(bytes(line.result)))


async def yesterday(till: Till) -> None:
    """All that was sold so far was sold a day earlier: here, and at the sandbox."""
    await store.DB.write(
        "UPDATE movements SET moved_at = moved_at - interval '1 day' WHERE provider = $1 RETURNING 1", till.account
    )
    await till.sandbox.settle_wrongly(days_back=1)


async def test_a_tick_reads_yesterday_matches_it_and_says_what_it_did(till: Till, name: str) -> None:
    await till.trade(12, 3)
    await yesterday(till)
    await till.sandbox.settle_wrongly(days_back=1, missing=2, fee=2)
    async with scheduling(name):
        await ask(name)
        noted = await ended(name)
    assert noted[f"{till.account} did"] == {"rows": 13, "new": 13, "matched": 13, "opened": 4, "closed": 0}
    till.began -= dt.timedelta(days=1)
    assert await till.told() == await till.seeded()


async def test_a_scheduler_killed_between_two_pages_loses_and_doubles_nothing(
    till: Till, name: str, tmp_path: Path
) -> None:
    await till.trade(440, 10)
    await yesterday(till)
    await till.sandbox.faults(latency_ms=400)
    file = tmp_path / "settings.json"
    settings.write(settings.current(), file)
    module = "doorbuster.domains.commerce.ledger.tests.job_process"
    first = subprocess.Popen([sys.executable, "-m", module, str(file), name])
    try:
        tick = await ask(name)

        async def a_page_is_kept() -> bool:
            query = "SELECT count(*) FROM settlement_rows WHERE provider = $1"
            return bool((await store.DB.fetch(query, till.account))[0][0])

        await until(a_page_is_kept)
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait(5)
    kept = (await store.DB.fetch("SELECT count(*) FROM settlement_rows WHERE provider = $1", till.account))[0][0]
    assert 0 < kept < 450, "it was killed in the middle"
    assert (await newest(name)).state == "running"
    async with scheduling(name):
        noted = await ended(name)
    line = await newest(name)
    assert (line.scheduled_for, line.attempts) == (tick, 2)
    assert noted[f"{till.account} did"]["matched"] == 450
    assert noted[f"{till.account} did"]["rows"] == 450, "pages that were kept were not asked for again"
    assert await till.cases() == () and await till.balance() == 0
    day = till.began - dt.timedelta(days=1)
    assert (await ledger.report(SYSTEM, till.account, day)).rows == 450


async def test_days_that_nobody_read_are_made_up(till: Till, name: str) -> None:
    await till.trade(5)
    await till.sandbox.settle_wrongly(days_back=4)
    await store.DB.write(
        "UPDATE movements SET moved_at = moved_at - interval '4 days' WHERE provider = $1 RETURNING 1", till.account
    )
    async with scheduling(name):
        await ask(name)
        await ended(name)
    days = [day for _, day in await store.read_latest_days(till.account, 100)]
    assert days == [till.began - dt.timedelta(days=n) for n in range(1, 6)]
    assert await till.balance() == 0 and await till.cases() == ()


async def test_an_account_that_cannot_be_read_keeps_no_other_and_is_tried_again(till: Till, name: str) -> None:
    await till.trade(4)
    await yesterday(till)
    dead = ProviderLogin("http://127.0.0.1:1", str(till.sandbox.folder / "psp-secret"), kind="sandbox")
    both = {f"dead{till.account}": dead, till.account: till.login()}
    settings.use(msgspec.structs.replace(settings.current(), providers=both))
    async with scheduling(name):
        tick = await ask(name)
        noted = await ended(name, "failed")
        assert noted[f"{till.account} did"]["matched"] == 4
        error = (await newest(name)).error
        assert error is not None and f"dead{till.account}" in error and "unreachable" in error
        mended = msgspec.structs.replace(dead, base_url=till.sandbox.url)
        settings.use(msgspec.structs.replace(settings.current(), providers=both | {f"dead{till.account}": mended}))
        async with store.DB.connection() as conn:
            await retry_run(cast(Any, conn), name, tick)
        await ended(name)
    assert await till.cases() == (), "and what was done stays done"


async def test_two_schedulers_run_a_tick_once(till: Till, name: str) -> None:
    await till.trade(30)
    await yesterday(till)
    async with scheduling(name), scheduling(name):
        await ask(name)
        noted = await ended(name)
    assert noted[f"{till.account} did"]["matched"] == 30
    assert (await newest(name)).attempts == 1


async def test_a_fact_heard_between_two_ticks_is_matched_by_the_second(till: Till, name: str) -> None:
    late = await till.take(700)
    await till.sandbox.settle_wrongly(days_back=1)
    async with scheduling(name):
        await ask(name)
        await ended(name)
        assert [one.kind for one in await till.cases()] == ["missing_ours"]
        await hear(late)
        await ask(name)

        async def second_is_done() -> bool:
            line = await newest(name)
            return line.state == "done" and b'"matched":1' in bytes(line.result).replace(b" ", b"")

        await until(second_is_done)
    assert await till.cases() == ()
