"""The consumer's side of the database: which events were handled, and which worker may handle a partition.

Every effect locks the rows of its partitions here first. So two workers that both believe in a partition, and the tries
of a key that is set aside, never overlap; and whoever comes second finds another epoch, or its events in the inbox.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

from doorbuster.engines.event_log.fact import Event
from doorbuster.engines.event_log.kafka.topics import RETENTION_S as TOPIC_RETENTION_S
from doorbuster.engines.event_log.partition import PARTITIONS
from doorbuster.platform.db import Conn
from doorbuster.platform.errors import Unavailable

RETENTION_S = 3 * TOPIC_RETENTION_S
"""Longer than a fact can come again: it may be replayed from an outbox as old as a topic's records, and then stays in
the topic once more as long."""
_FORGET_AT_ONCE = 5_000
_CLOCKS_DIFFER_MS = 60_000
"""Ids carry the time of the worker that published, records that of the broker; a replay goes back so much further."""
_LONGEST_S = 300.0


class Fenced(Unavailable):
    """Another worker has taken over; what was under way is rolled back."""


async def join(conn: Conn, source: str) -> None:
    """Make the rows of a new subscription."""
    await conn.execute(
        "INSERT INTO inbox_owner (source, partition) SELECT $1, n FROM generate_series(0, $2 - 1) AS n"
        " ON CONFLICT DO NOTHING",
        source,
        PARTITIONS,
    )


async def take(conn: Conn, source: str, me: str, partitions: Collection[int]) -> dict[int, int]:
    """Become the owner of partitions that Kafka has assigned to me; returns their epochs."""
    rows = await conn.fetch(
        "WITH mine AS (SELECT partition FROM inbox_owner WHERE source = $1 AND partition = ANY($2)"
        " ORDER BY partition FOR UPDATE)"
        " UPDATE inbox_owner o SET owner = $3, epoch = epoch + 1 FROM mine"
        " WHERE o.source = $1 AND o.partition = mine.partition RETURNING o.partition, o.epoch",
        source,
        list(partitions),
        me,
    )
    return {row["partition"]: row["epoch"] for row in rows}


async def mine(conn: Conn, source: str, me: str, epochs: Mapping[int, int]) -> dict[int, int]:
    """Those of these partitions that are still mine."""
    rows = await conn.fetch("SELECT partition, epoch FROM inbox_owner WHERE source = $1 AND owner = $2", source, me)
    return {row["partition"]: row["epoch"] for row in rows if epochs.get(row["partition"]) == row["epoch"]}


async def lock_and_go_back(conn: Conn, source: str, since: dt.datetime | None) -> int:
    """Have whoever owns the partitions read again from a time on (None: all the topic has); returns how many facts
    that were handled will count as new. What is under way is fenced first."""
    since_ms = 0 if since is None else max(0, int(since.timestamp() * 1_000) - _CLOCKS_DIFFER_MS)
    # In order, as `lock` does; then nobody can note a fact of this source until the end of this transaction.
    await conn.fetch("SELECT 1 FROM inbox_owner WHERE source = $1 ORDER BY partition FOR UPDATE", source)
    await conn.execute(
        "UPDATE inbox_owner SET owner = '', epoch = epoch + 1, rewind_to_ms = least(rewind_to_ms, $2)"
        " WHERE source = $1",
        source,
        since_ms,
    )
    removed = await conn.execute(
        "DELETE FROM inbox WHERE source = $1 AND event_id >= $2", source, UUID(int=since_ms << 80), timeout=_LONGEST_S
    )
    return int(removed.split()[1])


async def to_go_back(conn: Conn, source: str, partitions: Collection[int]) -> dict[int, int]:
    """Which of these partitions have to be read again, and from which millisecond on."""
    rows = await conn.fetch(
        "SELECT partition, rewind_to_ms FROM inbox_owner"
        " WHERE source = $1 AND partition = ANY($2) AND rewind_to_ms IS NOT NULL",
        source,
        list(partitions),
    )
    return {row["partition"]: row["rewind_to_ms"] for row in rows}


async def gone_back(conn: Conn, source: str, partitions: Collection[int]) -> None:
    """The offsets of these partitions are kept where they had to go; the caller holds the locks of `lock`."""
    await conn.execute(
        "UPDATE inbox_owner SET rewind_to_ms = NULL WHERE source = $1 AND partition = ANY($2)", source, list(partitions)
    )


async def lock(conn: Conn, source: str, me: str, epochs: Mapping[int, int], lease_s: float) -> None:
    """Lock these partitions until the end of the transaction, or raise `Fenced` when one of them is no longer mine.

    Should this process freeze in the middle, the server ends the transaction after one lease, and the locks with it.
    """
    rows = await conn.fetch(
        "SELECT partition, epoch, owner, set_config('idle_in_transaction_session_timeout', $3, true)"
        " FROM inbox_owner WHERE source = $1 AND partition = ANY($2) ORDER BY partition FOR UPDATE",
        source,
        list(epochs),
        str(int(lease_s * 1_000)),
    )
    if {row["partition"]: row["epoch"] for row in rows if row["owner"] == me} != epochs:
        raise Fenced(f"Another worker has taken over partitions of {source}")


async def note(conn: Conn, source: str, events: Sequence[Event]) -> list[Event]:
    """Note events as handled, in the transaction of their effect; returns those that were not noted before, in their
    order, each once."""
    rows = await conn.fetch(
        "INSERT INTO inbox (source, event_id) SELECT $1, id FROM unnest($2::uuid[]) AS id ORDER BY id"
        " ON CONFLICT DO NOTHING RETURNING event_id",
        source,
        [event.id for event in events],
    )
    new: set[UUID] = {row["event_id"] for row in rows}
    fresh = []
    for event in events:
        if event.id in new:
            new.remove(event.id)
            fresh.append(event)
    return fresh


async def forget(conn: Conn, source: str, now: dt.datetime, older_than_s: float = RETENTION_S) -> int:
    """Remove what was handled longer ago than that, at most 5,000 events; returns how many."""
    before = now - dt.timedelta(seconds=older_than_s)
    # The smallest UUIDv7 of that moment. The time of handling is asked too: somebody may publish other ids.
    bound = UUID(int=int(before.timestamp() * 1_000) << 80)
    removed = await conn.execute(
        "DELETE FROM inbox WHERE source = $1 AND event_id IN (SELECT event_id FROM inbox WHERE source = $1"
        " AND event_id < $2 AND handled_at < $3 ORDER BY event_id LIMIT $4)",
        source,
        bound,
        before,
        _FORGET_AT_ONCE,
    )
    return int(removed.split()[1])
