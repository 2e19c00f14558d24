"""A consumer as a process of its own, for tests that kill and pause it: writes what it handled into `effect`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec

from doorbuster.engines.event_log import Event, EventLog, Subscription, consume
from doorbuster.engines.event_log.read import Page, read_page
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
    Path(sys.argv[3]).touch()
    await asyncio.sleep(0.3)


async def read_and_linger(*args: Any) -> Page:
    """Read, and stay for a while between what was read and its effect."""
    page = await read_page(*args)
    if page.events:
        Path(sys.argv[3]).touch()
        await asyncio.sleep(0.3)
    return page


async def main(lease_s: float, linger: str) -> None:
    log = EventLog(lease_s=lease_s)
    handle = note_and_linger if linger == "in_effect" else note
    if linger == "before_effect":
        mock.patch.object(consume, "read_page", read_and_linger).start()
    await log.start([msgspec.structs.replace(subscription(), handle=handle)])
    await asyncio.sleep(120)


if __name__ == "__main__":
    settings.load(sys.argv[1])
    asyncio.run(main(float(sys.argv[2]), sys.argv[4] if len(sys.argv) > 4 else ""))
