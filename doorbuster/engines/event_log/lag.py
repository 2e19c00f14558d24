"""How far a consumer is behind: how many events wait for it and since when, also when it stands still or is off."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec
from prometheus_client import Gauge

from doorbuster.engines.event_log.cursors import Position, read_positions
from doorbuster.platform import db
from doorbuster.platform.db import Conn

WAITING = Gauge("doorbuster_events_waiting", "Events a consumer has yet to handle", ["consumer", "source"])
OLDEST = Gauge("doorbuster_events_lag_seconds", "Age of the oldest event not handled yet", ["consumer", "source"])
PARKED = Gauge("doorbuster_dead_letters", "Events set aside by a consumer", ["consumer", "source"])
MOST = 100_000
"""Nobody counts further; the age tells the rest."""


class Lag(msgspec.Struct, frozen=True):
    """How far behind a consumer is. `waiting` stops at 100,000; ages are seconds."""

    consumer: str
    source: str
    waiting: int
    oldest_s: float
    dead_letters: int
    owners: int
    """Workers that hold partitions and have not missed their lease."""


async def waiting(
    conn: Conn, outbox: str, types: Collection[str], positions: Mapping[int, Position]
) -> tuple[int, float]:
    """(how many events wait, age of the oldest in seconds), as the publisher's database sees it now."""
    row = await conn.fetchrow(
        "SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(w.occurred_at)), 0)::float8 FROM ("
        " SELECT o.occurred_at FROM unnest($1::int[], $2::text[], $3::text[], $4::bigint[])"
        f" AS p(partition, old, upto, last_seq) JOIN {outbox} o ON o.partition = p.partition"
        " WHERE o.type = ANY($5::text[]) AND o.txid >= ANY(ARRAY(SELECT min(pg_snapshot_xmin(x::pg_snapshot))"
        " FROM unnest($2::text[]) x)) AND NOT pg_visible_in_snapshot(o.txid, p.old::pg_snapshot)"
        " AND NOT coalesce(pg_visible_in_snapshot(o.txid, p.upto::pg_snapshot) AND o.seq <= p.last_seq, false)"
        " LIMIT $6) w",
        list(positions),
        [position.old for position in positions.values()],
        [position.upto for position in positions.values()],
        [position.last_seq for position in positions.values()],
        list(types),
        MOST,
    )
    assert row is not None
    return int(row[0]), max(0.0, float(row[1]))


async def look(consumer: str, source: str, types: Collection[str]) -> Lag:
    """One consumer's lag behind one source, from its stored cursors."""
    async with db.of(consumer).connection() as conn:
        positions, owners = await read_positions(conn, source)
        parked = await conn.fetchval("SELECT count(*) FROM dead_letter WHERE source = $1", source)
    count, oldest_s = 0, 0.0
    if positions:
        async with db.log_of(source).connection() as reader:
            count, oldest_s = await waiting(reader, outbox_of(source), types, positions)
    return Lag(consumer, source, count, oldest_s, int(parked), owners)


def show(lag: Lag) -> None:
    """Put it into the metrics of this process."""
    WAITING.labels(lag.consumer, lag.source).set(lag.waiting)
    OLDEST.labels(lag.consumer, lag.source).set(lag.oldest_s)
    PARKED.labels(lag.consumer, lag.source).set(lag.dead_letters)


def outbox_of(source: str) -> str:
    """The qualified name of a domain's outbox."""
    return f'"{source.split(".")[1]}".outbox'
