"""A publisher, its connector and consumers under test, and what is asked of them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import asyncpg
import msgspec
from confluent_kafka import Consumer, Message, TopicPartition

from doorbuster.engines import event_log
from doorbuster.engines.embedded.kafka_temporary import TemporaryKafka
from doorbuster.engines.event_log import PARTITIONS, Fact, Subscription
from doorbuster.engines.event_log.kafka import KafkaEventLog, Plan, Publisher, dismantle, group_of
from doorbuster.engines.event_log.kafka.connect_api import ConnectApi
from doorbuster.engines.event_log.kafka.tests import consumer_process
from doorbuster.engines.event_log.kafka.watch import Watch
from doorbuster.engines.event_log.tests.history import KEYS, faults, until
from doorbuster.platform import db

SOURCE = "test.pub"
LEASE_S = 3.0


class Feed:
    """Guards what a test has started."""

    def __init__(
        self,
        admin: asyncpg.Connection[asyncpg.Record],
        kafka: TemporaryKafka,
        plan: Plan,
        settings_file: Path,
    ) -> None:
        self.admin = admin
        self.kafka = kafka
        self.plan = plan
        self.watcher: Watch
        self._settings_file = settings_file
        self._watching: asyncio.Task[None] | None = None
        self._running = asyncio.Event()
        self._readers: list[KafkaEventLog] = []
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def publisher(self) -> Publisher:
        return self.plan.publishers[0]

    @property
    def topic(self) -> str:
        return self.publisher.topic(SOURCE)

    def watch(self) -> None:
        """Start to watch the connector."""
        self._running.clear()
        self.watcher = Watch(self.publisher, self.plan, lambda _: self._running.set())
        self._watching = asyncio.create_task(self.watcher.run())

    async def unwatch(self) -> None:
        """Stop watching."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)

    async def running(self) -> None:
        """Wait until the watch has seen the connector run."""
        async with asyncio.timeout(60):
            await self._running.wait()

    def connect(self) -> ConnectApi:
        return ConnectApi(self.plan.connect_url)

    async def reader(self, *subscriptions: Subscription) -> KafkaEventLog:
        """A running consumer, of the usual subscription unless told otherwise."""
        reader = KafkaEventLog(self.plan.bootstrap, LEASE_S, self.publisher.topic_prefix)
        self._readers.append(reader)
        await reader.start(subscriptions or [consumer_process.subscription()])
        return reader

    def process(self, linger_file: Path) -> subprocess.Popen[bytes]:
        """A consumer in a process of its own, that stays in each effect for a while and says so in a file."""
        process = subprocess.Popen([
            sys.executable, "-m", consumer_process.__name__, str(self._settings_file), str(LEASE_S),
            self.publisher.topic_prefix, str(linger_file),
        ])  # fmt: skip
        self._processes.append(process)
        return process

    async def effects(self) -> list[tuple[str, int]]:
        return [(row[0], row[1]) for row in await self.admin.fetch("SELECT key, number FROM sub.effect ORDER BY id")]

    async def published(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for key, number in await self.admin.fetch("SELECT key, (payload->>'number')::int FROM pub.outbox ORDER BY seq"):
            found.setdefault(key, []).append(number)
        return found

    async def all_handled(self, within_s: float = 60.0) -> None:
        """Wait until every published fact has an effect."""
        count = await self.admin.fetchval("SELECT count(*) FROM pub.outbox")

        async def done() -> bool:
            return bool(await self.admin.fetchval("SELECT count(DISTINCT (key, number)) FROM sub.effect") >= count)

        await until(done, within_s)

    async def faults(self) -> dict[str, int]:
        return faults(await self.published(), await self.effects())

    async def publish(self, facts: Sequence[Fact]) -> None:
        async with db.of(SOURCE).transaction() as conn:
            await event_log.publish(conn, facts)

    async def records(self, count: int, within_s: float = 60.0) -> list[Message]:
        """The first records of the topic as they are, at least `count`."""
        return await asyncio.to_thread(self._records, count, within_s)

    def _records(self, count: int, within_s: float) -> list[Message]:
        consumer = Consumer({"bootstrap.servers": self.plan.bootstrap, "group.id": f"raw-{self.topic}", "log_level": 3})
        consumer.assign([TopicPartition(self.topic, number, 0) for number in range(PARTITIONS)])
        found: list[Message] = []
        try:
            for _ in range(int(within_s * 5)):
                found += [message for message in consumer.consume(10_000, 0.2) if message.error() is None]
                if len(found) >= count:
                    return found
            raise AssertionError(f"{len(found)} of {count} records came in time")
        finally:
            consumer.close()

    def rewind(self) -> None:
        """Have the group begin again: as if its offsets had been lost."""
        group = group_of("test.sub", SOURCE, self.publisher.topic_prefix)
        consumer = Consumer({"bootstrap.servers": self.plan.bootstrap, "group.id": group, "log_level": 3})
        consumer.commit(
            offsets=[TopicPartition(self.topic, number, 0) for number in range(PARTITIONS)], asynchronous=False
        )
        consumer.close()

    async def close(self) -> None:
        """Leave nothing running and nothing behind, also after a test that failed half-way."""
        for process in self._processes:
            process.kill()
            process.wait(5)
        for reader in self._readers:
            await reader.stop()
        await self.unwatch()
        group = group_of("test.sub", SOURCE, self.publisher.topic_prefix)
        await dismantle(self.admin, self.plan, self.publisher, [group, f"raw-{self.topic}"])


def counted(key: str, number: int) -> Fact:
    """A fact of the kind the usual subscription hears."""
    return Fact(SOURCE, key, "Counted", 1, number, msgspec.json.encode({"number": number}))


__all__ = ["KEYS", "SOURCE", "Feed", "counted"]
