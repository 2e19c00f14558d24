"""Events set aside: a key whose event cannot be handled waits here, in order, while all other keys go on.

The first event of a key carries the number of tries and when to try again; the later ones wait behind it. After the
last try it is dead: it stays until somebody calls `requeue`. A key that is empty here is handled from the log again.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

import msgspec

from doorbuster.engines.event_log.fact import Event
from doorbuster.engines.event_log.read import PAGE, event_of
from doorbuster.platform import db
from doorbuster.platform.db import Conn
from doorbuster.platform.errors import Refusal

MAX_TRIES = 8
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_KEYS_AT_ONCE = 16
WAITS = "waits behind an earlier event of its key"


class NoSuchDeadLetter(Refusal):
    code, status, title = "no_such_dead_letter", 404, "Nothing of this key is set aside"


class DeadLetter(msgspec.Struct, frozen=True):
    """One event set aside. `retry_at` is None for one that waits behind another, and for one that was given up."""

    source: str
    seq: int
    partition: int
    key: str
    type: str
    error: str
    tries: int
    retry_at: datetime | None
    parked_at: datetime
    payload: str


def pause_after(tries: int) -> float:
    """Seconds to wait after this many failed tries."""
    return min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** (tries - 1))


async def list_dead_letters(consumer: str, limit: int = 100) -> list[DeadLetter]:
    """What a consumer (a domain) has set aside, oldest first, at most `limit`."""
    rows = await db.of(consumer).fetch(
        "SELECT source, seq, partition, key, type, error, tries, retry_at, parked_at, payload::text AS payload"
        " FROM dead_letter ORDER BY source, seq LIMIT $1",
        limit,
    )
    return [msgspec.convert(dict(row), DeadLetter) for row in rows]


async def inspect(consumer: str, source: str, seq: int) -> DeadLetter:
    """One event set aside, with its payload and what its handler said. Refuses with NoSuchDeadLetter."""
    if not 0 < seq < 2**63:
        raise NoSuchDeadLetter()
    row = await db.of(consumer).fetchrow(
        "SELECT source, seq, partition, key, type, error, tries, retry_at, parked_at, payload::text AS payload"
        " FROM dead_letter WHERE source = $1 AND seq = $2",
        source,
        seq,
    )
    if row is None:
        raise NoSuchDeadLetter()
    return msgspec.convert(dict(row), DeadLetter)


async def drop(consumer: str, source: str, key: str, *, actor: str, note: str, whole_key: bool = False) -> int:
    """Give up a key's first event, or with `whole_key` all that wait: they never have an effect here. Returns how many.

    What waits behind is tried next. Who did it, and why, is kept. Refuses with NoSuchDeadLetter.
    """
    async with db.of(consumer).transaction() as conn:
        first = await _lock_key(conn, source, key)
        rows = await conn.fetch(
            "DELETE FROM dead_letter WHERE source = $1 AND key = $2 AND ($3 OR seq = $4) RETURNING seq",
            source,
            key,
            whole_key,
            first,
        )
        for (seq,) in rows:
            await audit(conn, actor, "drop", source, key, seq, note)
        await _schedule(conn, source, key, 0, 0.0)
    return len(rows)


async def requeue(consumer: str, source: str, key: str, *, actor: str = "", note: str = "") -> int:
    """Have a consumer try a key again, from its first event set aside; returns how many events wait. Twice is once.

    The worker that owns the key's partition does so within a third of a lease, in order, and then goes on with what
    arrived meanwhile.
    """
    async with db.of(consumer).transaction() as conn:
        first = await _lock_key(conn, source, key)
        await _schedule(conn, source, key, 0, 0.0)
        await audit(conn, actor, "requeue", source, key, first, note)
        waiting = await conn.fetchval("SELECT count(*) FROM dead_letter WHERE source = $1 AND key = $2", source, key)
    return int(waiting)


async def _lock_key(conn: Conn, source: str, key: str) -> int:
    """Lock the first event of a key, which whoever retries it holds too; its number."""
    first = await conn.fetchval(
        "SELECT seq FROM dead_letter WHERE source = $1 AND key = $2 ORDER BY seq LIMIT 1 FOR UPDATE", source, key
    )
    if first is None:
        raise NoSuchDeadLetter()
    return int(first)


async def audit(conn: Conn, actor: str, action: str, source: str, key: str | None, seq: int | None, note: str) -> None:
    """Keep who did what, in the transaction that does it."""
    await conn.execute(
        "INSERT INTO event_audit (actor, action, source, key, seq, note) VALUES ($1, $2, $3, $4, $5, $6)",
        actor,
        action,
        source,
        key,
        seq,
        note,
    )


async def parked_keys(conn: Conn, source: str, keys: Collection[str]) -> set[str]:
    """Which of these keys have events set aside."""
    rows = await conn.fetch(
        "SELECT DISTINCT key FROM dead_letter WHERE source = $1 AND key = ANY($2)", source, list(keys)
    )
    return {row["key"] for row in rows}


async def park(conn: Conn, source: str, events: Sequence[Event], error: str) -> None:
    """Set events aside, in the transaction that moves the cursor past them."""
    await conn.executemany(
        "INSERT INTO dead_letter (source, seq, partition, key, id, type, version, aggregate_version, occurred_at,"
        " payload, error, traceparent) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::json, $11, $12)"
        # A replay meets again what is set aside already.
        " ON CONFLICT (source, seq) DO NOTHING",
        [
            (
                source, e.seq, e.partition, e.key, e.id, e.type, e.version, e.aggregate_version, e.occurred_at,
                e.payload.decode(), error, e.traceparent,
            )
            for e in events
        ],
    )  # fmt: skip


async def failed(conn: Conn, source: str, event: Event, tries: int, error: str) -> float | None:
    """Note the failure of a key's first event; returns the pause before the next try, or None when it is given up."""
    await conn.execute(
        "UPDATE dead_letter SET error = $3, tries = $4 WHERE source = $1 AND seq = $2", source, event.seq, error, tries
    )
    pause = pause_after(tries) if tries < MAX_TRIES else None
    await _schedule(conn, source, event.key, tries, pause)
    return pause


async def due(conn: Conn, source: str, partitions: Collection[int]) -> list[tuple[int, str]]:
    """Keys to try again now, with their partitions: at most 16."""
    rows = await conn.fetch(
        "SELECT partition, key FROM dead_letter WHERE source = $1 AND retry_at <= clock_timestamp()"
        " AND partition = ANY($2) ORDER BY retry_at LIMIT $3",
        source,
        list(partitions),
        _KEYS_AT_ONCE,
    )
    return [(row["partition"], row["key"]) for row in rows]


async def next_due_s(conn: Conn, source: str, partitions: Collection[int]) -> float | None:
    """Seconds until a key of these partitions is to be tried again, not below 0; None when there is none."""
    seconds = await conn.fetchval(
        "SELECT extract(epoch FROM min(retry_at) - clock_timestamp())::float8 FROM dead_letter"
        " WHERE source = $1 AND retry_at IS NOT NULL AND partition = ANY($2)",
        source,
        list(partitions),
    )
    return None if seconds is None else max(0.0, float(seconds))


async def waiting(conn: Conn, source: str, key: str) -> list[tuple[Event, int]]:
    """The first events of a key (at most 500) with their tries; the caller holds the cursor of their partition."""
    rows = await conn.fetch(
        "SELECT seq, partition, key, id, type, version, aggregate_version, occurred_at, payload::text AS payload,"
        " tries, traceparent FROM dead_letter WHERE source = $1 AND key = $2 ORDER BY seq LIMIT $3",
        source,
        key,
        PAGE,
    )
    return [(event_of(row), row["tries"]) for row in rows]


async def handled(conn: Conn, source: str, event: Event) -> None:
    """Take an event out, in the transaction of its effect; the next of its key, if any, is due at once."""
    await conn.execute("DELETE FROM dead_letter WHERE source = $1 AND seq = $2", source, event.seq)


async def resume(conn: Conn, source: str, key: str) -> None:
    """More of this key waits than was handled at once: go on with it at the next look."""
    await _schedule(conn, source, key, 0, 0.0)


async def _schedule(conn: Conn, source: str, key: str, tries: int, pause_s: float | None) -> None:
    """The first event of a key carries when it is tried again; no other does, also after a replay put one before it."""
    await conn.execute(
        "UPDATE dead_letter SET tries = CASE WHEN seq = f.first THEN $3 ELSE tries END, retry_at = CASE WHEN"
        " seq = f.first THEN clock_timestamp() + make_interval(secs => $4::float8) END"
        " FROM (SELECT min(seq) AS first FROM dead_letter WHERE source = $1 AND key = $2) f"
        " WHERE source = $1 AND key = $2 AND (seq = f.first OR retry_at IS NOT NULL)",
        source,
        key,
        tries,
        pause_s,
    )
