"""What breaks between the outbox and the topics is repaired by itself, without loss and without reordering."""

from __future__ import annotations

import asyncio
import signal
import stat
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from doorbuster.engines.event_log.kafka import Plan, database, render, watch_child
from doorbuster.engines.event_log.kafka.connector import Publisher
from doorbuster.engines.event_log.kafka.refill import Refill
from doorbuster.engines.event_log.kafka.tests.feed import SOURCE, Feed, counted
from doorbuster.engines.event_log.tests.history import until, write_busily
from doorbuster.platform.errors import Unavailable
from doorbuster.platform.settings import DatabaseLogin

NONE = {"lost": 0, "twice": 0, "inverted": 0}


async def test_connect_killed_delivers_again_by_itself(feed: Feed) -> None:
    """How soon is a mark of `doorbuster bench --events`; timed in a test on a busy machine it would measure that."""
    await feed.running()
    await feed.reader()
    await feed.publish([counted("k", 1)])
    await feed.all_handled()
    assert feed.kafka.signal("connect", signal.SIGKILL)
    await feed.publish([counted("k", 2)])
    await feed.all_handled(90)
    assert await feed.faults() == NONE


async def test_the_broker_killed_delivers_again_by_itself(feed: Feed) -> None:
    await feed.running()
    await feed.reader()
    await write_busily(100, seed=9)
    assert feed.kafka.signal("kafka", signal.SIGKILL)
    await write_busily(100, seed=10)
    await feed.all_handled(90)
    assert await feed.faults() == NONE


async def test_the_watch_is_a_process_with_a_file_that_others_cannot_read(feed: Feed, tmp_path: Path) -> None:
    await feed.unwatch()
    child = watch_child(feed.plan, tmp_path / "watch.json")
    await child.before_start()
    assert stat.S_IMODE((tmp_path / "watch.json").stat().st_mode) == 0o600
    assert not await child.ready()
    process = subprocess.Popen(child.argv)
    try:
        await until(child.ready, 60)
        await feed.reader()
        await feed.publish([counted("k", 1)])
        await feed.all_handled()
        process.send_signal(child.stop_signal)
        assert await asyncio.to_thread(process.wait, 10) == 0
    finally:
        process.kill()
        process.wait(5)


async def test_a_lost_slot_is_repaired_from_the_outbox_without_loss_or_reordering(feed: Feed) -> None:
    await feed.running()
    await feed.reader()
    await write_busily(100, seed=1)
    await feed.all_handled()
    async with _away(feed):
        await write_busily(200, seed=2)
        await _lose_slot(feed)
        await write_busily(100, seed=3)
    writing = asyncio.create_task(write_busily(300, seed=4))
    await writing
    await feed.all_handled()
    assert feed.watcher.repairs >= 1
    assert await feed.faults() == NONE


async def test_first_deliveries_are_in_order_also_across_a_repair(feed: Feed) -> None:
    await feed.running()
    async with _away(feed):
        await feed.publish([counted("k", number) for number in range(1, 51)])
        await _lose_slot(feed)
    for number in range(51, 101):
        await feed.publish([counted("k", number)])
    await feed.records(100)

    async def repaired() -> bool:
        return feed.watcher.repairs == 1

    await until(repaired, 60)
    await feed.publish([counted("k", 101)])
    seen: list[int] = []
    while not seen or seen[-1] != 101:
        found = [msgspec.json.decode(message.value() or b"")["number"] for message in await feed.records(101)]
        seen = list(dict.fromkeys(found))
    assert seen == list(range(1, 102))


async def test_a_slot_that_was_dropped_by_hand_is_noticed_and_what_it_held_is_replayed(feed: Feed) -> None:
    await feed.running()
    await feed.reader()
    async with _away(feed):
        await feed.publish([counted("k", 1), counted("k", 2)])
        await database.drop_slot(feed.admin, feed.publisher)
        await feed.publish([counted("k", 3)])
    await feed.all_handled()
    assert await feed.faults() == NONE


async def test_a_connector_whose_slot_has_gone_fails_rather_than_go_on_with_a_gap(feed: Feed) -> None:
    await feed.running()
    await feed.publish([counted("k", 1)])
    await feed.records(1)
    await feed.unwatch()
    api = feed.connect()
    try:
        await api.stop(feed.publisher.slot)
        await database.drop_slot(feed.admin, feed.publisher)
        await feed.publish([counted("k", 2)])
        await api.resume(feed.publisher.slot)

        async def failed() -> bool:
            status = await api.status(feed.publisher.slot)
            return status is not None and any(task.state == "FAILED" for task in status.tasks)

        await until(failed, 60)
    finally:
        await api.close()


async def test_a_repair_that_was_killed_half_way_is_begun_again(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    await feed.running()
    await feed.reader()
    replay, killed = Refill.run, False

    async def dies_at_the_end(self: Refill, *given: Any) -> tuple[str, int]:
        nonlocal killed
        told = await replay(self, *given)
        if not killed:
            killed = True
            raise Unavailable("killed here")
        return told

    monkeypatch.setattr(Refill, "run", dies_at_the_end)
    async with _away(feed):
        await write_busily(100, seed=5)
        await _lose_slot(feed)
    await feed.all_handled()
    assert killed
    assert await feed.faults() == NONE


async def test_what_stood_in_an_outbox_before_kafka_came_is_in_the_topic_first(feed: Feed) -> None:
    await feed.unwatch()
    await feed.publish([counted("k", number) for number in range(1, 1_501)])
    feed.watch()
    await feed.running()
    await feed.publish([counted("k", 1_501)])
    numbers = [msgspec.json.decode(message.value() or b"")["number"] for message in await feed.records(1_501)]
    assert list(dict.fromkeys(numbers)) == list(range(1, 1_502))


async def test_the_marks_follow_what_the_slot_has_confirmed(feed: Feed) -> None:
    await feed.running()
    await feed.publish([counted("k", 1)])
    txid = await feed.admin.fetchval("SELECT max(txid::text::bigint) FROM pub.outbox")

    async def seen() -> bool:
        # The log is told in the same transaction: what Kafka has, it may forget.
        return bool(
            await feed.admin.fetchval(
                "SELECT pg_visible_in_snapshot($1::text::xid8, m.snapshot) AND 16 = (SELECT count(*) FROM"
                " pub.outbox_reader r WHERE r.consumer = 'kafka' AND r.snapshot::text = m.snapshot::text)"
                " FROM door_cdc.mark m WHERE m.source = $2",
                str(txid),
                SOURCE,
            )
        )

    await until(seen, 30)


async def test_a_failed_task_is_restarted(feed: Feed) -> None:
    await feed.running()
    await feed.reader()
    await feed.admin.execute(f'ALTER ROLE "{feed.publisher.login.user}" NOREPLICATION')
    api = feed.connect()

    async def failed() -> bool:
        # Again and again: a stream opened before the role lost its right goes on, also one still on its way. Streams
        # only: a task whose every connection is cut is not refused, and tries again instead of failing.
        await feed.admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1 AND backend_type = 'walsender'",
            feed.publisher.login.user,
        )
        status = await api.status(feed.publisher.slot)
        return status is not None and any(task.state == "FAILED" for task in status.tasks)

    await until(failed, 60)
    await api.close()
    await feed.admin.execute(f'ALTER ROLE "{feed.publisher.login.user}" REPLICATION')
    await feed.publish([counted("k", 1)])
    await feed.all_handled()


async def test_the_role_reads_outboxes_and_nothing_else(feed: Feed) -> None:
    conn = await database.connect(feed.publisher.login)
    try:
        assert await conn.fetchval("SELECT count(*) FROM pub.outbox") == 0
        for refused in ("SELECT * FROM pub.counter", "SELECT * FROM sub.effect", "DELETE FROM pub.outbox"):
            with pytest.raises(Exception, match="permission denied"):
                await conn.execute(refused)
    finally:
        await conn.close()


def test_a_connector_is_told_where_the_password_is_and_not_the_password() -> None:
    publisher = Publisher("shop", DatabaseLogin("/run/pg", "shop", "door_cdc", "s3cret"), ("commerce.order",))
    told = render(publisher, Path("/secrets"))
    assert "s3cret" not in str(told)
    assert told["database.password"] == "${file:/secrets/doorbuster_shop.properties:password}"
    assert told["driver.socketFactoryArg"] == "/run/pg/.s.PGSQL.5432"
    far = msgspec.structs.replace(publisher, login=DatabaseLogin("db.internal", "shop", "door_cdc", "s3cret", 5433))
    assert render(far, Path("/secrets"))["database.hostname"] == "db.internal"
    assert "driver.socketFactory" not in render(far, Path("/secrets"))


def test_a_plan_survives_its_file() -> None:
    publisher = Publisher("shop", DatabaseLogin("/run/pg", "shop", "door_cdc", "s3cret"), ("commerce.order",))
    plan = Plan("127.0.0.1:9092", "http://127.0.0.1:8083", "/secrets", (publisher,))
    assert msgspec.json.decode(msgspec.json.encode(plan), type=Plan) == plan


class _away:
    """The connector stands still, as when Connect is away, and nobody watches it."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    async def __aenter__(self) -> None:
        await self._feed.unwatch()
        api = self._feed.connect()
        await api.stop(self._feed.publisher.slot)
        await api.close()

    async def __aexit__(self, *_: object) -> None:
        self._feed.watch()


async def _lose_slot(feed: Feed) -> None:
    """Write WAL until the server gives the slot up."""
    for _ in range(8):
        await feed.admin.execute("SELECT pg_logical_emit_message(true, 'filler', 'x'); SELECT pg_switch_wal()")
    await feed.admin.execute("CHECKPOINT")
    slot = await database.slot_of(feed.admin, feed.publisher)
    assert slot is not None
    assert slot.lost
