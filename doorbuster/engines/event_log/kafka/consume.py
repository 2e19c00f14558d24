"""Consuming over Kafka: a batch, its effect and its inbox rows in one transaction, and only then its offsets.

The same promise and the same handling as the log on PostgreSQL (`event_log.EventLog`); Kafka decides who reads which
partition, our database decides whose effect counts.
"""

from __future__ import annotations

import asyncio
import functools
import math
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import asyncpg
import structlog
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition
from prometheus_client import Counter

from doorbuster.engines.event_log import dead_letters, lag
from doorbuster.engines.event_log.consume import HANDLED, LEASE_S, PARKED
from doorbuster.engines.event_log.fact import Event, Subscription
from doorbuster.engines.event_log.handling import NOT_KEPT, Handling, page_span
from doorbuster.engines.event_log.kafka import inbox, records
from doorbuster.engines.event_log.running import Running
from doorbuster.platform import clock, db, ids, settings
from doorbuster.platform.db import Conn
from doorbuster.platform.errors import Unavailable

_LOG = structlog.get_logger("event_log.kafka")
UNREADABLE = Counter("doorbuster_events_unreadable_total", "Records that are no facts, passed over", ["source"])
TWICE = Counter("doorbuster_events_twice_total", "Events that came again and were dropped", ["consumer", "source"])

BATCH = 500
_POLL_S = 0.25
_TIMEOUT_S = 10.0
_AWAY_S = 0.5
_BROKEN_S = 1.0
_FORGET_EVERY_S = 600.0
_FORGET_ROUNDS = 20
# The database is away, another worker holds the partition, or has taken it: what was fetched is fetched again.
_NOT_NOW = (Unavailable, asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)
_T = TypeVar("_T")


class KafkaEventLog:
    """Guards the consumers of one process."""

    def __init__(self, bootstrap: str = "", lease_s: float = LEASE_S, topic_prefix: str = "") -> None:
        self._bootstrap = bootstrap
        self._lease_s = lease_s
        self._prefix = topic_prefix
        self._running = Running(lease_s)

    async def start(self, subscriptions: Sequence[Subscription]) -> None:
        """Begin to consume; returns at once, and goes on through outages of Kafka and of the database."""
        bootstrap = self._bootstrap or settings.current().kafka
        assert bootstrap, "the settings name no Kafka"
        self._running.start(subscriptions, lambda one: _Consumer(one, bootstrap, self._lease_s, self._prefix))

    async def stop(self) -> None:
        """Finish what is being handled (at most one lease long), stop, and give the partitions up."""
        await self._running.stop()


def group_of(consumer: str, source: str, topic_prefix: str = "") -> str:
    """The consumer group of a subscription."""
    return f"{topic_prefix}{consumer}<{source}"


class _Consumer:
    """Guards what one subscription is assigned in this process, and what of it this process owns in the database."""

    def __init__(self, subscription: Subscription, bootstrap: str, lease_s: float, prefix: str) -> None:
        self._sub = subscription
        self._source = subscription.source
        self._topic = prefix + subscription.source
        self._lease_s = lease_s
        self._me = f"{os.getpid()}-{ids.uuid7()}"
        self._db = db.of(subscription.consumer)
        self._handling = Handling(subscription)
        self._labels = (subscription.consumer, subscription.source)
        self._stopping = asyncio.Event()
        self._config = {
            "bootstrap.servers": bootstrap,
            "group.id": group_of(subscription.consumer, subscription.source, prefix),
            "client.id": self._me,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": int(lease_s * 1_000),
            "heartbeat.interval.ms": int(lease_s * 1_000 / 3),
            "fetch.wait.max.ms": 50,
            "fetch.error.backoff.ms": 50,
            "queued.max.messages.kbytes": 8_192,
            "topic.metadata.refresh.interval.ms": 5_000,
            "reconnect.backoff.max.ms": 1_000,
            "error_cb": self._complain,
            "log_level": 3,
        }
        # Kafka's client blocks, and calls back in the thread that polls: one thread, so that nothing is guarded twice.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"kafka {self._topic}")
        self._assigned: set[int] = set()
        self._epochs: dict[int, int] = {}
        self._done: list[TopicPartition] = []
        self._look_at = self._forget_at = 0.0

    def stop(self) -> None:
        """End `run` after the batch that is under way."""
        self._stopping.set()

    async def run(self) -> None:
        try:
            while not self._stopping.is_set():
                pause = _AWAY_S
                try:
                    await self._consume()
                except (Unavailable, KafkaException) as error:
                    _LOG.warning("consumer_waits", consumer=self._sub.consumer, source=self._source, why=str(error))
                except Exception as error:
                    # A bug, or SQL that fails. Said aloud, and begun again from the committed offsets: a shop whose
                    # consumer is silently gone is worse off than one whose consumer complains once a second.
                    _LOG.error("consumer_failed", consumer=self._sub.consumer, source=self._source, exc_info=error)
                    pause = _BROKEN_S
                await self._sleep(pause)
        finally:
            self._thread.shutdown(wait=False)

    async def _consume(self) -> None:
        """Batches from one membership of the group, until told to stop."""
        async with self._db.transaction() as conn:
            await inbox.join(conn, self._source)
        kafka = await self._blocking(functools.partial(Consumer, self._config))
        self._assigned, self._epochs, self._done, self._look_at = set(), {}, [], 0.0
        try:
            await self._blocking(
                functools.partial(
                    kafka.subscribe, [self._topic], on_assign=self._gained, on_revoke=self._gone, on_lost=self._gone
                )
            )
            while not self._stopping.is_set():
                batch = await self._blocking(functools.partial(self._fetch, kafka, self._wait_s()))
                try:
                    if again := await self._look_after(batch):
                        batch = [message for message in batch if _partition(message) not in again]
                        await self._blocking(functools.partial(self._go_back, kafka, again))
                        await self._gone_back(again)
                    await self._handle(self._wanted(batch))
                except _NOT_NOW as error:
                    _LOG.warning("consumer_waits", consumer=self._sub.consumer, source=self._source, why=str(error))
                    self._epochs = {}
                    await self._blocking(functools.partial(_each, kafka.seek, _positions(batch, first=True)))
                    await self._sleep(_AWAY_S)
                    continue
                self._done = _positions(batch, first=False)
                await self._sleep(self._sub.gather_s if 0 < len(batch) < BATCH else 0)
        finally:
            await self._blocking(functools.partial(self._leave, kafka))

    def _complain(self, error: KafkaError) -> None:
        """The client goes on by itself through an outage of the broker; it is only said."""
        _LOG.warning("consumer_waits", consumer=self._sub.consumer, source=self._source, why=str(error))

    def _gained(self, _: Consumer, partitions: Sequence[TopicPartition]) -> None:
        self._assigned |= {one.partition for one in partitions}

    def _gone(self, _: Consumer, partitions: Sequence[TopicPartition]) -> None:
        """Runs while polling, so nothing is being handled; what was fetched of these partitions is dropped after."""
        for one in partitions:
            self._assigned.discard(one.partition)
            self._epochs.pop(one.partition, None)

    def _wait_s(self) -> float:
        now = asyncio.get_running_loop().time()
        return max(0.0, min(_POLL_S, self._handling.retry_at - now, self._look_at - now))

    def _fetch(self, kafka: Consumer, wait_s: float) -> list[Message]:
        """Commit what was handled, and fetch what is there, at most a batch; waits only for the first. In the thread of
        the client."""
        if self._done:
            # Not waited for: if it gets lost, the facts come again and the inbox knows them.
            kafka.commit(offsets=self._done, asynchronous=True)
            self._done = []
        first = kafka.poll(wait_s)
        found = [] if first is None else [first, *kafka.consume(BATCH - 1, 0)]
        messages = []
        for message in found:
            error = message.error()
            if error is not None:
                # A topic that nobody made yet is waited for; anything else begins again with a new membership.
                if error.code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise KafkaException(error)
            elif message.partition() in self._assigned:
                messages.append(message)
        return messages

    def _leave(self, kafka: Consumer) -> None:
        """Commit and leave the group, so that others need not wait for the session to end. In the client's thread."""
        try:
            if self._done:
                kafka.commit(offsets=self._done, asynchronous=False)
        except KafkaException as error:
            _LOG.warning("offsets_not_kept", consumer=self._sub.consumer, source=self._source, why=str(error))
        finally:
            kafka.close()

    async def _look_after(self, batch: Sequence[Message]) -> dict[int, int]:
        """What is done now and then: own what was assigned, look for keys to try again, remove what is old. Returns
        the partitions that a replay has to take back first, and to which millisecond."""
        now = asyncio.get_running_loop().time()
        again: dict[int, int] = {}
        if now >= self._look_at or any(_partition(message) not in self._epochs for message in batch):
            again = await self._look_ahead()
            self._look_at = now + self._lease_s / 3
        if now >= self._handling.retry_at:
            await self._retry()
        if now >= self._forget_at:
            self._forget_at = now + _FORGET_EVERY_S
            await self._forget()
        return again

    def _go_back(self, kafka: Consumer, again: Mapping[int, int]) -> None:
        """Read on from there, or from where the group is when it is not that far yet. In the client's thread."""
        where = [TopicPartition(self._topic, partition, ms) for partition, ms in again.items()]
        since = kafka.offsets_for_times(where, _TIMEOUT_S)
        now = {one.partition: one.offset for one in kafka.committed(where, _TIMEOUT_S)}
        # Negative: no record is that young, or the group has kept no offset and begins with the first one.
        back = [one for one in since if 0 <= one.offset < now[one.partition]]
        if back:
            kafka.commit(offsets=back, asynchronous=False)
        _each(kafka.seek, back)
        for one in where:
            if one.partition not in {other.partition for other in back}:
                first = now[one.partition] if now[one.partition] >= 0 else OFFSET_BEGINNING
                kafka.seek(TopicPartition(self._topic, one.partition, first))

    async def _gone_back(self, again: Mapping[int, int]) -> None:
        async with self._db.transaction() as conn:
            await self._lock(again, conn)
            await inbox.gone_back(conn, self._source, again)
        _LOG.info("replay_begins", consumer=self._sub.consumer, source=self._source, partitions=sorted(again))

    def _wanted(self, batch: Sequence[Message]) -> list[Event]:
        """The facts of the types asked for. A record that is no fact is passed over, loudly: it has no key to park."""
        events = []
        for message in batch:
            if records.type_of(message) in self._sub.types:
                try:
                    events.append(records.event_of(message))
                except records.Unreadable as error:
                    UNREADABLE.labels(self._source).inc()
                    _LOG.error("record_unreadable", source=self._source, why=str(error))
        return events

    async def _handle(self, events: list[Event]) -> None:
        if not events:
            lag.OLDEST.labels(*self._labels).set(0)
            return
        lag.OLDEST.labels(*self._labels).set(max(0.0, (clock.utc_now() - events[0].occurred_at).total_seconds()))
        with page_span(self._sub, events):
            try:
                parked, fresh = await self._effect(events, self._handling.together)
            except NOT_KEPT:
                parked, fresh = await self._effect(events, self._handling.one_by_one)
        HANDLED.labels(*self._labels).inc(fresh - parked)
        PARKED.labels(*self._labels).inc(parked)
        TWICE.labels(*self._labels).inc(len(events) - fresh)

    async def _effect(
        self, events: list[Event], handle: Callable[[Conn, Sequence[Event]], Awaitable[int]]
    ) -> tuple[int, int]:
        """Fence, note, handle what is new; returns how many were set aside, and how many were new."""
        async with self._db.transaction() as conn:
            await self._lock({event.partition for event in events}, conn)
            fresh = await inbox.note(conn, self._source, events)
            return (await handle(conn, fresh) if fresh else 0), len(fresh)

    async def _lock(self, partitions: Iterable[int], conn: Conn) -> None:
        epochs = {partition: self._epochs.get(partition, 0) for partition in partitions}
        await inbox.lock(conn, self._source, self._me, epochs, self._lease_s)

    async def _look_ahead(self) -> dict[int, int]:
        """Own what is assigned and not owned (any more), and note when a key is to be tried again. Returns what a
        replay has to take back."""
        if not self._assigned:
            return {}
        async with self._db.transaction() as conn:
            self._epochs = await inbox.mine(conn, self._source, self._me, self._epochs)
            if missing := self._assigned - self._epochs.keys():
                self._epochs |= await inbox.take(conn, self._source, self._me, missing)
            await self._handling.look_ahead(conn, self._epochs)
            return await inbox.to_go_back(conn, self._source, self._epochs)

    async def _retry(self) -> None:
        """Try the keys that are due again, each in its own transaction."""
        self._handling.retry_at = math.inf
        async with self._db.connection() as conn:
            due = await dead_letters.due(conn, self._source, self._epochs)
        for partition, key in due:
            async with self._db.transaction() as conn:
                await self._lock([partition], conn)
                await self._handling.retry(conn, key)
        await self._look_ahead()

    async def _forget(self) -> None:
        for _ in range(_FORGET_ROUNDS):
            async with self._db.transaction() as conn:
                if await inbox.forget(conn, self._source, clock.utc_now()) == 0:
                    return

    async def _sleep(self, seconds: float) -> None:
        if seconds and not self._stopping.is_set():
            try:
                async with asyncio.timeout(seconds):
                    await self._stopping.wait()
            except TimeoutError:
                return

    async def _blocking(self, call: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)


def _partition(message: Message) -> int:
    partition = message.partition()
    assert partition is not None, "a record that came has a partition"
    return partition


def _positions(batch: Sequence[Message], *, first: bool) -> list[TopicPartition]:
    """Where each partition of the batch begins, or goes on after it."""
    found: dict[int, TopicPartition] = {}
    for message in batch:
        partition, offset = _partition(message), message.offset()
        assert offset is not None, "a record that came has an offset"
        if first and partition in found:
            continue
        found[partition] = TopicPartition(message.topic() or "", partition, offset if first else offset + 1)
    return list(found.values())


def _each(call: Callable[[TopicPartition], None], positions: Iterable[TopicPartition]) -> None:
    for position in positions:
        call(position)
