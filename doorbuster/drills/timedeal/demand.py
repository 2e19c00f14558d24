"""The crowd's wishes: a seeded list of orders over the options of one hot item, the same for every stage."""

from __future__ import annotations

import random

import msgspec

ITEM_ID = 1
# Sizes of one shoe, and how often each is asked for relative to the others.
POPULARITY = {230: 4.0, 240: 4.0, 250: 4.0, 260: 3.0, 270: 3.0, 280: 1.0}
SCARCE_OPTION = 280
STOCKED_SHARE_OF_DEMAND = 0.6
MAX_ORDERS = 200_000


class Line(msgspec.Struct, frozen=True):
    option_id: int
    quantity: int


class Order(msgspec.Struct, frozen=True):
    """What one buyer wants, lines in the order they were put into the cart."""

    number: int
    lines: tuple[Line, ...]

    @property
    def units(self) -> int:
        return sum(line.quantity for line in self.lines)

    def __str__(self) -> str:
        return ", ".join(f"{line.option_id}×{line.quantity}" for line in self.lines)


class Demand(msgspec.Struct, frozen=True):
    """Every order that may come, and the stock of each option: enough for a share of them, one size scarce."""

    orders: tuple[Order, ...]
    stock: dict[int, int]


def demand(seed: int, orders: int) -> Demand:
    """The same orders and stock for the same seed and number: 1 to 3 of the options in random order, 1 or 2 of each."""
    if not 1 <= orders <= MAX_ORDERS:
        raise ValueError(f"orders must lie between 1 and {MAX_ORDERS}, not {orders}")
    rng = random.Random(seed)  # noqa: S311  reproducible, not secret
    wishes = tuple(_order(rng, number) for number in range(1, orders + 1))
    wanted = dict.fromkeys(POPULARITY, 0)
    for order in wishes:
        for line in order.lines:
            wanted[line.option_id] += line.quantity
    stock = {option: int(units * STOCKED_SHARE_OF_DEMAND) for option, units in wanted.items()}
    # So that sold-out refusals happen in slow stages too, which never get through the rest of the stock.
    stock[SCARCE_OPTION] = min(stock[SCARCE_OPTION], 20)
    return Demand(wishes, stock)


def _order(rng: random.Random, number: int) -> Order:
    count = rng.choices((1, 2, 3), weights=(45, 35, 20))[0]
    # The first arrivals of independent exponential clocks are a weighted draw without repetition.
    chosen = sorted(POPULARITY, key=lambda option: rng.expovariate(POPULARITY[option]))[:count]
    rng.shuffle(chosen)
    return Order(number, tuple(Line(option, 2 if rng.random() < 0.2 else 1) for option in chosen))
