"""Breaks the log on purpose, inside a consumer process of the drill, so that the drill is seen to find it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import asyncpg

from doorbuster.engines.event_log import Event, Handler, consume, cursors
from doorbuster.engines.event_log.cursors import Position
from doorbuster.engines.event_log.read import PAGE, Page, event_of
from doorbuster.platform import db
from doorbuster.platform.db import Conn

SEQ_CURSOR, XMIN_CURSOR, NO_INBOX, NO_EPOCH = "seq-cursor", "xmin-cursor", "no-inbox", "no-epoch"
PLANTS: Mapping[str, str] = {
    SEQ_CURSOR: "reads by `seq > last`: what commits late is never seen",
    XMIN_CURSOR: "reads in the order of transaction ids below the oldest open one: not the order of locks",
    NO_INBOX: "the effect commits apart from what remembers that it happened",
    NO_EPOCH: "a worker that slept through its lease commits what it had in hand",
}

_ROW = "SELECT seq, partition, key, id, type, version, aggregate_version, occurred_at, payload::text, txid::text AS xid"
_MINE = "partition = ANY($1::int[]) AND type = ANY($2::text[])"


class NoSuchPlant(Exception):
    """Nothing of that name can be broken here."""

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no plant {name!r}: {', '.join(PLANTS)}.")


def plant(name: str, consumer: str, handle: Handler) -> Handler:
    """Break this process; returns the handler to use."""
    if name == SEQ_CURSOR:
        vars(consume)["read_page"] = read_by_seq
    elif name == XMIN_CURSOR:
        vars(consume)["read_page"] = read_by_xmin
    elif name == NO_EPOCH:
        vars(cursors)["lock"] = lock_anybodys
    elif name == NO_INBOX:
        return _apart(consumer, handle)
    else:
        raise NoSuchPlant(name)
    return handle


async def read_by_seq(
    conn: Conn, outbox: str, types: frozenset[str], at: Position, partitions: Sequence[int], newest: str | None = None
) -> Page:
    """The first thing everybody writes."""
    rows = await conn.fetch(
        f"{_ROW} FROM {outbox} WHERE {_MINE} AND seq > $3 ORDER BY seq LIMIT {PAGE}",
        list(partitions), list(types), at.last_seq,
    )  # fmt: skip
    return _page(rows, at.old, rows[-1]["seq"] if rows else at.last_seq)


async def read_by_xmin(
    conn: Conn, outbox: str, types: frozenset[str], at: Position, partitions: Sequence[int], newest: str | None = None
) -> Page:
    """The second thing everybody writes. The place of the snapshot carries the transaction id to go on from."""
    txid = at.old.split(":")[0]
    rows = await conn.fetch(
        f"{_ROW} FROM {outbox} WHERE {_MINE} AND txid < pg_snapshot_xmin(pg_current_snapshot())"
        f" AND (txid, seq) > ($3::text::xid8, $4::bigint) ORDER BY txid, seq LIMIT {PAGE}",
        list(partitions), list(types), txid, at.last_seq,
    )  # fmt: skip
    old = f"{rows[-1]['xid']}:{rows[-1]['xid']}:" if rows else at.old
    return _page(rows, old, rows[-1]["seq"] if rows else at.last_seq)


def _page(rows: Sequence[asyncpg.Record], old: str, last_seq: int) -> Page:
    return Page([event_of(row) for row in rows], len(rows), old, Position(old, None, last_seq))


async def lock_anybodys(
    conn: Conn, source: str, me: str, held: Mapping[int, cursors.Held], lease_s: float
) -> cursors.Places:
    """Lock the cursors and ask nobody whose they are."""
    rows = await conn.fetch(
        "SELECT partition, ctid::text AS place FROM event_cursor WHERE source = $1 AND partition = ANY($2)"
        " ORDER BY partition FOR UPDATE",
        source,
        list(held),
    )
    return {row["partition"]: row["place"] for row in rows}


def _apart(consumer: str, handle: Handler) -> Handler:
    async def in_a_commit_of_its_own(conn: Conn, events: Sequence[Event]) -> None:
        async with db.of(consumer).connection() as own:
            await own.execute("BEGIN")
            await handle(own, events)
            await own.execute("COMMIT")

    return in_a_commit_of_its_own
