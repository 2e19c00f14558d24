"""What the drill is asked for and what it found: frozen values that turn into its JSON."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from doorbuster.drills.events.history import Faults, PublishFaults
from doorbuster.drills.timedeal.findings import Mark

PAUSE = "pause"
"""How the kinds of blows that kill nobody begin."""


class Wanted(msgspec.Struct, frozen=True):
    """One run. Durations are seconds."""

    events: int = 20_000
    kills: int = 4
    seed: int = 1
    transport: str = "postgres"
    plant: str = ""
    lease_s: float = 1.5
    drain_s: float = 30.0


class Kill(msgspec.Struct, frozen=True):
    """One blow. `struck`: it fell where it was meant to. `back_after_s`: until the server answered again, or until
    others had taken a frozen worker's partitions over."""

    kind: str
    victim: str
    at_s: float
    struck: bool
    back_after_s: float | None = None


class Heard(msgspec.Struct, frozen=True):
    """One consumer. Delays are from commit to handler, with all that was killed on the way."""

    consumer: str
    expected: int
    effects: int
    faults: Faults
    sums_wrong: int
    set_aside: int
    p50_ms: float
    p99_ms: float
    max_ms: float


class Evidence(msgspec.Struct, frozen=True):
    """What was seen, to be judged by the marks."""

    wanted: Wanted
    published: int
    transactions: int
    publishing: PublishFaults
    heard: tuple[Heard, ...]
    kills: tuple[Kill, ...]
    planned_kills: int
    crashes: tuple[str, ...]
    cursor_samples: int
    regressions: tuple[str, ...]
    epoch_faults: tuple[str, ...]
    drained: bool
    drain_s: float
    writing_s: float
    taken_over_leases: float = 2.0


class Report(msgspec.Struct, frozen=True):
    """The result of one run."""

    transport: str
    seed: int
    plant: str
    events: int
    transactions: int
    events_per_s: float
    kills: dict[str, int]
    lost: int
    duplicated: int
    inversions: int
    cursor_regressions: int
    drain_s: float
    delivery_p50_ms: float
    delivery_p99_ms: float
    seconds: float
    passed: bool
    marks: tuple[Mark, ...]
    consumers: tuple[Heard, ...]
    blows: tuple[Kill, ...]
    drill: str = "events"


def kills_in(kinds: Mapping[str, int]) -> int:
    """How many of these blows were kills."""
    return sum(count for kind, count in kinds.items() if not kind.startswith(PAUSE))


def pauses_in(kinds: Mapping[str, int]) -> int:
    """How many of these blows froze a worker and woke it again."""
    return sum(kinds.values()) - kills_in(kinds)
