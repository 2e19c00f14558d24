"""A connection cut exactly at COMMIT: the request gets the true answer, and everything happened once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from doorbuster.domains.commerce import order, payment
from doorbuster.domains.commerce.order.tests import story
from doorbuster.domains.item import stock
from doorbuster.platform import ids
from doorbuster.platform.calls import SYSTEM
from doorbuster.platform.settings import Settings
from doorbuster.platform.tests.commit_cutter import Cut, cutter

pytestmark = [pytest.mark.one_process, pytest.mark.parametrize("cut", ["before", "after"])]


async def test_a_reservation_is_made_once(shop: Settings, cut: Cut) -> None:
    here = await story.shelf(5)
    wish = stock.Reserve(ids.uuid7(), ids.uuid7(), (stock.Line(here.option_ids[0], 2),), 60)
    async with cutter(shop, "item.stock") as proxy:
        proxy.cut = cut
        held = await stock.reserve(SYSTEM, wish)
        assert proxy.cuts == 1
    assert held.state == "held"
    assert await story.counts(here) == [(3, 2, 0)]


async def test_neighbours_in_the_batch_get_their_own_true_answers(shop: Settings, cut: Cut) -> None:
    here = await story.shelf(5)
    option = here.option_ids[0]
    wishes = [stock.Reserve(ids.uuid7(), ids.uuid7(), (stock.Line(option, 2),), 60) for _ in range(4)]
    async with cutter(shop, "item.stock") as proxy:
        proxy.cut = cut
        answers = await asyncio.gather(*(stock.reserve(SYSTEM, wish) for wish in wishes), return_exceptions=True)
        assert proxy.cuts == 1
    kinds = [type(answer) for answer in answers]
    assert kinds == [stock.Reservation, stock.Reservation, stock.SoldOut, stock.SoldOut]
    assert await story.counts(here) == [(1, 4, 0)]


async def test_an_order_without_payment_is_placed_once(shop: Settings, cut: Cut) -> None:
    here = await story.shelf(5, 5)
    buyer, wish = story.shopper(), story.wish(here, 1, 2)
    async with cutter(shop, "commerce.order") as proxy:
        proxy.cut = cut
        placed = await order.place(buyer, wish)
        assert proxy.cuts == 1
    assert placed.state == "awaiting_payment"
    assert await order.place(buyer, wish) == placed
    assert len(await order.list_orders(buyer, None, 10)) == 1
    assert await story.counts(here) == [(4, 1, 0), (3, 2, 0)]


@pytest.mark.parametrize(
    ("domain", "nth"),
    [("item.stock", 1), ("item.stock", 2), ("commerce.order", 1), ("commerce.order", 2),
     ("commerce.payment", 1), ("commerce.payment", 2)],
)  # fmt: skip
async def test_an_order_that_pays_at_once_goes_on_and_is_charged_once(
    shop: Settings, sandbox: Any, dsn: str, cut: Cut, domain: str, nth: int
) -> None:
    """Cut at the first or second COMMIT of a domain: reserve, claim; place, paid; start, settle."""
    here = await story.shelf(5)
    buyer, wish = story.shopper(), story.wish(here, 2, card="tok_visa")
    async with cutter(shop, domain) as proxy:
        proxy.cut_at(nth, cut)
        placed = await order.place(buyer, wish)
        assert proxy.cuts == 1
    assert placed.state == "paid"
    assert await order.place(buyer, wish) == placed
    assert await story.money(sandbox, dsn, placed.id) == (2 * story.PRICE, 0)
    assert await story.counts(here) == [(3, 0, 2)]


async def test_paying_later_charges_once(shop: Settings, sandbox: Any, dsn: str, cut: Cut) -> None:
    here = await story.shelf(5)
    buyer = story.shopper()
    placed = await order.place(buyer, story.wish(here, 1))
    paying = story.again(buyer)
    async with cutter(shop, "commerce.order") as proxy:
        proxy.cut = cut
        paid = await order.pay(paying, placed.id, order.Pay("card", "tok_visa"))
        assert proxy.cuts == 1
    assert paid.state == "paid"
    assert await order.pay(paying, placed.id, order.Pay("card", "tok_visa")) == paid
    assert await story.money(sandbox, dsn, placed.id) == (story.PRICE, 0)


async def test_cancelling_gives_back_once(shop: Settings, sandbox: Any, dsn: str, cut: Cut) -> None:
    here = await story.shelf(5)
    buyer = story.shopper()
    placed = await order.place(buyer, story.wish(here, 1, card="tok_visa"))
    for domain in ("commerce.order", "item.stock"):
        async with cutter(shop, domain) as proxy:
            proxy.cut = cut
            cancelled = await order.cancel(story.again(buyer), placed.id, order.Cancel())
        assert cancelled.state == "cancelled"
    assert await story.money(sandbox, dsn, placed.id) == (story.PRICE, story.PRICE)
    assert await story.counts(here) == [(5, 0, 0)]


async def test_a_payment_is_started_and_settled_once(shop: Settings, sandbox: Any, cut: Cut) -> None:
    for nth in (1, 2):
        charge = payment.Charge(ids.uuid7(), ids.uuid7(), ids.uuid7(), 700, "USD", "tok_visa", "h")
        async with cutter(shop, "commerce.payment") as proxy:
            proxy.cut_at(nth, cut)
            paid = await payment.charge(SYSTEM, charge)
            assert proxy.cuts == 1
        assert paid.state == "succeeded"
        assert [one["amount_minor"] for one in await sandbox.charges(f"{charge.payment_id}.1")] == [700]


async def test_a_database_that_is_away_for_two_seconds_fails_nobody(shop: Settings, cut: Cut) -> None:
    here = await story.shelf(5)
    wishes = [stock.Reserve(ids.uuid7(), ids.uuid7(), (stock.Line(here.option_ids[0], 1),), 60) for _ in range(3)]
    async with cutter(shop, "item.stock") as proxy:
        await stock.level(SYSTEM, here.option_ids[0])
        if cut == "before":
            await proxy.close()
        else:
            proxy.cut = "after"
        waiting = [asyncio.ensure_future(stock.reserve(SYSTEM, wish)) for wish in wishes]
        await asyncio.sleep(0.05)
        if cut == "after":
            await proxy.close()
        await asyncio.sleep(2)
        await proxy.open()
        assert [held.state for held in await asyncio.gather(*waiting)] == ["held"] * 3
    assert await story.counts(here) == [(2, 3, 0)]
