"""The two processes of the event benches: one publishes at a steady rate, one hears and notes when.

`python -m doorbuster.drills.bench.events_process SETTINGS TOLD`, TOLD being a `Pace` or a `Ear` as JSON.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import uvloop

from doorbuster.drills.events.parts import COUNTED, PUBLISHER
from doorbuster.engines import event_log
from doorbuster.engines.event_log import Event, EventLog, Fact, Subscription
from doorbuster.platform import db, settings, telemetry
from doorbuster.platform.db import Conn

POISON = "poison"
_INSERT = event_log.insert_facts("$1")
_NOTE = (
    "INSERT INTO effect (event_id, partition, key, version, worker, at)"
    " SELECT *, 'bench', clock_timestamp() FROM unnest($1::uuid[], $2::int[], $3::text[], $4::bigint[])"
)


class Pace(msgspec.Struct, frozen=True, tag=True):
    """Publish `rate` facts a second, one transaction each, for `seconds`; `poison` of them a second have that key."""

    rate: float
    seconds: float
    label: str
    keys: int = 1_000
    sessions: int = 8
    poison: float = 0.0
    file: str = ""
    """Where to write how long each transaction took, in ms."""


class Ear(msgspec.Struct, frozen=True, tag=True):
    """Hear everything as one worker; write to `file` what came when. With `effects` each event writes a row; the key it
    `refuses` cannot be handled.

    `gather_s` is the subscription's; none: what a subscription has that says nothing.
    """

    consumer: str
    file: str
    effects: bool = False
    refuses: str = ""
    gather_s: float | None = None


class Heard(msgspec.Struct, frozen=True, array_like=True):
    """When events came to the handler, in seconds since 1970: one moment for each call, and the ids it was given."""

    at: float
    ids: list[str]


async def publish(pace: Pace) -> None:
    """An open loop: what is late is sent at once, so that a slow server is not spared."""
    dice = random.Random(pace.label)  # noqa: S311  (a repeatable load, no secret)
    database = db.of(PUBLISHER)
    begin = time.monotonic() + 0.2
    count = round(pace.rate * pace.seconds)
    took_ms: list[float] = []

    async def session(number: int) -> None:
        for nth in range(number, count, pace.sessions):
            await asyncio.sleep(max(0.0, begin + nth / pace.rate - time.monotonic()))
            key = POISON if dice.random() < pace.poison / pace.rate else f"key-{dice.randrange(pace.keys)}"
            payload = msgspec.json.encode({"label": pace.label})
            began = time.monotonic()
            await database.write(_INSERT, event_log.as_parameter([Fact(PUBLISHER, key, COUNTED, 1, 1, payload)]))
            took_ms.append((time.monotonic() - began) * 1_000)

    await asyncio.gather(*(session(number) for number in range(pace.sessions)))
    await db.close_all()
    if pace.file:
        Path(pace.file).write_bytes(msgspec.msgpack.encode(took_ms))


async def hear(ear: Ear) -> None:
    """Hear until stdin ends."""
    heard: list[Heard] = []

    async def note(conn: Conn, events: Sequence[Event]) -> None:
        now = time.time()
        if any(event.key == ear.refuses for event in events):
            raise ValueError("this key cannot be handled")
        if ear.effects:
            await conn.execute(
                _NOTE,
                [event.id for event in events],
                [event.partition for event in events],
                [event.key for event in events],
                [event.aggregate_version for event in events],
            )
        heard.append(Heard(now, [str(event.id) for event in events]))

    log = EventLog()
    subscription = Subscription(ear.consumer, PUBLISHER, frozenset({COUNTED}), note)
    if ear.gather_s is not None:
        subscription = msgspec.structs.replace(subscription, gather_s=ear.gather_s)
    await log.start([subscription])
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
    Path(ear.file).write_bytes(msgspec.msgpack.encode(heard))
    os._exit(0)


async def main(told: Pace | Ear) -> None:
    """Do what was told."""
    if isinstance(told, Pace):
        await publish(told)
    else:
        await hear(told)


if __name__ == "__main__":
    settings.load(sys.argv[1])
    telemetry.configure("critical")
    uvloop.run(main(msgspec.json.decode(sys.argv[2], type=Pace | Ear)))
