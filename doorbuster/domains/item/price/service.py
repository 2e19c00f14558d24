"""What price does for others: quote orders, show an item's prices, set list prices, schedule sales and deals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC
from uuid import UUID

from msgspec.structs import replace

from doorbuster.domains.item import catalog
from doorbuster.domains.item.price import events, rules, store
from doorbuster.domains.item.price.errors import UnknownOption, UnknownPrice
from doorbuster.domains.item.price.models import (
    MAX_IMPORT_PRICES,
    MAX_QUOTE_LINES,
    Ask,
    DealPrices,
    ImportedPrices,
    ImportPrice,
    ItemPrices,
    ListPrice,
    ListPriceDraft,
    Quote,
    QuotedLine,
    Sale,
    SaleDraft,
)
from doorbuster.engines import event_log
from doorbuster.platform import ids
from doorbuster.platform.batching import Batcher
from doorbuster.platform.calls import Ctx, command, query
from doorbuster.platform.clock import utc_now
from doorbuster.platform.db import Conn
from doorbuster.platform.errors import IdempotencyKeyReused, InvalidRequest, PreconditionFailed, Refusal


async def _quote_all(asks: Sequence[Ask]) -> list[Quote | Refusal]:
    option_ids = {option_id for ask in asks for option_id in ask.option_ids}
    deal_ids = {ask.deal_id for ask in asks if ask.deal_id is not None}
    shelf, now = await store.find_shelf(list(option_ids), list(deal_ids))
    moment = now or utc_now()  # without a row every ask is refused before the moment matters
    return [rules.quoted(ask, shelf, moment) for ask in asks]


# A coalesced read: who asks while a select is under way shares the next one. So each order pays today's exact price
# (nothing is cached), yet the database sees a few hundred selects a second however many orders there are.
_QUOTES: Batcher[Ask, Quote] = Batcher("item.price.quote", _quote_all, limit=512, patience_s=5.0)


@query
async def quote(ctx: Ctx, ask: Ask) -> Quote:
    """Today's price of each asked option, in minor units of one currency, by the database's clock.

    Under a deal only the deal's own prices count, inside its window (end exclusive). Refuses `UnknownOption`,
    `NotInDeal`, `DealNotOpen`, `DealClosed`, `CurrencyMismatch`.
    """
    if not 1 <= len(ask.option_ids) <= MAX_QUOTE_LINES:
        raise InvalidRequest(f"Ask for 1 to {MAX_QUOTE_LINES} options at once")
    return await _QUOTES.submit(ask)


@query
async def item_prices(ctx: Ctx, item_id: UUID) -> ItemPrices:
    """What the options of an item cost everybody now. Refuses `UnknownPrice` when none has a price."""
    shelf, now = await store.find_item_shelf(item_id)
    if now is None:
        raise UnknownPrice(item_id=str(item_id))
    currency = next(iter(shelf.values()))[0].currency
    options = sorted((rules.todays(priced, now) for priced in shelf.values()), key=lambda one: one.option_id)
    return ItemPrices(item_id, currency, now, tuple(options))


@query
async def list_price(ctx: Ctx, option_id: UUID) -> ListPrice | None:
    """An option's list price, or None when it has none yet."""
    return await store.find_list_price(option_id)


@command
async def set_list_price(
    ctx: Ctx, option_id: UUID, draft: ListPriceDraft, expected_version: int | None = None
) -> ListPrice:
    """Set what an option of the catalogue costs; setting the same again changes nothing.

    Refuses `UnknownOption`, `PreconditionFailed` (the price is not at `expected_version`, where one is given),
    `CurrencyMismatch` (its siblings are sold in another currency), `PriceInUse` (a new currency under scheduled sales).
    """
    options = await catalog.options_of(ctx, (option_id,))
    if not options:
        raise UnknownOption(option_ids=[str(option_id)])
    wanted = ImportPrice(option_id, options[0].item_id, draft.currency, draft.list_minor, draft.compare_at_minor)
    rules.list_prices_are_sound([wanted])
    async with store.lock_writing() as conn:
        before = (await store.find_prices(conn, [option_id])).get(option_id)
        if expected_version is not None and (before is None or before.version != expected_version):
            raise PreconditionFailed(current=before.version if before else 0)
        return (await _put_prices(conn, [wanted], {option_id: before} if before else {}))[0]


@command
async def import_prices(ctx: Ctx, wanted: tuple[ImportPrice, ...]) -> ImportedPrices:
    """Set list prices, all or none, at most 20,000; running it again changes nothing.

    Refuses `UnknownOption` (the catalogue has no such option of that item), and what `set_list_price` refuses.
    """
    if len(wanted) > MAX_IMPORT_PRICES:
        raise InvalidRequest(f"At most {MAX_IMPORT_PRICES} prices at once; {len(wanted)} were sent")
    rules.list_prices_are_sound(wanted)
    option_ids = tuple(price.option_id for price in wanted)
    known = {(option.option_id, option.item_id) for option in await catalog.options_of(ctx, option_ids)}
    unknown = [str(price.option_id) for price in wanted if (price.option_id, price.item_id) not in known]
    if unknown:
        raise UnknownOption(f"The catalogue has no such option of that item: {unknown[0]}", option_ids=unknown[:100])
    async with store.lock_writing() as conn:
        before = await store.find_prices(conn, option_ids)
        after = await _put_prices(conn, wanted, before)
    unchanged = sum(price == before.get(price.option_id) for price in after)
    created = len(after) - len(before)
    return ImportedPrices(created, len(after) - created - unchanged, unchanged)


async def _put_prices(conn: Conn, wanted: Sequence[ImportPrice], before: dict[UUID, ListPrice]) -> list[ListPrice]:
    after = [rules.becomes(price, before.get(price.option_id)) for price in wanted]
    changed = [price for price in after if price != before.get(price.option_id)]
    if not changed:
        return after
    unfinished = await store.count_unfinished_sales(conn, [price.option_id for price in changed])
    for price in changed:
        rules.sales_keep_their_currency(before.get(price.option_id), price, unfinished.get(price.option_id, 0))
    siblings = await store.find_siblings(conn, list({price.item_id for price in changed}))
    rules.item_keeps_one_currency({price.option_id: price for price in (*siblings, *changed)}.values())
    await store.put_prices(conn, changed)
    await event_log.publish(conn, [events.fact(price) for price in changed])
    return after


@command
async def schedule_sale(ctx: Ctx, option_id: UUID, sale_id: UUID, draft: SaleDraft) -> Sale:
    """A lower price for everybody for a time; the same `sale_id` again is the same sale.

    Refuses `UnknownOption`, `SaleAboveList`, `InvalidPrice`, `TooManySales`, `IdempotencyKeyReused` (another sale has
    this id).
    """
    rules.window_is_sound(draft.starts_at, draft.ends_at)
    # In UTC, as the database reads it back, so that the answer to a repeated request is the same to the letter.
    starts_at, ends_at = draft.starts_at.astimezone(UTC), draft.ends_at.astimezone(UTC)
    sale = Sale(sale_id, option_id, None, draft.price_minor, starts_at, ends_at)
    async with store.lock_writing() as conn:
        standing = await store.find_sale(conn, sale_id)
        if standing is not None:
            if standing != sale:
                raise IdempotencyKeyReused()
            return standing
        prices = await store.find_prices(conn, [option_id])
        if option_id not in prices:
            raise UnknownOption("This option has no list price; set one first", option_ids=[str(option_id)])
        rules.sale_is_sound(prices[option_id], draft.price_minor, starts_at, ends_at)
        unfinished = await store.count_unfinished_sales(conn, [option_id])
        rules.one_more_sale_fits(prices[option_id], unfinished.get(option_id, 0))
        await store.add_sales(conn, [sale])
        await _raise_versions(conn, prices.values())
    return sale


@command
async def schedule_deal(ctx: Ctx, deal: DealPrices) -> Quote:
    """The prices of a deal for its window, all or none; the same deal again changes nothing.

    Answers what the deal will cost, with the currency and each option's item. Refuses `UnknownOption`,
    `SaleAboveList`, `CurrencyMismatch`, `InvalidPrice`, `DealPricedOtherwise` (the deal stands with other content).
    """
    rules.deal_is_sound(deal)
    wanted = dict(deal.prices)
    async with store.lock_writing() as conn:
        prices = await store.find_prices(conn, list(wanted))
        if unknown := [str(option_id) for option_id in wanted if option_id not in prices]:
            raise UnknownOption(option_ids=unknown)
        answer = Quote(
            rules.deal_has_one_currency(prices.values()),
            tuple(QuotedLine(option_id, prices[option_id].item_id, minor) for option_id, minor in wanted.items()),
        )
        if rules.deal_is_scheduled(deal, await store.find_deal_sales(conn, deal.deal_id)):
            return answer
        for option_id, minor in wanted.items():
            rules.sale_is_sound(prices[option_id], minor, deal.starts_at, deal.ends_at)
        sales = [
            Sale(ids.uuid7(), option_id, deal.deal_id, minor, deal.starts_at, deal.ends_at)
            for option_id, minor in wanted.items()
        ]
        await store.add_sales(conn, sales)
        await _raise_versions(conn, prices.values())
    return answer


@command
async def clear_deal(ctx: Ctx, deal_id: UUID) -> None:
    """Take all prices of a deal back, as if it had never been scheduled; a deal without prices is left as it is."""
    async with store.lock_writing() as conn:
        sales = await store.find_deal_sales(conn, deal_id)
        if sales:
            prices = await store.find_prices(conn, [sale.option_id for sale in sales])
            await store.drop_deal_sales(conn, deal_id)
            await _raise_versions(conn, prices.values())


async def _raise_versions(conn: Conn, prices: Iterable[ListPrice]) -> None:
    after = [replace(price, version=price.version + 1) for price in prices]
    await store.put_prices(conn, after)
    await event_log.publish(conn, [events.fact(price) for price in after])
