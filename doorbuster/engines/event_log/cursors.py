"""The cursors of one consumer: who may move them (a lease and an epoch), and where they stand (a pair of snapshots).

The epoch is the fence: it is raised whenever a partition changes hands, and every effect locks the cursors it moves
and compares. A worker that was paused while its lease ran out finds another epoch and commits nothing.

Who owns a cursor finds it by the place (ctid) of the version that it wrote last. By its key it would have to pass all
versions that a long transaction, also one of another database, keeps from being removed: a hundred more each second.
"""

from __future__ import annotations

from collections.abc import Mapping

import asyncpg
import msgspec

from doorbuster.engines.event_log.partition import PARTITIONS
from doorbuster.platform.db import Conn
from doorbuster.platform.errors import Unavailable

BEGINNING = "1:1:"
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
        return self.old == BEGINNING


class Held(msgspec.Struct, frozen=True):
    """A partition this worker owns. `place`: where its row was last seen; it may have moved since."""

    epoch: int
    position: Position
    place: str = ""


Places = dict[int, str]
"""The place of each partition's row."""


async def join(conn: Conn, source: str) -> None:
    """Make the cursors of a new subscription; a consumer that was here before keeps its own."""
    await conn.execute(
        "INSERT INTO event_cursor (source, partition, snapshot)"
        " SELECT $1, n, $3::text::pg_snapshot FROM generate_series(0, $2 - 1) AS n ON CONFLICT DO NOTHING",
        source,
        PARTITIONS,
        BEGINNING,
    )


async def read_positions(conn: Conn, source: str) -> tuple[dict[int, Position], int]:
    """(where each partition stands, how many workers hold a lease)."""
    rows = await conn.fetch(
        "SELECT partition, snapshot::text, upto::text, last_seq, owner, lease_until > clock_timestamp() AS held"
        " FROM event_cursor WHERE source = $1 ORDER BY partition",
        source,
    )
    positions = {row["partition"]: Position(row["snapshot"], row["upto"], row["last_seq"]) for row in rows}
    return positions, len({row["owner"] for row in rows if row["owner"] and row["held"]})


async def lock_and_move(conn: Conn, source: str, positions: Mapping[int, Position]) -> None:
    """Lock all cursors, in order, put them elsewhere and take them from whoever holds them (who is fenced)."""
    await conn.fetch("SELECT FROM event_cursor WHERE source = $1 ORDER BY partition FOR UPDATE", source)
    await conn.execute(
        "UPDATE event_cursor c SET snapshot = n.snapshot::pg_snapshot, upto = n.upto::pg_snapshot,"
        " last_seq = n.last_seq, epoch = epoch + 1, owner = '', lease_until = '-infinity'"
        " FROM unnest($2::int[], $3::text[], $4::text[], $5::bigint[]) AS n(partition, snapshot, upto, last_seq)"
        " WHERE c.source = $1 AND c.partition = n.partition",
        source,
        list(positions),
        [position.old for position in positions.values()],
        [position.upto for position in positions.values()],
        [position.last_seq for position in positions.values()],
    )


async def lease(conn: Conn, source: str, me: str, lease_s: float, held: Mapping[int, Held]) -> dict[int, Held]:
    """Say that I live, keep my partitions and take free ones, up to a fair share; returns what is mine from now on.

    What was read but needed no effect is saved here too. A cursor that somebody holds locked is left alone: its owner
    is in the middle of an effect. Give up what is above the share, so that a worker that just came gets some.
    """
    workers, holding = await _lock_and_say_that_i_live(conn, source, me, lease_s, len(held))
    share = -(-PARTITIONS // max(1, workers))
    if holding == PARTITIONS and 0 < len(held) <= share:
        # All partitions are somebody's, as far as everybody says: nothing to look for, if mine are still mine.
        places = await _lock_and_save(conn, source, me, held, lease_s)
        if len(places) == len(held):
            return _placed(held, places)
    taken = await _lock_and_share_out(conn, source, me, lease_s, held, share)
    if len(taken) != len(held):
        await conn.execute(
            "UPDATE event_member SET holds = $3 WHERE source = $1 AND worker = $2", source, me, len(taken)
        )
    return taken


async def _lock_and_say_that_i_live(conn: Conn, source: str, me: str, lease_s: float, holds: int) -> tuple[int, int]:
    """(how many workers live, how many partitions they hold together)."""
    await conn.execute(
        "INSERT INTO event_member (source, worker, seen_until, holds)"
        " VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3), $4)"
        " ON CONFLICT (source, worker) DO UPDATE SET seen_until = excluded.seen_until, holds = excluded.holds",
        source,
        me,
        lease_s,
        holds,
    )
    # Whoever is locked is just saying that it lives after all, and may be about to remove me: two that had both stood
    # still for too long would wait for each other.
    await conn.execute(
        "DELETE FROM event_member WHERE source = $1 AND worker = ANY(ARRAY(SELECT worker FROM event_member"
        " WHERE source = $1 AND seen_until < clock_timestamp() FOR UPDATE SKIP LOCKED))",
        source,
    )
    row = await conn.fetchrow(
        "SELECT count(*), coalesce(sum(holds), 0)::bigint FROM event_member WHERE source = $1", source
    )
    assert row is not None
    return int(row[0]), int(row[1])


async def _lock_and_share_out(
    conn: Conn, source: str, me: str, lease_s: float, held: Mapping[int, Held], share: int
) -> dict[int, Held]:
    """Look at all cursors: keep mine up to the share, give up what is above it, take what is free."""
    rows = await conn.fetch(
        "SELECT partition, owner, epoch FROM event_cursor"
        " WHERE source = $1 AND (owner = $2 OR lease_until <= clock_timestamp())"
        " ORDER BY partition FOR UPDATE SKIP LOCKED",
        source,
        me,
    )
    mine = [
        row["partition"]
        for row in rows
        if row["owner"] == me and row["partition"] in held and held[row["partition"]].epoch == row["epoch"]
    ]
    free = [row["partition"] for row in rows if row["partition"] not in mine]
    places = await _save_locked(conn, source, {partition: held[partition] for partition in mine}, lease_s)
    kept = _placed({partition: held[partition] for partition in mine[:share]}, places)
    await _free(conn, source, mine[share:])
    return kept | await _take(conn, source, me, lease_s, free[: share - len(kept)])


def _placed(held: Mapping[int, Held], places: Places) -> dict[int, Held]:
    return {partition: Held(one.epoch, one.position, places[partition]) for partition, one in held.items()}


async def leave(conn: Conn, source: str, me: str, held: Mapping[int, Held]) -> None:
    """Give everything up, so that others need not wait for the lease to end."""
    rows = await conn.fetch(
        "SELECT partition, epoch FROM event_cursor WHERE source = $1 AND owner = $2 ORDER BY partition FOR UPDATE",
        source,
        me,
    )
    mine = [row["partition"] for row in rows]
    known = {row[0]: held[row[0]] for row in rows if row[0] in held and held[row[0]].epoch == row[1]}
    await _save_locked(conn, source, known, 0.0)
    await _free(conn, source, mine)
    await conn.execute("DELETE FROM event_member WHERE source = $1 AND worker = $2", source, me)


async def lock(conn: Conn, source: str, me: str, held: Mapping[int, Held], lease_s: float) -> Places:
    """Lock these cursors until the end of the transaction, or raise `Fenced` when one of them is no longer mine.
    Returns where they are.

    Nobody can take a locked cursor over, so what commits now is the only effect. Should this process freeze in the
    middle, the server ends the transaction after one more lease, and the locks with it.
    """
    epochs = {partition: one.epoch for partition, one in held.items()}
    columns = (
        "partition, epoch, owner, ctid::text AS place, set_config('idle_in_transaction_session_timeout', $1, true)"
    )
    timeout = str(int(lease_s * 1_000))
    rows = await conn.fetch(
        f"SELECT {columns} FROM event_cursor WHERE ctid = ANY($2::text[]::tid[]) AND source = $3"
        " ORDER BY partition FOR UPDATE",
        timeout,
        [one.place for one in held.values()],
        source,
    )
    if {row["partition"]: row["epoch"] for row in rows if row["owner"] == me} != epochs:
        # They have moved, or somebody has taken them: look by their keys. Some are locked already, so waiting for
        # others now might be waiting for somebody who waits for these.
        try:
            rows = await conn.fetch(
                f"SELECT {columns} FROM event_cursor WHERE source = $2 AND partition = ANY($3)"
                " ORDER BY partition FOR UPDATE NOWAIT",
                timeout,
                source,
                list(epochs),
            )
        except asyncpg.LockNotAvailableError as error:
            raise Fenced(f"Somebody else is moving partitions of {source}") from error
    if {row["partition"]: row["epoch"] for row in rows if row["owner"] == me} != epochs:
        raise Fenced(f"Another worker has taken over partitions of {source}")
    return {row["partition"]: row["place"] for row in rows}


async def advance(conn: Conn, places: Places, after: Position) -> Places:
    """Move cursors that are locked at these places; returns where they are afterwards."""
    rows = await conn.fetch(
        "UPDATE event_cursor SET snapshot = $2::text::pg_snapshot, upto = $3::text::pg_snapshot, last_seq = $4"
        " WHERE ctid = ANY($1::text[]::tid[]) RETURNING partition, ctid::text AS place",
        list(places.values()),
        after.old,
        after.upto,
        after.last_seq,
    )
    assert len(rows) == len(places), "a locked row stays where it is"
    return {row["partition"]: row["place"] for row in rows}


_SAVE = """
UPDATE event_cursor c SET lease_until = clock_timestamp() + make_interval(secs => $2),
       snapshot = n.snapshot::pg_snapshot, upto = n.upto::pg_snapshot, last_seq = n.last_seq
  FROM unnest($3::int[], $4::text[], $5::text[], $6::bigint[]) AS n(partition, snapshot, upto, last_seq)
 WHERE c.source = $1 AND c.partition = n.partition
"""


async def _lock_and_save(conn: Conn, source: str, me: str, held: Mapping[int, Held], lease_s: float) -> Places:
    """Write where I stand, and a new end of the lease, for those that are where I left them and mine; returns where
    these are now."""
    places = await conn.fetch(
        "SELECT partition, epoch FROM event_cursor WHERE ctid = ANY($1::text[]::tid[]) AND source = $2 AND owner = $3"
        " ORDER BY partition FOR UPDATE SKIP LOCKED",
        [one.place for one in held.values()],
        source,
        me,
    )
    if {row["partition"]: row["epoch"] for row in places} != {p: one.epoch for p, one in held.items()}:
        return {}
    rows = await conn.fetch(
        f"{_SAVE} AND c.ctid = ANY($7::text[]::tid[]) RETURNING c.partition, c.ctid::text AS place",
        *_standing(source, held, lease_s),
        [one.place for one in held.values()],
    )
    return {row["partition"]: row["place"] for row in rows}


async def _save_locked(conn: Conn, source: str, held: Mapping[int, Held], lease_s: float) -> Places:
    """Write where I stand, and a new end of the lease. The rows are locked and mine."""
    rows = await conn.fetch(f"{_SAVE} RETURNING c.partition, c.ctid::text AS place", *_standing(source, held, lease_s))
    return {row["partition"]: row["place"] for row in rows}


def _standing(source: str, held: Mapping[int, Held], lease_s: float) -> tuple[object, ...]:
    return (
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
        " RETURNING partition, epoch, snapshot::text, upto::text, last_seq, ctid::text AS place",
        source,
        partitions,
        me,
        lease_s,
    )
    return {
        row["partition"]: Held(row["epoch"], Position(row["snapshot"], row["upto"], row["last_seq"]), row["place"])
        for row in rows
    }
