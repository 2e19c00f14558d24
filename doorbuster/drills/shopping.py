"""A few honest shoppers for a running shop: they buy from a shelf and in a deal, pay in different ways, and cancel."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import aiohttp
import msgspec

from doorbuster import client
from doorbuster.drills.temporary_shop import DrilledShop
from doorbuster.drills.timedeal import hot_item
from doorbuster.drills.timedeal.crowd_plan import Crowd, Sale
from doorbuster.platform import tls

CARDS = ("tok_visa", "tok_visa", "tok_declined")
_DEADLINE_S = 30
_AT_ONCE = 8


class Shopped(msgspec.Struct, frozen=True):
    """What came of it: ids of the orders that were made, and how many of them were paid and cancelled."""

    order_ids: tuple[str, ...]
    paid: int
    cancelled: int


async def go_shopping(shop: DrilledShop, orders: int) -> Shopped:
    """Put an item with a deal on sale and place `orders` orders, at most eight at once: half of them in the deal, most
    paid at once, some later, every fourth cancelled. Raises client.ShopRefused, client.NotRunning."""
    plenty = (2 * orders + 1, 2 * orders + 1)
    allotment = (orders + 1, orders + 1)
    crowd = Crowd(seed=0, shoppers=orders, wishes=(), stock=plenty, allotment=allotment, per_customer_limit=1)
    sale = await hot_item.put_on_sale(shop, crowd)
    tokens = client.shopper_tokens(client.read_settings(shop.data), orders, 3_600)
    gate = asyncio.Semaphore(_AT_ONCE)
    context = tls.client_context(shop.as_client().authority)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=context), timeout=aiohttp.ClientTimeout(total=_DEADLINE_S)
    ) as session:

        async def one(number: int) -> tuple[str, bool, bool]:
            async with gate:
                return await _buy(_Till(session, shop.url, tokens[number]), sale, number)

        done = await asyncio.gather(*(one(number) for number in range(orders)))
    return Shopped(
        tuple(order_id for order_id, _, _ in done),
        sum(paid for _, paid, _ in done),
        sum(cancelled for _, _, cancelled in done),
    )


class _Till:
    """Guards one shopper's token."""

    def __init__(self, session: aiohttp.ClientSession, url: str, token: str) -> None:
        self._session = session
        self._url = url
        self._headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}

    async def send(self, path: str, body: object) -> dict[str, object]:
        headers = self._headers | {"idempotency-key": uuid4().hex}
        try:
            async with self._session.post(self._url + path, data=msgspec.json.encode(body), headers=headers) as answer:
                return dict(msgspec.json.decode(await answer.read()))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise client.NotRunning(f"The shop at {self._url} does not answer: {error}") from error


async def _buy(till: _Till, sale: Sale, number: int) -> tuple[str, bool, bool]:
    """(order id, paid, cancelled) of one order."""
    wish: dict[str, object] = {"lines": [{"option_id": sale.option_ids[number % 2], "quantity": 1}]}
    if number % 2:
        wish["deal_id"] = sale.deal_id
    pays_later = number % 5 == 4
    if not pays_later:
        wish["payment"] = {"method": "card", "instrument": CARDS[number % len(CARDS)]}
    order = await till.send("/api/v1/order", wish)
    if "id" not in order:
        raise client.ShopRefused(f"{order.get('code')}: {order.get('detail')}")
    path = f"/api/v1/order/{order['id']}"
    if pays_later:
        order = await till.send(f"{path}/pay", {"method": "card", "instrument": CARDS[0]})
    paid = order.get("state") == "paid"
    if number % 4 == 3:
        order = await till.send(f"{path}/cancel", {"reason": "changed my mind"})
    return path.rsplit("/", 1)[1], paid, order.get("state") == "cancelled"
