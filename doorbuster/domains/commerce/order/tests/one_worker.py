"""One worker process of order's tests: places or cancels as told, and may be killed between two steps.

`python -m doorbuster.domains.commerce.order.tests.one_worker TASK`; TASK is JSON, DOORBUSTER_SETTINGS names the shop.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec
import structlog

from doorbuster.domains.commerce import order, payment
from doorbuster.domains.commerce.order import journal
from doorbuster.domains.item import stock
from doorbuster.engines import payment_router
from doorbuster.platform import db, settings
from doorbuster.platform.calls import Ctx
from doorbuster.platform.errors import Refusal

STEPS: tuple[tuple[Any, str], ...] = (
    (stock, "reserve"), (stock, "claim"), (stock, "release"), (stock, "extend"),
    (journal, "write"), (payment, "charge"), (payment, "give_back"),
)  # fmt: skip
"""What an order's process does that changes something: a crash is planted before or after any of these."""


class Task(msgspec.Struct, frozen=True):
    """Place this `times` at once, and cancel it afterwards if told so. `die_at` counts the steps, from 1."""

    subject: UUID
    key: str
    wish: order.Place
    times: int = 1
    cancel: bool = False
    die_at: int = 0
    die_before: bool = True


def plant(put: Callable[[Any, str, Any], None], nth: int, *, before: bool, crash: Callable[[], None]) -> None:
    """Crash before or after the nth step from now on; `put` replaces an attribute."""
    seen = 0

    def wrapped(real: Any) -> Any:
        async def step(*args: Any, **kwargs: Any) -> Any:
            nonlocal seen
            seen += 1
            mine = seen == nth
            if mine and before:
                crash()
            answer = await real(*args, **kwargs)
            if mine and not before:
                crash()
            return answer

        return step

    for place, name in STEPS:
        put(place, name, wrapped(getattr(place, name)))


async def run(task: Task) -> list[dict[str, Any]]:
    """What each request was answered: the order, or the code of a refusal."""
    ctx = Ctx(subject=task.subject, roles=frozenset({"shopper"}), idempotency_key=task.key)

    async def one() -> dict[str, Any]:
        try:
            placed = await order.place(ctx, task.wish)
            if task.cancel:
                placed = await order.cancel(ctx, placed.id, order.Cancel())
        except Refusal as refusal:
            return {"code": refusal.code}
        return dict(msgspec.to_builtins(placed))

    return await asyncio.gather(*(one() for _ in range(task.times)))


async def main(task: Task) -> None:
    """Run the task, print the answers."""
    settings.load()
    if task.die_at:
        plant(setattr, task.die_at, before=task.die_before, crash=lambda: os.kill(os.getpid(), signal.SIGKILL))
    answers = await run(task)
    await payment_router.close()
    await db.close_all()
    sys.stdout.write(msgspec.json.encode(answers).decode())


if __name__ == "__main__":
    here = msgspec.json.decode(sys.argv[1], type=Task)
    # Standard output is for the answers alone: whatever is logged meanwhile must not be taken for one.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()  # all processes begin together
    asyncio.run(main(here))
