"""Hearing again: from a time, from the beginning, while somebody reads, and never past what was not heard."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from doorbuster.engines.event_log import cursors, dead_letters, replay
from doorbuster.engines.event_log.tests.history import Log, all_handled, count_up, numbers, until
from doorbuster.platform import db


async def times(log: Log, key: str, count: int) -> bool:
    return len(await numbers(log, key)) >= count


async def test_from_the_beginning_everything_is_heard_again_in_order(log: Log) -> None:
    for _ in range(5):
        await count_up("7")
    await log.reader()
    await until(lambda: all_handled(log))
    found = await replay("test.sub", "test.pub", None, actor="ann", note="a bug was mended")
    assert (found.from_seq, found.facts) == (1, 5)
    await until(lambda: times(log, "7", 10))
    await count_up("7")
    await until(lambda: times(log, "7", 11))
    assert await numbers(log, "7") == [1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 6]
    audit = await log.admin.fetchrow("SELECT actor, action, source, note FROM sub.event_audit")
    assert audit is not None
    assert tuple(audit) == ("ann", "replay", "test.pub", "from the beginning. a bug was mended")


async def test_from_a_time_only_what_came_since_is_heard_again(log: Log) -> None:
    await count_up("7")
    await asyncio.sleep(0.05)
    since = datetime.now(UTC)
    await count_up("7")
    await count_up("8")
    await log.reader()
    await until(lambda: all_handled(log))
    await replay("test.sub", "test.pub", since, actor="ann")
    await until(lambda: times(log, "7", 3))
    assert await numbers(log, "7") == [1, 2, 2]
    await until(lambda: times(log, "8", 2))


async def test_from_the_future_nothing_is_heard_again_and_nothing_is_missed(log: Log) -> None:
    await count_up("7")
    await log.reader()
    await until(lambda: all_handled(log))
    await replay("test.sub", "test.pub", datetime.now(UTC) + timedelta(hours=1), actor="ann")
    await count_up("7")
    await until(lambda: times(log, "7", 2))
    await asyncio.sleep(0.2)
    assert await numbers(log, "7") == [1, 2]


async def test_what_was_never_handled_is_not_skipped_by_a_replay_from_a_later_time(log: Log) -> None:
    async with db.of("test.sub").transaction() as conn:
        await cursors.join(conn, "test.pub")
    await count_up("7")
    await asyncio.sleep(0.05)
    await replay("test.sub", "test.pub", datetime.now(UTC), actor="ann")
    await log.reader()
    await until(lambda: times(log, "7", 1))
    assert await numbers(log, "7") == [1]


async def test_a_transaction_that_was_open_during_the_replay_is_heard_once(log: Log) -> None:
    await count_up("7")
    await log.reader()
    await until(lambda: all_handled(log))
    slow = asyncio.create_task(count_up("8", xid_first=True, delay_s=0.4))
    await asyncio.sleep(0.5)
    await replay("test.sub", "test.pub", None, actor="ann")
    await slow
    await until(lambda: times(log, "8", 1))
    await until(lambda: times(log, "7", 2))
    assert (await numbers(log, "7"), await numbers(log, "8")) == ([1, 1], [1])


async def test_a_replay_meets_what_is_set_aside_and_leaves_it_there(log: Log) -> None:
    await count_up("7")
    await log.reader()
    await until(lambda: all_handled(log))
    await log.admin.execute(
        "INSERT INTO sub.dead_letter (source, seq, partition, key, id, type, version, aggregate_version, occurred_at,"
        " payload, error) SELECT 'test.pub', seq, partition, key, id, type, version, aggregate_version, occurred_at,"
        " payload, 'given up' FROM pub.outbox"
    )
    await replay("test.sub", "test.pub", None, actor="ann")
    await count_up("7")
    await count_up("8")
    await until(lambda: times(log, "8", 1))
    waiting = await dead_letters.list_dead_letters("test.sub")
    assert [(letter.seq, letter.error) for letter in waiting] == [(1, "given up"), (2, dead_letters.WAITS)]
    dropped = await dead_letters.drop("test.sub", "test.pub", "7", actor="ann", note="of no use")
    assert dropped == 1
    await until(lambda: times(log, "7", 2))
    assert await numbers(log, "7") == [1, 2]
