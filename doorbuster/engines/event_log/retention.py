"""How long a log lasts: days made ahead, days dropped once they are old and everybody has handled them.

The publisher alone drops, and judges by what it can see: each listener reports where its cursors stand, and a day goes
only when no row of it lies beyond any of them. A listener on the map that never came is the slowest of all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

import asyncpg
import msgspec
import structlog

from doorbuster.engines.event_log.cursors import Position
from doorbuster.engines.event_log.partition import PARTITIONS
from doorbuster.platform import db
from doorbuster.platform.db import Conn
from doorbuster.platform.errors import Unavailable

AHEAD_DAYS = 7
KEEP_DAYS = 7
_LOCK_TIMEOUT = "90ms"
_TRIES = 5
_LOG = structlog.get_logger("event_log")

_BEYOND = """
SELECT EXISTS (
    SELECT FROM {day} o JOIN outbox_reader r ON r.partition = o.partition
     WHERE o.type = ANY(r.types) AND NOT pg_visible_in_snapshot(o.txid, r.snapshot)
       AND NOT (r.upto IS NOT NULL AND pg_visible_in_snapshot(o.txid, r.upto) AND o.seq <= r.last_seq))
"""
"""Whether a day holds a row that some listener has not handled."""


_READERS = (
    "SELECT consumer, partition, pg_snapshot_xmax(snapshot)::text::bigint FROM outbox_reader"
    " ORDER BY consumer, partition"
)
_SINCE = (
    'SELECT EXISTS (SELECT FROM "{day}" WHERE txid >= pg_snapshot_xmax($1::text::pg_snapshot)'
    " OR txid = ANY(ARRAY(SELECT pg_snapshot_xip($1::text::pg_snapshot))))"
)
"""Whether a day holds a row that a snapshot did not see."""


AT_HOME = (
    "SELECT system_identifier = (SELECT system_identifier FROM pg_control_system())"
    ' AND xmin::text::bigint = made_by::text::bigint & 4294967295 FROM "{schema}".outbox_home'
)


class AnotherCluster(Unavailable):
    """The log was restored into another cluster, where its transaction ids mean nothing."""


class Day(msgspec.Struct, frozen=True):
    """One partition of a log."""

    name: str
    from_at: datetime
    to_at: datetime
    bytes: int


async def prepare(
    conn: Conn | asyncpg.Connection[asyncpg.Record], hearers: Mapping[str, Sequence[str]], ahead_days: int = AHEAD_DAYS
) -> int:
    """Make the days ahead, and know the listeners with the types they hear; returns how many days were made.

    In the publisher's schema.
    """
    made = await conn.fetchval("SELECT make_outbox_days($1)", ahead_days)
    for consumer, types in hearers.items():
        await conn.execute(
            "INSERT INTO outbox_reader (consumer, partition, types) SELECT $1, p, $3 FROM generate_series(0, $2 - 1) p"
            " ON CONFLICT (consumer, partition) DO UPDATE SET types = excluded.types",
            consumer,
            PARTITIONS,
            list(types),
        )
    # Whoever is not on the map any more holds nothing back.
    await conn.execute("DELETE FROM outbox_reader WHERE consumer <> ALL($1::text[])", list(hearers))
    return int(made)


async def report(
    conn: Conn | asyncpg.Connection[asyncpg.Record], schema: str, consumer: str, positions: Mapping[int, Position]
) -> None:
    """Tell the publisher where a consumer's cursors stand; by the login of the group's listeners.

    Late is safe: cursors only move on. Before a cursor is moved *back* (a replay), report where it will stand.
    """
    await conn.execute(
        f'UPDATE "{schema}".outbox_reader r SET snapshot = n.snapshot::pg_snapshot, upto = n.upto::pg_snapshot,'
        " last_seq = n.last_seq, reported_at = clock_timestamp()"
        " FROM unnest($2::int[], $3::text[], $4::text[], $5::bigint[]) AS n(partition, snapshot, upto, last_seq)"
        " WHERE r.consumer = $1 AND r.partition = n.partition",
        consumer,
        list(positions),
        [position.old for position in positions.values()],
        [position.upto for position in positions.values()],
        [position.last_seq for position in positions.values()],
    )


async def keep_days(domain: str, *, ahead_days: int = AHEAD_DAYS, keep_days: int = KEEP_DAYS) -> tuple[int, list[str]]:
    """Make what is missing ahead and drop what is older than `keep_days` and handled by all: (made, names dropped).

    May run in several processes at once. A day that somebody uses at the moment is left for the next time: nobody waits
    for this longer than 90 ms.
    """
    async with db.of(domain).transaction() as conn:
        made = await conn.fetchval("SELECT make_outbox_days($1)", ahead_days)
    old = await db.of(domain).fetch(
        "SELECT name FROM outbox_day WHERE to_at <= clock_timestamp() - make_interval(days => $1) ORDER BY to_at",
        keep_days,
    )
    dropped: list[str] = []
    for (name,) in old:
        if not await _drop(domain, name):
            break
        dropped.append(name)
    return int(made), dropped


async def _drop(domain: str, name: str) -> bool:
    """Drop one day unless somebody needs it; False when it stays.

    All its rows are looked at while writers go on; under the lock only what may have changed since.
    """
    async with db.of(domain).connection() as conn:
        seen = await conn.fetchval("SELECT pg_current_snapshot()::text")
        readers = await conn.fetch(_READERS)
        if await conn.fetchval(_BEYOND.format(day=f'"{name}"'), timeout=600):
            _LOG.warning("day_kept", domain=domain, day=name, why="a listener has not handled it")
            return False
    for _ in range(_TRIES):
        try:
            async with db.of(domain).transaction() as conn:
                await conn.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
                # Nobody writes to it or reads it from here on: what the next statements see is all there is.
                await conn.execute(f'LOCK TABLE ONLY outbox IN ACCESS EXCLUSIVE MODE; LOCK TABLE "{name}"')
                now = {(row[0], row[1]): row[2] for row in await conn.fetch(_READERS)}
                moved_back = any(now.get((row[0], row[1]), row[2]) < row[2] for row in readers)
                if moved_back or len(now) > len(readers) or await conn.fetchval(_SINCE.format(day=name), seen):
                    _LOG.warning("day_kept", domain=domain, day=name, why="a listener goes back, or a fact came late")
                    return False
                await conn.execute(f'DROP TABLE "{name}"')
                await conn.execute("DELETE FROM outbox_day WHERE name = $1", name)
            return True
        except asyncpg.LockNotAvailableError:
            continue
    return False


async def days(domain: str) -> list[Day]:
    """The partitions of a domain's log, oldest first, with their sizes in bytes."""
    rows = await db.of(domain).fetch(
        "SELECT name, greatest(from_at, 'epoch'), to_at, pg_total_relation_size(name::regclass) FROM outbox_day"
        " ORDER BY to_at"
    )
    return [Day(*row) for row in rows]


async def check_home(conn: Conn | asyncpg.Connection[asyncpg.Record], source: str) -> None:
    """Raise AnotherCluster when a log's transaction ids belong to another cluster than the one it stands in."""
    at_home = await conn.fetchval(AT_HOME.format(schema=source.split(".")[1]))
    if not at_home:
        raise AnotherCluster(
            f"The log of {source} was restored into another PostgreSQL cluster; run `doorbuster events rehome`"
        )
