"""Facts of the catalogue."""

from __future__ import annotations

from uuid import UUID

import msgspec

from doorbuster.domains.item.catalog.models import Item, Status
from doorbuster.engines.event_log import Fact, FactType

TOPIC = "item.catalog"


class ItemChanged(msgspec.Struct, frozen=True):
    """An item was made or replaced. Whoever needs the rest asks for the item by id."""

    item_id: UUID
    version: int
    handle: str
    title: str
    brand: str
    category: str
    status: Status
    option_ids: tuple[UUID, ...]
    """Active options only."""


ITEM_CHANGED = FactType(TOPIC, "ItemChanged", 1, ItemChanged)
FACTS = (ITEM_CHANGED,)


def fact(item: Item) -> Fact:
    """The item as it now stands, as a fact under its own key."""
    changed = ItemChanged(
        item_id=item.id,
        version=item.version,
        handle=item.handle,
        title=item.title,
        brand=item.brand,
        category=item.category,
        status=item.status,
        option_ids=tuple(option.id for option in item.options if option.active),
    )
    return ITEM_CHANGED.of(item.id, item.version, changed)
