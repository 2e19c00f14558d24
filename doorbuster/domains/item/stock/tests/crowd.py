"""One worker process full of buyers: reserves, claims and releases, then prints what it was answered, as JSON.

`python -m doorbuster.domains.item.stock.tests.crowd PLAN`; PLAN is JSON and DOORBUSTER_SETTINGS names the shop.
"""

from __future__ import annotations

import asyncio
import collections
import random
import sys
from uuid import UUID

import msgspec

from doorbuster.domains.item import stock
from doorbuster.platform import db, ids, settings
from doorbuster.platform.calls import SYSTEM
from doorbuster.platform.errors import Refusal


class Plan(msgspec.Struct, frozen=True):
    """Who buys what."""

    option_ids: list[UUID]
    customers: list[UUID]
    seed: int
    deal_id: UUID | None = None
    most_per_line: int = 1
    then: str = "hold"
    """What follows a reservation: `hold`, or `mix` (claim some, release some, repeat some)."""


class Tally(msgspec.Struct):
    """Answers by kind, units by option that are still held or sold, and by customer."""

    answers: dict[str, int]
    units: dict[str, int]
    by_customer: dict[str, int]


async def buy(plan: Plan) -> Tally:
    """Everybody at once, each with one to all options in random order."""
    dice = random.Random(plan.seed)
    answers: collections.Counter[str] = collections.Counter()
    units: collections.Counter[str] = collections.Counter()
    by_customer: collections.Counter[str] = collections.Counter()

    async def one(customer: UUID) -> None:
        wanted = dice.sample(plan.option_ids, dice.randint(1, len(plan.option_ids)))
        lines = tuple(stock.Line(option, dice.randint(1, plan.most_per_line)) for option in wanted)
        wish = stock.Reserve(ids.uuid7(), customer, lines, 600, plan.deal_id, "crowd")
        after = dice.choice(("hold", "claim", "release", "claim-release", "repeat")) if plan.then == "mix" else "hold"
        try:
            await stock.reserve(SYSTEM, wish)
            if after == "repeat":
                await asyncio.gather(stock.reserve(SYSTEM, wish), stock.reserve(SYSTEM, wish))
            if after.startswith("claim"):
                await stock.claim(SYSTEM, wish.reservation_id)
            if after.endswith("release"):
                await stock.release(SYSTEM, wish.reservation_id)
                await stock.release(SYSTEM, wish.reservation_id)
        except Refusal as refusal:
            answers[refusal.code] += 1
            return
        answers["held"] += 1
        if not after.endswith("release"):
            by_customer[str(customer)] += sum(line.quantity for line in lines)
            units.update({str(line.option_id): line.quantity for line in lines})

    await asyncio.gather(*(one(customer) for customer in plan.customers))
    return Tally(dict(answers), dict(units), dict(by_customer))


async def main(plan: Plan) -> None:
    """Buy as the plan says and print the tally."""
    settings.load()
    tally = await buy(plan)
    await db.close_all()
    sys.stdout.write(msgspec.json.encode(tally).decode())


if __name__ == "__main__":
    here = msgspec.json.decode(sys.argv[1], type=Plan)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()  # all processes begin together
    asyncio.run(main(here))
