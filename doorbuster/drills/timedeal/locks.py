"""Answers from pg_locks: when a row lock is taken, and what the others wait for; scripted connections, step by step."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TypeAlias

import asyncpg

from doorbuster.drills.timedeal.findings import LockObservation, LockRow
from doorbuster.drills.timedeal.scratch import Scratch, refill

STEP_TIMEOUT_S = 45.0
STOCK = {230: 100, 240: 100}
TAKE_230 = "UPDATE item_option SET left_units = left_units - 1 WHERE id = 230"
TAKE_240 = "UPDATE item_option SET left_units = left_units - 1 WHERE id = 240"

# asyncpg's Connection takes a parameter in its type stubs only.
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

LOCKS_OF = """
SELECT l.pid, l.locktype, l.relation::regclass::text AS relation, l.page, l.tuple AS tuple_no, l.virtualxid,
       l.transactionid::text AS transactionid, l.mode, l.granted, pg_blocking_pids(l.pid) AS blocked_by
FROM pg_locks l WHERE l.pid = ANY($1) AND l.locktype IN ('relation', 'tuple', 'transactionid', 'virtualxid')
ORDER BY array_position($1, l.pid), l.granted DESC, l.locktype, relation
"""


class StepTookTooLong(Exception):
    """A scripted connection did not reach the state it should have reached within STEP_TIMEOUT_S."""


@dataclass(frozen=True)
class _Cast:
    """The connections by name, and one that only watches."""

    watcher: Connection
    by_name: dict[str, Connection]

    @property
    def names(self) -> dict[int, str]:
        return {connection.get_server_pid(): name for name, connection in self.by_name.items()}

    async def look(self) -> tuple[LockRow, ...]:
        names = self.names
        rows = await self.watcher.fetch(LOCKS_OF, list(names))
        return tuple(
            LockRow(
                connection=names[row["pid"]],
                blocked_by=() if row["granted"] else tuple(names.get(pid, str(pid)) for pid in row["blocked_by"]),
                **{name: row[name] for name in row.keys() if name != "blocked_by"},  # noqa: SIM118  not a dict
            )
            for row in rows
        )

    async def look_until_waiting(self, *waiting: str) -> tuple[LockRow, ...]:
        """The locks once exactly these connections wait for one."""
        give_up = time.monotonic() + STEP_TIMEOUT_S
        while time.monotonic() < give_up:
            rows = await self.look()
            if {row.connection for row in rows if not row.granted} == set(waiting):
                return rows
            await asyncio.sleep(0.01)
        raise StepTookTooLong(f"expected exactly {waiting or 'nobody'} to wait for a lock, pg_locks shows {rows}")

    async def xmax(self, option: int) -> str:
        """The transaction that the row itself names as its latest changer or locker."""
        return str(await self.watcher.fetchval("SELECT xmax::text FROM item_option WHERE id = $1", option))


async def observe_locks(scratch: Scratch) -> tuple[LockObservation, ...]:
    """Six steps with a holder and three others on two options of one item; no transaction is left open when it
    returns. Raises StepTookTooLong when the server does not get there."""
    await refill(scratch, STOCK)
    cast = _Cast(scratch.control, {})
    waits: list[asyncio.Task[str]] = []
    try:
        for name in ("first", "second", "third", "neighbour"):
            cast.by_name[name] = await scratch.connect()
        return await _play(cast, waits)
    finally:
        for connection in cast.by_name.values():
            connection.terminate()
        await asyncio.gather(*waits, return_exceptions=True)


async def _play(cast: _Cast, waits: list[asyncio.Task[str]]) -> tuple[LockObservation, ...]:
    first, second, third = (cast.by_name[name] for name in ("first", "second", "third"))
    for connection in cast.by_name.values():
        await connection.execute("BEGIN")
    begun = _begin_locks_no_row(await cast.look(), await cast.xmax(230))
    await first.execute(TAKE_230)
    locked = _update_locks_the_row(await cast.look(), await cast.xmax(230))
    await cast.by_name["neighbour"].execute(TAKE_240)
    neighbour = _another_row_is_free(await cast.look_until_waiting())
    waits.append(asyncio.create_task(second.execute(TAKE_230)))
    waiting = _second_waits_for_the_transaction(await cast.look_until_waiting("second"))
    waits.append(asyncio.create_task(third.execute(TAKE_230)))
    queueing = _third_waits_for_the_tuple(await cast.look_until_waiting("second", "third"))
    await first.execute("COMMIT")
    await asyncio.wait_for(waits[0], STEP_TIMEOUT_S)
    passed_on = _the_next_holds_it_until_commit(await cast.look_until_waiting("third"))
    await second.execute("COMMIT")
    await asyncio.wait_for(waits[1], STEP_TIMEOUT_S)
    return (begun, locked, neighbour, waiting, queueing, passed_on)


def _of(rows: tuple[LockRow, ...], connection: str, locktype: str) -> list[LockRow]:
    return [row for row in rows if row.connection == connection and row.locktype == locktype]


def _xid(rows: tuple[LockRow, ...], connection: str) -> str | None:
    """The transaction id a connection holds; it has none until it changes something."""
    held = [row.transactionid for row in _of(rows, connection, "transactionid") if row.granted]
    return held[0] if held else None


def _relations(rows: tuple[LockRow, ...], connection: str) -> list[str]:
    return [f"{row.relation} {row.mode}" for row in _of(rows, connection, "relation")]


def _begin_locks_no_row(rows: tuple[LockRow, ...], xmax: str) -> LockObservation:
    only_virtual = all(row.locktype == "virtualxid" and row.granted for row in rows)
    return LockObservation(
        step="begin",
        did="Four connections: BEGIN",
        answer="BEGIN takes no row lock: pg_locks holds nothing for these connections but their own virtual transaction"
        f" ids, no transaction id, no table; and the row of option 230 names no locker (xmax {xmax}).",
        confirmed=only_virtual and xmax == "0",
        rows=rows,
    )


def _update_locks_the_row(rows: tuple[LockRow, ...], xmax: str) -> LockObservation:
    xid = _xid(rows, "first")
    return LockObservation(
        step="update",
        did=f"first: {TAKE_230}",
        answer=f"The row lock is taken here, at the UPDATE: first now has a transaction id ({xid}), which it holds"
        f" exclusively, and a RowExclusiveLock on the table, which does not keep others out. The row lock itself is"
        f" no row of pg_locks: it is written into the row, whose xmax is now {xmax}.",
        confirmed=xid is not None
        and xmax == xid
        and "item_option RowExclusiveLock" in _relations(rows, "first")
        and not _of(rows, "first", "tuple"),
        rows=rows,
    )


def _another_row_is_free(rows: tuple[LockRow, ...]) -> LockObservation:
    xid = _xid(rows, "neighbour")
    return LockObservation(
        step="another_row",
        did=f"neighbour: {TAKE_240}",
        answer=f"Another option of the same item is not locked: neighbour updates it at once (transaction {xid});"
        " both hold RowExclusiveLock on the same table and nobody waits.",
        confirmed=xid is not None
        and all(row.granted for row in rows)
        and "item_option RowExclusiveLock" in _relations(rows, "neighbour"),
        rows=rows,
    )


def _second_waits_for_the_transaction(rows: tuple[LockRow, ...]) -> LockObservation:
    holder = _xid(rows, "first")
    waits = [row for row in _of(rows, "second", "transactionid") if not row.granted]
    queue = [row for row in _of(rows, "second", "tuple") if row.granted]
    return LockObservation(
        step="second_waits",
        did=f"second: {TAKE_230}",
        answer=f"The second buyer waits for ShareLock on transaction {holder}: not for a row but for the whole"
        " transaction of first to end. Meanwhile it holds the tuple lock of the row: it is the next in line.",
        confirmed=[(row.transactionid, row.mode, row.blocked_by) for row in waits]
        == [(holder, "ShareLock", ("first",))]
        and [row.mode for row in queue] == ["ExclusiveLock"],
        rows=rows,
    )


def _third_waits_for_the_tuple(rows: tuple[LockRow, ...]) -> LockObservation:
    waits = [row for row in _of(rows, "third", "tuple") if not row.granted]
    place = f"({waits[0].page},{waits[0].tuple_no})" if waits else "unknown"
    return LockObservation(
        step="third_waits",
        did=f"third: {TAKE_230}",
        answer=f"The third buyer waits for ExclusiveLock on the tuple {place} of item_option, which second holds:"
        " one waits for the holder's transaction, all others queue behind that one.",
        confirmed=[(row.relation, row.mode) for row in waits] == [("item_option", "ExclusiveLock")]
        and "second" in waits[0].blocked_by,
        rows=rows,
    )


def _the_next_holds_it_until_commit(rows: tuple[LockRow, ...]) -> LockObservation:
    holder = _xid(rows, "second")
    waits = [row for row in rows if row.connection == "third" and not row.granted]
    return LockObservation(
        step="holder_commits",
        did="first: COMMIT",
        answer=f"Only the end of the transaction lets go of the row: at first's COMMIT second gets it, and third now"
        f" waits for ShareLock on transaction {holder}, that of second. A row sells as fast as they commit.",
        confirmed=[(row.locktype, row.transactionid, row.mode, row.blocked_by) for row in waits]
        == [("transactionid", holder, "ShareLock", ("second",))],
        rows=rows,
    )
