"""Deals on the real shop: made once, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest

from doorbuster import invariants
from doorbuster.domains.activation import deal
from doorbuster.domains.activation.deal import store
from doorbuster.domains.item import catalog, price, stock
from doorbuster.engines.embedded import PostgresServer
from doorbuster.platform import ids
from doorbuster.platform.calls import SYSTEM, Ctx
from doorbuster.platform.errors import IdempotencyKeyReused, NotFound

HOUR = timedelta(hours=1)


@pytest.fixture(scope="module", autouse=True)
async def _books_are_sound(postgres: PostgresServer, shop: Any) -> AsyncIterator[None]:
    yield
    assert (await invariants.check(postgres.dsn(database="doorbuster")))[1] == []


async def item_of(*quantities: int) -> tuple[UUID, tuple[UUID, ...]]:
    options = tuple(catalog.OptionDraft((str(number),)) for number in range(len(quantities)))
    item = await catalog.create_item(
        SYSTEM,
        catalog.ItemDraft(f"item-{ids.uuid7()}", "Lamp", status="active", option_names=("Size",), options=options),
    )
    found = tuple(option.id for option in item.options)
    await price.import_prices(SYSTEM, tuple(price.ImportPrice(option, item.id, "USD", 1_000) for option in found))
    pairs = zip(found, quantities, strict=True)
    await stock.set_on_hand(SYSTEM, tuple(stock.SetOnHand(ids.uuid7(), o, item.id, quantity) for o, quantity in pairs))
    return item.id, found


def draft(item_id: UUID, *pairs: tuple[UUID, int], **change: Any) -> deal.DealDraft:
    now = datetime.now(UTC)
    lines = tuple(deal.DealLine(option, quantity) for option, quantity in pairs)
    made = deal.DealDraft("Doorbuster", item_id, now - HOUR, now + HOUR, 500, lines, 2)
    return msgspec.structs.replace(made, **change)


def merchant(key: str = "") -> Ctx:
    return Ctx(subject=uuid4(), roles=frozenset({"merchant"}), idempotency_key=key)


async def test_one_key_at_once_is_one_deal() -> None:
    item_id, (option,) = await item_of(10)
    caller, wish = merchant("k"), draft(item_id, (option, 4))
    answers = await asyncio.gather(*(deal.make(caller, wish) for _ in range(8)), return_exceptions=True)
    made = [answer for answer in answers if isinstance(answer, deal.Deal)]
    assert made and len({one.id for one in made}) == 1
    assert len(made) == 8, answers
    assert (await stock.level(SYSTEM, option)).allotted == 4
    with pytest.raises(IdempotencyKeyReused):
        await deal.make(caller, draft(item_id, (option, 5)))


async def test_two_bodies_under_one_key_at_once_are_one_deal_and_a_refusal() -> None:
    item_id, (option,) = await item_of(10)
    caller = merchant("k")
    answers = await asyncio.gather(
        *(deal.make(caller, draft(item_id, (option, 3 + number % 2))) for number in range(6)), return_exceptions=True
    )
    kinds = {type(answer) for answer in answers}
    assert kinds == {deal.Deal, IdempotencyKeyReused}
    (made,) = {answer.id for answer in answers if isinstance(answer, deal.Deal)}
    shown = await deal.get_deal(SYSTEM, made)
    assert shown.state == "open"
    assert (await stock.level(SYSTEM, option)).allotted == shown.options[0].quantity


async def test_a_deal_that_stock_refuses_takes_neither_units_nor_prices() -> None:
    item_id, (one, other) = await item_of(10, 2)
    caller, wish = merchant("k"), draft(item_id, (one, 5), (other, 3))
    for _ in range(2):
        with pytest.raises(stock.SoldOut):
            await deal.make(caller, wish)
    assert {level.allotted for level in await stock.levels(SYSTEM, (one, other))} == {0}
    deal_id = ids.derived_id("deal", str(caller.subject), "k")
    with pytest.raises(stock.NotInDeal):
        await price.quote(SYSTEM, price.Ask((one,), deal_id))


async def test_a_deal_that_price_refuses_takes_no_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """The list price fell below the deal's between the draft's check and the deal's scheduling."""
    item_id, (option,) = await item_of(10)
    real = price.schedule_deal

    async def cheaper(ctx: Ctx, prices: price.DealPrices) -> Any:
        await price.set_list_price(SYSTEM, option, price.ListPriceDraft("USD", 400))
        return await real(ctx, prices)

    monkeypatch.setattr(price, "schedule_deal", cheaper)
    with pytest.raises(price.SaleAboveList):
        await deal.make(merchant(), draft(item_id, (option, 5)))
    assert (await stock.level(SYSTEM, option)).available == 10


async def test_a_deal_left_half_made_is_finished_by_the_sweeper(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    item_id, (option,) = await item_of(10)
    caller = merchant("k")

    async def crash(*_: Any) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(stock, "open_allotment", crash)
        with pytest.raises(ZeroDivisionError):
            await deal.make(caller, draft(item_id, (option, 4)))
    deal_id = ids.derived_id("deal", str(caller.subject), "k")
    with pytest.raises(NotFound):
        await deal.get_deal(SYSTEM, deal_id)
    connection = await asyncpg.connect(postgres.dsn(database="doorbuster"))
    await connection.execute("UPDATE deal.deals SET step_deadline = now() WHERE id = $1", deal_id)
    await connection.close()
    async with asyncio.timeout(20):
        while (row := await store.read(deal_id)) is None or row.phase != "ready":
            await deal.sweep(SYSTEM, 100)
            await asyncio.sleep(0.02)
    shown = await deal.get_deal(SYSTEM, deal_id)
    assert (shown.state, shown.options[0].remaining) == ("open", 4)


async def test_a_deal_without_a_price_or_too_dear_or_past_is_refused() -> None:
    item_id, (option,) = await item_of(10)
    now = datetime.now(UTC)
    for wish, refusal in (
        (draft(item_id, (uuid4(), 1)), deal.NoListPrice),
        (draft(item_id, (option, 1), price_minor=1_000), deal.NotCheaper),
        (draft(item_id, (option, 1), opens_at=now - 2 * HOUR, closes_at=now - HOUR), deal.WindowPast),
    ):
        with pytest.raises(refusal):
            await deal.make(merchant(), wish)
    assert (await stock.level(SYSTEM, option)).available == 10


async def test_a_deal_shows_what_is_left_and_when_it_is_sold_out() -> None:
    item_id, (option,) = await item_of(10)
    made = await deal.make(merchant(), draft(item_id, (option, 2)))
    wish = stock.Reserve(ids.uuid7(), ids.uuid7(), (stock.Line(option, 2),), 60, made.id)
    await stock.reserve(SYSTEM, wish)
    shown = await deal.get_deal(SYSTEM, made.id)
    assert (shown.state, shown.options[0].remaining, shown.options[0].sold) == ("sold_out", 0, 0)
    await stock.release(SYSTEM, wish.reservation_id)
    assert (await deal.get_deal(SYSTEM, made.id)).state == "open"
    assert made.id in {one.id for one in await deal.list_deals(SYSTEM, None, 100)}
