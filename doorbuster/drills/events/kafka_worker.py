"""A consumer process of the drill on Kafka: where it can be struck, and how its log is broken on purpose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import Message

from doorbuster.drills.events import hooks, plants
from doorbuster.engines.event_log import Event
from doorbuster.engines.event_log.kafka import consume, inbox
from doorbuster.platform.db import Conn


def install() -> None:
    """Let the trap see a batch that has come from Kafka; no transaction has begun for it yet."""
    consumer = vars(consume)["_Consumer"]
    wanted = consumer._wanted

    def watched_wanted(self: Any, batch: Sequence[Message]) -> list[Event]:
        events: list[Event] = wanted(self, batch)
        if events:
            hooks.trap.passes(hooks.WRITE, hooks.READ)
        return events

    consumer._wanted = watched_wanted


def plant(name: str) -> None:
    """Break the log in this process."""
    if name == plants.NO_INBOX:
        vars(inbox)["note"] = let_everything_through
    elif name == plants.NO_EPOCH:
        vars(inbox)["lock"] = lock_anybodys
    else:
        raise plants.NoSuchPlant(name)


async def let_everything_through(conn: Conn, source: str, events: Sequence[Event]) -> list[Event]:
    """Remember nothing: what Kafka brings again is handled again."""
    return list(events)


async def lock_anybodys(conn: Conn, source: str, me: str, epochs: Mapping[int, int], lease_s: float) -> None:
    """Lock the partitions and ask nobody whose they are."""
    await conn.execute(
        "SELECT FROM inbox_owner WHERE source = $1 AND partition = ANY($2) ORDER BY partition FOR UPDATE",
        source,
        list(epochs),
    )
