"""A log by days: made ahead, dropped only when old and handled by all; listeners read with a login that can no more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import asyncpg
import msgspec
import pytest

from doorbuster.engines import event_log
from doorbuster.engines.event_log import Fact, cursors, lag, retention
from doorbuster.engines.event_log.tests.history import Log, all_handled, until
from doorbuster.platform import db, settings

TYPES = {"test.sub": ["Counted"]}


async def publish(count: int, key: str = "1") -> None:
    facts = [Fact("test.pub", key, "Counted", 1, n, msgspec.json.encode({"number": n})) for n in range(count)]
    async with db.of("test.pub").transaction() as conn:
        await event_log.publish(conn, facts)


async def make_old(log: Log, days: int) -> None:
    """Let what has been published so far be this many days old, in a day of its own."""
    start = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days)
    name = f"outbox_{start:%Y%m%d}"
    async with db.of("test.pub").transaction() as conn:
        await conn.execute(f"CREATE TABLE {name} (LIKE outbox INCLUDING DEFAULTS)")
        await conn.execute(
            f"WITH moved AS (DELETE FROM outbox WHERE occurred_at > now() - interval '1 day' RETURNING *)"
            f" INSERT INTO {name} SELECT (m).seq, (m).txid, (m).partition, (m).topic, (m).key, (m).id, (m).type,"
            " (m).version, (m).aggregate_version, $1::timestamptz + interval '1 hour', (m).payload, (m).traceparent"
            " FROM (SELECT moved AS m FROM moved) x",
            start,
        )
        end = start + timedelta(days=1)
        await conn.execute(
            f"ALTER TABLE outbox ATTACH PARTITION {name}"
            f" FOR VALUES FROM ('{start.isoformat()}') TO ('{end.isoformat()}')"
        )
        await conn.execute("INSERT INTO outbox_day VALUES ($1, $2, $3)", name, start, end)


async def prepare(hearers: dict[str, list[str]]) -> int:
    async with db.of("test.pub").transaction() as conn:
        return await retention.prepare(conn, hearers)


async def names() -> list[str]:
    return [day.name for day in await retention.days("test.pub")]


async def test_days_are_made_ahead_once(log: Log) -> None:
    assert len(await names()) == 8
    assert await retention.keep_days("test.pub", ahead_days=10) == (3, [])
    assert await retention.keep_days("test.pub", ahead_days=10) == (0, [])
    bounds = [(day.from_at, day.to_at) for day in await retention.days("test.pub")]
    assert all(later[0] == earlier[1] for earlier, later in pairwise(bounds))
    assert bounds[0][0] <= datetime.now(UTC) < bounds[0][1]


async def test_a_day_that_a_listener_has_not_handled_stays_until_it_has(log: Log) -> None:
    await prepare(TYPES)
    await publish(40)
    await make_old(log, 9)
    assert (await retention.keep_days("test.pub"))[1] == []
    await log.reader()
    await until(lambda: all_handled(log))
    published = await log.published()

    async def reported() -> bool:
        async with db.of("test.sub").connection() as conn:
            now, _ = await cursors.read_positions(conn, "test.pub")
        async with db.log_of("test.pub").connection() as reader:
            await retention.report(reader, "pub", "test.sub", now)
        return bool((await retention.keep_days("test.pub"))[1])

    await until(reported)
    assert len(await names()) == 8
    assert sum(len(numbers) for numbers in published.values()) == 40
    assert await log.published() == {}
    await publish(1, "2")
    await until(lambda: _has(log, "2"))


async def _has(log: Log, key: str) -> bool:
    return any(of == key for of, _ in await log.effects())


async def test_a_listener_that_never_came_keeps_every_day_and_one_off_the_map_keeps_none(log: Log) -> None:
    await prepare({"test.sub": ["Counted"], "test.never": ["Counted"]})
    await publish(3)
    await make_old(log, 9)
    await log.reader()
    await until(lambda: all_handled(log))
    assert (await retention.keep_days("test.pub"))[1] == []
    await prepare({})
    assert len((await retention.keep_days("test.pub"))[1]) == 1


async def test_a_day_younger_than_the_retention_stays(log: Log) -> None:
    await publish(3)
    await make_old(log, 5)
    assert (await retention.keep_days("test.pub", keep_days=7))[1] == []
    assert len((await retention.keep_days("test.pub", keep_days=3))[1]) == 1


async def test_a_day_in_use_is_left_for_the_next_time_and_nobody_waits_long(log: Log) -> None:
    await publish(3)
    await make_old(log, 9)
    async with log.admin.transaction():
        await log.admin.fetch("SELECT count(*) FROM pub.outbox")
        began = datetime.now(UTC)
        assert (await retention.keep_days("test.pub"))[1] == []
        assert datetime.now(UTC) - began < timedelta(seconds=2)
    assert len((await retention.keep_days("test.pub"))[1]) == 1


async def test_the_listeners_login_can_read_the_log_and_nothing_else(log: Log) -> None:
    await publish(1)
    login = settings.current().outboxes["test"]
    ear = await asyncpg.connect(
        host=login.host, database=login.database, user=login.user, password=login.password, timeout=10
    )
    try:
        assert await ear.fetchval("SELECT count(*) FROM pub.outbox") == 1
        for statement in (
            "SELECT * FROM pub.counter",
            "SELECT * FROM sub.event_cursor",
            "DELETE FROM pub.outbox",
            "UPDATE pub.outbox SET key = ''",
            "INSERT INTO pub.outbox_reader VALUES ('x', 0, '{}')",
            "DELETE FROM pub.outbox_reader",
            "SELECT nextval('pub.outbox_seq')",
            "CREATE TABLE pub.mine ()",
            "SELECT pub.make_outbox_days(1)",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await ear.execute(statement)
    finally:
        await ear.close()


async def test_lag_grows_while_nobody_handles_and_is_gone_when_all_is_handled(log: Log) -> None:
    async with db.of("test.sub").transaction() as conn:
        await cursors.join(conn, "test.pub")
    await publish(30)
    await log.admin.execute("SELECT pg_sleep(0.2)")
    behind = await lag.look("test.sub", "test.pub", {"Counted"})
    assert (behind.waiting, behind.owners) == (30, 0)
    assert behind.oldest_s >= 0.2
    assert (await lag.look("test.sub", "test.pub", {"Other"})).waiting == 0
    await log.reader()
    await until(lambda: all_handled(log))
    caught_up = await lag.look("test.sub", "test.pub", {"Counted"})
    assert (caught_up.waiting, caught_up.oldest_s, caught_up.owners) == (0, 0.0, 1)
