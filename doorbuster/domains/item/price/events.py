"""Facts of price."""

from __future__ import annotations

from uuid import UUID

import msgspec

from doorbuster.domains.item.price.models import ListPrice
from doorbuster.engines.event_log import Fact, FactType

TOPIC = "item.price"


class PriceChanged(msgspec.Struct, frozen=True):
    """An option's list price or its sales changed; whoever needs today's price asks for it."""

    option_id: UUID
    item_id: UUID
    version: int
    currency: str
    list_minor: int
    compare_at_minor: int | None


PRICE_CHANGED = FactType(TOPIC, "PriceChanged", 1, PriceChanged)
FACTS = (PRICE_CHANGED,)


def fact(price: ListPrice) -> Fact:
    """The list price as it now stands, as a fact under its option's key."""
    changed = PriceChanged(
        option_id=price.option_id,
        item_id=price.item_id,
        version=price.version,
        currency=price.currency,
        list_minor=price.list_minor,
        compare_at_minor=price.compare_at_minor,
    )
    return PRICE_CHANGED.of(price.option_id, price.version, changed)
