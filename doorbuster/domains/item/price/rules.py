"""Pure decisions of price: what an ask costs, which sale counts now, whether a change fits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from doorbuster.domains.item.price.errors import (
    CurrencyMismatch,
    DealClosed,
    DealNotOpen,
    DealPricedOtherwise,
    InvalidPrice,
    NotInDeal,
    PriceInUse,
    SaleAboveList,
    TooManySales,
    UnknownOption,
)
from doorbuster.domains.item.price.models import (
    MAX_DEAL_PRICES,
    MAX_SALES,
    Ask,
    DealPrices,
    ImportPrice,
    ListPrice,
    OptionPrice,
    Quote,
    QuotedLine,
    Sale,
    SaleWindow,
)
from doorbuster.platform import money
from doorbuster.platform.errors import Refusal

Priced = tuple[ListPrice, Sequence[Sale]]
"""A list price and the sales that may matter."""


def quoted(ask: Ask, shelf: Mapping[UUID, Priced], now: datetime) -> Quote | Refusal:
    """Today's price of every option asked, or the first reason why there is none."""
    unknown = [str(option_id) for option_id in ask.option_ids if option_id not in shelf]
    if unknown:
        return UnknownOption(option_ids=unknown)
    lines = []
    currency = ask.currency
    for option_id in ask.option_ids:
        price, sales = shelf[option_id]
        currency = currency or price.currency
        if price.currency != currency:
            return CurrencyMismatch(
                f"Option {option_id} is sold in {price.currency}, not in {currency}", currency=price.currency
            )
        if ask.deal_id is None:
            sale = open_sale(sales, now)
            unit = min(price.list_minor, sale.price_minor) if sale else price.list_minor
        else:
            found = deal_sale(ask.deal_id, option_id, sales, now)
            if isinstance(found, Refusal):
                return found
            unit = found.price_minor
        lines.append(QuotedLine(option_id, price.item_id, unit))
    assert currency is not None, "an ask has at least one option"
    return Quote(currency, tuple(lines))


def open_sale(sales: Iterable[Sale], now: datetime) -> Sale | None:
    """The lowest sale for everybody that holds now; of two equal ones, the one that ends last."""
    here = (sale for sale in sales if sale.deal_id is None and sale.starts_at <= now < sale.ends_at)
    return min(here, key=lambda sale: (sale.price_minor, -sale.ends_at.timestamp(), sale.id), default=None)


def deal_sale(deal_id: UUID, option_id: UUID, sales: Iterable[Sale], now: datetime) -> Sale | Refusal:
    """The option's price under this deal, or why it cannot be bought under it now."""
    sale = next((sale for sale in sales if sale.deal_id == deal_id), None)
    if sale is None:
        return NotInDeal(option_id=str(option_id), deal_id=str(deal_id))
    if now < sale.starts_at:
        return DealNotOpen(deal_id=str(deal_id), starts_at=sale.starts_at.isoformat())
    if now >= sale.ends_at:
        return DealClosed(deal_id=str(deal_id), ends_at=sale.ends_at.isoformat())
    return sale


def todays(priced: Priced, now: datetime) -> OptionPrice:
    """What an option costs everybody now."""
    price, sales = priced
    sale = open_sale(sales, now)
    if sale is not None and sale.price_minor > price.list_minor:
        sale = None  # the list price was lowered below the sale
    return OptionPrice(
        option_id=price.option_id,
        list_minor=price.list_minor,
        compare_at_minor=price.compare_at_minor,
        price_minor=sale.price_minor if sale else price.list_minor,
        sale=SaleWindow(sale.id, sale.price_minor, sale.starts_at, sale.ends_at) if sale else None,
        version=price.version,
    )


def becomes(wanted: ImportPrice, before: ListPrice | None) -> ListPrice:
    """The list price after this change; `before` itself when nothing differs."""
    version = before.version if before else 1
    after = ListPrice(
        wanted.option_id, wanted.item_id, wanted.currency, wanted.list_minor, wanted.compare_at_minor, version
    )
    if before is None or after == before:
        return after
    return ListPrice(
        after.option_id, after.item_id, after.currency, after.list_minor, after.compare_at_minor, version + 1
    )


def list_prices_are_sound(wanted: Sequence[ImportPrice]) -> None:
    """Refuse currencies that do not exist, or an option named twice."""
    if len({price.option_id for price in wanted}) != len(wanted):
        raise InvalidPrice("An option is named twice")
    for price in wanted:
        if not money.is_currency(price.currency):
            raise InvalidPrice(f"{price.currency} is not a currency (ISO 4217)", option_id=str(price.option_id))


def item_keeps_one_currency(after: Iterable[ListPrice]) -> None:
    """Refuse when the options of one item would be sold in different currencies. `after`: all options of the items."""
    currencies: dict[UUID, str] = {}
    for price in after:
        if currencies.setdefault(price.item_id, price.currency) != price.currency:
            raise CurrencyMismatch(
                "All options of an item are sold in one currency; import them together to change it",
                item_id=str(price.item_id),
            )


def sales_keep_their_currency(before: ListPrice | None, after: ListPrice, unfinished_sales: int) -> None:
    """Refuse a new currency under sales that are not over: their amounts would change their meaning."""
    if before is not None and before.currency != after.currency and unfinished_sales:
        raise PriceInUse(f"{unfinished_sales} sales in {before.currency} are not over", option_id=str(before.option_id))


def one_more_sale_fits(price: ListPrice, unfinished_sales: int) -> None:
    """Refuse the sale that would make quotes of this option slow."""
    if unfinished_sales >= MAX_SALES:
        raise TooManySales(f"At most {MAX_SALES} sales of an option may lie ahead", option_id=str(price.option_id))


def sale_is_sound(price: ListPrice, price_minor: int, starts_at: datetime, ends_at: datetime) -> None:
    """Refuse a sale that never holds, or that is none."""
    window_is_sound(starts_at, ends_at)
    if price_minor > price.list_minor:
        raise SaleAboveList(option_id=str(price.option_id), list_minor=price.list_minor)


def window_is_sound(starts_at: datetime, ends_at: datetime) -> None:
    """Refuse a window that is never open, or in years that a typing slip makes."""
    if starts_at >= ends_at:
        raise InvalidPrice("The window must end after it starts")
    if not (starts_at.year >= 2000 and ends_at.year <= 2200):
        raise InvalidPrice("The window must lie between the years 2000 and 2200")


def deal_is_sound(deal: DealPrices) -> None:
    """Refuse a deal without prices, with an option twice, an amount out of range, or a window that never opens."""
    option_ids = [option_id for option_id, _ in deal.prices]
    if not option_ids or len(set(option_ids)) != len(option_ids):
        raise InvalidPrice("A deal prices at least one option, and each once")
    if len(option_ids) > MAX_DEAL_PRICES:
        raise InvalidPrice(f"A deal prices at most {MAX_DEAL_PRICES} options")
    window_is_sound(deal.starts_at, deal.ends_at)
    if not all(1 <= minor <= money.MAX_MINOR for _, minor in deal.prices):
        raise InvalidPrice(f"A price is 1 to {money.MAX_MINOR} minor units")


def deal_has_one_currency(prices: Iterable[ListPrice]) -> str:
    """The currency of all these list prices. Refuses `CurrencyMismatch`: an order has one."""
    currencies = sorted({price.currency for price in prices})
    if len(currencies) != 1:
        raise CurrencyMismatch("All options of a deal are sold in one currency", currencies=currencies)
    return currencies[0]


def deal_is_scheduled(deal: DealPrices, standing: Sequence[Sale]) -> bool:
    """Whether the deal stands already just so. Refuses `DealPricedOtherwise` when it stands in another way."""
    if not standing:
        return False
    wanted = {(option_id, minor, deal.starts_at, deal.ends_at) for option_id, minor in deal.prices}
    if wanted != {(sale.option_id, sale.price_minor, sale.starts_at, sale.ends_at) for sale in standing}:
        raise DealPricedOtherwise(deal_id=str(deal.deal_id))
    return True
