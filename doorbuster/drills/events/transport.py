"""What carries the facts in a run, as the drill sees it: opened for one run, looked at, killed in part, removed.

The run itself knows no transport. A further one is an entry in `TRANSPORTS`, and its consumers in worker.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import asyncpg
import msgspec

from doorbuster.drills.events import kafka_transport, plants
from doorbuster.drills.events import place as tables
from doorbuster.drills.events.history import CursorSample
from doorbuster.drills.events.parts import Ears
from doorbuster.drills.events.place import Place
from doorbuster.drills.events.refusal import CannotCarry
from doorbuster.engines.embedded.postgres import CAPTURED


class Carrier(Protocol):
    """A transport that runs for one run."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Which parts of it can be killed, by name, oftener if it stands there oftener; PostgreSQL is none of them."""
        ...

    @property
    def ears(self) -> Ears:
        """What its consumers have to know of it."""
        ...

    async def kill(self, kind: str) -> float:
        """kill -9 that part; returns after how many seconds it works again. TimeoutError when it never does."""
        ...

    async def flows(self) -> None:
        """Wait until facts are carried, after PostgreSQL was killed. TimeoutError when they never are."""
        ...

    async def look(self, admin: asyncpg.Connection[asyncpg.Record], consumer: str) -> list[CursorSample]:
        """Where a consumer's cursors stand and whose they are; `admin` is a connection to the consumer's schema."""
        ...


class Transport(msgspec.Struct, frozen=True):
    """How to open one: what PostgreSQL must be started with, and what is put up for a run and taken down after it.

    `check` raises CannotCarry when there is no hope, before anything is started. `plants` are those that mean something
    here. `slack_s`: how much longer than PostgreSQL alone it may need to come back from a kill. `dawdle_s`: how long a
    session of a writer rests between two transactions while a blow is under way, so that a transport that needs seconds
    to come back finds something left to carry. `taken_over_leases`: by when a frozen worker's partitions have others.
    """

    server: Mapping[str, str]
    opens: Callable[[Place], AbstractAsyncContextManager[Carrier]]
    check: Callable[[], None] = lambda: None
    plants: tuple[str, ...] = tuple(plants.PLANTS)
    slack_s: float = 0.0
    dawdle_s: float = 0.2
    taken_over_leases: float = 2.0


class _Postgres:
    """Cursors in the consumers' schemas, and nothing else."""

    kinds: tuple[str, ...] = ()
    ears = Ears()

    async def kill(self, kind: str) -> float:
        raise AssertionError(f"the PostgreSQL transport has no part {kind}")

    async def flows(self) -> None:
        """Nothing stands between the databases."""

    async def look(self, admin: asyncpg.Connection[asyncpg.Record], consumer: str) -> list[CursorSample]:
        return await tables.cursors(admin, consumer)


@asynccontextmanager
async def _postgres(place: Place) -> AsyncIterator[Carrier]:
    yield _Postgres()


TRANSPORTS: Mapping[str, Transport] = {
    "postgres": Transport({}, _postgres),
    "kafka": Transport(
        CAPTURED,
        kafka_transport.open_kafka,
        kafka_transport.check,
        (plants.NO_INBOX, plants.NO_EPOCH),
        slack_s=60.0,
        dawdle_s=1.0,
        # A session has to end, and then the group shares its partitions out anew.
        taken_over_leases=4.0,
    ),
}


def transport_of(name: str, plant: str = "") -> Transport:
    """The transport of that name, which can be had here and broken so. Raises CannotCarry, or NoSuchPlant."""
    if name not in TRANSPORTS:
        raise CannotCarry(f"There is no transport {name!r}: {', '.join(TRANSPORTS)}.")
    transport = TRANSPORTS[name]
    if plant and plant not in plants.PLANTS:
        raise plants.NoSuchPlant(plant)
    if plant and plant not in transport.plants:
        raise CannotCarry(f"{plant} breaks nothing over {name}; these do: {', '.join(transport.plants)}.")
    transport.check()
    return transport
