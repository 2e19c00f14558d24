"""One process that charges, gives back or confirms as told, and kills itself with SIGKILL at a step.

`python -m doorbuster.domains.commerce.payment.tests.one_payment TASK`; TASK is JSON.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any
from uuid import UUID

import msgspec

from doorbuster.domains.commerce import payment
from doorbuster.platform import settings
from doorbuster.platform.calls import SYSTEM
from doorbuster.platform.settings import Settings

_ON_ITS_WAY_S = 0.25
"""After so long a request has left and, at a provider that takes its time, was not answered."""


class Step(msgspec.Struct, frozen=True):
    """Where to die: before, after or during the nth call of a function, which is looked up as `module:name[.name]`."""

    function: str
    when: str = "before"
    nth: int = 1


class Task(msgspec.Struct, frozen=True):
    """What to do with which payment, and where to die."""

    settings: Settings
    step: Step
    charge: payment.Charge | None = None
    give_back: UUID | None = None
    confirm: UUID | None = None
    form: dict[str, str] = {}


def plant(step: Step) -> None:
    """Replace the function by one that dies there."""
    module, _, path = step.function.partition(":")
    place: Any = sys.modules[module]
    *owners, name = path.split(".")
    for owner in owners:
        place = getattr(place, owner)
    real, seen = getattr(place, name), 0

    async def dying(*args: Any, **kwargs: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen != step.nth:
            return await real(*args, **kwargs)
        if step.when == "during":
            await asyncio.wait([asyncio.ensure_future(real(*args, **kwargs))], timeout=_ON_ITS_WAY_S)
        elif step.when == "after":
            await real(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)
        return None

    setattr(place, name, dying)


async def run(task: Task) -> None:
    """Do it, and die on the way."""
    if task.charge is not None:
        await payment.charge(SYSTEM, task.charge)
    if task.give_back is not None:
        await payment.give_back(SYSTEM, task.give_back, "killed")
    if task.confirm is not None:
        await payment.confirm(
            msgspec.structs.replace(SYSTEM, idempotency_key="k"), task.confirm, payment.Returned(task.form)
        )


if __name__ == "__main__":
    here = msgspec.json.decode(sys.argv[1], type=Task)
    settings.use(here.settings)
    plant(here.step)
    asyncio.run(run(here))
    sys.exit("it did not come to that step")
