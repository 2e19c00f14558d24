"""A replay over Kafka: heard again in order, from a time or the beginning, by whoever owns the partitions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from doorbuster.engines.event_log import Event, Replay, replay
from doorbuster.engines.event_log.kafka import inbox
from doorbuster.engines.event_log.kafka.tests import consumer_process
from doorbuster.engines.event_log.kafka.tests.feed import SOURCE, Feed, counted
from doorbuster.engines.event_log.tests.history import until
from doorbuster.platform import settings
from doorbuster.platform.db import Conn

CLOCKS = timedelta(milliseconds=inbox._CLOCKS_DIFFER_MS)


@pytest.fixture(autouse=True)
def _over_kafka(feed: Feed) -> None:
    settings.use(msgspec.structs.replace(settings.current(), events="kafka"))


async def again(since: datetime | None = None) -> Replay:
    return await replay("test.sub", SOURCE, since, actor="ann", note="a bug was mended")


async def heard(feed: Feed, count: int, key: str = "k") -> list[int]:
    """The numbers of a key in the order they had their effect, once there are so many."""

    async def numbers() -> list[int]:
        return [number for one, number in await feed.effects() if one == key]

    async def enough() -> bool:
        return len(await numbers()) >= count

    await until(enough, 30)
    return await numbers()


async def test_from_the_beginning_everything_is_heard_again_in_order(feed: Feed) -> None:
    await feed.running()
    await feed.reader()
    await feed.publish([counted("k", number) for number in range(1, 6)])
    await heard(feed, 5)
    assert await again() == Replay(None, 5)
    await feed.publish([counted("k", 6)])
    assert await heard(feed, 11) == [1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 6]
    audit = await feed.admin.fetchrow("SELECT actor, action, source, note FROM sub.event_audit")
    assert audit is not None
    assert tuple(audit) == ("ann", "replay", SOURCE, "from the beginning. a bug was mended")


async def test_from_a_time_only_what_came_since_is_heard_again(feed: Feed) -> None:
    await feed.running()
    await feed.reader()
    await feed.publish([counted("k", 1), counted("k", 2)])
    await heard(feed, 2)
    await asyncio.sleep(0.05)
    since = datetime.now(UTC) + CLOCKS
    await feed.publish([counted("k", 3)])
    await heard(feed, 3)
    assert (await again(since)).facts == 1
    await feed.publish([counted("k", 4)])
    assert await heard(feed, 5) == [1, 2, 3, 3, 4]


async def test_from_the_future_nothing_is_heard_again_and_nothing_is_missed(feed: Feed) -> None:
    await feed.running()
    await feed.reader()
    await feed.publish([counted("k", 1)])
    await heard(feed, 1)
    assert (await again(datetime.now(UTC) + timedelta(hours=1))).facts == 0
    await feed.publish([counted("k", 2)])
    assert await heard(feed, 2) == [1, 2]


async def test_what_nobody_has_heard_yet_is_not_skipped_by_a_replay_from_a_later_time(feed: Feed) -> None:
    await feed.running()
    await feed.publish([counted("k", 1)])
    await feed.records(1)
    await again(datetime.now(UTC) + timedelta(hours=1))
    await feed.reader()
    assert await heard(feed, 1) == [1]


async def test_a_consumer_that_was_off_begins_where_the_replay_says(feed: Feed) -> None:
    await feed.running()
    first = await feed.reader()
    await feed.publish([counted("k", 1), counted("k", 2)])
    await heard(feed, 2)
    await first.stop()
    await again()
    await feed.publish([counted("k", 3)])
    await feed.reader()
    assert await heard(feed, 5) == [1, 2, 1, 2, 3]


async def test_facts_under_way_during_a_replay_come_after_those_before_them(feed: Feed) -> None:
    """The handler is inside its effect of number 3 when the replay begins; it may end, and then all come again."""
    inside, go_on = asyncio.Event(), asyncio.Event()
    usual = consumer_process.subscription()

    async def slowly(conn: Conn, events: Sequence[Event]) -> None:
        await usual.handle(conn, events)
        if any(b"3" in event.payload for event in events):
            inside.set()
            await go_on.wait()

    await feed.running()
    await feed.reader(msgspec.structs.replace(usual, handle=slowly))
    await feed.publish([counted("k", 1), counted("k", 2)])
    await heard(feed, 2)
    await feed.publish([counted("k", 3)])
    await asyncio.wait_for(inside.wait(), 20)
    replaying = asyncio.create_task(again())
    await asyncio.sleep(0.2)
    go_on.set()
    assert (await replaying).facts == 3
    await feed.publish([counted("k", 4)])
    assert await heard(feed, 7) == [1, 2, 3, 1, 2, 3, 4]
