"""`doorbuster jobs` against a real shop: the list, a tick by hand, a failed one again, and what it says to mistakes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import asyncpg
import pytest

from doorbuster.drills.temporary_shop import DrilledShop
from tests.shop.conftest import Run

T = TypeVar("T")
JOB = "account.tokens"


def listed(doorbuster: Run, *arguments: str) -> list[dict[str, Any]]:
    said = doorbuster("jobs", *arguments, "--json")
    assert said.returncode == 0, said.stderr
    found: list[dict[str, Any]] = json.loads(said.stdout)
    return found


def until(seen: Callable[[], bool], within_s: float = 10.0) -> float:
    started = time.monotonic()
    while not seen():
        assert time.monotonic() - started < within_s, "it did not happen in time"
        time.sleep(0.1)
    return time.monotonic() - started


def in_database(shop: DrilledShop, ask: Callable[[asyncpg.Connection[asyncpg.Record]], Awaitable[T]]) -> T:
    async def connected() -> T:
        conn = await asyncpg.connect(shop.dsn, timeout=10)
        try:
            return await ask(conn)
        finally:
            await conn.close()

    return asyncio.run(connected())


def test_every_sweep_and_job_is_listed_and_at_work(doorbuster: Run) -> None:
    def all_there() -> bool:
        states = {one["job"]: one["state"] for one in listed(doorbuster)}
        sweeps = {"order.sweep", "payment.resolve", "stock.expire", "deal.finish", "order.orphans"}
        return {job for job, state in states.items() if state == "sweeping"} == sweeps and JOB in states

    until(all_there)
    orders = next(one for one in listed(doorbuster) if one["job"] == "order.sweep")
    assert orders["domain"] == "commerce.order" and orders["every_s"] == 0.5 and orders["error"] is None
    assert datetime.now(UTC) - datetime.fromisoformat(orders["last_run"]) < timedelta(seconds=2)
    shown = doorbuster("jobs").stdout
    assert "order.sweep" in shown and "every 1 h" in shown and "sweeping" in shown


def test_a_tick_by_hand_is_run_by_the_shop_once(doorbuster: Run) -> None:
    tick = "2026-01-02T03:00:00Z"
    asked = doorbuster("jobs", "run", JOB, "--scheduled-for", tick)
    assert asked.returncode == 0 and tick in asked.stdout, asked.stderr
    asked_at = datetime.now(UTC)

    def done() -> bool:
        return {"scheduled_for": tick, "state": "done", "by_hand": True}.items() <= listed(
            doorbuster, "history", JOB, "--limit", "1000"
        )[-1].items()

    until(done, within_s=60)  # each look is a process of its own, so how soon it was run is read from the history
    begun = datetime.fromisoformat(listed(doorbuster, "history", JOB, "--limit", "1000")[-1]["started_at"])
    assert begun - asked_at < timedelta(seconds=6)
    again = doorbuster("jobs", "run", JOB, "--scheduled-for", tick)
    assert again.returncode == 1 and "done already" in again.stderr
    extra = json.loads(doorbuster("jobs", "run", JOB, "--json").stdout)
    assert extra["state"] == "due"
    until(lambda: listed(doorbuster, "history", JOB)[0]["state"] == "done")
    assert "by hand" in doorbuster("jobs", "history", JOB).stdout


def test_a_failed_tick_shows_its_error_and_can_be_retried(doorbuster: Run, shop_up: DrilledShop) -> None:
    tick = datetime(2026, 1, 5, 6, tzinfo=UTC)
    in_database(shop_up, lambda conn: conn.execute(
        "INSERT INTO account.batch_run (job, scheduled_for, state, due_at, attempts, ended_at, error)"
        " VALUES ($1, $2, 'failed', $2, 5, $2, 'ValueError: planted by a test')", JOB, tick,
    ))  # fmt: skip
    shown = doorbuster("jobs", "history", JOB).stdout
    assert "failed" in shown and "planted by a test" in shown
    assert next(one for one in listed(doorbuster) if one["job"] == JOB)["failed"] == 1
    assert doorbuster("jobs", "retry", JOB, "2026-01-05T15:00:00+09:00").returncode == 0

    def done() -> bool:
        by_tick = {one["scheduled_for"]: one for one in listed(doorbuster, "history", JOB)}
        return bool(by_tick["2026-01-05T06:00:00Z"]["state"] == "done")

    until(done)
    again = doorbuster("jobs", "retry", JOB, "2026-01-05T06:00:00Z")
    assert again.returncode == 1 and "only a failed one" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("history", "nightly"), "no job 'nightly'"),
        (("run", "order.sweep"), "is a sweep"),
        (("run", JOB, "--scheduled-for", "2100-01-01"), "lies ahead"),
        (("run", JOB, "--scheduled-for", "tomorrow"), "is no moment"),
        (("retry", JOB, "2001-01-01"), "has no tick"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(doorbuster: Run, arguments: tuple[str, ...], why: str) -> None:
    said = doorbuster("jobs", *arguments)
    assert said.returncode == 1 and why in said.stderr and "Traceback" not in said.stderr


def test_a_killed_worker_leaves_no_sweep_undone_for_long(doorbuster: Run, shop_up: DrilledShop) -> None:
    async def held(conn: asyncpg.Connection[asyncpg.Record]) -> tuple[str, datetime]:
        owner = "SELECT owner, seen_until FROM \"order\".batch_job WHERE job = 'order.sweep'"
        row = await conn.fetchrow(owner)
        assert row is not None
        return row["owner"], row["seen_until"]

    owner, _ = in_database(shop_up, held)
    os.kill(int(owner.split("-")[0]), signal.SIGKILL)
    assert until(lambda: in_database(shop_up, held)[0] != owner) < 3.5
    _, before = in_database(shop_up, held)
    time.sleep(1.2)
    assert in_database(shop_up, held)[1] > before
