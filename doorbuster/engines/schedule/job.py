"""What is run when: jobs with ticks and a history, and sweeps, whose ticks are short and mostly find nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import time
from typing import Literal

import msgspec

from doorbuster.engines.schedule.run import Run

Work = Callable[[Run], Awaitable[None]]
_LONGEST_NAME = 100


class Every(msgspec.Struct, frozen=True):
    """At every multiple of so many seconds since 1970-01-01T00:00Z."""

    seconds: float

    def __post_init__(self) -> None:
        assert 0.01 <= self.seconds <= 366 * 86_400, "between 10 ms and a year"

    def __str__(self) -> str:
        for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
            if self.seconds >= length and self.seconds % length == 0:
                return f"every {self.seconds / length:g} {unit}"
        return f"every {self.seconds:g} s"


class Daily(msgspec.Struct, frozen=True):
    """Once on each calendar day of a zone (an IANA name), at this time of day: `Daily(time(3, 30), "Asia/Seoul")`.

    A time that the zone leaves out on some day is run an hour later, one that comes twice at the second.
    """

    at: time
    zone: str = "UTC"

    def __post_init__(self) -> None:
        assert self.at.tzinfo is None, "the zone is named apart from the time"

    def __str__(self) -> str:
        return f"daily {self.at:%H:%M} {self.zone}"


class Job(msgspec.Struct, frozen=True):
    """Work whose every tick completes once. Its effects go through `run.chunk`, into its domain's schema."""

    name: str
    """Unique in the shop; it is the key, so a new name is a new job."""
    domain: str
    schedule: Every | Daily
    work: Work
    catch_up: Literal["latest", "each"] = "latest"
    """Of the ticks that came while nobody ran: the newest only, or each of the newest `catch_up_limit`."""
    catch_up_limit: int = 100
    overlap: Literal["wait", "skip"] = "wait"
    """What becomes of a tick that comes while an earlier one runs."""
    lease_s: float = 10.0
    """A dead scheduler's run is taken over after this. A process that is silent for longer has lost its run."""
    timeout_s: float = 600.0
    attempts: int = 5
    backoff_s: float = 1.0
    """The pause after the first failure; it doubles, up to a minute."""
    keep: int = 1_000
    """So many ended runs stay in the history."""

    def __post_init__(self) -> None:
        assert 0 < len(self.name) <= _LONGEST_NAME, "a job has a short name"
        assert 0.2 <= self.lease_s <= 300 and self.timeout_s > 0, "a lease is between 0.2 s and 5 min"
        assert 1 <= self.catch_up_limit <= 10_000 and self.attempts >= 1 and self.keep >= 1
        assert 0 <= self.backoff_s <= 60, "up to a minute"


class Sweep(msgspec.Struct, frozen=True):
    """Work that looks for what is overdue: one process at a time, again at once while it finds something.

    `work` returns how many it took up. It must bear two at once: a sweeper that froze and woke cannot be fenced.
    """

    name: str
    domain: str
    every_s: float
    work: Callable[[], Awaitable[int]]
    lease_s: float = 2.5
    timeout_s: float = 120.0
    """Of one call of `work`."""
    keep: int = 1_000

    def __post_init__(self) -> None:
        assert 0 < len(self.name) <= _LONGEST_NAME, "a sweep has a short name"
        assert 0.01 <= self.every_s <= 86_400 and 0.2 <= self.lease_s <= 60 and self.timeout_s > 0 and self.keep >= 1
