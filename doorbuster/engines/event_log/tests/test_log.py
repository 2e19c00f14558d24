"""The log on real PostgreSQL: nothing lost, nothing twice, order kept, whatever is late, killed or paused."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Sequence
from pathlib import Path

import asyncpg
import msgspec
import pytest

from doorbuster.engines import event_log
from doorbuster.engines.embedded import PostgresServer
from doorbuster.engines.event_log import Fact, consume
from doorbuster.engines.event_log.cursors import Position
from doorbuster.engines.event_log.read import Page, event_of
from doorbuster.engines.event_log.tests.history import (
    KEYS,
    Log,
    all_handled,
    count_up,
    faults,
    until,
    write_busily,
)
from doorbuster.platform import db
from doorbuster.platform.db import Conn


async def test_late_commits_lose_nothing_and_keep_the_order_of_each_key(log: Log) -> None:
    reader = await log.reader()
    await write_busily(2_500, seed=7)
    await until(lambda: all_handled(log))
    await reader.stop()
    assert faults(await log.published(), await log.effects()) == {"lost": 0, "twice": 0, "inverted": 0}
    assert len(await log.effects()) > 2_000


async def test_a_cursor_by_sequence_number_is_caught_by_the_checker(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    async def read_by_seq(
        conn: Conn, outbox: str, types: frozenset[str], at: Position, partitions: Sequence[int], newest: str | None
    ) -> Page:
        rows = await conn.fetch(
            "SELECT seq, partition, key, id, type, version, aggregate_version, occurred_at, payload::text"
            f" FROM {outbox} WHERE partition = ANY($2::int[]) AND type = ANY($3::text[]) AND seq > $1"
            " ORDER BY seq LIMIT 500",
            at.last_seq,
            list(partitions),
            list(types),
        )
        last_seq = rows[-1]["seq"] if rows else at.last_seq
        return Page([event_of(row) for row in rows], len(rows), at.old, Position(at.old, None, last_seq))

    monkeypatch.setattr(consume, "read_page", read_by_seq)
    reader = await log.reader()
    await write_busily(1_500, seed=7)
    await asyncio.sleep(1)
    await reader.stop()
    assert faults(await log.published(), await log.effects())["lost"] > 0


async def test_killed_consumers_leave_each_effect_exactly_once(log: Log) -> None:
    writing = asyncio.create_task(write_busily(1_500, seed=11))
    dice = random.Random(3)
    for _ in range(5):
        victim = log.process(lease_s=0.5)
        await asyncio.sleep(0.9 + dice.random() * 0.5)
        victim.send_signal(signal.SIGKILL)
        victim.wait(5)
    await writing
    last = log.process(lease_s=0.5)
    await until(lambda: all_handled(log))
    last.send_signal(signal.SIGKILL)
    last.wait(5)
    assert faults(await log.published(), await log.effects()) == {"lost": 0, "twice": 0, "inverted": 0}


async def test_a_paused_owner_commits_nothing_after_it_was_taken_over(log: Log) -> None:
    first = log.process(lease_s=0.6)
    await count_up("1")
    await until(lambda: all_handled(log))
    first.send_signal(signal.SIGSTOP)
    for _ in range(30):
        await count_up("1")
    second = log.process(lease_s=0.6)
    await until(lambda: all_handled(log))
    first.send_signal(signal.SIGCONT)
    for _ in range(30):
        await count_up("1")
    await until(lambda: all_handled(log))
    await asyncio.sleep(0.5)
    for process in (first, second):
        process.send_signal(signal.SIGKILL)
        process.wait(5)
    assert faults(await log.published(), await log.effects()) == {"lost": 0, "twice": 0, "inverted": 0}


@pytest.mark.parametrize("where", ["before_effect", "in_effect"])
async def test_an_owner_paused_with_events_in_hand_commits_nothing_of_them(
    log: Log, tmp_path: Path, where: str
) -> None:
    inside = tmp_path / "inside"
    for _ in range(20):
        await count_up("2")
    first = log.process(0.5, inside, where)

    async def first_is_inside() -> bool:
        return inside.exists()

    await until(first_is_inside)
    first.send_signal(signal.SIGSTOP)
    assert await log.effects() == []
    epoch = "SELECT max(epoch) FROM sub.event_cursor"
    before = await log.admin.fetchval(epoch)
    second = log.process(0.5)
    await until(lambda: all_handled(log), within_s=5)
    assert await log.admin.fetchval(epoch) > before
    first.send_signal(signal.SIGCONT)
    await count_up("2")
    await until(lambda: all_handled(log))
    await asyncio.sleep(0.5)
    for process in (first, second):
        process.send_signal(signal.SIGKILL)
        process.wait(5)
    assert faults(await log.published(), await log.effects()) == {"lost": 0, "twice": 0, "inverted": 0}


async def test_a_consumer_goes_on_after_all_its_connections_were_cut_in_the_middle(log: Log) -> None:
    reader = await log.reader(lease_s=0.6)
    cut = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND (usename LIKE '%_sub' OR usename LIKE '%_ear')"
    )
    writing = asyncio.create_task(write_busily(1_200, seed=13))
    ended = 0
    for _ in range(4):
        await asyncio.sleep(0.4)
        ended += len(await log.admin.fetch(cut))
    await writing
    await until(lambda: all_handled(log))
    await reader.stop()
    assert ended >= 4
    assert faults(await log.published(), await log.effects()) == {"lost": 0, "twice": 0, "inverted": 0}


async def test_a_new_consumer_pages_through_a_long_log_from_its_beginning(log: Log) -> None:
    facts = [Fact("test.pub", str(n % KEYS), "Counted", 1, n, msgspec.json.encode({"number": n})) for n in range(1_700)]
    for start in range(0, len(facts), 425):
        async with db.of("test.pub").transaction() as conn:
            await event_log.publish(conn, facts[start : start + 425])
    others = [Fact("test.pub", str(n), "Ignored", 1, n, b"{}") for n in range(1_100)]
    async with db.of("test.pub").transaction() as conn:
        await event_log.publish(conn, others)
        await event_log.publish(conn, facts[:1])
    reader = await log.reader()

    async def heard() -> bool:
        return len(await log.effects()) >= 1_701

    await until(heard, within_s=5)
    await reader.stop()
    assert [number for _, number in await log.effects()] == [*range(1_700), 0]


async def test_a_long_transaction_in_another_database_delays_nobody(log: Log, postgres: PostgresServer) -> None:
    elsewhere = await asyncpg.connect(postgres.dsn())
    await elsewhere.execute("BEGIN")
    await elsewhere.execute("SELECT pg_current_xact_id()")
    reader = await log.reader()
    await count_up("5")
    await until(lambda: all_handled(log))
    await elsewhere.execute("ROLLBACK")
    await elsewhere.close()
    await reader.stop()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("21", -973932308),
        ("foobar", -790332482),
        ("a-little-bit-long-string", -985981536),
        ("a-little-bit-longer-string", -1486304829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        ("abc", 479470107),
    ],
)
def test_the_hash_is_that_of_kafkas_java_client(text: str, expected: int) -> None:
    assert event_log.murmur2(text.encode()) == expected & 0xFFFFFFFF
    assert event_log.partition_of(text) == (expected & 0x7FFFFFFF) % 16
