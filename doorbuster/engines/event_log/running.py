"""The consumers of one process while they run, whatever carries the facts: started together, stopped gently."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from doorbuster.engines.event_log.fact import Subscription


class Consuming(Protocol):
    """One subscription at work."""

    async def run(self) -> None:
        """Handle until told to stop."""

    def stop(self) -> None:
        """End `run` after what is under way."""


class Running:
    """Guards the consumers of one process."""

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._consumers: list[tuple[Consuming, asyncio.Task[None]]] = []

    def start(self, subscriptions: Sequence[Subscription], make: Callable[[Subscription], Consuming]) -> None:
        """Begin to consume; returns at once."""
        pairs = [(one.consumer, one.source) for one in subscriptions]
        assert len(set(pairs)) == len(pairs), "a consumer has one subscription, with one handler, for each source"
        for subscription in subscriptions:
            consumer = make(subscription)
            self._consumers.append((consumer, asyncio.create_task(consumer.run())))

    async def stop(self) -> None:
        """Finish what is being handled (at most one lease long), stop, and give the partitions up."""
        for consumer, _ in self._consumers:
            consumer.stop()
        tasks = [task for _, task in self._consumers]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self._lease_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        self._consumers.clear()
