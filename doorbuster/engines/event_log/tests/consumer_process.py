"""A consumer as a process of its own, for tests that kill and pause it: writes what it handled into `effect`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

import msgspec

from doorbuster.engines.event_log import Event, EventLog, Subscription
from doorbuster.platform import settings
from doorbuster.platform.db import Conn


async def note(conn: Conn, events: Sequence[Event]) -> None:
    """Append every event to the effects; nothing there stops a second copy."""
    await conn.executemany(
        "INSERT INTO effect (key, number) VALUES ($1, $2)",
        [(event.key, msgspec.json.decode(event.payload)["number"]) for event in events],
    )


def subscription() -> Subscription:
    """The sub domain hears the pub domain."""
    return Subscription("test.sub", "test.pub", frozenset({"Counted"}), note)


async def main(lease_s: float) -> None:
    log = EventLog(lease_s=lease_s)
    await log.start([subscription()])
    await asyncio.sleep(120)


if __name__ == "__main__":
    settings.load(sys.argv[1])
    asyncio.run(main(float(sys.argv[2])))
