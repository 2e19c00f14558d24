"""The values of the log: a fact as a domain publishes it, an event as a consumer receives it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from doorbuster.platform import tracing
from doorbuster.platform.db import Conn

_ENCODER = msgspec.json.Encoder()


class Fact(msgspec.Struct, frozen=True):
    """Something that became true. `key` is what order is kept for; `payload` is JSON."""

    topic: str
    key: str
    type: str
    version: int
    aggregate_version: int
    payload: bytes
    traceparent: str = msgspec.field(default_factory=tracing.current_traceparent)
    """The request that made it true. In a batch, whoever makes the fact says which (`batching.cause_of`)."""


class FactType(msgspec.Struct, frozen=True):
    """A kind of fact and the contract of its payload, declared once in its domain's events.py.

    Fields may be added to `content`; removing or retyping one needs a higher `version` (tests/contracts holds the
    recorded shapes).
    """

    topic: str
    name: str
    version: int
    content: type[msgspec.Struct]

    def of(self, key: object, aggregate_version: int, content: msgspec.Struct, traceparent: str = "") -> Fact:
        """The fact for the log, with `content` as it is now, made true by the request of a trace."""
        assert type(content) is self.content, f"{self.name} tells {self.content.__name__}"
        payload = _ENCODER.encode(content)
        return Fact(self.topic, str(key), self.name, self.version, aggregate_version, payload, traceparent)


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
    traceparent: str = ""


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
    gather_s: float = 0.005
    """While there is traffic, facts gather so long before they are read: fewer, larger transactions for a consumer that
    is in no hurry."""
