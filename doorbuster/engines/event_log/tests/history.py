"""A publishing and a consuming schema under test: writers that make history, and the checker that reads it back."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from doorbuster.engines import event_log
from doorbuster.engines.event_log import EventLog, Fact, Subscription
from doorbuster.engines.event_log.tests import consumer_process
from doorbuster.platform import db

KEYS = 20


class Log:
    """A publishing and a consuming schema of their own in one database."""

    def __init__(self, admin: asyncpg.Connection[asyncpg.Record], settings_file: Path) -> None:
        self.admin = admin
        self.settings_file = settings_file
        self._readers: list[EventLog] = []
        self._processes: list[subprocess.Popen[bytes]] = []

    async def reader(self, *subscriptions: Subscription, lease_s: float = 5.0) -> EventLog:
        """A running reader, of the usual subscription unless told otherwise; stopped at the end of the test."""
        reader = EventLog(lease_s)
        self._readers.append(reader)
        await reader.start(subscriptions or [consumer_process.subscription()])
        return reader

    async def close(self) -> None:
        """Leave nothing running, also after a test that failed half-way."""
        for process in self._processes:
            process.kill()
            process.wait(5)
        for reader in self._readers:
            await reader.stop()

    async def effects(self) -> list[tuple[str, int]]:
        rows = await self.admin.fetch("SELECT key, number FROM sub.effect ORDER BY id")
        return [(row[0], row[1]) for row in rows]

    async def published(self) -> dict[str, list[int]]:
        rows = await self.admin.fetch("SELECT key, (payload->>'number')::int FROM pub.outbox ORDER BY seq")
        by_key: dict[str, list[int]] = defaultdict(list)
        for key, number in rows:
            by_key[key].append(number)
        return by_key

    def process(self, lease_s: float, linger_file: Path | None = None, linger: str = "") -> subprocess.Popen[bytes]:
        module = "doorbuster.engines.event_log.tests.consumer_process"
        more = [str(linger_file), linger] if linger_file else []
        process = subprocess.Popen([sys.executable, "-m", module, str(self.settings_file), str(lease_s), *more])
        self._processes.append(process)
        return process


async def count_up(key: str, *, xid_first: bool = False, delay_s: float = 0.0, fail: bool = False) -> None:
    """One fact: the key's counter goes up by one, in a transaction that may draw its xid early, dawdle or roll back."""
    try:
        async with db.of("test.pub").transaction() as conn:
            if xid_first:
                await conn.execute("SELECT pg_current_xact_id()")
                await asyncio.sleep(delay_s)
            number = await conn.fetchval("UPDATE counter SET number = number + 1 WHERE key = $1 RETURNING number", key)
            payload = msgspec.json.encode({"number": number})
            await event_log.publish(conn, [Fact("test.pub", key, "Counted", 1, number, payload)])
            await asyncio.sleep(delay_s)
            if fail:
                raise ZeroDivisionError
    except ZeroDivisionError:
        return


async def write_busily(count: int, seed: int) -> None:
    """16 writers with hot keys, 5 % rollbacks and random delays; half take their xid before the key's lock."""
    dice = random.Random(seed)
    queue = [str(dice.randint(1, KEYS)) for _ in range(count)]

    async def writer() -> None:
        while queue:
            await count_up(
                queue.pop(),
                xid_first=dice.random() < 0.5,
                delay_s=dice.choice((0, 0, 0.001, 0.004)),
                fail=dice.random() < 0.05,
            )

    await asyncio.gather(*(writer() for _ in range(16)))


def faults(published: dict[str, list[int]], effects: list[tuple[str, int]]) -> dict[str, int]:
    """How many facts were lost, handled twice, or handled in another order than they were made, by key."""
    seen: dict[str, list[int]] = defaultdict(list)
    for key, number in effects:
        seen[key].append(number)
    lost = sum(len(set(numbers) - set(seen[key])) for key, numbers in published.items())
    twice = sum(len(numbers) - len(set(numbers)) for numbers in seen.values())
    inverted = sum(a > b for numbers in seen.values() for a, b in pairwise(numbers))
    return {"lost": lost, "twice": twice, "inverted": inverted}


async def until(condition: Callable[[], Any], within_s: float = 15.0) -> None:
    deadline = time.monotonic() + within_s
    while not await condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.05)


async def all_handled(log: Log) -> bool:
    return len(set(await log.effects())) >= sum(len(numbers) for numbers in (await log.published()).values())


async def numbers(log: Log, key: str) -> list[int]:
    return [number for of, number in await log.effects() if of == key]
