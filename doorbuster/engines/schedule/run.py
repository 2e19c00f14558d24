"""One attempt at one tick, as its work sees it: chunks that commit once, notes that are kept, a renewed lease."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import msgspec

from doorbuster.engines.schedule import ledger
from doorbuster.engines.schedule.ledger import Fenced, Taken
from doorbuster.platform.calls import open_transaction
from doorbuster.platform.db import Conn, Database
from doorbuster.platform.errors import Unavailable

_LONGEST_CHUNK = 200
_LONGEST_NOTES = 65_536


class Run:
    """Guards what an attempt holds: the epoch that fences it, and its notes."""

    def __init__(self, database: Database, taken: Taken, lease_s: float) -> None:
        self._db = database
        self._taken = taken
        self._lease_s = lease_s
        self._notes: dict[str, Any] = dict(msgspec.json.decode(taken.result))
        self._one_at_a_time = asyncio.Lock()
        self._ended = False

    @property
    def job(self) -> str:
        return self._taken.job

    @property
    def scheduled_for(self) -> datetime:
        """The tick, aware, in UTC: what the work is about. Not the moment at which it runs."""
        return self._taken.scheduled_for

    @property
    def attempt(self) -> int:
        """1 at the first start."""
        return self._taken.attempts

    @property
    def notes(self) -> str:
        """What was noted, as JSON."""
        return msgspec.json.encode(self._notes).decode()

    def note(self, **what: Any) -> None:
        """Add to the result that the history shows (64 kB in all): kept at the end, and with the chunk that is open.

        Notes of chunks that committed are there again when another process goes on.
        """
        merged = self._notes | what
        assert len(msgspec.json.encode(merged)) <= _LONGEST_NOTES, "a result is a few figures, not a store"
        self._notes = merged

    @asynccontextmanager
    async def chunk(self, key: str) -> AsyncIterator[Conn | None]:
        """A transaction of the job's domain for one part of the work, or None when this part is finished already.

        What is written through the connection happens exactly once over all attempts. One chunk of a run is open at a
        time. Raises `Fenced` when the run belongs to somebody else; then nothing is written. `Unavailable` and
        `OutcomeUnknown` need not be caught: the next attempt finds out from the ledger.
        """
        assert 0 < len(key) <= _LONGEST_CHUNK, "a chunk's key is short"
        assert not open_transaction.get(), "a chunk is a transaction of its own"
        async with self._one_at_a_time:
            if self._ended:
                raise Fenced(f"The attempt at {self.job} has ended")
            before = self._notes
            try:
                async with self._db.transaction() as conn:
                    is_left = await ledger.lock_chunk(conn, self._taken, key, self._lease_s)
                    if is_left:
                        yield conn
                        await ledger.keep_notes(conn, self._taken, self._lease_s, self.notes)
                if not is_left:
                    yield None
            except BaseException:
                self._notes = before
                raise

    async def keep(self) -> None:
        """Renew the lease until cancelled. Raises `Fenced` when it is lost, or could not be renewed in time."""
        clock = asyncio.get_running_loop().time
        sure_until = clock() + self._lease_s
        while True:
            await asyncio.sleep(self._lease_s / 3)
            # A chunk that is open holds the row, so nobody can take the run over; it renews the lease as it commits.
            async with self._one_at_a_time:
                asked_at = clock()
                try:
                    async with asyncio.timeout(self._lease_s / 3):
                        is_mine = await ledger.renew(self._db, self._taken, self._lease_s)
                except (Unavailable, TimeoutError) as error:
                    if clock() >= sure_until:
                        raise Fenced(f"The lease of {self.job} could not be renewed: {error}") from error
                    continue
            if not is_mine:
                raise Fenced(f"Somebody else has {self.job} of {self.scheduled_for}")
            sure_until = asked_at + self._lease_s

    def close(self) -> None:
        """No more chunks: also work that ignores its cancellation writes nothing from now on."""
        self._ended = True
