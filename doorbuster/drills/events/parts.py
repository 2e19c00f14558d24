"""What the drill hands to its processes: names, the load of one writer process, and what one consumer hears."""

from __future__ import annotations

import msgspec

PUBLISHER = "drill.pub"
NEAR, FAR = "drill.near", "drill.far"
COUNTED, NOTED = "Counted", "Noted"
HEARS = {NEAR: frozenset({COUNTED}), FAR: frozenset({COUNTED, NOTED})}
"""The consumers and what they hear: one in the publisher's database, one in another of the same server."""

KEYS = 200
SESSIONS = 16
WRITERS = 4
WORKERS = 3


class Load(msgspec.Struct, frozen=True):
    """What one writer process does: `events` facts from `sessions` sessions; a replacement has another incarnation."""

    name: str
    seed: int
    incarnation: int
    events: int
    sessions: int = SESSIONS // WRITERS
    keys: int = KEYS
    notes: str = ""
    longest_delay_ms: float = 8.0
    xid_first: float = 0.5
    rollbacks: float = 0.05


class Ears(msgspec.Struct, frozen=True):
    """What one consumer process does. `plant` breaks the log on purpose. With a `bootstrap` it hears over Kafka."""

    name: str = ""
    consumer: str = ""
    lease_s: float = 1.5
    plant: str = ""
    bootstrap: str = ""
    topic_prefix: str = ""
