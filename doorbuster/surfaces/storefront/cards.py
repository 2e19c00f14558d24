"""Turns deals and items into what the front page shows. Pure: the same values and moment give the same cards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import msgspec

from doorbuster.demo import MEDIA_PATH
from doorbuster.domains.activation.deal import Deal, DealOption
from doorbuster.domains.item.catalog import Item, ItemCard, Media
from doorbuster.platform import money

BAR_UNITS = 1_000
"""The width of a stock bar in its own drawing units."""
MAX_CHOICES = 10
_BADGES = {"open": "Open now", "scheduled": "Scheduled", "sold_out": "Sold out"}
_ORDER = {"open": 0, "scheduled": 1, "sold_out": 2}


class Picture(msgspec.Struct, frozen=True):
    """An image that this shop serves itself."""

    url: str
    alt: str


class Price(msgspec.Struct, frozen=True):
    """An amount for people, with its currency apart so that it can be set smaller."""

    amount: str
    currency: str


class Choice(msgspec.Struct, frozen=True):
    """One option of a deal: `230`, `Navy / M`."""

    label: str
    gone: bool


class DealCard(msgspec.Struct, frozen=True):
    """A deal as a card. `sold_width` and `held_width` are in BAR_UNITS; `moment` is when it opens or closes."""

    deal_id: UUID
    title: str
    item_title: str
    brand: str
    picture: Picture | None
    state: str
    badge: str
    price: Price
    list_price: Price
    varies: bool
    percent_off: int
    limit: int | None
    quantity: int
    sold: int
    held: int
    remaining: int
    sold_width: int
    held_width: int
    choices: tuple[Choice, ...]
    more_choices: int
    moment: datetime
    moment_text: str
    wait_text: str


class Tile(msgspec.Struct, frozen=True):
    """An item in the catalogue's strip."""

    item_id: UUID
    title: str
    brand: str
    category: str
    picture: Picture | None


def deal_cards(deals: Iterable[Deal], items: Mapping[UUID, Item]) -> tuple[DealCard, ...]:
    """Cards of the deals that are not over: open ones first, then those to come, then the sold out."""
    shown = [deal for deal in deals if deal.state in _BADGES and deal.options]
    shown.sort(key=lambda deal: (_ORDER[deal.state], _moment(deal), deal.id))
    return tuple(_card(deal, items.get(deal.item_id)) for deal in shown)


def tiles(cards: Iterable[ItemCard]) -> tuple[Tile, ...]:
    """The strip's items, in the order given."""
    return tuple(Tile(card.id, card.title, card.brand, card.category, picture(card.media)) for card in cards)


def picture(media: Media | None) -> Picture | None:
    """The image when this shop serves it. One from elsewhere is left out: the page asks no other host."""
    if media is None or not media.url.startswith(MEDIA_PATH):
        return None
    return Picture(media.url, media.alt)


def price_of(amount_minor: int, currency: str) -> Price:
    """`Price("1,290.00", "USD")`; the number of decimals is the currency's."""
    digits = money.exponent(currency)
    return Price(f"{Decimal(amount_minor).scaleb(-digits):,.{digits}f}", currency)


def wait_text(seconds: float) -> str:
    """How long, for a page without script: the two largest units, cut down."""
    minutes = max(0, int(seconds)) // 60
    if minutes < 1:
        return "less than a minute"
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


def _card(deal: Deal, item: Item | None) -> DealCard:
    best = min(deal.options, key=lambda option: (option.price_minor, -option.list_minor))
    quantity = sum(option.quantity for option in deal.options)
    sold = sum(option.sold for option in deal.options)
    remaining = sum(option.remaining for option in deal.options)
    # Units in unpaid orders are neither left nor sold; a hold that ends gives them back.
    held = max(0, quantity - sold - remaining)
    moment = _moment(deal)
    choices = _choices(deal.options, item)
    return DealCard(
        deal_id=deal.id,
        title=deal.title,
        item_title=item.title if item else "",
        brand=item.brand if item else "",
        picture=picture(item.media[0]) if item and item.media else None,
        state=deal.state,
        badge=_BADGES[deal.state],
        price=price_of(best.price_minor, deal.currency),
        list_price=price_of(best.list_minor, deal.currency),
        varies=len({option.price_minor for option in deal.options}) > 1,
        # Cut down, never up: the page must not promise more than the till gives.
        percent_off=100 * (best.list_minor - best.price_minor) // best.list_minor if best.list_minor > 0 else 0,
        limit=deal.per_customer_limit,
        quantity=quantity,
        sold=sold,
        held=held,
        remaining=remaining,
        sold_width=_width(sold, quantity),
        held_width=_width(held, quantity),
        choices=choices[:MAX_CHOICES],
        more_choices=max(0, len(choices) - MAX_CHOICES),
        moment=moment,
        moment_text=f"{moment:%a} {moment.day} {moment:%b %H:%M} {moment.tzname() or ''}".strip(),
        wait_text=wait_text((moment - deal.as_of).total_seconds()),
    )


def _moment(deal: Deal) -> datetime:
    return deal.opens_at if deal.state == "scheduled" else deal.closes_at


def _width(units: int, quantity: int) -> int:
    return BAR_UNITS * units // quantity if quantity > 0 else 0


def _choices(options: Sequence[DealOption], item: Item | None) -> tuple[Choice, ...]:
    if item is None or len(options) < 2:
        return ()
    names = {option.id: " / ".join(option.values) for option in item.options}
    return tuple(
        Choice(names[option.option_id], gone=option.remaining == 0) for option in options if names.get(option.option_id)
    )
