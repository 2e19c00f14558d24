"""Reading an outbox by snapshot difference: what a new snapshot sees and an old one did not, in the order of `seq`.

Nothing is lost when transactions commit out of order, and a transaction that stays open delays only its own facts.
In the order of `seq` each key's facts are in order, because a transaction draws its numbers after it has locked the
aggregate: whoever waited for that lock drew later, and is visible later. (The idea is PgQ's batch by tick.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import asyncpg
import msgspec

from doorbuster.engines.event_log.cursors import Position
from doorbuster.engines.event_log.fact import Event
from doorbuster.platform.db import Conn
from doorbuster.platform.errors import Unavailable

PAGE = 500
_FLUSH_LOOKS = 500
_FLUSH_PAUSE_S = 0.01


class Page(msgspec.Struct, frozen=True):
    """Events of the types asked for, out of how many rows, read at which snapshot, and where cursors stand after."""

    events: list[Event]
    rows: int
    new: str
    after: Position

    @property
    def is_last(self) -> bool:
        return self.after.upto is None


async def read_page(
    conn: Conn,
    outbox: str,
    types: frozenset[str],
    position: Position,
    partitions: Sequence[int],
    newest: str | None = None,
) -> Page:
    """The next page (at most 500 rows) after `position`; outside a transaction.

    `newest` is a snapshot taken later than the position's: read up to there rather than up to now. Facts of other types
    are passed over, but count as rows, so that each page gets on however rare the wanted ones are.
    """
    # While there is more in a pair of snapshots, walk on along the primary key. For a fresh pair, find what is new by
    # txid instead; `seq + 0` keeps the planner from walking the whole log for it.
    seq = "seq" if position.last_seq or position.is_beginning else "seq + 0"
    rows = await conn.fetch(
        "WITH s AS (SELECT coalesce($2::text::pg_snapshot, pg_current_snapshot()) AS new)"
        " SELECT s.new::text AS new, o.* FROM s LEFT JOIN LATERAL (SELECT seq, partition, key, id, type, version,"
        " aggregate_version, occurred_at, traceparent,"
        f" CASE WHEN type = ANY($6::text[]) THEN payload::text END AS payload FROM {outbox}"
        f" WHERE partition = ANY($4::int[]) AND {seq} > $3 AND pg_visible_in_snapshot(txid, s.new)"
        " AND (txid >= pg_snapshot_xmax($1::text::pg_snapshot)"
        " OR txid = ANY(ARRAY(SELECT pg_snapshot_xip($1::text::pg_snapshot))))"
        f" ORDER BY {seq} LIMIT $5) o ON true",
        position.old,
        position.upto or newest,
        position.last_seq,
        list(partitions),
        PAGE,
        list(types),
    )
    new = rows[0]["new"]
    full = len(rows) == PAGE
    after = Position(position.old, new, rows[-1]["seq"]) if full else Position(new)
    found = len(rows) if rows[0]["seq"] is not None else 0
    return Page([event_of(row) for row in rows if row["payload"] is not None], found, new, after)


async def wait_until_flushed(conn: Conn) -> None:
    """Return once all that this server had written up to now is on its disk. Raises Unavailable after 5 s.

    A snapshot counts transactions that were rolled back as seen, and nobody waits until their end is on disk. Should
    the server crash, their numbers are given out again, and facts of new transactions would pass for seen. A consumer
    on the same server need not ask: its own commit comes later in the same write-ahead log.
    """
    written = await conn.fetchval("SELECT pg_current_wal_insert_lsn()::text")
    for _ in range(_FLUSH_LOOKS):
        if await conn.fetchval("SELECT pg_current_wal_flush_lsn() >= $1::text::pg_lsn", written):
            return
        await asyncio.sleep(_FLUSH_PAUSE_S)
    raise Unavailable("The publisher's server does not get its log onto its disk")


def event_of(row: asyncpg.Record) -> Event:
    """An event from a row of an outbox or of the dead letters, whose payload was read as text."""
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
        traceparent=row.get("traceparent") or "",
    )
