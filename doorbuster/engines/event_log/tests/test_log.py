"""The log on real PostgreSQL: nothing lost, nothing twice, order kept, whatever is late, killed, paused or poisoned."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import msgspec
import pytest

from doorbuster.engines import event_log
from doorbuster.engines.embedded import PostgresServer
from doorbuster.engines.event_log import Event, EventLog, Fact, Subscription, consume
from doorbuster.engines.event_log.tests import consumer_process
from doorbuster.platform import db, settings
from doorbuster.platform.db import Conn
from doorbuster.platform.migrations import DomainSchema, migrate
from doorbuster.platform.settings import DatabaseLogin, Settings

KEYS = 20


class Log:
    """A publishing and a consuming schema of their own in one database."""

    def __init__(self, admin: asyncpg.Connection[asyncpg.Record], settings_file: Path) -> None:
        self.admin = admin
        self.settings_file = settings_file

    async def effects(self) -> list[tuple[str, int]]:
        rows = await self.admin.fetch("SELECT key, number FROM sub.effect ORDER BY id")
        return [(row[0], row[1]) for row in rows]

    async def published(self) -> dict[str, list[int]]:
        rows = await self.admin.fetch("SELECT key, (payload->>'number')::int FROM pub.outbox ORDER BY seq")
        by_key: dict[str, list[int]] = defaultdict(list)
        for key, number in rows:
            by_key[key].append(number)
        return by_key

    def process(self, lease_s: float) -> subprocess.Popen[bytes]:
        module = "doorbuster.engines.event_log.tests.consumer_process"
        return subprocess.Popen([sys.executable, "-m", module, str(self.settings_file), str(lease_s)])


@pytest.fixture
async def log(postgres: PostgresServer, shop: Settings, tmp_path: Path) -> AsyncIterator[Log]:
    name = f"log_{uuid4().hex[:10]}"
    owner = await asyncpg.connect(postgres.dsn())
    await owner.execute(f"CREATE DATABASE {name}")
    admin = await asyncpg.connect(postgres.dsn(database=name))
    sql = (event_log.SCHEMA_FILE,)
    pub, sub = f"{name}_pub", f"{name}_sub"
    await migrate(admin, [DomainSchema("pub", pub, "pw", sql), DomainSchema("sub", sub, "pw", sql, ("pub",))])
    await admin.execute("CREATE TABLE pub.counter (key text PRIMARY KEY, number int NOT NULL)")
    await admin.execute(f"INSERT INTO pub.counter SELECT n::text, 0 FROM generate_series(1, {KEYS}) AS n")
    await admin.execute("CREATE TABLE sub.effect (id bigserial PRIMARY KEY, key text, number int)")
    for role, schema in ((pub, "pub"), (sub, "sub")):
        await admin.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {role}")
        await admin.execute(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA {schema} TO {role}")
    host = str(postgres.socket_dir)
    logins = {"test.pub": DatabaseLogin(host, name, pub, "pw"), "test.sub": DatabaseLogin(host, name, sub, "pw")}
    with_log = msgspec.structs.replace(shop, databases={**shop.databases, **logins})
    settings.write(with_log, tmp_path / "settings.json")
    settings.use(with_log)
    yield Log(admin, tmp_path / "settings.json")
    settings.use(shop)
    for domain in logins:
        await db.of(domain).close()
    await admin.close()
    await owner.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await owner.close()


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


async def test_late_commits_lose_nothing_and_keep_the_order_of_each_key(log: Log) -> None:
    reader = EventLog()
    await reader.start([consumer_process.subscription()])
    await write_busily(2_500, seed=7)
    await until(lambda: all_handled(log))
    await reader.stop()
    assert faults(await log.published(), await log.effects()) == {"lost": 0, "twice": 0, "inverted": 0}
    assert len(await log.effects()) > 2_000


async def test_a_cursor_by_sequence_number_is_caught_by_the_checker(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    async def read_by_seq(self: Any, position: Any) -> bool:
        rows = await self._db.fetch(
            "SELECT seq, partition, key, id, type, version, aggregate_version, occurred_at, payload::text"
            " FROM pub.outbox WHERE seq > $1 ORDER BY seq LIMIT 500",
            position.last_seq,
        )
        events = [consume._event(row) for row in rows]
        if events:
            await self._handle(position, events, (position.old, None, events[-1].seq))
            position.last_seq = events[-1].seq
        return bool(events)

    monkeypatch.setattr(consume._Consumer, "_read", read_by_seq)
    reader = EventLog()
    await reader.start([consumer_process.subscription()])
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


async def test_a_poison_event_parks_its_key_in_order_and_no_other(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consume, "MAX_TRIES", 2)

    async def allergic(conn: Conn, events: Sequence[Event]) -> None:
        if any(event.key == "3" and event.aggregate_version == 2 for event in events):
            raise ValueError("cannot stomach this one")
        await consumer_process.note(conn, events)

    reader = EventLog()
    await reader.start([Subscription("test.sub", "test.pub", frozenset({"Counted"}), allergic)])
    for _ in range(4):
        await count_up("3")
        await count_up("4")

    async def others_done() -> bool:
        return [n for key, n in await log.effects() if key == "4"] == [1, 2, 3, 4]

    async def parked() -> bool:
        return bool(await log.admin.fetchval("SELECT count(*) >= 3 FROM sub.dead_letter"))

    await until(others_done)
    await until(parked)
    await reader.stop()
    rows = await log.admin.fetch("SELECT key, aggregate_version FROM sub.dead_letter ORDER BY seq")
    assert [tuple(row) for row in rows] == [("3", 2), ("3", 3), ("3", 4)]
    assert [n for key, n in await log.effects() if key == "3"] == [1]


async def test_a_long_transaction_in_another_database_delays_nobody(log: Log, postgres: PostgresServer) -> None:
    elsewhere = await asyncpg.connect(postgres.dsn())
    await elsewhere.execute("BEGIN")
    await elsewhere.execute("SELECT pg_current_xact_id()")
    reader = EventLog()
    await reader.start([consumer_process.subscription()])
    await count_up("5")
    await until(lambda: all_handled(log), within_s=3)
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
