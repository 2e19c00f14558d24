"""Facts of the catalogue."""

from __future__ import annotations

from uuid import UUID

import msgspec

from doorbuster.domains.item.catalog.models import Item, Status
from doorbuster.engines import event_log

TOPIC = "item.catalog"


class ItemChanged(msgspec.Struct, frozen=True):
    """An item was made or replaced. Whoever needs the rest asks for the item by id. Version 1."""

    item_id: UUID
    version: int
    handle: str
    title: str
    brand: str
    category: str
    status: Status
    option_ids: tuple[UUID, ...]
    """Active options only."""


def fact(item: Item) -> event_log.Fact:
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
    return event_log.Fact(
        topic=TOPIC,
        key=str(item.id),
        type="ItemChanged",
        version=1,
        aggregate_version=item.version,
        payload=msgspec.json.encode(changed),
    )
