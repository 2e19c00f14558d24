"""What cannot be handled is set aside by key, in order, tried again, and goes on in order when it is requeued."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import asyncpg
import pytest

from doorbuster.engines.event_log import Event, Subscription, dead_letters
from doorbuster.engines.event_log.tests import consumer_process
from doorbuster.engines.event_log.tests.history import (
    Log,
    count_up,
    numbers,
    until,
)
from doorbuster.platform.db import Conn


class Allergic:
    """A handler that refuses the second event of key 3 until it is cured."""

    def __init__(self, error: type[Exception] = ValueError) -> None:
        self.cured = False
        self.error = error

    async def __call__(self, conn: Conn, events: Sequence[Event]) -> None:
        if not self.cured and any(event.key == "3" and event.aggregate_version == 2 for event in events):
            raise self.error("cannot stomach this one")
        await consumer_process.note(conn, events)

    def subscription(self) -> Subscription:
        return Subscription("test.sub", "test.pub", frozenset({"Counted"}), self)


@pytest.mark.parametrize("error", [ValueError, TimeoutError, FileNotFoundError])
async def test_a_poison_event_parks_its_key_in_order_and_a_requeue_goes_on_in_order(
    log: Log, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    monkeypatch.setattr(dead_letters, "MAX_TRIES", 3)
    allergic = Allergic(error)
    reader = await log.reader(allergic.subscription(), lease_s=0.6)
    for _ in range(4):
        await count_up("3")
        await count_up("4")

    async def others_done() -> bool:
        return await numbers(log, "4") == [1, 2, 3, 4]

    async def given_up() -> bool:
        letters = await dead_letters.list_dead_letters("test.sub")
        return [letter.tries for letter in letters] == [3, 0, 0] and not any(letter.retry_at for letter in letters)

    await until(others_done, within_s=5)
    await until(given_up)
    letters = await dead_letters.list_dead_letters("test.sub")
    assert [letter.key for letter in letters] == ["3", "3", "3"]
    assert letters[0].error == f"{error.__name__}: cannot stomach this one"
    assert await numbers(log, "3") == [1]

    allergic.cured = True
    await count_up("3")
    assert await dead_letters.requeue("test.sub", "test.pub", "3") >= 3
    await count_up("3")

    async def in_order() -> bool:
        return await numbers(log, "3") == [1, 2, 3, 4, 5, 6]

    await until(in_order, within_s=5)
    assert await dead_letters.list_dead_letters("test.sub") == []
    await reader.stop()


async def test_a_passing_failure_is_tried_again_by_itself(log: Log) -> None:
    allergic = Allergic()
    reader = await log.reader(allergic.subscription())
    for _ in range(3):
        await count_up("3")

    async def set_aside() -> bool:
        return len(await dead_letters.list_dead_letters("test.sub")) == 2

    async def all_of_it() -> bool:
        return await numbers(log, "3") == [1, 2, 3]

    await until(set_aside)
    allergic.cured = True
    await until(all_of_it, within_s=5)
    await reader.stop()


async def test_a_handler_that_swallows_an_error_of_postgresql_parks_only_that_key(log: Log) -> None:
    async def careless(conn: Conn, events: Sequence[Event]) -> None:
        await consumer_process.note(conn, events)
        for event in events:
            if event.key == "3":
                with suppress(asyncpg.PostgresError):
                    await conn.execute("SELECT 1 / 0")

    for key in ("3", "4"):
        await count_up(key)
    reader = await log.reader(Subscription("test.sub", "test.pub", frozenset({"Counted"}), careless))

    async def other_done() -> bool:
        return await numbers(log, "4") == [1]

    await until(other_done)
    await reader.stop()
    assert await numbers(log, "3") == []
    assert [letter.key for letter in await dead_letters.list_dead_letters("test.sub")] == ["3"]
