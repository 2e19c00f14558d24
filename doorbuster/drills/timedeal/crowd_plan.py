"""Who wants what in part two: a crowd's orders, drawn from a seed, and the stock that serves only a share of them."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import msgspec

from doorbuster.drills.load import Plan, RetrySameKey, Route
from doorbuster.drills.load.plan import Row

LIST_PRICE_MINOR = 12_900
DEAL_PRICE_MINOR = 6_450
CURRENCY = "USD"

IN_DEAL = 0.7
PAYS = 0.6
DECLINED_OF_PAYING = 0.08
NAMES_PRICE = 0.3
WRONG_PRICE_OF_NAMING = 0.02
SENT_TWICE = 0.02
TWO_PIECES = 0.15
GREEDY_SHOPPERS = 0.2
GREEDY_ORDERS = 0.5
DECLINING = ("tok_declined", "tok_insufficient_funds", "tok_expired")

ROUTES = ("unpaid", "paying", "declining", "wrong_price")
# A PostgreSQL that recovers is away for seconds; a shopper presses "again" as long as that takes.
RETRY = RetrySameKey(max_tries=120, backoff_ms=250, on=("connection_error", "timeout", 502, 503, 504))
CONNECTIONS = 256
ANSWER_WITHIN_S = 20.0
LIMIT_S = 240.0


class Wish(msgspec.Struct, frozen=True):
    """One order as a shopper means it: (option number, pieces) in the order of the request."""

    shopper: int
    lines: tuple[tuple[int, int], ...]
    in_deal: bool
    instrument: str
    names_price: bool
    wrong_price: bool
    key: str

    @property
    def units(self) -> int:
        """Pieces in all."""
        return sum(pieces for _, pieces in self.lines)

    @property
    def tag(self) -> str:
        """What it is counted under: one of ROUTES."""
        if self.wrong_price:
            return "wrong_price"
        if not self.instrument:
            return "unpaid"
        return "declining" if self.instrument in DECLINING else "paying"


class Crowd(msgspec.Struct, frozen=True):
    """All wishes in the order they are sent (a wish that is sent twice stands there twice, side by side), the stock per
    option number, the part of it set aside for the deal, and the deal's limit per customer."""

    stock: tuple[int, ...]
    allotment: tuple[int, ...]
    per_customer_limit: int
    seed: int = 0
    shoppers: int = 0
    wishes: tuple[Wish, ...] = ()


class Sale(msgspec.Struct, frozen=True):
    """What the drill put into the shop for sale: ids by option number."""

    item_id: str
    option_ids: tuple[str, ...]
    deal_id: str
    stock: tuple[int, ...]
    allotment: tuple[int, ...]
    per_customer_limit: int


def draw_crowd(seed: int, *, shoppers: int, orders: int, options: int, stock_share: float) -> Crowd:
    """The same arguments give the same crowd. A few shoppers are greedy: the limit per customer is for them.

    Raises ValueError for a crowd that proves nothing or can not be served.
    """
    if not 1 <= shoppers <= 100_000 or not 10 <= orders <= 1_000_000:
        raise ValueError("a crowd has 1 to 100,000 shoppers and 10 to 1,000,000 orders")
    if not 4 <= options <= 50 or not 0 < stock_share <= 5:
        raise ValueError("the hot item has 4 to 50 options, and stock for a share between 0 and 5 of the demand")
    dice = random.Random(seed)  # noqa: S311  a repeatable crowd, no secret
    wishes: list[Wish] = []
    while len(wishes) < orders:
        wish = _draw_wish(dice, shoppers, options)
        wishes += [wish, wish] if dice.random() < SENT_TWICE else [wish]
    del wishes[orders:]
    wanted = _units(wishes, options, in_deal=False)
    wanted_in_deal = _units(wishes, options, in_deal=True)
    allotment = tuple(max(1, math.floor(units * stock_share)) for units in wanted_in_deal)
    free = tuple(max(1, math.floor(units * stock_share)) for units in wanted)
    return Crowd(
        seed=seed,
        shoppers=shoppers,
        wishes=tuple(wishes),
        stock=tuple(own + other for own, other in zip(allotment, free, strict=True)),
        allotment=allotment,
        # Low enough that greedy shoppers hit it before the allotment is gone, high enough that the others do not.
        per_customer_limit=max(3, round(2 * sum(wanted_in_deal) * stock_share / shoppers)),
    )


def plan(crowd: Crowd, sale: Sale, tokens: Sequence[str], *, port: int, ca_file: str, seconds: float | None) -> Plan:
    """The crowd as a load plan: a closed loop of at most CONNECTIONS shoppers at once, every try recorded."""
    bodies: dict[str, int] = {}
    rows: list[Row] = []
    for wish in crowd.wishes:
        body = bodies.setdefault(body_of(wish, sale), len(bodies))
        rows.append((ROUTES.index(wish.tag), wish.shopper, body, wish.key))
    return Plan(
        host="127.0.0.1",
        port=port,
        ca_file=ca_file,
        connections=min(CONNECTIONS, max(2, crowd.shoppers)),
        timeout_s=ANSWER_WITHIN_S,
        duration_s=seconds,
        drain_s=60.0,
        limit_s=LIMIT_S,
        seed=crowd.seed,
        record="each",
        routes=[Route("POST", "/api/v1/order", tag=tag) for tag in ROUTES],
        tokens=list(tokens),
        bodies=list(bodies),
        rows=rows,
        retry_same_key=RETRY,
        progress_every_s=0.05,
        reconnect_give_up_s=60.0,
    )


def body_of(wish: Wish, sale: Sale) -> str:
    """The JSON of one order."""
    price = DEAL_PRICE_MINOR if wish.in_deal else LIST_PRICE_MINOR
    seen = {"unit_price_minor": price - 1 if wish.wrong_price else price} if wish.names_price else {}
    body: dict[str, object] = {
        "lines": [{"option_id": sale.option_ids[option], "quantity": pieces} | seen for option, pieces in wish.lines]
    }
    if wish.in_deal:
        body["deal_id"] = sale.deal_id
    if wish.instrument:
        body["payment"] = {"method": "card", "instrument": wish.instrument}
    return msgspec.json.encode(body).decode()


def _draw_wish(dice: random.Random, shoppers: int, options: int) -> Wish:
    chosen = dice.sample(range(options), dice.randint(1, 3))  # in random order: that is what deadlocked
    instrument = ""
    if dice.random() < PAYS:
        instrument = dice.choice(DECLINING) if dice.random() < DECLINED_OF_PAYING else "tok_visa"
    greedy = max(1, round(shoppers * GREEDY_SHOPPERS))
    names_price = dice.random() < NAMES_PRICE
    return Wish(
        shopper=dice.randrange(greedy) if dice.random() < GREEDY_ORDERS else dice.randrange(shoppers),
        lines=tuple((option, 2 if dice.random() < TWO_PIECES else 1) for option in chosen),
        in_deal=dice.random() < IN_DEAL,
        instrument=instrument,
        names_price=names_price,
        wrong_price=names_price and dice.random() < WRONG_PRICE_OF_NAMING,
        key=f"{dice.getrandbits(128):032x}",
    )


def _units(wishes: Sequence[Wish], options: int, *, in_deal: bool) -> list[int]:
    units = [0] * options
    for wish in {wish.key: wish for wish in wishes}.values():
        if wish.in_deal is in_deal and not wish.wrong_price:
            for option, pieces in wish.lines:
                units[option] += pieces
    return units
