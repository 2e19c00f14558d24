"""Over Kafka: each fact's effect happens once and in the order of its key, whoever dies, sleeps, joins or leaves."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from confluent_kafka import Message, Producer

from doorbuster.engines.event_log import PARTITIONS, Event, dead_letters, partition_of
from doorbuster.engines.event_log.kafka import records
from doorbuster.engines.event_log.kafka.tests import consumer_process
from doorbuster.engines.event_log.kafka.tests.feed import SOURCE, Feed, counted
from doorbuster.engines.event_log.tests.history import count_up, until, write_busily
from doorbuster.platform import db
from doorbuster.platform.db import Conn

NONE = {"lost": 0, "twice": 0, "inverted": 0}
KEYS = [f"key-{number}-{number * 7919 % 1_000_003:x}" for number in range(100_000)]


def _as_the_client_does(bootstrap: str, topic: str, keys: Sequence[str]) -> dict[str, int]:
    """The partitions that Kafka's C client chooses as the Java client would."""
    chosen: dict[str, int] = {}

    def note(_: object, message: Message) -> None:
        chosen[str(message.key().decode())] = message.partition() or 0  # type: ignore[union-attr]

    producer = Producer({
        "bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "linger.ms": 20, "on_delivery": note,
        "queue.buffering.max.messages": len(keys) + 1, "log_level": 3,
    })  # fmt: skip
    for key in keys:
        producer.produce(topic, key=key.encode(), value=b"{}")
        producer.poll(0)
    assert producer.flush(60) == 0
    return chosen


async def test_the_same_key_is_in_the_same_partition_everywhere(feed: Feed) -> None:
    await feed.running()
    for first in range(0, len(KEYS), 10_000):
        await feed.publish([counted(key, 1) for key in KEYS[first : first + 10_000]])
    arrived = await feed.records(len(KEYS))
    ours = {key: partition_of(key) for key in KEYS}
    assert {str(message.key().decode()): message.partition() for message in arrived} == ours  # type: ignore[union-attr]
    assert set(ours.values()) == set(range(PARTITIONS))
    chosen = await asyncio.to_thread(_as_the_client_does, feed.plan.bootstrap, feed.topic, KEYS)
    assert chosen == ours


async def test_a_record_is_a_cloud_event_and_reads_back_as_the_fact_it_was(feed: Feed) -> None:
    await feed.running()
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await feed.publish([msgspec.structs.replace(counted("k", 7), traceparent=trace)])
    row = await feed.admin.fetchrow("SELECT * FROM pub.outbox")
    [message] = await feed.records(1)
    assert row is not None
    headers = dict(message.headers() or [])
    assert headers == {
        "ce_specversion": b"1.0",
        "ce_id": str(row["id"]).encode(),
        "ce_source": b"test.pub",
        "ce_type": b"Counted",
        "ce_time": row["occurred_at"].isoformat().replace("+00:00", "Z").encode(),
        "ce_dataversion": b"1",
        "ce_sequence": str(row["seq"]).encode(),
        "ce_aggregateversion": b"7",
        "content-type": b"application/json",
        "traceparent": trace.encode(),
    }
    event = records.event_of(message)
    assert (event.id, event.seq, event.key, event.payload) == (row["id"], row["seq"], "k", row["payload"].encode())
    assert (event.occurred_at, event.traceparent) == (row["occurred_at"], trace)
    ours = dict(records.headers_of(event, "test.pub"))
    assert ours == headers


async def test_facts_of_every_day_come_under_the_name_of_the_log(feed: Feed) -> None:
    await feed.running()
    await feed.publish([counted("k", 1)])
    await feed.admin.execute(
        "INSERT INTO pub.outbox (partition, topic, key, id, type, version, aggregate_version, payload, occurred_at)"
        " SELECT partition, topic, key, uuidv7(), type, version, n, json_build_object('number', n),"
        " occurred_at + make_interval(days => n) FROM pub.outbox, generate_series(2, 3) AS n"
    )
    found = await feed.records(3)
    assert [dict(message.headers() or [])["ce_aggregateversion"] for message in found] == [b"1", b"2", b"3"]
    assert await feed.admin.fetchval("SELECT count(DISTINCT tableoid) FROM pub.outbox") == 3


async def test_busy_writers_lose_nothing_and_no_key_is_out_of_order(feed: Feed) -> None:
    await feed.running()
    await feed.reader()
    await write_busily(600, seed=7)
    await feed.all_handled()
    assert await feed.faults() == NONE


async def test_placed_paid_cancelled_arrive_in_that_order_through_a_rebalance(feed: Feed) -> None:
    await feed.running()
    first = await feed.reader()
    orders = [f"order-{number}" for number in range(150)]
    for step in (1, 2, 3):  # placed, paid, cancelled
        for start in range(0, len(orders), 10):
            await feed.publish([counted(order, step) for order in orders[start : start + 10]])
            await asyncio.sleep(0.02)
        # Another worker joins after the first step, and the first one leaves after the second.
        if step == 1:
            await feed.reader()
        elif step == 2:
            await first.stop()
    await feed.all_handled()
    assert await feed.faults() == NONE
    owners = await feed.admin.fetchval("SELECT count(DISTINCT owner) FROM sub.inbox_owner WHERE owner <> ''")
    assert owners == 1
    assert await feed.admin.fetchval("SELECT max(epoch) FROM sub.inbox_owner") >= 2, "there was a rebalance"


async def test_what_comes_again_has_no_second_effect(feed: Feed) -> None:
    await feed.running()
    first = await feed.reader()
    await feed.publish([counted(str(number), number) for number in range(200)])
    await feed.all_handled()
    await first.stop()
    feed.rewind()
    await feed.reader()
    await feed.publish([counted("after", 1)])
    await feed.all_handled()
    assert await feed.faults() == NONE
    assert len(await feed.effects()) == 201


async def test_a_worker_frozen_in_an_effect_is_replaced_and_its_own_commits_nothing(feed: Feed, tmp_path: Path) -> None:
    await feed.running()
    frozen = feed.process(tmp_path / "lingers")
    for number in range(1, 4):
        await count_up("1")
        await asyncio.sleep(0.05 * number)

    async def lingers() -> bool:
        return (tmp_path / "lingers").exists()

    await until(lingers, 30)
    frozen.send_signal(signal.SIGSTOP)
    await feed.reader()
    began = time.monotonic()
    await count_up("1")
    await feed.all_handled(30)
    took = time.monotonic() - began
    frozen.send_signal(signal.SIGCONT)
    await count_up("1")
    await feed.all_handled(30)
    await asyncio.sleep(1)
    assert await feed.faults() == NONE
    assert took <= 12, "another worker takes over within twice the session of 3 s, and what Kafka needs to agree on it"


async def test_a_poison_key_parks_only_itself_and_goes_on_in_order(feed: Feed) -> None:
    await feed.running()
    mended = False

    async def handle(conn: Conn, events: Sequence[Event]) -> None:
        if not mended and any(event.key == "poison" for event in events):
            raise ValueError("I cannot handle this")
        await consumer_process.note(conn, events)

    await feed.reader(msgspec.structs.replace(consumer_process.subscription(), handle=handle))
    for number in range(1, 21):
        await feed.publish([counted("poison", number), counted("sound", number), counted("well", number)])

    async def others_done() -> bool:
        return len(await feed.effects()) == 40

    await until(others_done, 30)
    parked = await feed.admin.fetchval("SELECT count(*) FROM sub.dead_letter WHERE key = 'poison'")
    assert parked == 20
    mended = True
    # Its own next try may be quicker.
    with contextlib.suppress(dead_letters.NoSuchDeadLetter):
        await dead_letters.requeue("test.sub", SOURCE, "poison")
    await feed.all_handled(30)
    assert await feed.faults() == NONE
    assert await feed.admin.fetchval("SELECT count(*) FROM sub.dead_letter") == 0


async def test_facts_of_other_kinds_are_passed_over_and_records_that_are_no_facts_too(feed: Feed) -> None:
    await feed.running()
    producer = Producer({"bootstrap.servers": feed.plan.bootstrap})
    producer.produce(feed.topic, key=b"k", value=b"not ours", partition=partition_of("k"))
    half: list[tuple[str, str | bytes | None]] = [("ce_type", b"Counted")]
    producer.produce(feed.topic, key=b"k", value=b"{}", partition=partition_of("k"), headers=half)
    assert await asyncio.to_thread(producer.flush, 10) == 0
    await feed.reader()
    await feed.publish([msgspec.structs.replace(counted("k", 1), type="Other"), counted("k", 2)])

    async def done() -> bool:
        return await feed.effects() == [("k", 2)]

    await until(done, 30)


async def test_the_inbox_forgets_what_is_older_than_its_retention_only(feed: Feed) -> None:
    async with db.of("test.sub").transaction() as conn:
        await conn.execute("INSERT INTO inbox (source, event_id, handled_at) SELECT $1, uuidv7(age), now() + age"
                           " FROM unnest('{-30 days,-20 days,-1 day}'::interval[]) AS age", SOURCE)  # fmt: skip
        await conn.execute(
            "INSERT INTO inbox (source, event_id) VALUES ($1, '00000000-0000-4000-8000-000000000001')", SOURCE
        )
    await feed.reader()

    async def forgotten() -> bool:
        return bool(await feed.admin.fetchval("SELECT count(*) FROM sub.inbox") == 3)

    await until(forgotten, 30)


async def test_two_workers_share_the_partitions(feed: Feed) -> None:
    await feed.running()
    await feed.reader()
    await feed.reader()

    async def shared() -> bool:
        rows = await feed.admin.fetch("SELECT count(*) AS n FROM sub.inbox_owner WHERE owner <> '' GROUP BY owner")
        return sorted(row["n"] for row in rows) == [8, 8]

    await until(shared, 30)
