"""A writer process: sessions that make history on hot keys, dawdle, roll back, and note what they were promised.

`python -m doorbuster.drills.events.writer SETTINGS LOAD`, where LOAD is a `parts.Load` as JSON. It ends by itself when
it has published its share, and at once when its stdin ends.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys

import asyncpg
import msgspec
import uvloop

from doorbuster.drills.events import hooks
from doorbuster.drills.events.parts import COUNTED, NOTED, PUBLISHER, Load
from doorbuster.engines import event_log
from doorbuster.engines.event_log import Fact
from doorbuster.platform import db, settings, telemetry
from doorbuster.platform.db import Conn
from doorbuster.platform.errors import OutcomeUnknown, Unavailable

_SIZES, _WEIGHTS = (1, 2, 4, 8, 16, 32), (25, 15, 20, 15, 15, 10)
_AWAY_S = 0.05
ROLLED_BACK = "-"

_LOCK = "SELECT key FROM aggregate WHERE key = ANY($1) ORDER BY key FOR UPDATE"
_BUMP = (
    "UPDATE aggregate a SET version = version + n.facts FROM unnest($1::text[], $2::int[]) AS n(key, facts)"
    " WHERE a.key = n.key RETURNING a.key, a.version"
)


class _RolledBack(Exception):
    """The dice say that this transaction does not happen."""


class _Write(msgspec.Struct, frozen=True):
    """One transaction as the dice made it."""

    name: str
    facts: dict[str, list[str]]
    xid_first: bool
    savepoint: bool
    delays_s: tuple[float, float]
    fails: bool

    @property
    def size(self) -> int:
        return sum(map(len, self.facts.values()))


def draw(dice: random.Random, load: Load, name: str, most: int) -> _Write:
    """The next transaction, of at most `most` facts; a few keys take most of the load."""
    size = min(most, dice.choices(_SIZES, _WEIGHTS)[0])
    keys = {f"key-{int(load.keys * dice.random() ** 2)}" for _ in range(min(size, dice.choice((1, 1, 2, 4, 8))))}
    facts: dict[str, list[str]] = {key: [] for key in sorted(keys)}
    for n in range(size):
        key = sorted(keys)[n % len(keys)]
        facts[key].append(COUNTED if dice.random() < 0.85 else NOTED)
    longest = load.longest_delay_ms / 1_000
    early, late = (longest * dice.random() ** 2 if dice.random() < 0.5 else 0.0 for _ in range(2))
    return _Write(
        name, facts, dice.random() < load.xid_first, dice.random() < 0.05, (early, late), dice.random() < load.rollbacks
    )


async def lock_and_bump(conn: Conn, facts: dict[str, list[str]]) -> dict[str, int]:
    """Lock the aggregates in the order of their keys and raise their versions; returns the new versions."""
    if len(facts) > 1:
        await conn.execute(_LOCK, list(facts))
    rows = await conn.fetch(_BUMP, list(facts), [len(types) for types in facts.values()])
    return {row["key"]: row["version"] for row in rows}


async def write(write: _Write) -> None:
    """One transaction. Raises what `db.transaction` raises, and `_RolledBack`."""
    async with db.of(PUBLISHER).transaction() as conn:
        if write.xid_first:
            await conn.execute("SELECT pg_current_xact_id()")
            await asyncio.sleep(write.delays_s[0])
        versions = await lock_and_bump(conn, write.facts)
        facts = [
            Fact(PUBLISHER, key, kind, 1, version, msgspec.json.encode({"tx": write.name, "of": write.size}))
            for key, types in write.facts.items()
            for version, kind in enumerate(types, start=versions[key] - len(types) + 1)
        ]
        if write.savepoint:
            # What is published under a savepoint and taken back was never there.
            await conn.execute("SAVEPOINT thought_better")
            await event_log.publish(conn, facts)
            await conn.execute("ROLLBACK TO SAVEPOINT thought_better")
        hooks.trap.writes()
        await event_log.publish(conn, facts)
        await asyncio.sleep(write.delays_s[1])
        if write.fails:
            raise _RolledBack


class Pace:
    """Guards how long a session rests between two transactions, in seconds."""

    def __init__(self) -> None:
        self.rest_s = 0.0

    def obey(self, words: list[str]) -> None:
        """An order of the drill: `dawdle 0.5`."""
        if words[0] == "dawdle":
            self.rest_s = float(words[1])


async def session(load: Load, number: int, notes: int, pace: Pace) -> None:
    """Write until this session's share is published. Each outcome is noted, in one write, after it is known."""
    prefix = f"{load.name}.{load.incarnation}.{number}"
    dice = random.Random(f"{load.seed}/{prefix}")  # noqa: S311  (a repeatable history, no secret)
    left = load.events // load.sessions + (number < load.events % load.sessions)
    count = 0
    while left > 0:
        count += 1
        await asyncio.sleep(pace.rest_s * dice.random() * 2)
        next_one = draw(dice, load, f"{prefix}.{count}", left)
        try:
            await write(next_one)
        except (_RolledBack, asyncpg.LockNotAvailableError):
            os.write(notes, f"{next_one.name} {ROLLED_BACK}\n".encode())
        except OutcomeUnknown:
            continue
        except Unavailable:
            await asyncio.sleep(_AWAY_S)
        else:
            left -= next_one.size
            os.write(notes, f"{next_one.name} {next_one.size}\n".encode())


async def main(load: Load) -> None:
    """All sessions, and the drill's orders."""
    hooks.install()
    pace = Pace()
    orders = asyncio.create_task(hooks.listen(pace.obey))
    notes = os.open(load.notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    work = asyncio.gather(*(session(load, number, notes, pace) for number in range(load.sessions)))
    # The drill closes stdin to end a writer; what is under way then counts as killed.
    orders.add_done_callback(lambda _: None if work.done() else os._exit(1))
    await work
    orders.cancel()
    await db.close_all()


if __name__ == "__main__":
    telemetry.configure(settings.load(sys.argv[1]).log_level)
    uvloop.run(main(msgspec.json.decode(sys.argv[2], type=Load)))
