"""kill -9 of a worker at random moments, each while attempts are being sent."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable

from doorbuster.drills.psp import recorder
from doorbuster.drills.psp.evidence import Kill
from doorbuster.drills.psp.plan import Phases
from doorbuster.drills.temporary_shop import DrilledShop
from doorbuster.engines.embedded import ChildState, read_state

_BACK_WITHIN_S = 30.0
_BUSY_WITHIN_S = 3.0
_POLL_S = 0.005


def moments(phases: Phases, seed: int) -> tuple[float, ...]:
    """When workers are killed: one before the fault, most during it, one on the way back. The same seed, the same."""
    dice = random.Random(seed * 9_973 + 3)  # noqa: S311  a repeatable storm, no secret
    # One in each third of the fault: killed all at once, no worker would be left to see it.
    third_s = (phases.heal_s - phases.fault_s) / 3
    during = [phases.fault_s + third_s * (n + dice.uniform(0.1, 0.9)) for n in range(3)]
    return (dice.uniform(1.0, phases.fault_s), *during, dice.uniform(phases.heal_s + 1.0, phases.end_s - 8.0))


async def wreak(
    shop: DrilledShop, dues: tuple[float, ...], zero: float, seed: int, tell: Callable[[str], None]
) -> tuple[Kill, ...]:
    """Kill a worker at each moment, as soon as attempts are being sent then; wait until each is back."""
    dice = random.Random(seed * 7_919 + 11)  # noqa: S311  a repeatable storm, no secret
    dsn = shop.dsn_of("commerce.payment")
    watches = []
    for due in dues:
        await asyncio.sleep(max(0.0, zero + due - time.time()))
        victim = _pick(shop, dice)
        if victim is None:
            continue  # all are still starting after the last kill; the mark asks how many were struck
        in_flight = await _until_sending(dsn)
        assert victim.pid is not None, "only a running worker is picked"
        os.kill(victim.pid, signal.SIGKILL)
        tell(f"kill -9 {victim.name} (process {victim.pid}) with {in_flight} attempts being sent")
        watches.append(asyncio.create_task(_watch_return(shop, victim, time.time(), zero, in_flight)))
    return tuple(await asyncio.gather(*watches))


def _workers(shop: DrilledShop) -> list[ChildState]:
    state = read_state(shop.data)
    return [child for child in state.children if child.name.startswith("worker-")] if state else []


def _pick(shop: DrilledShop, dice: random.Random) -> ChildState | None:
    ready = [child for child in _workers(shop) if child.state == "ready" and child.pid is not None]
    return dice.choice(ready) if ready else None


async def _until_sending(dsn: str) -> int:
    """How many attempts are being sent, as soon as there are any; 0 when none came for a while."""
    give_up = time.monotonic() + _BUSY_WITHIN_S
    async with recorder.connected(dsn) as connection:
        while True:
            now = int(await connection.fetchval("SELECT count(*) FROM payment.attempt WHERE state = 'sending'"))
            if now or time.monotonic() > give_up:
                return now
            await asyncio.sleep(_POLL_S)


async def _watch_return(shop: DrilledShop, victim: ChildState, at: float, zero: float, in_flight: int) -> Kill:
    while time.time() - at < _BACK_WITHIN_S:
        found = next((child for child in _workers(shop) if child.name == victim.name), None)
        if found is not None and found.state == "ready" and found.pid not in (None, victim.pid):
            return Kill(round(at - zero, 3), victim.name, in_flight, round(time.time() - at, 2))
        await asyncio.sleep(0.05)
    return Kill(round(at - zero, 3), victim.name, in_flight, None)
