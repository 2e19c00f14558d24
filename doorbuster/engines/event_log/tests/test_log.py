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
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import msgspec
import pytest

from doorbuster.engines import event_log
from doorbuster.engines.embedded import PostgresServer
from doorbuster.engines.event_log import Event, EventLog, Fact, Subscription, consume, dead_letters
from doorbuster.engines.event_log.cursors import Position
from doorbuster.engines.event_log.read import Page, event_of
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

    def process(self, lease_s: float, linger_file: Path | None = None) -> subprocess.Popen[bytes]:
        module = "doorbuster.engines.event_log.tests.consumer_process"
        more = [str(linger_file)] if linger_file else []
        return subprocess.Popen([sys.executable, "-m", module, str(self.settings_file), str(lease_s), *more])


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


async def test_an_owner_paused_inside_its_effect_commits_nothing_of_it(log: Log, tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    for _ in range(20):
        await count_up("2")
    first = log.process(0.5, linger_file=inside)

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


async def numbers(log: Log, key: str) -> list[int]:
    return [number for of, number in await log.effects() if of == key]


@pytest.mark.parametrize("error", [ValueError, TimeoutError, FileNotFoundError])
async def test_a_poison_event_parks_its_key_in_order_and_a_requeue_goes_on_in_order(
    log: Log, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    monkeypatch.setattr(dead_letters, "MAX_TRIES", 3)
    allergic = Allergic(error)
    reader = EventLog(lease_s=0.6)
    await reader.start([allergic.subscription()])
    for _ in range(4):
        await count_up("3")
        await count_up("4")

    async def others_done() -> bool:
        return await numbers(log, "4") == [1, 2, 3, 4]

    async def given_up() -> bool:
        letters = await event_log.list_dead_letters("test.sub")
        return [letter.tries for letter in letters] == [3, 0, 0] and not any(letter.retry_at for letter in letters)

    await until(others_done, within_s=2)
    await until(given_up)
    letters = await event_log.list_dead_letters("test.sub")
    assert [letter.key for letter in letters] == ["3", "3", "3"]
    assert letters[0].error == f"{error.__name__}: cannot stomach this one"
    assert await numbers(log, "3") == [1]

    allergic.cured = True
    await count_up("3")
    assert await event_log.requeue("test.sub", "test.pub", "3") >= 3
    await count_up("3")

    async def in_order() -> bool:
        return await numbers(log, "3") == [1, 2, 3, 4, 5, 6]

    await until(in_order, within_s=5)
    assert await event_log.list_dead_letters("test.sub") == []
    await reader.stop()


async def test_a_passing_failure_is_tried_again_by_itself(log: Log) -> None:
    allergic = Allergic()
    reader = EventLog()
    await reader.start([allergic.subscription()])
    for _ in range(3):
        await count_up("3")

    async def set_aside() -> bool:
        return len(await event_log.list_dead_letters("test.sub")) == 2

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

    reader = EventLog()
    for key in ("3", "4"):
        await count_up(key)
    await reader.start([Subscription("test.sub", "test.pub", frozenset({"Counted"}), careless)])

    async def other_done() -> bool:
        return await numbers(log, "4") == [1]

    await until(other_done, within_s=3)
    await reader.stop()
    assert await numbers(log, "3") == []
    assert [letter.key for letter in await event_log.list_dead_letters("test.sub")] == ["3"]


async def owned(log: Log) -> list[int]:
    rows = await log.admin.fetch("SELECT count(*) FROM sub.event_cursor WHERE owner <> '' GROUP BY owner ORDER BY 1")
    return [row[0] for row in rows]


async def test_workers_share_the_partitions_and_hand_them_over(log: Log) -> None:
    workers = [EventLog(lease_s=0.6) for _ in range(3)]
    writing = asyncio.create_task(write_busily(1_200, seed=5))
    for number, shares in enumerate(([16], [8, 8], [4, 6, 6])):
        await workers[number].start([consumer_process.subscription()])

        async def shared(shares: list[int] = shares) -> bool:
            return await owned(log) == shares

        await until(shared, within_s=5)
    await workers[0].stop()

    async def taken() -> bool:
        return await owned(log) == [8, 8]

    await until(taken, within_s=2)
    await writing
    await until(lambda: all_handled(log))
    for worker in workers[1:]:
        await worker.stop()
    assert await owned(log) == []
    assert await log.admin.fetchval("SELECT count(*) FROM sub.event_member") == 0
    assert faults(await log.published(), await log.effects()) == {"lost": 0, "twice": 0, "inverted": 0}


async def test_a_consumer_goes_on_after_all_its_connections_were_cut_in_the_middle(log: Log) -> None:
    reader = EventLog(lease_s=0.6)
    await reader.start([consumer_process.subscription()])
    cut = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND usename LIKE '%_sub'"
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


async def test_a_nudge_wakes_the_consumers_of_that_source(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consume, "_IDLE_S", 5.0)
    reader = EventLog(lease_s=30)
    await reader.start([consumer_process.subscription()])
    await asyncio.sleep(0.5)
    await count_up("1")
    event_log.nudge("test.elsewhere")
    await asyncio.sleep(0.2)
    assert await log.effects() == []
    event_log.nudge("test.pub")
    await until(lambda: all_handled(log), within_s=1)
    await reader.stop()


async def test_a_new_consumer_pages_through_a_long_log_from_its_beginning(log: Log) -> None:
    facts = [Fact("test.pub", str(n % KEYS), "Counted", 1, n, msgspec.json.encode({"number": n})) for n in range(1_700)]
    for start in range(0, len(facts), 425):
        async with db.of("test.pub").transaction() as conn:
            await event_log.publish(conn, facts[start : start + 425])
    others = [Fact("test.pub", str(n), "Ignored", 1, n, b"{}") for n in range(1_100)]
    async with db.of("test.pub").transaction() as conn:
        await event_log.publish(conn, others)
        await event_log.publish(conn, facts[:1])
    reader = EventLog()
    await reader.start([consumer_process.subscription()])

    async def heard() -> bool:
        return len(await log.effects()) >= 1_701

    await until(heard, within_s=5)
    await reader.stop()
    assert [number for _, number in await log.effects()] == [*range(1_700), 0]


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
    assert event_log.partition_of(text) == (expected & 0x7FFFFFFF) % 16
