"""Public values of price. Amounts are integer minor units of the currency beside them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from doorbuster.platform.money import MAX_MINOR

MAX_QUOTE_LINES = 100
MAX_DEAL_PRICES = 1_000
MAX_SALES = 100
"""Sales of one option that are not over: they are all read when it is quoted."""
MAX_IMPORT_PRICES = 20_000

Minor = Annotated[int, Meta(ge=1, le=MAX_MINOR)]
Currency = Annotated[str, Meta(pattern="^[A-Z]{3}$")]
Moment = Annotated[datetime, Meta(tz=True)]


class Ask(Struct, frozen=True):
    """What somebody wants priced: 1 to 100 options, under a deal or not, in a currency or in the options' own."""

    option_ids: tuple[UUID, ...]
    deal_id: UUID | None = None
    currency: str | None = None


class QuotedLine(Struct, frozen=True):
    """What one unit of an option costs now."""

    option_id: UUID
    item_id: UUID
    unit_price_minor: int


class Quote(Struct, frozen=True):
    """Today's prices, one line per asked option in the order asked, all in one currency."""

    currency: str
    lines: tuple[QuotedLine, ...]


class Sale(Struct, frozen=True):
    """A price for a time: from `starts_at` until just before `ends_at`; with `deal_id` only under that deal."""

    id: UUID
    option_id: UUID
    deal_id: UUID | None
    price_minor: int
    starts_at: datetime
    ends_at: datetime


class ListPrice(Struct, frozen=True):
    """What an option costs without a sale; `compare_at_minor` is the former price that is shown struck through."""

    option_id: UUID
    item_id: UUID
    currency: str
    list_minor: int
    compare_at_minor: int | None
    version: int


class SaleWindow(Struct, frozen=True):
    """The sale that makes today's price."""

    id: UUID
    price_minor: int
    starts_at: datetime
    ends_at: datetime


class OptionPrice(Struct, frozen=True):
    """An option's price today; `version` is what the ETag of its list price says."""

    option_id: UUID
    list_minor: int
    compare_at_minor: int | None
    price_minor: int
    sale: SaleWindow | None
    version: int


class ItemPrices(Struct, frozen=True):
    """The prices of an item's options as of one moment of the database's clock."""

    item_id: UUID
    currency: str
    as_of: datetime
    options: tuple[OptionPrice, ...]


class ListPriceDraft(Struct, frozen=True, forbid_unknown_fields=True):
    """A list price as a merchant sets it."""

    currency: Currency
    list_minor: Minor
    compare_at_minor: Minor | None = None


class SaleDraft(Struct, frozen=True, forbid_unknown_fields=True):
    """A sale as a merchant schedules it; times carry a UTC offset and the end is exclusive."""

    price_minor: Minor
    starts_at: Moment
    ends_at: Moment


class ImportPrice(Struct, frozen=True, forbid_unknown_fields=True):
    """A list price of an option, by the ids that the catalogue's import answered."""

    option_id: UUID
    item_id: UUID
    currency: Currency
    list_minor: Minor
    compare_at_minor: Minor | None = None


class PriceImport(Struct, frozen=True, forbid_unknown_fields=True):
    """List prices to set, all or none."""

    prices: Annotated[tuple[ImportPrice, ...], Meta(min_length=1, max_length=MAX_IMPORT_PRICES)]


class ImportedPrices(Struct, frozen=True):
    """How many list prices an import made, changed and left as they were."""

    created: int
    updated: int
    unchanged: int


class DealPrices(Struct, frozen=True):
    """All prices of a deal, as (option, price in minor units), for its window (end exclusive)."""

    deal_id: UUID
    prices: tuple[tuple[UUID, int], ...]
    starts_at: datetime
    ends_at: datetime
