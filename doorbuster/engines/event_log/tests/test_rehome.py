"""A dump restored into another cluster: nothing is lost, nothing comes twice, nobody reads before it is rewritten."""

from __future__ import annotations

import random
from typing import Any

import asyncpg
import msgspec
import pytest

from doorbuster.engines import event_log
from doorbuster.engines.embedded import PostgresServer
from doorbuster.engines.event_log import Fact, cursors, lag, rehome, retention
from doorbuster.engines.event_log.cursors import Position
from doorbuster.engines.event_log.tests.history import Log, until
from doorbuster.platform import db, settings
from doorbuster.platform.db import Conn

TYPES = frozenset({"Counted"})


async def write(key: str, number: int, conn: Conn) -> None:
    payload = msgspec.json.encode({"number": number})
    await event_log.publish(conn, [Fact("test.pub", key, "Counted", 1, number, payload)])


async def history(log: Log) -> None:
    """Cursors that stand at many snapshots, some in the middle of a page, with transactions open meanwhile."""
    dice = random.Random(5)
    async with db.of("test.sub").transaction() as conn:
        await cursors.join(conn, "test.pub")
    late = await asyncpg.connect(**_login("test.pub"))
    await late.execute("BEGIN; SELECT pg_current_xact_id()")
    for round_ in range(8):
        for number in range(20):
            async with db.of("test.pub").transaction() as conn:
                await write(str(dice.randint(1, 60)), round_ * 100 + number, conn)
        async with db.log_of("test.pub").connection() as reader:
            snapshot = await reader.fetchval("SELECT pg_current_snapshot()::text")
            middle = await reader.fetchval("SELECT max(seq) - 7 FROM pub.outbox")
        chosen = dice.sample(range(16), 3)
        for partition in chosen:
            old = await log.admin.fetchval(
                "SELECT snapshot::text FROM sub.event_cursor WHERE partition = $1", partition
            )
            place = Position(old, snapshot, middle) if dice.random() < 0.5 else Position(snapshot)
            await log.admin.execute(
                "UPDATE sub.event_cursor SET snapshot = $2::text::pg_snapshot, upto = $3::text::pg_snapshot,"
                " last_seq = $4 WHERE partition = $1",
                partition, place.old, place.upto, place.last_seq,
            )  # fmt: skip
    await late.execute(
        "INSERT INTO outbox (partition, topic, key, id, type, version, aggregate_version, payload)"
        " SELECT n, 'test.pub', 'late' || n, gen_random_uuid(), 'Counted', 1, 1, '{\"number\": 1}'"
        " FROM generate_series(0, 15) n"
    )
    await late.execute("COMMIT")
    await late.close()


def _login(domain: str) -> dict[str, Any]:
    login = settings.current().databases[domain]
    return {"host": login.host, "database": login.database, "user": login.user, "password": login.password}


async def unhandled(admin: asyncpg.Connection[asyncpg.Record]) -> set[tuple[int, int]]:
    """(partition, seq) of what the cursors have not passed, by their own definition."""
    rows = await admin.fetch(
        "SELECT o.partition, o.seq FROM pub.outbox o JOIN sub.event_cursor c ON c.partition = o.partition"
        " WHERE NOT pg_visible_in_snapshot(o.txid, c.snapshot)"
        " AND NOT coalesce(pg_visible_in_snapshot(o.txid, c.upto) AND o.seq <= c.last_seq, false)"
    )
    return {(row[0], row[1]) for row in rows}


async def move_to_another_cluster(log: Log) -> None:
    """What a dump and restore does: every value as it was, in a cluster with another identifier and lower numbers.

    The rows' transaction ids and the cursors' snapshots become those of a cluster that is 3,000,000 ahead of this one.
    """
    shift = 3_000_000
    await log.admin.execute(f"UPDATE pub.outbox SET txid = (txid::text::bigint + {shift})::text::xid8")
    moved = (
        f"SELECT format('%s:%s:%s', pg_snapshot_xmin(s)::text::bigint + {shift},"
        f" pg_snapshot_xmax(s)::text::bigint + {shift},"
        f" (SELECT string_agg((x::text::bigint + {shift})::text, ',' ORDER BY x::text::bigint)"
        " FROM pg_snapshot_xip(s) x))::pg_snapshot"
    )
    for column in ("snapshot", "upto"):
        await log.admin.execute(
            f"UPDATE sub.event_cursor SET {column} = ({moved.replace('(s)', f'({column})')})"
            f" WHERE {column} IS NOT NULL AND {column}::text <> '1:1:'"
        )
    await log.admin.execute("UPDATE pub.outbox_home SET system_identifier = system_identifier + 1")


async def test_after_a_move_each_cursor_stands_where_it_stood(log: Log, postgres: PostgresServer) -> None:
    await history(log)
    before = await unhandled(log.admin)
    assert before
    await move_to_another_cluster(log)
    assert await unhandled(log.admin) == before
    dsn = postgres.dsn(database=await log.admin.fetchval("SELECT current_database()"))
    assert not await rehome.is_at_home(dsn, "pub")
    await rehome.rehome(dsn, "pub", "test.pub", [rehome.Listener(dsn, "sub")])
    assert await rehome.is_at_home(dsn, "pub")
    assert await unhandled(log.admin) == before
    expected = sorted(seq for _, seq in before)
    await log.reader()

    async def caught_up() -> bool:
        return (await lag.look("test.sub", "test.pub", TYPES)).waiting == 0

    await until(caught_up)
    handled = await log.admin.fetch("SELECT key, number FROM sub.effect")
    published = await log.admin.fetch(
        "SELECT key, (payload->>'number')::int FROM pub.outbox WHERE seq = ANY($1)", expected
    )
    assert sorted(map(tuple, handled)) == sorted(map(tuple, published))


async def test_nobody_reads_a_log_of_another_cluster(log: Log) -> None:
    async with db.of("test.pub").transaction() as conn:
        await write("7", 1, conn)
    await log.admin.execute("UPDATE pub.outbox_home SET system_identifier = system_identifier + 1")
    async with db.log_of("test.pub").connection() as reader:
        with pytest.raises(retention.AnotherCluster, match="doorbuster events rehome"):
            await retention.check_home(reader, "test.pub")
    await log.reader()
    await log.admin.execute("SELECT pg_sleep(0.7)")
    assert await log.effects() == []


async def test_a_move_that_was_killed_half_way_is_finished_by_the_next(log: Log, postgres: PostgresServer) -> None:
    await history(log)
    before = await unhandled(log.admin)
    await move_to_another_cluster(log)
    dsn = postgres.dsn(database=await log.admin.fetchval("SELECT current_database()"))
    broken = rehome.Listener(dsn, "nowhere")
    with pytest.raises(asyncpg.UndefinedTableError):
        await rehome.rehome(dsn, "pub", "test.pub", [rehome.Listener(dsn, "sub"), broken])
    listeners = [rehome.Listener(dsn, "sub")]
    await rehome._rewrite_log(log.admin, "pub", "test.pub", [(log.admin, listeners[0])])
    assert not await rehome.is_at_home(dsn, "pub")
    await rehome.rehome(dsn, "pub", "test.pub", listeners)
    assert await unhandled(log.admin) == before
