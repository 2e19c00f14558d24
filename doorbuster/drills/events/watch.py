"""Looks over the run from outside: where the cursors stand, and a transaction that stays open in a neighbour."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg

from doorbuster.drills.events.history import CursorSample, epoch_fault, went_back
from doorbuster.drills.events.place import NEIGHBOUR, Place, connect
from doorbuster.drills.events.transport import Carrier
from doorbuster.platform.db import LOST

_EVERY_S = 0.05
_AWAY_S = 0.1
GONE = (*LOST, asyncpg.PostgresError)
"""What a connection says whose server was killed."""


class Recorder:
    """Guards what was seen of the cursors of all consumers: the latest of each, and every step back."""

    def __init__(self) -> None:
        self.latest: dict[tuple[str, int], CursorSample] = {}
        self.regressions: list[str] = []
        self.epoch_faults: list[str] = []
        self.samples = 0

    def note(self, sample: CursorSample) -> None:
        """Compare with the sample before."""
        self.samples += 1
        before = self.latest.get((sample.consumer, sample.partition))
        self.latest[sample.consumer, sample.partition] = sample
        if before is None:
            return
        if went_back(before, sample):
            self.regressions.append(f"{before} → {sample}")
        if epoch_fault(before, sample):
            self.epoch_faults.append(f"{before} → {sample}")

    def owned_by(self, owner: str) -> int:
        """How many partitions a worker owns, by its name in the cursors."""
        return sum(sample.owner == owner for sample in self.latest.values())

    def owners(self, consumer: str) -> set[str]:
        """Who owns a consumer's partitions; "" stands for nobody."""
        return {sample.owner for sample in self.latest.values() if sample.consumer == consumer}

    async def watch(self, place: Place, carrier: Carrier, consumer: str) -> None:
        """Look at one consumer's cursors every 50 ms, also through crashes of the server. Cancel to stop."""

        async def look(admin: asyncpg.Connection[asyncpg.Record]) -> None:
            while True:
                for sample in await carrier.look(admin, consumer):
                    self.note(sample)
                await asyncio.sleep(_EVERY_S)

        await _for_ever(lambda: place.superuser(consumer), look)


async def stay_open(place: Place) -> None:
    """Keep a transaction that has written open in a neighbouring database; cancel to stop."""

    async def sit(admin: asyncpg.Connection[asyncpg.Record]) -> None:
        await admin.execute("CREATE TABLE IF NOT EXISTS note (n int); BEGIN; INSERT INTO note VALUES (1)")
        while True:
            await admin.execute("SELECT 1")
            await asyncio.sleep(_AWAY_S)

    await _for_ever(lambda: connect(place.server.postgres, NEIGHBOUR), sit)


async def _for_ever(
    opens: Callable[[], Awaitable[asyncpg.Connection[asyncpg.Record]]],
    work: Callable[[asyncpg.Connection[asyncpg.Record]], Awaitable[None]],
) -> None:
    """Do `work` on a connection; on a new one whenever the server was killed under it."""
    while True:
        try:
            admin = await opens()
        except GONE:
            await asyncio.sleep(_AWAY_S)
            continue
        try:
            await work(admin)
        except GONE:
            await asyncio.sleep(_AWAY_S)
        finally:
            admin.terminate()


@asynccontextmanager
async def in_background(*works: Awaitable[None]) -> AsyncIterator[None]:
    """Run these beside the body; they are cancelled at its end, and what one of them raised is raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    for one in ended:
        if isinstance(one, Exception):
            raise one
