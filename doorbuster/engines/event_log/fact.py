"""The values of the log: a fact as a domain publishes it, an event as a consumer receives it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from doorbuster.platform.db import Conn


class Fact(msgspec.Struct, frozen=True):
    """Something that became true. `key` is what order is kept for; `payload` is JSON."""

    topic: str
    key: str
    type: str
    version: int
    aggregate_version: int
    payload: bytes


class Event(msgspec.Struct, frozen=True):
    """A fact as it stands in the log."""

    seq: int
    partition: int
    key: str
    id: UUID
    type: str
    version: int
    aggregate_version: int
    occurred_at: datetime
    payload: bytes


Handler = Callable[[Conn, Sequence[Event]], Awaitable[None]]


class Subscription(msgspec.Struct, frozen=True):
    """A consumer (a domain) hears some types of another domain's facts.

    `handle` runs in a transaction of the consumer's database, together with the cursor: events of several partitions,
    in order for each key. What it writes there happens exactly once.
    """

    consumer: str
    source: str
    types: frozenset[str]
    handle: Handler
    gather_s: float = 0.02
    """While there is traffic, facts gather so long before they are read: fewer, larger transactions for a consumer that
    is in no hurry."""
