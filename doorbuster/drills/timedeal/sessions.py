"""Buyers' database sessions: one transaction per order on a few connections, each statement on record."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import asyncpg

from doorbuster.drills.timedeal.demand import Order
from doorbuster.drills.timedeal.scratch import Scratch

# What an ORM spends between two statements: its own work and the round trip to a server one switch away.
THINK_S = 0.001
MAX_RETRIES = 5

Place = Callable[[Order], Awaitable[None]]
"""Returns when the order is accepted and committed; raises Refused otherwise."""


class Refused(Exception):
    """The buyer was told no. `reached_database` is false when the order was turned away before any statement."""

    def __init__(self, reason: str, *, reached_database: bool = True):
        super().__init__(reason)
        self.reason = reason
        self.reached_database = reached_database


class LeftTheQueue(Exception):
    """The bell rang while the buyer still waited for a connection: nothing was attempted."""


class VersionConflict(Exception):
    """Somebody else changed the row between this transaction's read and its write."""


@dataclass
class Statement:
    row: str
    sql: str
    changed: bool = False


@dataclass
class Trace:
    """What one server process was asked to do in its present (or else its last) transaction, in order."""

    order: Order | None = None
    statements: list[Statement] = field(default_factory=list)

    @property
    def changed_rows(self) -> tuple[str, ...]:
        return tuple(statement.row for statement in self.statements if statement.changed)


@dataclass
class Tally:
    """What happened inside a stage, counted where it happens."""

    commits: int = 0
    rollbacks: int = 0
    partial_rollbacks: int = 0
    version_conflicts: int = 0
    retries: int = 0
    deadlocks: int = 0


OnDeadlock = Callable[[int, asyncpg.DeadlockDetectedError], None]


@dataclass
class Shop:
    """What a stage sells with: the scratch schema, its connections, the counts and the bell that closes the doors."""

    scratch: Scratch
    connections: int
    on_deadlock: OnDeadlock
    tally: Tally = field(default_factory=Tally)
    traces: dict[int, Trace] = field(default_factory=dict)
    bell: asyncio.Event = field(default_factory=asyncio.Event)


class Session:
    """One connection that runs one transaction at a time and keeps the record of its statements."""

    def __init__(self, shop: Shop, connection: asyncpg.Connection[asyncpg.Record]):
        self.connection = connection
        self.pid = connection.get_server_pid()
        self.tally = shop.tally
        self._trace = shop.traces.setdefault(self.pid, Trace())

    async def begin(self, order: Order | None) -> None:
        self._trace.order = order
        self._trace.statements = []
        await self.connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")

    async def run(self, row: str, sql: str, *args: object) -> list[asyncpg.Record]:
        """Runs one statement after the think time. `row` names the row it changes ("" for none); it counts as changed
        when the statement returns a row."""
        await asyncio.sleep(THINK_S)
        statement = Statement(row, _with_values(sql, args))
        self._trace.statements.append(statement)
        rows = await self.connection.fetch(sql, *args)
        statement.changed = bool(row and rows)
        return rows

    async def commit(self) -> None:
        await asyncio.sleep(THINK_S)
        await self.connection.execute("COMMIT")
        self.tally.commits += 1

    async def rollback(self) -> None:
        await self.connection.execute("ROLLBACK")
        self.tally.rollbacks += 1
        if self._trace.changed_rows:
            self.tally.partial_rollbacks += 1


def _with_values(sql: str, args: tuple[object, ...]) -> str:
    """The statement as a person would write it; for the report only, never sent."""
    for number in range(len(args), 0, -1):
        sql = sql.replace(f"${number}", str(args[number - 1]))
    return sql


TakeStock = Callable[[Session, Order], Awaitable[None]]
Door = Callable[[Order], None]
Opens = Callable[[Shop], AbstractAsyncContextManager[Place]]


def open_door(order: Order) -> None:
    """Lets every order in."""


def one_transaction_per_order(take_stock: TakeStock, door: Door = open_door) -> Opens:
    """The usual way of selling: each buyer takes a connection and runs `take_stock` between BEGIN and COMMIT."""

    @asynccontextmanager
    async def opens(shop: Shop) -> AsyncIterator[Place]:
        sessions: list[Session] = []
        free: asyncio.Queue[Session] = asyncio.Queue()

        async def place(order: Order) -> None:
            try:
                door(order)
            except Refused:
                await asyncio.sleep(THINK_S)
                raise
            session = await free.get()
            try:
                if shop.bell.is_set():
                    raise LeftTheQueue
                await _sell(shop, session, order, take_stock)
            finally:
                free.put_nowait(session)

        try:
            for _ in range(shop.connections):
                sessions.append(Session(shop, await shop.scratch.connect()))
                free.put_nowait(sessions[-1])
            yield place
        finally:
            await hang_up(sessions)

    return opens


async def hang_up(sessions: list[Session]) -> None:
    """Closes every connection; one whose statement was cut short is dropped without a good-bye."""
    for session in sessions:
        if session.connection.is_in_transaction():
            session.connection.terminate()
    await asyncio.gather(*(s.connection.close(timeout=5) for s in sessions if not s.connection.is_closed()))


async def _sell(shop: Shop, session: Session, order: Order, take_stock: TakeStock) -> None:
    """One order: commit, or roll back and refuse. Only a version conflict is tried again, MAX_RETRIES times at most."""
    for attempt in range(MAX_RETRIES + 1):
        await session.begin(order)
        try:
            await take_stock(session, order)
            return await session.commit()
        except Refused:
            await session.rollback()
            raise
        except asyncpg.CheckViolationError as problem:
            await session.rollback()
            raise Refused("sold_out") from problem
        except asyncpg.DeadlockDetectedError as problem:
            # Before the roll-back is sent: the other processes of the cycle are about to move on.
            shop.on_deadlock(session.pid, problem)
            shop.tally.deadlocks += 1
            await session.rollback()
            raise Refused("deadlock") from problem
        except TimeoutError as problem:
            await session.rollback()
            raise Refused("timeout") from problem
        except VersionConflict:
            shop.tally.version_conflicts += 1
            await session.rollback()
        if attempt < MAX_RETRIES:
            shop.tally.retries += 1
            # Full jitter, so that the losers of one round do not meet again in the next.
            await asyncio.sleep(random.uniform(0, THINK_S * 2**attempt))  # noqa: S311
    raise Refused("version_conflict")
