"""Price's verbs on real PostgreSQL."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from doorbuster.domains.item import catalog, price
from doorbuster.domains.item.price import Ask, DealPrices, ImportPrice, ListPriceDraft, SaleDraft
from doorbuster.domains.item.price.store import DB
from doorbuster.platform import ids
from doorbuster.platform.calls import SYSTEM
from doorbuster.platform.errors import IdempotencyKeyReused, InvalidRequest, PreconditionFailed

HOUR = timedelta(hours=1)


def now() -> datetime:
    return datetime.now(UTC)


async def item_of(options: int = 4) -> catalog.Item:
    draft = catalog.ItemDraft(
        handle=f"item-{ids.uuid7()}",
        title="Court",
        status="active",
        option_names=("Size",),
        options=tuple(catalog.OptionDraft((str(size),)) for size in range(options)),
    )
    return await catalog.create_item(SYSTEM, draft)


async def priced(list_minor: int = 1_000, options: int = 4, currency: str = "USD") -> tuple[UUID, ...]:
    item = await item_of(options)
    await price.import_prices(
        SYSTEM, tuple(ImportPrice(option.id, item.id, currency, list_minor) for option in item.options)
    )
    return tuple(option.id for option in item.options)


async def units(option_ids: tuple[UUID, ...], deal_id: UUID | None = None) -> list[int]:
    quote = await price.quote(SYSTEM, Ask(option_ids, deal_id))
    return [line.unit_price_minor for line in quote.lines]


async def published(option_id: UUID) -> list[int]:
    query = "SELECT aggregate_version FROM outbox WHERE key = $1 ORDER BY seq"
    return [row[0] for row in await DB.fetch(query, str(option_id))]


def deal_of(option_ids: tuple[UUID, ...], minor: int, starts_at: datetime, ends_at: datetime) -> DealPrices:
    return DealPrices(ids.uuid7(), tuple((option_id, minor) for option_id in option_ids), starts_at, ends_at)


async def test_quotes_asked_at_once_get_their_own_answers() -> None:
    cheap, dear = await priced(100), await priced(900)
    asks = [
        price.quote(SYSTEM, Ask((ids.uuid7(),) if turn % 5 == 0 else (cheap if turn % 2 else dear)[: 1 + turn % 3]))
        for turn in range(200)
    ]
    for turn, answer in enumerate(await asyncio.gather(*asks, return_exceptions=True)):
        if turn % 5 == 0:
            assert isinstance(answer, price.UnknownOption)
        else:
            assert isinstance(answer, price.Quote)
            assert [line.unit_price_minor for line in answer.lines] == [100 if turn % 2 else 900] * (1 + turn % 3)


async def test_quote_sees_a_price_that_was_just_set() -> None:
    option_ids = await priced(1_000)
    for minor in (700, 650, 1_200):
        await price.set_list_price(SYSTEM, option_ids[0], ListPriceDraft("USD", minor))
        assert await units(option_ids[:1]) == [minor]


async def test_quote_of_nothing_or_too_much_is_refused() -> None:
    for asked in ((), tuple(ids.uuid7() for _ in range(101))):
        with pytest.raises(InvalidRequest):
            await price.quote(SYSTEM, Ask(asked))


async def test_option_unknown_to_the_catalogue_gets_no_price() -> None:
    with pytest.raises(price.UnknownOption):
        await price.set_list_price(SYSTEM, ids.uuid7(), ListPriceDraft("USD", 1))
    item, other = await item_of(), await item_of()
    with pytest.raises(price.UnknownOption):
        await price.import_prices(
            SYSTEM,
            (
                ImportPrice(item.options[0].id, item.id, "USD", 1),
                ImportPrice(item.options[1].id, other.id, "USD", 1),
            ),
        )
    assert await price.list_price(SYSTEM, item.options[0].id) is None


async def test_price_import_is_idempotent_and_publishes_changes_only() -> None:
    item = await item_of(2)
    first, second = (ImportPrice(option.id, item.id, "USD", 500, 600) for option in item.options)
    assert await price.import_prices(SYSTEM, (first, second)) == price.ImportedPrices(2, 0, 0)
    assert await price.import_prices(SYSTEM, (first, second)) == price.ImportedPrices(0, 0, 2)
    dearer = ImportPrice(first.option_id, item.id, "USD", 550, 600)
    assert await price.import_prices(SYSTEM, (dearer, second)) == price.ImportedPrices(0, 1, 1)
    assert await published(first.option_id) == [1, 2]
    assert await published(second.option_id) == [1]


async def test_of_two_price_edits_at_once_one_wins() -> None:
    option_id = (await priced())[0]
    edits = [price.set_list_price(SYSTEM, option_id, ListPriceDraft("USD", 500 + turn), 1) for turn in range(6)]
    ends = await asyncio.gather(*edits, return_exceptions=True)
    assert sum(isinstance(end, PreconditionFailed) for end in ends) == 5
    winner = next(end for end in ends if isinstance(end, price.ListPrice))
    assert await units((option_id,)) == [winner.list_minor]


async def test_options_of_one_item_keep_one_currency_also_when_set_at_once() -> None:
    item = await item_of(2)
    first, second = (option.id for option in item.options)
    ends = await asyncio.gather(
        price.set_list_price(SYSTEM, first, ListPriceDraft("USD", 5)),
        price.set_list_price(SYSTEM, second, ListPriceDraft("KRW", 5_000)),
        return_exceptions=True,
    )
    assert sum(isinstance(end, price.CurrencyMismatch) for end in ends) == 1
    both = tuple(ImportPrice(option_id, item.id, "EUR", 7) for option_id in (first, second))
    await price.import_prices(SYSTEM, both)
    assert (await price.quote(SYSTEM, Ask((first, second)))).currency == "EUR"


async def test_currency_may_not_change_under_a_scheduled_sale() -> None:
    option_id = (await priced(options=1))[0]
    await price.schedule_sale(SYSTEM, option_id, ids.uuid7(), SaleDraft(900, now() + HOUR, now() + 2 * HOUR))
    with pytest.raises(price.PriceInUse):
        await price.set_list_price(SYSTEM, option_id, ListPriceDraft("KRW", 100_000))


async def test_lowest_open_sale_makes_todays_price() -> None:
    option_ids = await priced(1_000, options=2)
    for minor, start, end in ((800, -HOUR, HOUR), (700, -HOUR, HOUR), (10, HOUR, 2 * HOUR), (20, -2 * HOUR, -HOUR)):
        await price.schedule_sale(SYSTEM, option_ids[0], ids.uuid7(), SaleDraft(minor, now() + start, now() + end))
    assert await units(option_ids) == [700, 1_000]
    item_id = (await price.quote(SYSTEM, Ask(option_ids))).lines[0].item_id
    shown = {one.option_id: one for one in (await price.item_prices(SYSTEM, item_id)).options}
    assert shown[option_ids[0]].price_minor == 700
    assert shown[option_ids[0]].sale is not None
    assert shown[option_ids[1]].sale is None


async def test_same_sale_again_is_one_sale_and_another_under_its_id_is_refused() -> None:
    option_id, sale_id = (await priced())[0], ids.uuid7()
    draft = SaleDraft(900, now(), now() + HOUR)
    first = await price.schedule_sale(SYSTEM, option_id, sale_id, draft)
    assert await price.schedule_sale(SYSTEM, option_id, sale_id, draft) == first
    assert await published(option_id) == [1, 2]
    with pytest.raises(IdempotencyKeyReused):
        await price.schedule_sale(SYSTEM, option_id, sale_id, SaleDraft(901, draft.starts_at, draft.ends_at))


async def test_sale_needs_a_list_price_not_below_it() -> None:
    item = await item_of(1)
    with pytest.raises(price.UnknownOption):
        await price.schedule_sale(SYSTEM, item.options[0].id, ids.uuid7(), SaleDraft(1, now(), now() + HOUR))
    option_id = (await priced(100))[0]
    with pytest.raises(price.SaleAboveList):
        await price.schedule_sale(SYSTEM, option_id, ids.uuid7(), SaleDraft(101, now(), now() + HOUR))


async def test_sales_that_lie_ahead_are_limited() -> None:
    option_id = (await priced())[0]
    for _ in range(100):
        await price.schedule_sale(SYSTEM, option_id, ids.uuid7(), SaleDraft(5, now(), now() + HOUR))
    with pytest.raises(price.TooManySales):
        await price.schedule_sale(SYSTEM, option_id, ids.uuid7(), SaleDraft(5, now(), now() + HOUR))


async def test_deal_prices_hold_under_the_deal_alone() -> None:
    option_ids = await priced(1_000)
    deal = deal_of(option_ids[:2], 600, now() - HOUR, now() + HOUR)
    scheduled = await price.schedule_deal(SYSTEM, deal)
    assert scheduled == await price.quote(SYSTEM, Ask(option_ids[:2], deal.deal_id))
    assert await units(option_ids[:2], deal.deal_id) == [600, 600]
    assert await units(option_ids) == [1_000] * 4
    with pytest.raises(price.NotInDeal):
        await price.quote(SYSTEM, Ask(option_ids, deal.deal_id))
    with pytest.raises(price.NotInDeal):
        await price.quote(SYSTEM, Ask(option_ids, ids.uuid7()))


async def test_deal_opens_and_closes_by_the_databases_clock() -> None:
    option_ids = await priced(options=1)
    begins = now() + timedelta(seconds=0.5)
    deal = deal_of(option_ids, 600, begins, begins + timedelta(seconds=0.5))
    await price.schedule_deal(SYSTEM, deal)
    with pytest.raises(price.DealNotOpen):
        await price.quote(SYSTEM, Ask(option_ids, deal.deal_id))
    await asyncio.sleep(0.6)
    assert await units(option_ids, deal.deal_id) == [600]
    await asyncio.sleep(0.6)
    with pytest.raises(price.DealClosed):
        await price.quote(SYSTEM, Ask(option_ids, deal.deal_id))


async def test_same_deal_at_once_is_scheduled_once_and_another_content_is_refused() -> None:
    option_ids = await priced()
    deal = deal_of(option_ids, 600, now(), now() + HOUR)
    answers = await asyncio.gather(*(price.schedule_deal(SYSTEM, deal) for _ in range(5)))
    assert all(answer == answers[0] for answer in answers)
    assert await published(option_ids[0]) == [1, 2]
    others = (
        DealPrices(deal.deal_id, deal.prices[:1], deal.starts_at, deal.ends_at),
        DealPrices(deal.deal_id, deal.prices, deal.starts_at, deal.ends_at + HOUR),
        DealPrices(deal.deal_id, (*deal.prices[1:], (option_ids[0], 5)), deal.starts_at, deal.ends_at),
    )
    for other in others:
        with pytest.raises(price.DealPricedOtherwise):
            await price.schedule_deal(SYSTEM, other)


async def test_deal_is_all_or_nothing() -> None:
    option_ids = await priced(1_000)
    prices = ((option_ids[0], 900), (option_ids[1], 1_001))
    deal = DealPrices(ids.uuid7(), prices, now(), now() + HOUR)
    with pytest.raises(price.SaleAboveList):
        await price.schedule_deal(SYSTEM, deal)
    with pytest.raises(price.UnknownOption):
        await price.schedule_deal(SYSTEM, deal_of((option_ids[0], ids.uuid7()), 5, now(), now() + HOUR))
    with pytest.raises(price.NotInDeal):
        await price.quote(SYSTEM, Ask(option_ids[:1], deal.deal_id))


async def test_deal_has_one_currency() -> None:
    dollars, won = await priced(options=1), await priced(options=1, currency="KRW")
    with pytest.raises(price.CurrencyMismatch):
        await price.schedule_deal(SYSTEM, deal_of(dollars + won, 5, now(), now() + HOUR))


async def test_cleared_deal_is_as_if_it_had_never_been() -> None:
    option_ids = await priced()
    deal = deal_of(option_ids, 600, now() - HOUR, now() + HOUR)
    await price.schedule_deal(SYSTEM, deal)
    await price.clear_deal(SYSTEM, deal.deal_id)
    await price.clear_deal(SYSTEM, deal.deal_id)
    with pytest.raises(price.NotInDeal):
        await price.quote(SYSTEM, Ask(option_ids, deal.deal_id))
    assert await published(option_ids[0]) == [1, 2, 3]
    await price.schedule_deal(SYSTEM, deal)
    assert await units(option_ids, deal.deal_id) == [600] * 4
