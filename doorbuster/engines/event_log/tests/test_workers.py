"""Several workers: who owns which partitions, and when they look."""

from __future__ import annotations

import asyncio

import pytest

from doorbuster.engines import event_log
from doorbuster.engines.event_log import consume, cursors
from doorbuster.engines.event_log.tests.history import (
    Log,
    all_handled,
    count_up,
    faults,
    until,
    write_busily,
)
from doorbuster.platform import db


async def owned(log: Log) -> list[int]:
    rows = await log.admin.fetch("SELECT count(*) FROM sub.event_cursor WHERE owner <> '' GROUP BY owner ORDER BY 1")
    return [row[0] for row in rows]


async def test_workers_share_the_partitions_and_hand_them_over(log: Log) -> None:
    workers = []
    writing = asyncio.create_task(write_busily(1_200, seed=5))
    for shares in ([16], [8, 8], [4, 6, 6]):
        workers.append(await log.reader(lease_s=0.6))

        async def shared(shares: list[int] = shares) -> bool:
            return await owned(log) == shares

        await until(shared)
    await workers[0].stop()

    async def taken() -> bool:
        return await owned(log) == [8, 8]

    await until(taken, within_s=10)
    await writing
    await until(lambda: all_handled(log))
    for worker in workers[1:]:
        await worker.stop()
    assert await owned(log) == []
    assert await log.admin.fetchval("SELECT count(*) FROM sub.event_member") == 0
    assert faults(await log.published(), await log.effects()) == {"lost": 0, "twice": 0, "inverted": 0}


async def test_a_nudge_wakes_the_consumers_of_that_source(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consume, "_IDLE_S", 60.0)
    reader = await log.reader(lease_s=30)
    await asyncio.sleep(0.5)
    await count_up("1")
    event_log.nudge("test.elsewhere")
    await asyncio.sleep(0.2)
    assert await log.effects() == []
    event_log.nudge("test.pub")
    await until(lambda: all_handled(log))
    await reader.stop()


async def test_two_workers_that_both_stood_still_for_too_long_do_not_wait_for_each_other(log: Log) -> None:
    await log.admin.execute(
        "INSERT INTO sub.event_member (source, worker, seen_until, holds)"
        " SELECT 'test.pub', worker, now() - interval '1 s', 0 FROM unnest(ARRAY['one', 'other']) AS worker"
    )
    async with log.admin.transaction():
        await log.admin.execute("UPDATE sub.event_member SET seen_until = now() + interval '5 s' WHERE worker = 'one'")
        # Each would remove the other, who has not been heard of; but this one is just saying that it lives.
        async with asyncio.timeout(2), db.of("test.sub").transaction() as other:
            await cursors.lease(other, "test.pub", "other", 5.0, {})
    rows = await log.admin.fetch("SELECT worker FROM sub.event_member ORDER BY worker")
    assert [row[0] for row in rows] == ["one", "other"]
