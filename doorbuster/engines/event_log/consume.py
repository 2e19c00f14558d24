"""Consuming: read what is new, then commit its effect and the cursor together, for all partitions this worker owns.

What a handler refuses is set aside with its key, to be tried again; everything else goes on at once.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
from collections.abc import Mapping, Sequence

import structlog
from prometheus_client import Counter

from doorbuster.engines.event_log import cursors, dead_letters, retention
from doorbuster.engines.event_log.cursors import Held, Position
from doorbuster.engines.event_log.fact import Subscription
from doorbuster.engines.event_log.handling import NOT_KEPT, Handling, page_span
from doorbuster.engines.event_log.read import Page, read_page, wait_until_flushed
from doorbuster.engines.event_log.running import Running
from doorbuster.platform import db, ids, settings
from doorbuster.platform.db import Conn
from doorbuster.platform.errors import Unavailable

_LOG = structlog.get_logger("event_log")
HANDLED = Counter("doorbuster_events_handled_total", "Events handled", ["consumer", "source"])
PARKED = Counter("doorbuster_events_parked_total", "Events set aside", ["consumer", "source"])

LEASE_S = 5.0
_IDLE_S = 0.05
_COLD_S = 0.2
_COLD_AFTER = 200
_AWAY_S = 0.5
_BROKEN_S = 1.0
_REPORT_S = 30.0

_sleepers: dict[str, set[asyncio.Event]] = {}


def nudge(source: str) -> None:
    """Wake this process's consumers of a domain's facts, after it has published; without it they look by themselves
    within 50 ms, or 200 ms when nothing has happened for 10 s. Call it from the event loop of the consumers."""
    for wake in _sleepers.get(source, ()):
        wake.set()


def _is_same_server(subscription: Subscription) -> bool:
    """Whether the consumer's commits go into the same write-ahead log as what it reads: then none of them can be
    durable before what was read is."""
    now = settings.current()
    own = now.databases[subscription.consumer]
    read = now.outboxes[subscription.source.split(".")[0]]
    return (own.host, own.port) == (read.host, read.port)


class EventLog:
    """Guards the consumers of one process."""

    def __init__(self, lease_s: float = LEASE_S, shadow: str = "") -> None:
        """With `shadow`, the schema of a shadow: its cursors, its tables, and nobody is told how far it is."""
        self._running = Running(lease_s)
        self._lease_s = lease_s
        self._shadow = shadow

    async def start(self, subscriptions: Sequence[Subscription]) -> None:
        """Begin to consume; returns at once, and goes on through outages of the database."""
        self._running.start(subscriptions, lambda one: _Consumer(one, self._lease_s, self._shadow))

    async def stop(self) -> None:
        """Finish what is being handled (at most one lease long), stop, and give the partitions up."""
        await self._running.stop()


class _Consumer:
    """Guards what one subscription owns in this process, and how far it has read."""

    def __init__(self, subscription: Subscription, lease_s: float, shadow: str) -> None:
        self._sub = subscription
        self._source = subscription.source
        self._lease_s = lease_s
        self._me = f"{os.getpid()}-{ids.uuid7()}"
        self._db = db.beside(subscription.consumer, shadow) if shadow else db.of(subscription.consumer)
        self._outbox = f'"{subscription.source.split(".")[1]}".outbox'
        self._held: dict[int, Held] = {}
        self._lease_at = 0.0
        self._report_at = math.inf if shadow else 0.0
        self._must_flush = not _is_same_server(subscription)
        self._handling = Handling(subscription)
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
                self._held, self._lease_at, self._handling.retry_at = {}, 0.0, math.inf
                await self._sleep(pause)
        finally:
            _sleepers[self._source].discard(self._wake)

    async def _consume(self) -> None:
        """Rounds on one connection, until told to stop. When the connection ends, so does what was read but not saved:
        a server that crashed may give numbers of transactions that left no trace to others."""
        async with db.log_of(self._source).connection() as reader:
            await retention.check_home(reader, self._source)
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
            if now >= self._report_at:
                await self._report(reader, now)
        if now >= self._handling.retry_at:
            await self._retry()
        groups: dict[Position, dict[int, Held]] = {}
        for partition, held in self._held.items():
            groups.setdefault(held.position, {})[partition] = held
        rows = more = False
        newest: str | None = None
        for position, mine in groups.items():
            page = await read_page(reader, self._outbox, self._sub.types, position, list(mine), newest)
            if self._must_flush and position.upto is None and newest is None:
                await wait_until_flushed(reader)
            newest = page.new if position.upto is None else newest
            rows, more = rows or page.rows > 0, more or not page.is_last
            # Where there is nothing to handle a cursor moves in memory only; the next effect or lease saves it. Whoever
            # takes it over before that reads once more that there was nothing.
            met = {event.partition for event in page.events}
            places = await self._handle(page, {one: mine[one] for one in met}) if met else {}
            for partition, held in mine.items():
                self._held[partition] = Held(held.epoch, page.after, places.get(partition, held.place))
        return rows, more

    async def _lease(self, now: float) -> None:
        async with self._db.transaction() as conn:
            held = await cursors.lease(conn, self._source, self._me, self._lease_s, self._held)
            await self._handling.look_ahead(conn, held)
        self._held, self._lease_at = held, now + self._lease_s / 3

    async def _report(self, reader: Conn, now: float) -> None:
        """Tell the publisher what it need not keep for us."""
        held = {partition: one.position for partition, one in self._held.items()}
        await retention.report(reader, self._source.split(".")[1], self._sub.consumer, held)
        self._report_at = now + _REPORT_S

    async def _handle(self, page: Page, mine: Mapping[int, Held]) -> cursors.Places:
        """Effect and cursors in one commit; returns where the cursors' rows are afterwards."""
        with page_span(self._sub, page.events):
            try:
                async with self._db.transaction() as conn:
                    places = await self._move(conn, page, mine)
                    parked = await self._handling.together(conn, page.events)
            except NOT_KEPT:
                async with self._db.transaction() as conn:
                    places = await self._move(conn, page, mine)
                    parked = await self._handling.one_by_one(conn, page.events)
        HANDLED.labels(*self._labels).inc(len(page.events) - parked)
        PARKED.labels(*self._labels).inc(parked)
        return places

    async def _move(self, conn: Conn, page: Page, mine: Mapping[int, Held]) -> cursors.Places:
        """Lock and move the cursors."""
        places = await cursors.lock(conn, self._source, self._me, mine, self._lease_s)
        return await cursors.advance(conn, places, page.after)

    async def _retry(self) -> None:
        """Try the keys that are due again, each in its own transaction."""
        self._handling.retry_at = math.inf
        async with self._db.connection() as conn:
            due = await dead_letters.due(conn, self._source, self._held)
        for partition, key in due:
            async with self._db.transaction() as conn:
                mine = {partition: self._held[partition]}
                await cursors.lock(conn, self._source, self._me, mine, self._lease_s)
                await self._handling.retry(conn, key)
        async with self._db.transaction() as conn:
            await self._handling.look_ahead(conn, self._held)
