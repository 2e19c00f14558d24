"""Consuming: read what is new, then commit its effect and the cursor together, for all partitions this worker owns.

What a handler refuses is set aside with its key, to be tried again; everything else goes on at once.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
from collections.abc import Sequence

import asyncpg
import structlog
from prometheus_client import Counter, Gauge

from doorbuster.engines.event_log import cursors, dead_letters
from doorbuster.engines.event_log.cursors import Held, Position
from doorbuster.engines.event_log.fact import Event, Subscription
from doorbuster.engines.event_log.read import Page, read_page
from doorbuster.platform import clock, db, ids
from doorbuster.platform.db import Conn
from doorbuster.platform.errors import Unavailable

_LOG = structlog.get_logger("event_log")
HANDLED = Counter("doorbuster_events_handled_total", "Events handled", ["consumer", "source"])
PARKED = Counter("doorbuster_events_parked_total", "Events set aside", ["consumer", "source"])
LAG = Gauge("doorbuster_events_lag_seconds", "Age of the oldest event of the last page read", ["consumer", "source"])

LEASE_S = 5.0
_IDLE_S = 0.05
_COLD_S = 0.2
_COLD_AFTER = 200
_AWAY_S = 0.5
_BROKEN_S = 1.0
_ERROR_LENGTH = 2_000

# What the connection of a handler says when it is the connection that failed, and not the handler.
_CONNECTION_GONE = (asyncpg.OperatorInterventionError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError)

_sleepers: dict[str, set[asyncio.Event]] = {}


def nudge(source: str) -> None:
    """Wake this process's consumers of a domain's facts, after it has published; without it they look by themselves
    within 50 ms, or 200 ms when nothing has happened for 10 s. Call it from the event loop of the consumers."""
    for wake in _sleepers.get(source, ()):
        wake.set()


class _Refused(Exception):
    """A handler raised; the events it was given have no effect."""


class EventLog:
    """Guards the consumers of one process."""

    def __init__(self, lease_s: float = LEASE_S) -> None:
        self._running: list[tuple[_Consumer, asyncio.Task[None]]] = []
        self._lease_s = lease_s

    async def start(self, subscriptions: Sequence[Subscription]) -> None:
        """Begin to consume; returns at once, and goes on through outages of the database."""
        pairs = [(one.consumer, one.source) for one in subscriptions]
        assert len(set(pairs)) == len(pairs), "a consumer has one subscription, with one handler, for each source"
        for subscription in subscriptions:
            consumer = _Consumer(subscription, self._lease_s)
            self._running.append((consumer, asyncio.create_task(consumer.run())))

    async def stop(self) -> None:
        """Finish what is being handled (at most one lease long), stop, and give the partitions up."""
        for consumer, _ in self._running:
            consumer.stop()
        tasks = [task for _, task in self._running]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self._lease_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self._running.clear()


class _Consumer:
    """Guards what one subscription owns in this process, and how far it has read."""

    def __init__(self, subscription: Subscription, lease_s: float) -> None:
        self._sub = subscription
        self._source = subscription.source
        self._lease_s = lease_s
        self._me = f"{os.getpid()}-{ids.uuid7()}"
        self._db = db.of(subscription.consumer)
        self._outbox = f'"{subscription.source.split(".")[1]}".outbox'
        self._held: dict[int, Held] = {}
        self._lease_at = 0.0
        self._retry_at = math.inf
        self._stopping = False
        self._wake = asyncio.Event()
        self._labels = (subscription.consumer, subscription.source)

    def stop(self) -> None:
        """End `run` after the round that is under way."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        _sleepers.setdefault(self._source, set()).add(self._wake)
        try:
            while not self._stopping:
                pause = _AWAY_S
                try:
                    await self._consume()
                except Unavailable as error:
                    _LOG.warning("consumer_waits", consumer=self._sub.consumer, source=self._source, why=str(error))
                except Exception as error:
                    # A bug, or SQL that fails. Said aloud, and begun again from the stored cursors: a shop whose
                    # consumer is silently gone is worse off than one whose consumer complains once a second.
                    _LOG.error("consumer_failed", consumer=self._sub.consumer, source=self._source, exc_info=error)
                    pause = _BROKEN_S
                self._held, self._lease_at, self._retry_at = {}, 0.0, math.inf
                await self._sleep(pause)
        finally:
            _sleepers[self._source].discard(self._wake)

    async def _consume(self) -> None:
        """Rounds on one connection, until told to stop. When the connection ends, so does what was read but not saved:
        a server that crashed may give numbers of transactions that left no trace to others."""
        async with self._db.connection() as reader:
            async with self._db.transaction() as conn:
                await cursors.join(conn, self._source)
            idle = 0
            while not self._stopping:
                rows, more = await self._round(reader)
                idle = 0 if rows else idle + 1
                if not more:
                    await self._sleep(self._sub.gather_s if rows else _IDLE_S if idle < _COLD_AFTER else _COLD_S)
            async with self._db.transaction() as conn:
                await cursors.leave(conn, self._source, self._me, self._held)

    async def _sleep(self, seconds: float) -> None:
        if not self._stopping:
            self._wake.clear()
            try:
                async with asyncio.timeout(seconds * random.uniform(0.8, 1.2)):  # noqa: S311  (jitter, not a secret)
                    await self._wake.wait()
            except TimeoutError:
                return

    async def _round(self, reader: Conn) -> tuple[bool, bool]:
        """One look at the outbox for each position my partitions stand at, usually one; was there anything, is there
        more. All look up to the same snapshot, so that partitions which have caught up stand together afterwards."""
        now = asyncio.get_running_loop().time()
        if now >= self._lease_at:
            await self._lease(now)
        if now >= self._retry_at:
            await self._retry(reader)
        groups: dict[Position, dict[int, int]] = {}
        for partition, held in self._held.items():
            groups.setdefault(held.position, {})[partition] = held.epoch
        rows = more = False
        newest: str | None = None
        for position, epochs in groups.items():
            page = await read_page(reader, self._outbox, self._sub.types, position, list(epochs), newest)
            newest = page.new if position.upto is None else newest
            rows, more = rows or page.rows > 0, more or not page.is_last
            if page.events:
                await self._handle(page, epochs)
            # With nothing to handle the cursor moves in memory only; the next effect or lease saves it.
            for partition, epoch in epochs.items():
                self._held[partition] = Held(epoch, page.after)
        if not rows:
            LAG.labels(*self._labels).set(0)
        return rows, more

    async def _lease(self, now: float) -> None:
        async with self._db.transaction() as conn:
            held = await cursors.lease(conn, self._source, self._me, self._lease_s, self._held)
            pause = await dead_letters.next_due_s(conn, self._source, held)
        self._held, self._lease_at = held, now + self._lease_s / 3
        self._retry_at = math.inf if pause is None else now + pause

    async def _handle(self, page: Page, epochs: dict[int, int]) -> None:
        LAG.labels(*self._labels).set(max(0.0, (clock.utc_now() - page.events[0].occurred_at).total_seconds()))
        try:
            parked = await self._together(page, epochs)
        except (_Refused, AssertionError):
            # The assertion is that of COMMIT: the handler has swallowed an error of PostgreSQL, nothing was kept.
            parked = await self._one_by_one(page, epochs)
        HANDLED.labels(*self._labels).inc(len(page.events) - parked)
        PARKED.labels(*self._labels).inc(parked)

    async def _together(self, page: Page, epochs: dict[int, int]) -> int:
        """The usual way: one call of the handler for the page; returns how many were set aside."""
        async with self._db.transaction() as conn:
            events, behind = await self._begin(conn, page, epochs)
            if behind:
                await dead_letters.park(conn, self._source, behind, dead_letters.WAITS)
            if events:
                await self._call(conn, events)
        return len(behind)

    async def _one_by_one(self, page: Page, epochs: dict[int, int]) -> int:
        """After a refusal: each event under a savepoint of its own, to find those whose key has to be set aside."""
        parked = 0
        async with self._db.transaction() as conn:
            events, behind = await self._begin(conn, page, epochs)
            keys = {event.key for event in behind}
            for event in sorted([*behind, *events], key=lambda event: event.seq):
                error = dead_letters.WAITS if event.key in keys else await self._try(conn, event)
                if error is None:
                    continue
                parked += 1
                await dead_letters.park(conn, self._source, [event], error)
                if event.key not in keys:
                    keys.add(event.key)
                    await self._count_failure(conn, event, 1, error)
        return parked

    async def _begin(self, conn: Conn, page: Page, epochs: dict[int, int]) -> tuple[list[Event], list[Event]]:
        """Lock and move the cursors; the events to handle, and those whose key is set aside already."""
        await cursors.lock(conn, self._source, self._me, epochs, self._lease_s)
        await cursors.advance(conn, self._source, list(epochs), page.after)
        keys = await dead_letters.parked_keys(conn, self._source, {event.key for event in page.events})
        return [e for e in page.events if e.key not in keys], [e for e in page.events if e.key in keys]

    async def _retry(self, reader: Conn) -> None:
        """Try the keys that are due again, each in its own transaction, and leave a key at its first refusal."""
        self._retry_at = math.inf
        for partition, key in await dead_letters.due(reader, self._source, self._held):
            async with self._db.transaction() as conn:
                epochs = {partition: self._held[partition].epoch}
                await cursors.lock(conn, self._source, self._me, epochs, self._lease_s)
                for event, tries in await dead_letters.waiting(conn, self._source, key):
                    error = await self._try(conn, event)
                    if error is not None:
                        await self._count_failure(conn, event, tries + 1, error)
                        break
                    await dead_letters.handled(conn, self._source, event)
                else:
                    await dead_letters.resume(conn, self._source, key)
        async with self._db.transaction() as conn:
            pause = await dead_letters.next_due_s(conn, self._source, self._held)
        if pause is not None:
            self._retry_at = asyncio.get_running_loop().time() + pause

    async def _try(self, conn: Conn, event: Event) -> str | None:
        """Handle one event under a savepoint; what the handler said against it, or None when it is done."""
        await conn.execute("SAVEPOINT one")
        try:
            await self._call(conn, [event])
            # Fails when the handler has swallowed an error of PostgreSQL: then nothing it wrote can be kept either.
            await conn.execute("RELEASE SAVEPOINT one")
        except (_Refused, asyncpg.InFailedSQLTransactionError) as refused:
            await conn.execute("ROLLBACK TO SAVEPOINT one")
            cause = refused.__cause__ or refused
            return f"{type(cause).__name__}: {cause}"[:_ERROR_LENGTH]
        return None

    async def _call(self, conn: Conn, events: Sequence[Event]) -> None:
        try:
            await self._sub.handle(conn, events)
        except (Unavailable, *_CONNECTION_GONE):
            raise
        except Exception as error:
            # Whatever a handler does wrong is its refusal of these events; only a lost connection is not its doing.
            if conn.is_closed():
                raise
            _LOG.warning("handler_failed", consumer=self._sub.consumer, events=len(events), exc_info=error)
            raise _Refused from error

    async def _count_failure(self, conn: Conn, event: Event, tries: int, error: str) -> None:
        pause = await dead_letters.failed(conn, self._source, event, tries, error)
        if pause is not None:
            self._retry_at = min(self._retry_at, asyncio.get_running_loop().time() + pause)
        else:
            _LOG.error("key_given_up", consumer=self._sub.consumer, source=self._source, key=event.key, why=error)
