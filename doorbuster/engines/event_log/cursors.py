"""The cursors of one consumer: who may move them (a lease and an epoch), and where they stand (a pair of snapshots).

The epoch is the fence: it is raised whenever a partition changes hands, and every effect locks the cursors it moves
and compares. A worker that was paused while its lease ran out finds another epoch and commits nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from doorbuster.engines.event_log.partition import PARTITIONS
from doorbuster.platform.db import Conn
from doorbuster.platform.errors import Unavailable

_BEGINNING = "1:1:"
"""A snapshot that sees nothing: a new consumer hears everything from the first fact on."""


class Fenced(Unavailable):
    """Another worker has taken over; what was under way is rolled back."""


class Position(msgspec.Struct, frozen=True):
    """All that `old` sees is handled, and of what `upto` sees beyond that, all up to `last_seq`."""

    old: str
    upto: str | None = None
    last_seq: int = 0

    @property
    def is_beginning(self) -> bool:
        return self.old == _BEGINNING


class Held(msgspec.Struct, frozen=True):
    """A partition this worker owns."""

    epoch: int
    position: Position


async def join(conn: Conn, source: str) -> None:
    """Make the cursors of a new subscription; a consumer that was here before keeps its own."""
    await conn.execute(
        "INSERT INTO event_cursor (source, partition, snapshot)"
        " SELECT $1, n, $3::text::pg_snapshot FROM generate_series(0, $2 - 1) AS n ON CONFLICT DO NOTHING",
        source,
        PARTITIONS,
        _BEGINNING,
    )


async def lease(conn: Conn, source: str, me: str, lease_s: float, held: Mapping[int, Held]) -> dict[int, Held]:
    """Say that I live, keep my partitions and take free ones, up to a fair share; returns what is mine from now on.

    What was read but needed no effect is saved here too. A cursor that somebody holds locked is left alone: its owner
    is in the middle of an effect. Give up what is above the share, so that a worker that just came gets some.
    """
    await conn.execute(
        "INSERT INTO event_member (source, worker, seen_until)"
        " VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3))"
        " ON CONFLICT (source, worker) DO UPDATE SET seen_until = excluded.seen_until",
        source,
        me,
        lease_s,
    )
    await conn.execute("DELETE FROM event_member WHERE source = $1 AND seen_until < clock_timestamp()", source)
    workers = await conn.fetchval("SELECT count(*) FROM event_member WHERE source = $1", source)
    rows = await conn.fetch(
        "SELECT partition, owner, epoch FROM event_cursor"
        " WHERE source = $1 AND (owner = $2 OR lease_until <= clock_timestamp())"
        " ORDER BY partition FOR UPDATE SKIP LOCKED",
        source,
        me,
    )
    share = -(-PARTITIONS // max(1, workers))
    mine = [
        row["partition"]
        for row in rows
        if row["owner"] == me and row["partition"] in held and held[row["partition"]].epoch == row["epoch"]
    ]
    free = [row["partition"] for row in rows if row["partition"] not in mine]
    kept = {partition: held[partition] for partition in mine[:share]}
    await _save(conn, source, {partition: held[partition] for partition in mine}, lease_s)
    await _free(conn, source, mine[share:])
    return kept | await _take(conn, source, me, lease_s, free[: share - len(kept)])


async def leave(conn: Conn, source: str, me: str, held: Mapping[int, Held]) -> None:
    """Give everything up, so that others need not wait for the lease to end."""
    rows = await conn.fetch(
        "SELECT partition, epoch FROM event_cursor WHERE source = $1 AND owner = $2 ORDER BY partition FOR UPDATE",
        source,
        me,
    )
    mine = [row["partition"] for row in rows]
    known = {row[0]: held[row[0]] for row in rows if row[0] in held and held[row[0]].epoch == row[1]}
    await _save(conn, source, known, 0.0)
    await _free(conn, source, mine)
    await conn.execute("DELETE FROM event_member WHERE source = $1 AND worker = $2", source, me)


async def lock(conn: Conn, source: str, me: str, epochs: Mapping[int, int], lease_s: float) -> None:
    """Lock these cursors until the end of the transaction, or raise `Fenced` when one of them is no longer mine.

    Nobody can take a locked cursor over, so what commits now is the only effect. Should this process freeze in the
    middle, the server ends the transaction after one more lease, and the locks with it.
    """
    rows = await conn.fetch(
        "SELECT partition, epoch, owner, set_config('idle_in_transaction_session_timeout', $3, true)"
        " FROM event_cursor WHERE source = $1 AND partition = ANY($2) ORDER BY partition FOR UPDATE",
        source,
        list(epochs),
        str(int(lease_s * 1_000)),
    )
    if {row["partition"]: row["epoch"] for row in rows if row["owner"] == me} != epochs:
        raise Fenced(f"Another worker has taken over partitions of {source}")


async def advance(conn: Conn, source: str, partitions: list[int], after: Position) -> None:
    """Move locked cursors."""
    await conn.execute(
        "UPDATE event_cursor SET snapshot = $3::text::pg_snapshot, upto = $4::text::pg_snapshot, last_seq = $5"
        " WHERE source = $1 AND partition = ANY($2)",
        source,
        partitions,
        after.old,
        after.upto,
        after.last_seq,
    )


async def _save(conn: Conn, source: str, held: Mapping[int, Held], lease_s: float) -> None:
    """Write where I stand, and a new end of the lease. The rows are locked and mine."""
    await conn.execute(
        "UPDATE event_cursor c SET lease_until = clock_timestamp() + make_interval(secs => $2),"
        " snapshot = n.snapshot::pg_snapshot, upto = n.upto::pg_snapshot, last_seq = n.last_seq"
        " FROM unnest($3::int[], $4::text[], $5::text[], $6::bigint[]) AS n(partition, snapshot, upto, last_seq)"
        " WHERE c.source = $1 AND c.partition = n.partition",
        source,
        lease_s,
        list(held),
        [one.position.old for one in held.values()],
        [one.position.upto for one in held.values()],
        [one.position.last_seq for one in held.values()],
    )


async def _free(conn: Conn, source: str, partitions: list[int]) -> None:
    await conn.execute(
        "UPDATE event_cursor SET owner = '', lease_until = '-infinity' WHERE source = $1 AND partition = ANY($2)",
        source,
        partitions,
    )


async def _take(conn: Conn, source: str, me: str, lease_s: float, partitions: list[int]) -> dict[int, Held]:
    rows = await conn.fetch(
        "UPDATE event_cursor SET epoch = epoch + 1, owner = $3,"
        " lease_until = clock_timestamp() + make_interval(secs => $4)"
        " WHERE source = $1 AND partition = ANY($2)"
        " RETURNING partition, epoch, snapshot::text, upto::text, last_seq",
        source,
        partitions,
        me,
        lease_s,
    )
    return {
        row["partition"]: Held(row["epoch"], Position(row["snapshot"], row["upto"], row["last_seq"])) for row in rows
    }
