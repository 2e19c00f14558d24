"""How a provider does for a kind of payment, and what follows: a circuit that opens, probes, and lets back in steps.

Pure: counts and times go in, the next circuit comes out; who keeps it, and shares it between workers, is elsewhere.
Only what a provider fails at counts: unreachable, broken or silent. A decline is the card's matter and counts as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from doorbuster.engines.payment_router.outcome import Outcome
from doorbuster.engines.payment_router.routing import Standing

State = Literal["closed", "open", "probing", "ramping"]
Forced = Literal["", "open", "closed"]
FAILURES = frozenset({Outcome.NOT_SENT, Outcome.UNKNOWN})
"""What a provider did wrong. NOT_EXECUTED is our request's fault, DECLINED the issuer's word, PENDING an answer."""


class Key(msgspec.Struct, frozen=True, order=True):
    """What is judged apart from the rest: a provider fails for one method and one merchant's account, or for all."""

    provider: str
    method: str
    merchant: str = ""


class Limits(msgspec.Struct, frozen=True):
    """When a circuit opens and how it closes again. Durations are seconds."""

    window_s: int = 10
    least_failures: int = 5
    failure_share: float = 0.5
    outage_s: int = 2
    outage_share: float = 0.75
    """An outage is seen in the last two seconds alone: under load the good answers from before it would outvote it for
    half of the window."""
    open_s: float = 5.0
    """After the first failure; it doubles each time a probe fails."""
    open_longest_s: float = 60.0
    probes: int = 3
    """So many probes are under way at once, in all workers together."""
    probe_successes: int = 3
    steps: tuple[float, ...] = (0.1, 0.25, 0.5)
    """The shares of its payments that a provider gets on its way back."""
    step_s: float = 5.0
    step_successes: int = 3

    def __post_init__(self) -> None:
        assert 1 <= self.window_s <= 600 and self.least_failures >= 1 and 0 < self.failure_share <= 1
        assert 1 <= self.outage_s <= self.window_s and 0 < self.outage_share <= 1
        assert 0 < self.open_s <= self.open_longest_s and self.probes >= 1 and self.probe_successes >= 1
        assert all(0 < low < high < 1 for low, high in zip(self.steps, self.steps[1:], strict=False))
        assert self.step_s > 0 and self.step_successes >= 1


class Counts(msgspec.Struct, frozen=True):
    """What was answered in a span of time."""

    good: int = 0
    failed: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.good + other.good, self.failed + other.failed)


class Circuit(msgspec.Struct, frozen=True):
    """Where a provider stands for a kind of payment. `since` and `until` are seconds since 1970 on the shared clock.

    Each change begins a new `generation`, and only answers to what was sent in it count: a time-out of a request from
    before says nothing about a probe. `forced` is what an operator has said, and it holds until it is taken back.
    """

    state: State = "closed"
    since: float = 0.0
    until: float = 0.0
    step: int = 0
    opened: int = 0
    """How often it has opened since it was last closed."""
    forced: Forced = ""
    generation: int = 0


_CLOSED, _FORCED_CLOSED = Standing(), Standing(1.0, "forced closed")
Buckets = Mapping[int, Counts]
"""Answers to what was sent in one generation, by the second in which they came."""


def advance(circuit: Circuit, buckets: Buckets, now: float, limits: Limits) -> Circuit:
    """The circuit as it has to be now; the same one when nothing follows."""
    if circuit.state == "open":
        return _next(circuit, now, state="probing") if now >= circuit.until else circuit
    # On the way back everything since the last change counts, however slowly it comes; else the window.
    first = int(now) - limits.window_s + 1 if circuit.state == "closed" else 0
    counts = _since(buckets, first)
    if circuit.state == "probing":
        if counts.failed:
            return _open(circuit, now, limits)
        return _next(circuit, now, state="ramping", step=0) if counts.good >= limits.probe_successes else circuit
    lately = _since(buckets, int(now) - limits.outage_s + 1)
    for seen, share in ((counts, limits.failure_share), (lately, limits.outage_share)):
        if seen.failed >= limits.least_failures and seen.failed >= share * (seen.good + seen.failed):
            return _open(circuit, now, limits)
    if circuit.state == "closed":
        return circuit
    if now < circuit.since + limits.step_s or counts.good < limits.step_successes:
        return circuit
    if circuit.step + 1 < len(limits.steps):
        return _next(circuit, now, step=circuit.step + 1)
    return _next(circuit, now, state="closed", step=0, opened=0)


def _since(buckets: Buckets, first: int) -> Counts:
    return sum((counts for second, counts in buckets.items() if second >= first), Counts())


def _open(circuit: Circuit, now: float, limits: Limits) -> Circuit:
    pause = min(limits.open_longest_s, limits.open_s * 2.0 ** min(circuit.opened, 16))
    return _next(circuit, now, state="open", until=now + pause, opened=circuit.opened + 1)


def _next(circuit: Circuit, now: float, **changes: object) -> Circuit:
    return msgspec.structs.replace(circuit, since=now, generation=circuit.generation + 1, **changes)


def standing_of(circuit: Circuit, limits: Limits) -> Standing:
    """The share of its payments that a provider gets; a probe is let through apart from this."""
    match circuit.forced or circuit.state:
        case "closed":
            return _FORCED_CLOSED if circuit.forced else _CLOSED
        case "ramping":
            return Standing(limits.steps[circuit.step], f"ramping back, {limits.steps[circuit.step]:.0%}")
        case "probing":
            return Standing(0.0, "circuit probing")
        case _:
            return Standing(0.0, "forced open", is_said=True) if circuit.forced else Standing(0.0, "circuit open")


def counted(outcome: Outcome) -> Counts:
    """How one answer counts; nothing for a request of ours that was wrong."""
    if outcome is Outcome.NOT_EXECUTED:
        return Counts()
    return Counts(failed=1) if outcome in FAILURES else Counts(good=1)
