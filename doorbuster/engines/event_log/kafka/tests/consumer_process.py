"""A consumer over Kafka as a process of its own, for tests that pause it in the middle of an effect."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from doorbuster.engines.event_log import Event, Subscription
from doorbuster.engines.event_log.kafka import KafkaEventLog
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


async def note_and_linger(conn: Conn, events: Sequence[Event]) -> None:
    """The same, but stay inside the transaction for a while and say so in a file, to be paused right there."""
    await note(conn, events)
    Path(sys.argv[4]).touch()
    await asyncio.sleep(0.3)


async def main() -> None:
    log = KafkaEventLog(lease_s=float(sys.argv[2]), topic_prefix=sys.argv[3])
    await log.start([msgspec.structs.replace(subscription(), handle=note_and_linger)])
    await asyncio.sleep(120)


if __name__ == "__main__":
    settings.load(sys.argv[1])
    asyncio.run(main())
