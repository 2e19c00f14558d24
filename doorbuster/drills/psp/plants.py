"""Faults planted on purpose: what must not happen is done beside the shop, and the drill must say so.

The shop's code stays as it is: a hand of the drill's own plays the part of a worse router, or of a worse operator.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from doorbuster.drills.psp import recorder
from doorbuster.drills.psp.accounts import AccountDown, Simulators

_POLL_S = 0.05
_NEXT = """
SELECT seq, payment_id::text, number, provider, amount_minor, currency FROM drill.attempt_state
 WHERE seq > $1 AND state = 'unknown' ORDER BY seq
"""
_FORCE = """
INSERT INTO payment.provider_circuit AS c (provider, method, merchant, state, since, until, step, opened, forced,
                                           generation)
VALUES ($1, 'card', '', 'closed', 0, 0, 0, 0, 'closed', 0)
ON CONFLICT (provider, method, merchant) DO UPDATE SET forced = excluded.forced
"""

Plant = Callable[[asyncio.Event, str, Simulators], Coroutine[Any, Any, None]]


class NoSuchPlant(ValueError):
    """There is no fault of this name to plant."""


async def naive(stop: asyncio.Event, dsn: str, simulators: Simulators) -> None:
    """Charge at another provider at once when an outcome is unknown: take "no answer" for "no"."""
    seen = 0
    async with recorder.connected(dsn) as connection:
        while not stop.is_set():
            for row in await connection.fetch(_NEXT, seen):
                seen = row["seq"]
                other = next(one for one in simulators.all if one.account.name != row["provider"])
                reference = f"{row['payment_id']}.{row['number'] + 1}"
                body = {
                    "reference": reference, "amount_minor": row["amount_minor"], "currency": row["currency"],
                    "instrument": "tok_visa",
                }  # fmt: skip
                try:
                    await other.call("POST", "/v1/charges", body, {"idempotency-key": f"naive-{reference}"})
                except AccountDown:
                    continue
            await asyncio.sleep(_POLL_S)


async def stubborn(stop: asyncio.Event, dsn: str, simulators: Simulators) -> None:
    """Keep the failing provider's circuit closed, as an operator can: its payments go on to it whatever it does."""
    async with recorder.connected(dsn) as connection:
        await connection.execute(_FORCE, simulators.all[0].account.name)
    await stop.wait()


PLANTS: Mapping[str, Plant] = {"naive": naive, "stubborn": stubborn}


def plant_of(name: str) -> Plant | None:
    """The plant of this name, None for none. Raises NoSuchPlant."""
    if name and name not in PLANTS:
        raise NoSuchPlant(f"{name!r} is no plant; there are {', '.join(PLANTS)}")
    return PLANTS.get(name)
