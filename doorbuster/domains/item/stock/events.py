"""Facts of stock: full state, one per item or deal and batch, in the order in which it changed."""

from __future__ import annotations

from uuid import UUID

import msgspec

from doorbuster.domains.item.stock.models import AllotmentLevel, Level
from doorbuster.engines.event_log import Fact, FactType

TOPIC = "item.stock"


class StockChanged(msgspec.Struct, frozen=True):
    """The options of one item that changed, as they stand now."""

    item_id: UUID
    options: tuple[Level, ...]


class AllotmentChanged(msgspec.Struct, frozen=True):
    """All options of one deal as they stand now."""

    deal_id: UUID
    closed: bool
    options: tuple[AllotmentLevel, ...]


STOCK_CHANGED = FactType(TOPIC, "StockChanged", 1, StockChanged)
ALLOTMENT_CHANGED = FactType(TOPIC, "AllotmentChanged", 1, AllotmentChanged)
FACTS = (STOCK_CHANGED, ALLOTMENT_CHANGED)


def stock_changed(item_id: UUID, version: int, options: tuple[Level, ...], traceparent: str) -> Fact:
    """The fact for the log, keyed by item."""
    return STOCK_CHANGED.of(item_id, version, StockChanged(item_id=item_id, options=options), traceparent)


def allotment_changed(
    deal_id: UUID, version: int, closed: bool, options: tuple[AllotmentLevel, ...], traceparent: str
) -> Fact:
    """The fact for the log, keyed by deal."""
    changed = AllotmentChanged(deal_id=deal_id, closed=closed, options=options)
    return ALLOTMENT_CHANGED.of(deal_id, version, changed, traceparent)
