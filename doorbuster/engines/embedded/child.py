"""What the supervisor has to know to start, judge and stop one child process."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from doorbuster.engines.embedded.errors import StartError
from doorbuster.engines.embedded.launch import launch_argv


async def nothing() -> None:
    """The step that does nothing."""


def no_explanation(said: str) -> StartError | None:
    """No known fault in what a child wrote."""
    return None


@dataclass(frozen=True)
class Child:
    """One process to keep running. Durations are seconds.

    `argv[0]` is an absolute path. `ready` answers whether the child does its work now; it must return within 5 s and
    may not raise. `before_start` runs before each start (remove a stale socket), `before_stop` before the stop signal
    (drain), each within `stop_grace_s`. `explain` turns what the child wrote since its start into a fault that the user
    can mend; such a fault ends the *first* start at once. `env` is the whole environment (None: the supervisor's).
    `death_signal` reaches the child when the supervisor is killed. `address` is shown by `status`.
    """

    name: str
    argv: Sequence[str]
    ready: Callable[[], Awaitable[bool]]
    env: Mapping[str, str] | None = None
    address: str = ""
    ready_within_s: float = 30.0
    stop_signal: signal.Signals = signal.SIGTERM
    stop_grace_s: float = 10.0
    death_signal: signal.Signals = signal.SIGTERM
    before_start: Callable[[], Awaitable[None]] = nothing
    before_stop: Callable[[], Awaitable[None]] = nothing
    explain: Callable[[str], StartError | None] = no_explanation
    launch: Callable[[Sequence[str], signal.Signals], list[str]] = launch_argv
