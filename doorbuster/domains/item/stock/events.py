"""Facts of stock: full state, one per item or deal and batch, in the order in which it changed."""

from __future__ import annotations

from uuid import UUID

import msgspec

from doorbuster.domains.item.stock.models import AllotmentLevel, Level
from doorbuster.engines.event_log import Fact

TOPIC = "item.stock"


class StockChanged(msgspec.Struct, frozen=True):
    """Version 1. The options of one item that changed, as they stand now."""

    item_id: UUID
    options: tuple[Level, ...]


class AllotmentChanged(msgspec.Struct, frozen=True):
    """Version 1. All options of one deal as they stand now."""

    deal_id: UUID
    closed: bool
    options: tuple[AllotmentLevel, ...]


def stock_changed(item_id: UUID, version: int, options: tuple[Level, ...]) -> Fact:
    """The fact for the log, keyed by item."""
    payload = msgspec.json.encode(StockChanged(item_id=item_id, options=options))
    return Fact(TOPIC, str(item_id), "StockChanged", 1, version, payload)


def allotment_changed(deal_id: UUID, version: int, closed: bool, options: tuple[AllotmentLevel, ...]) -> Fact:
    """The fact for the log, keyed by deal."""
    payload = msgspec.json.encode(AllotmentChanged(deal_id=deal_id, closed=closed, options=options))
    return Fact(TOPIC, str(deal_id), "AllotmentChanged", 1, version, payload)
