"""Reading the log by snapshot difference, and committing effect and cursor together under a fenced lease.

A cursor is the snapshot up to which everything was handled. New are the rows whose transaction the old snapshot did
not see and a new one does; ordered by `seq` they are in order for each key, because a transaction draws its numbers
after it has locked the aggregate. Nothing is lost when transactions commit out of order, and a long transaction
elsewhere delays nobody. (The idea is PgQ's batch by tick; no ticker is needed here.)
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Sequence

import asyncpg
import structlog
from prometheus_client import Counter

from doorbuster.engines.event_log.fact import Event, Subscription
from doorbuster.engines.event_log.partition import PARTITIONS
from doorbuster.platform import db, ids
from doorbuster.platform.db import Conn
from doorbuster.platform.errors import Unavailable

_LOG = structlog.get_logger("event_log")
HANDLED = Counter("doorbuster_events_handled_total", "Events handled", ["consumer", "source"])
PARKED = Counter("doorbuster_events_parked_total", "Events parked as dead letters", ["consumer", "source"])

PAGE = 500
LEASE_S = 5.0
POLL_BUSY_S = 0.008
POLL_IDLE_S = 0.05
POLL_COLD_S = 0.2
COLD_AFTER = 200
MAX_TRIES = 8


class _Position:
    """Where this process stands in the partitions it owns: all at the same snapshots, by their epochs."""

    def __init__(self, old: str, upto: str | None, last_seq: int) -> None:
        self.old = old
        self.upto = upto
        self.last_seq = last_seq
        self.epochs: dict[int, int] = {}


class EventLog:
    """Guards the consumer tasks of one process."""

    def __init__(self, lease_s: float = LEASE_S) -> None:
        self._tasks: list[asyncio.Task[None]] = []
        self._lease_s = lease_s

    async def start(self, subscriptions: Sequence[Subscription]) -> None:
        """Begin to consume; returns at once, and goes on through outages of the database."""
        for subscription in subscriptions:
            self._tasks.append(asyncio.create_task(_Consumer(subscription, self._lease_s).run()))

    async def stop(self) -> None:
        """Stop consuming and give the partitions up."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()


class _Consumer:
    """Guards one subscription's cursors in this process."""

    def __init__(self, subscription: Subscription, lease_s: float) -> None:
        self._sub = subscription
        self._lease_s = lease_s
        self._me = f"{os.getpid()}-{ids.uuid7()}"
        self._db = db.of(subscription.consumer)
        self._outbox = f'"{subscription.source.split(".")[1]}".outbox'
        self._positions: list[_Position] = []
        self._renew_at = 0.0
        self._tries = 0

    async def run(self) -> None:
        idle = 0
        try:
            while True:
                try:
                    found = await self._round()
                    idle = 0 if found else idle + 1
                    pause = POLL_BUSY_S if found else POLL_IDLE_S if idle < COLD_AFTER else POLL_COLD_S
                except Unavailable as error:
                    _LOG.warning("consumer_waits", consumer=self._sub.consumer, why=str(error))
                    self._positions, self._renew_at, pause = [], 0.0, 0.5
                except asyncpg.PostgresError as error:
                    _LOG.error("consumer_failed", consumer=self._sub.consumer, exc_info=error)
                    self._positions, self._renew_at, pause = [], 0.0, 1.0
                await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311  (jitter, not a secret)
        finally:
            await asyncio.shield(self._give_up())

    async def _round(self) -> bool:
        now = asyncio.get_running_loop().time()
        if now >= self._renew_at:
            await self._lease()
            self._renew_at = now + self._lease_s / 3
        found = False
        for position in self._positions:
            found = await self._read(position) or found
        return found

    async def _lease(self) -> None:
        """Keep my partitions, take those whose lease ended, never more than my fair share while others live."""
        async with self._db.transaction() as conn:
            await conn.execute(
                "INSERT INTO event_cursor (source, partition, snapshot) SELECT $1, n, '1:1:' FROM"
                " generate_series(0, $2 - 1) AS n ON CONFLICT DO NOTHING",
                self._sub.source,
                PARTITIONS,
            )
            rows = await conn.fetch(
                "SELECT partition, owner, lease_until > clock_timestamp() AS live FROM event_cursor WHERE source = $1"
                " ORDER BY partition FOR UPDATE",
                self._sub.source,
            )
            others = {row["owner"] for row in rows if row["live"] and row["owner"] != self._me}
            share = -(-PARTITIONS // (len(others) + 1))
            mine = [row["partition"] for row in rows if row["live"] and row["owner"] == self._me]
            free = [row["partition"] for row in rows if not row["live"]]
            keep, let_go = (mine + free)[:share], mine[share:]
            await conn.execute(
                "UPDATE event_cursor SET owner = '', lease_until = '-infinity'"
                " WHERE source = $1 AND partition = ANY($2)",
                self._sub.source,
                let_go,
            )
            taken = await conn.fetch(
                "UPDATE event_cursor SET epoch = epoch + (owner <> $3)::int, owner = $3,"
                " lease_until = clock_timestamp() + make_interval(secs => $4)"
                " WHERE source = $1 AND partition = ANY($2)"
                " RETURNING partition, epoch, snapshot::text, upto::text, last_seq",
                self._sub.source,
                keep,
                self._me,
                self._lease_s,
            )
        self._adopt(taken)

    def _adopt(self, rows: Sequence[asyncpg.Record]) -> None:
        """Group what I own by position; what I owned before keeps its (further) position in memory."""
        known = {p: (position, epoch) for position in self._positions for p, epoch in position.epochs.items()}
        fresh: dict[tuple[str, str | None, int], _Position] = {}
        kept: dict[int, _Position] = {}
        for row in rows:
            before = known.get(row["partition"])
            if before is not None and before[1] == row["epoch"]:
                kept.setdefault(id(before[0]), _Position(before[0].old, before[0].upto, before[0].last_seq)).epochs[
                    row["partition"]
                ] = row["epoch"]
            else:
                where = (row["snapshot"], row["upto"], row["last_seq"])
                fresh.setdefault(where, _Position(*where)).epochs[row["partition"]] = row["epoch"]
        self._positions = [*kept.values(), *fresh.values()]

    async def _read(self, position: _Position) -> bool:
        # `seq + 0` keeps the planner from walking the whole log along its primary key: what is new is found by txid.
        query = (
            "WITH s AS (SELECT coalesce($2::text::pg_snapshot, pg_current_snapshot()) AS new)"
            " SELECT s.new::text, o.* FROM s LEFT JOIN LATERAL (SELECT seq, partition, key, id, type, version,"
            f" aggregate_version, occurred_at, payload::text FROM {self._outbox}"
            " WHERE partition = ANY($4::int[]) AND seq + 0 > $3 AND pg_visible_in_snapshot(txid, s.new)"
            " AND (txid >= pg_snapshot_xmax($1::text::pg_snapshot)"
            " OR txid = ANY(ARRAY(SELECT pg_snapshot_xip($1::text::pg_snapshot))))"
            " ORDER BY seq + 0 LIMIT $5) o ON true"
        )
        rows = await self._db.fetch(
            query,
            position.old,
            position.upto,
            position.last_seq,
            list(position.epochs),
            PAGE,
        )
        new = rows[0][0]
        events = [_event(row) for row in rows if row["seq"] is not None]
        full = len(events) == PAGE
        after = (position.old, new, events[-1].seq) if full else (new, None, 0)
        wanted = [event for event in events if event.type in self._sub.types]
        if wanted:
            await self._handle(position, wanted, after)
        # With nothing to handle the cursor moves in memory only; it is written with the next effect.
        position.old, position.upto, position.last_seq = after
        return bool(events)

    async def _handle(self, position: _Position, events: Sequence[Event], after: tuple[str, str | None, int]) -> None:
        try:
            async with self._db.transaction() as conn:
                await self._advance(conn, position, after)
                await self._effect(conn, events)
            self._tries = 0
        except (Unavailable, asyncio.CancelledError):
            raise
        except Exception as error:
            # Whatever a handler does wrong is tried again with a pause, then its key is set aside.
            self._tries += 1
            _LOG.warning("handler_failed", consumer=self._sub.consumer, tries=self._tries, exc_info=error)
            if self._tries < MAX_TRIES:
                await asyncio.sleep(min(5.0, 0.1 * 2**self._tries))
                raise Unavailable("A handler failed and is tried again") from error
            await self._one_by_one(position, events, after)
            self._tries = 0
            return
        HANDLED.labels(self._sub.consumer, self._sub.source).inc(len(events))

    async def _effect(self, conn: Conn, events: Sequence[Event]) -> None:
        """Handle events, but park those whose key has dead letters: they wait behind them, in order."""
        rows = await conn.fetch(
            "SELECT DISTINCT key FROM dead_letter WHERE source = $1 AND key = ANY($2)",
            self._sub.source,
            list({event.key for event in events}),
        )
        parked = {row[0] for row in rows}
        if parked:
            await self._park(conn, [event for event in events if event.key in parked], "waits behind its key")
            events = [event for event in events if event.key not in parked]
        if events:
            await self._sub.handle(conn, events)

    async def _one_by_one(
        self, position: _Position, events: Sequence[Event], after: tuple[str, str | None, int]
    ) -> None:
        """All events in one transaction, each under a savepoint of its own; those that fail are parked."""
        async with self._db.transaction() as conn:
            await self._advance(conn, position, after)
            for event in events:
                await conn.execute("SAVEPOINT one")
                try:
                    await self._effect(conn, [event])
                except db.LOST:
                    raise
                except Exception as error:
                    await conn.execute("ROLLBACK TO SAVEPOINT one")
                    await self._park(conn, [event], f"{type(error).__name__}: {error}"[:2_000])
                await conn.execute("RELEASE SAVEPOINT one")

    async def _park(self, conn: Conn, events: Sequence[Event], error: str) -> None:
        await conn.executemany(
            "INSERT INTO dead_letter (source, seq, partition, key, id, type, version, aggregate_version, occurred_at,"
            " payload, error) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::json, $11) ON CONFLICT DO NOTHING",
            [
                (
                    self._sub.source, e.seq, e.partition, e.key, e.id, e.type, e.version, e.aggregate_version,
                    e.occurred_at, e.payload.decode(), error,
                )
                for e in events
            ],
        )  # fmt: skip
        PARKED.labels(self._sub.consumer, self._sub.source).inc(len(events))

    async def _advance(self, conn: Conn, position: _Position, after: tuple[str, str | None, int]) -> None:
        """Move the cursors; a partition that somebody took over meanwhile stops the whole effect."""
        # Locked in partition order, as a lease does, or the two could wait for each other.
        await conn.execute(
            "SELECT 1 FROM event_cursor WHERE source = $1 AND partition = ANY($2) ORDER BY partition FOR UPDATE",
            self._sub.source,
            list(position.epochs),
        )
        moved = await conn.fetch(
            "UPDATE event_cursor c SET snapshot = $3::text::pg_snapshot, upto = $4::text::pg_snapshot, last_seq = $5"
            " FROM unnest($6::int[], $7::bigint[]) AS n(partition, epoch)"
            " WHERE c.source = $1 AND c.partition = n.partition AND c.epoch = n.epoch AND c.owner = $2"
            " RETURNING c.partition",
            self._sub.source,
            self._me,
            *after,
            list(position.epochs),
            list(position.epochs.values()),
        )
        if len(moved) != len(position.epochs):
            raise Unavailable("Another worker has taken over a partition")

    async def _give_up(self) -> None:
        try:
            await self._db.fetch(
                "UPDATE event_cursor SET owner = '', lease_until = '-infinity' WHERE source = $1 AND owner = $2"
                " RETURNING partition",
                self._sub.source,
                self._me,
            )
        except Unavailable:
            _LOG.warning("lease_left_to_expire", consumer=self._sub.consumer)


def _event(row: asyncpg.Record) -> Event:
    return Event(
        seq=row["seq"],
        partition=row["partition"],
        key=row["key"],
        id=row["id"],
        type=row["type"],
        version=row["version"],
        aggregate_version=row["aggregate_version"],
        occurred_at=row["occurred_at"],
        payload=row["payload"].encode(),
    )
