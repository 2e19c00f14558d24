"""The stage of the drill: simulators, a shop whose settings name them, rules with weights, goods for everybody."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from uuid import uuid4

import aiohttp
import msgspec

from doorbuster import client
from doorbuster.drills.psp import recorder
from doorbuster.drills.psp.accounts import Account, Simulators, running_simulators
from doorbuster.drills.psp.kinds import SANDBOX, WON
from doorbuster.drills.psp.plan import OPTIONS, TIMEOUT_S
from doorbuster.drills.temporary_shop import DrilledShop, temporary_shop
from doorbuster.drills.timedeal import hot_item
from doorbuster.drills.timedeal.crowd_plan import CURRENCY, Crowd, Sale
from doorbuster.engines.payment_router import SharedDatabase
from doorbuster.engines.payment_router.routing import RoutingRules, Weights
from doorbuster.platform import db, settings, tls

CASE_AFTER_S = 90.0
"""`payment_case_after_s` of a shop with real kinds, where "no such payment" is final after an hour at the earliest: a
person is told long before. Longer than a search of Stripe's may lag, so that nobody is told what is found out."""
_DEADLINE_S = 30
_AT_ONCE = 16


class RulesRefused(Exception):
    """The drill's routing rules could not be put in force."""


class Stage(msgspec.Struct, frozen=True):
    """All that runs: the shop, and the simulator of each of its accounts."""

    shop: DrilledShop
    simulators: Simulators

    @property
    def payment_dsn(self) -> str:
        """The database that payment's tables are in, as superuser."""
        return self.shop.dsn_of("commerce.payment")


@contextmanager
def running_stage(wanted: Sequence[Account], workers: int) -> Iterator[Stage]:
    """Simulators and shop, empty; all is stopped and removed at the end, also when interrupted. Takes about 6 s.

    Raises ShopDidNotStart, AccountDown.
    """
    with running_simulators(wanted) as simulators:
        overrides: dict[str, object] = {
            "providers": {one.account.name: one.login for one in simulators.all},
            "payment_timeout_s": TIMEOUT_S,
        }
        if _has_real_kinds(wanted):
            overrides |= {"shop_currency": WON, "payment_case_after_s": CASE_AFTER_S}
        with temporary_shop(workers=workers, overrides=overrides) as shop:
            yield Stage(shop, simulators)


async def set_up(stage: Stage, orders: int) -> Sale:
    """The witness in the database, the weights as routing rules, and more goods on sale than are ordered.

    Raises RulesRefused, client.ShopRefused.
    """
    await recorder.install(stage.payment_dsn)
    await _put_in_force(stage.shop, [one.account for one in stage.simulators.all])
    plenty = tuple([orders + 2] * OPTIONS)
    crowd = Crowd(plenty, tuple([1] * OPTIONS), per_customer_limit=1)
    currency = WON if _has_real_kinds([one.account for one in stage.simulators.all]) else CURRENCY
    return await hot_item.put_on_sale(stage.shop, crowd, currency)


def _has_real_kinds(wanted: Sequence[Account]) -> bool:
    return any(one.kind != SANDBOX for one in wanted)


async def keep_cards(stage: Stage, tokens: Sequence[str]) -> list[str]:
    """What each shopper pays with: where all accounts are the sandbox's, a token that each of them knows; else a card
    that is known at every account, kept by each shopper under an id of his own.

    Raises client.ShopRefused, AccountDown.
    """
    if not _has_real_kinds([one.account for one in stage.simulators.all]):
        return ["tok_visa"]
    known = {one.account.name: msgspec.to_builtins(await one.card()) for one in stage.simulators.all}
    body = msgspec.json.encode({"label": "the drill's card", "keys": known})
    gate = asyncio.Semaphore(_AT_ONCE)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=tls.client_context(stage.shop.as_client().authority)),
        timeout=aiohttp.ClientTimeout(total=_DEADLINE_S),
    ) as session:

        async def keep(token: str) -> str:
            headers = {
                "authorization": f"Bearer {token}", "content-type": "application/json", "idempotency-key": uuid4().hex,
            }  # fmt: skip
            url = f"{stage.shop.url}/api/v1/payment/instrument"
            async with gate, session.post(url, data=body, headers=headers) as answer:
                if answer.status != 201:
                    raise client.ShopRefused(f"a card is not kept: {(await answer.text())[:200]}")
                return str(msgspec.json.decode(await answer.read())["id"])

        return list(await asyncio.gather(*(keep(token) for token in tokens)))


async def _put_in_force(shop: DrilledShop, wanted: Sequence[Account]) -> None:
    known = settings.use(client.read_settings(shop.data))
    rules = RoutingRules(1, Weights({one.name: one.weight for one in wanted}))
    # A pool of its own: one of this name may be open in this process already, to another shop.
    database = db.Database("commerce.payment", lambda: known.databases["commerce.payment"])
    try:
        if not await SharedDatabase(database).write_rules(rules, "drill", "weights of the drill's accounts"):
            raise RulesRefused("the shop has routing rules already")
    finally:
        await database.close()
