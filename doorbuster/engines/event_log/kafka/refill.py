"""From the outbox straight into the topics: what may be missing there, in the order of `seq`, as the connector does."""

from __future__ import annotations

import asyncio
import functools

import asyncpg
import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from doorbuster.engines.event_log import retention
from doorbuster.engines.event_log.cursors import BEGINNING
from doorbuster.engines.event_log.kafka.connector import Publisher
from doorbuster.engines.event_log.kafka.database import Admin
from doorbuster.engines.event_log.kafka.records import headers_of
from doorbuster.engines.event_log.lag import outbox_of
from doorbuster.engines.event_log.read import event_of
from doorbuster.platform.errors import Unavailable

_LOG = structlog.get_logger("event_log.kafka")
_PAGE = 1_000
_STUCK_S = 60.0


class Refill:
    """Guards a producer while rows are replayed. Order holds per partition: what fails once fails everything after."""

    def __init__(self, bootstrap: str) -> None:
        self._failed: KafkaError | None = None
        self._sent = self._kept = 0
        self._producer = Producer({
            "bootstrap.servers": bootstrap,
            "acks": "all",
            "enable.idempotence": True,
            # Never given up one by one: a later fact of the same key must not stand before an earlier one.
            "message.timeout.ms": 0,
            "linger.ms": 5,
            "compression.type": "none",
            "queue.buffering.max.messages": 50_000,
            "log_level": 3,
        })  # fmt: skip

    async def run(self, conn: Admin, publisher: Publisher, marks: dict[str, str]) -> tuple[str, int]:
        """Send what a snapshot taken now sees and the marks do not; returns that snapshot and how many rows it were.

        Called after the slot was made, so that slot and replay together miss nothing; and while the connector stands
        still, so that no fact overtakes another. `Unavailable` when Kafka does not take them.
        """
        async with conn.transaction(isolation="repeatable_read", readonly=True):
            snapshot = str(await conn.fetchval("SELECT pg_current_snapshot()::text"))
            for source in publisher.sources:
                await retention.check_home(conn, source)
                await self._source(conn, publisher, source, marks.get(source, BEGINNING), snapshot)
        await self._drain(0)
        return snapshot, self._sent

    async def _source(self, conn: Admin, publisher: Publisher, source: str, old: str, new: str) -> None:
        topic = publisher.topic(source)
        statement = await conn.prepare(
            "SELECT seq, partition, topic, key, id, type, version, aggregate_version, occurred_at,"
            f" payload::text AS payload, traceparent FROM {outbox_of(source)}"
            " WHERE pg_visible_in_snapshot(txid, $2::text::pg_snapshot)"
            " AND NOT pg_visible_in_snapshot(txid, $1::text::pg_snapshot)"
            # No index holds the second condition, but what is below the old snapshot's xmin is all known to it.
            " AND txid >= pg_snapshot_xmin($1::text::pg_snapshot) ORDER BY seq",
            timeout=_STUCK_S,
        )
        cursor = await statement.cursor(old, new, timeout=_STUCK_S)
        while rows := await cursor.fetch(_PAGE, timeout=_STUCK_S):
            await asyncio.to_thread(self._send, topic, rows)
            await self._drain(_PAGE * 10)

    def _send(self, topic: str, rows: list[asyncpg.Record]) -> None:
        for row in rows:
            event = event_of(row)
            self._producer.produce(
                topic,
                key=event.key.encode(),
                value=event.payload,
                partition=event.partition,
                headers=list(headers_of(event, row["topic"])),
                on_delivery=self._delivered,
            )
            self._sent += 1
        self._producer.poll(0)

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        self._kept += error is None
        self._failed = self._failed or error

    async def _drain(self, most: int) -> None:
        """Wait until at most so many rows are under way; `Unavailable` after a minute without any progress."""
        deadline, kept = asyncio.get_running_loop().time() + _STUCK_S, self._kept
        while self._sent - self._kept > most:
            await asyncio.to_thread(functools.partial(self._producer.poll, 0.1))
            if self._failed is not None:
                raise Unavailable(f"Kafka refuses what is replayed: {self._failed}") from KafkaException(self._failed)
            now = asyncio.get_running_loop().time()
            if self._kept > kept:
                deadline, kept = now + _STUCK_S, self._kept
            if now > deadline:
                raise Unavailable(f"Kafka has not taken what is replayed for {_STUCK_S:g} s")

    def close(self) -> None:
        """Forget what is still under way (a repair that ended early begins again)."""
        self._producer.purge()
        self._producer.flush(1.0)
