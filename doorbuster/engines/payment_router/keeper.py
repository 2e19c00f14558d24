"""Health as one process knows it, shared with the others: counts go out, circuits come in, probes are counted by all.

A change takes effect here at once and is told to the others within `ROUND_S`. While the shared store is away the last
that was known holds, and this process goes on by what it sees itself.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Protocol

import msgspec
import structlog
from prometheus_client import Gauge

from doorbuster.engines.payment_router import health
from doorbuster.engines.payment_router.health import Circuit, Counts, Key, Limits
from doorbuster.engines.payment_router.outcome import Outcome
from doorbuster.engines.payment_router.routing import RoutingRules, Standing
from doorbuster.platform.errors import Unavailable

_LOG = structlog.get_logger("payment_router")
SHARE = Gauge("doorbuster_psp_share", "The share of its payments a provider gets, 0 to 1", ["provider", "method"])
ROUND_S = 0.25
_FORGET_EVERY = 240
_KEPT_GENERATIONS = 2

CLOSED = Circuit()
GOOD = Standing()

Answers = Mapping[tuple[Key, int, int], Counts]
"""Counts by key, generation and second."""


class Snapshot(msgspec.Struct, frozen=True):
    """What all processes together know. `now` is the shared clock, seconds since 1970; counts are of each circuit's
    current generation."""

    now: float
    circuits: dict[Key, Circuit]
    counts: dict[Key, dict[int, Counts]]
    rules: RoutingRules | None


class Shared(Protocol):
    """The store that all processes share. Everything raises Unavailable when it is away."""

    async def exchange(self, answers: Answers, window_s: int) -> Snapshot:
        """Add what this process has counted; returns what all have."""

    async def change(self, key: Key, before: Circuit, after: Circuit) -> bool:
        """Put a circuit in another's place; False when somebody has changed it meanwhile."""

    async def take_probe(self, key: Key, most: int, lease_s: float) -> bool:
        """Take one of at most `most` permits; it ends by itself after the lease."""

    async def lock_and_end_probe(self, key: Key) -> None:
        """Give a permit back."""

    async def forget(self) -> int:
        """Remove counts that nobody needs any more."""


class Keeper:
    """Guards what this process has counted and not told yet, and what it knows of all."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.rules: RoutingRules | None = None
        """The shared rules; None before the first round, or while nobody has made any."""
        self._circuits: dict[Key, Circuit] = {}
        self._shared_counts: dict[Key, dict[int, Counts]] = {}
        self._untold: defaultdict[tuple[Key, int, int], Counts] = defaultdict(Counts)
        self._changes: dict[Key, tuple[Circuit, Circuit]] = {}
        self._clock_ahead = time.time() - time.monotonic()
        self._wake = asyncio.Event()
        self.rounds = 0

    def now(self) -> float:
        """The shared clock, as of the last round and this process's own counting since."""
        return self._clock_ahead + time.monotonic()

    def circuit(self, key: Key) -> Circuit:
        """Where it stands; one that nobody has counted for is closed."""
        return self._circuits.get(key, CLOSED)

    def standing(self, keys: Collection[Key]) -> Standing:
        """The share that a provider gets of payments that fall under these keys."""
        worst = GOOD
        for key in keys:
            if self.circuit(key).state != "closed":
                self._advance(key)  # time alone moves these
            standing = health.standing_of(self.circuit(key), self.limits)
            if standing.share < worst.share or worst is GOOD:
                worst = standing
        return worst

    def seen(self, key: Key) -> Counts:
        """What all have counted in the window, as of the last round."""
        return sum(self._shared_counts.get(key, {}).values(), Counts())

    def probing(self, keys: Collection[Key]) -> list[Key]:
        """Those that a probe would help, if nothing else keeps the provider out."""
        standing = [key for key in keys if health.standing_of(self.circuit(key), self.limits).share < 1.0]
        waits = [key for key in standing if self.circuit(key).state == "probing" and not self.circuit(key).forced]
        return waits if len(waits) == len(standing) else []

    def generations(self, keys: Collection[Key]) -> dict[Key, int]:
        """To be kept with an attempt, and given back with its answer."""
        return {key: self.circuit(key).generation for key in keys}

    def note(self, generations: Mapping[Key, int], outcome: Outcome) -> None:
        """Count an answer. It takes effect in this process at once."""
        second, counts = int(self.now()), health.counted(outcome)
        if counts == Counts():
            return
        for key, generation in generations.items():
            self._untold[key, generation, second] += counts
            if counts.failed or self.circuit(key).state != "closed":
                self._advance(key)

    def _advance(self, key: Key) -> None:
        before = self.circuit(key)
        buckets = defaultdict(Counts, self._shared_counts.get(key, {}) if key not in self._changes else {})
        for (other, generation, second), counts in self._untold.items():
            if other == key and generation == before.generation:
                buckets[second] += counts
        after = health.advance(before, buckets, self.now(), self.limits)
        if after != before:
            first = self._changes[key][0] if key in self._changes else before
            self._changes[key] = (first, after)
            self._circuits[key] = after
            self._told(key, before, after)
            self._wake.set()

    def _told(self, key: Key, before: Circuit, after: Circuit) -> None:
        _LOG.warning(
            "provider_circuit", provider=key.provider, method=key.method, merchant=key.merchant or "all",
            was=before.state, state=after.state, share=health.standing_of(after, self.limits).share,
        )  # fmt: skip

    async def run(self, shared: Shared) -> None:
        """Share until cancelled."""
        while True:
            try:
                await self.round(shared)
            except Unavailable as error:
                _LOG.warning("provider_health_not_shared", why=str(error))
            try:
                async with asyncio.timeout(ROUND_S):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()

    async def round(self, shared: Shared) -> None:
        """Tell, and take what the others tell. What was not told because the store is away is told the next time."""
        for key, (before, after) in list(self._changes.items()):
            await shared.change(key, before, after)
            if self._changes.get(key) == (before, after):
                del self._changes[key]
        telling, self._untold = self._untold, defaultdict(Counts)
        try:
            found = await shared.exchange(telling, self.limits.window_s)
        except BaseException:
            for bucket, counts in telling.items():
                self._untold[bucket] += counts
            self._forget()
            raise
        self._clock_ahead = found.now - time.monotonic()
        self._shared_counts = found.counts
        self.rules = found.rules or self.rules
        self._circuits = found.circuits | {key: after for key, (_, after) in self._changes.items()}
        self.rounds += 1
        if self.rounds % _FORGET_EVERY == 0:
            await shared.forget()
        for key in list(self._circuits):
            self._advance(key)
            SHARE.labels(key.provider, key.method).set(health.standing_of(self.circuit(key), self.limits).share)

    def _forget(self) -> None:
        """What nobody can use any more is not told later: counts of long ago, and of generations that have ended."""
        oldest = int(self.now()) - self.limits.window_s
        for key, generation, second in list(self._untold):
            if second < oldest or generation < self.circuit(key).generation - _KEPT_GENERATIONS:
                del self._untold[key, generation, second]
