"""Price owns what things cost: list prices, sales for everybody and the prices of deals, in integer minor units.

A quote is today's exact price by the database's clock, never a cached one. A window's end is exclusive. All options of
an item are sold in one currency. Every change raises the list price's version by one and publishes `PriceChanged`.
"""

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
    UnknownPrice,
)
from doorbuster.domains.item.price.events import FACTS, PriceChanged
from doorbuster.domains.item.price.models import (
    Ask,
    DealPrices,
    ImportedPrices,
    ImportPrice,
    ItemPrices,
    ListPrice,
    ListPriceDraft,
    OptionPrice,
    Quote,
    QuotedLine,
    Sale,
    SaleDraft,
    SaleWindow,
)
from doorbuster.domains.item.price.service import (
    clear_deal,
    import_prices,
    item_prices,
    list_price,
    quote,
    schedule_deal,
    schedule_sale,
    set_list_price,
)

__all__ = [
    "FACTS",
    "Ask",
    "CurrencyMismatch",
    "DealClosed",
    "DealNotOpen",
    "DealPricedOtherwise",
    "DealPrices",
    "ImportPrice",
    "ImportedPrices",
    "InvalidPrice",
    "ItemPrices",
    "ListPrice",
    "ListPriceDraft",
    "NotInDeal",
    "OptionPrice",
    "PriceChanged",
    "PriceInUse",
    "Quote",
    "QuotedLine",
    "Sale",
    "SaleAboveList",
    "SaleDraft",
    "SaleWindow",
    "TooManySales",
    "UnknownOption",
    "UnknownPrice",
    "clear_deal",
    "import_prices",
    "item_prices",
    "list_price",
    "quote",
    "schedule_deal",
    "schedule_sale",
    "set_list_price",
]
