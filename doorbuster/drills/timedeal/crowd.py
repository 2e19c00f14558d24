"""Runs a crowd of buyers against one stage for a bounded time and measures what they were answered."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from doorbuster.drills.timedeal.demand import Order
from doorbuster.drills.timedeal.sessions import LeftTheQueue, Place, Refused

# After the bell orders already begun are answered; one that is still stuck then is cut off and counted as unanswered.
DRAIN_S = 8.0
LOOK_EVERY_S = 0.05


@dataclass
class Answers:
    """What the crowd was told. Latencies are in milliseconds, of orders that reached the database."""

    attempted: int = 0
    accepted: int = 0
    accepted_units: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    refused_units: Counter[str] = field(default_factory=Counter)
    unanswered: int = 0
    latencies_ms: list[float] = field(default_factory=list)
    elapsed_s: float = 0.0

    def quantile_ms(self, share: float) -> float:
        """The latency that this share of the orders stayed under; 0 when there were none."""
        if not self.latencies_ms:
            return 0.0
        ordered = sorted(self.latencies_ms)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def sell_to_crowd(
    place: Place, orders: tuple[Order, ...], shoppers: int, bell: asyncio.Event, time_is_up: Callable[[float], bool]
) -> Answers:
    """`shoppers` buyers at once, each sending the next order as soon as the last was answered, until `time_is_up`
    (asked with the seconds passed) or the orders are used up. Whatever a stage raises but Refused ends it."""
    answers = Answers()
    queue = iter(orders)
    started = time.perf_counter()
    crowd = [asyncio.create_task(_buy(place, queue, bell, answers)) for _ in range(shoppers)]
    try:
        open_still = set(crowd)
        while open_still and not time_is_up(time.perf_counter() - started):
            done, open_still = await asyncio.wait(open_still, timeout=LOOK_EVERY_S, return_when=asyncio.FIRST_EXCEPTION)
            if any(task.exception() for task in done):
                break
        else:
            bell.set()
            await asyncio.wait(crowd, timeout=DRAIN_S)
    finally:
        bell.set()
        for task in crowd:
            task.cancel()
        endings = await asyncio.gather(*crowd, return_exceptions=True)
    answers.elapsed_s = time.perf_counter() - started
    for ending in endings:
        if isinstance(ending, Exception):
            raise ending
    return answers


async def _buy(place: Place, queue: Iterator[Order], bell: asyncio.Event, answers: Answers) -> None:
    for order in queue:
        if bell.is_set():
            return
        answers.attempted += 1
        clicked = time.perf_counter()
        reached_database = True
        try:
            await place(order)
            answers.accepted += 1
            answers.accepted_units += order.units
        except Refused as refusal:
            reached_database = refusal.reached_database
            answers.refused[refusal.reason] += 1
            answers.refused_units[refusal.reason] += order.units
        except LeftTheQueue:
            answers.attempted -= 1
            return
        except asyncio.CancelledError:
            answers.unanswered += 1
            raise
        if reached_database:
            answers.latencies_ms.append((time.perf_counter() - clicked) * 1000)
