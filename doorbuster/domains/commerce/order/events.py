"""Facts of order, all under the order's key, so that everybody reads placed, paid, cancelled in that order."""

from __future__ import annotations

from uuid import UUID

import msgspec

from doorbuster.domains.commerce.order.models import OrderLine
from doorbuster.engines.event_log import Fact

TOPIC = "commerce.order"


class OrderFact(msgspec.Struct, frozen=True):
    """Version 1 of OrderPlaced, OrderPaid, OrderCancelled, OrderExpired and OrderRefunded: the whole order."""

    order_id: UUID
    customer_id: UUID
    state: str
    currency: str
    total_minor: int
    lines: tuple[OrderLine, ...]
    deal_id: UUID | None


_ENCODER = msgspec.json.Encoder()


def order_fact(kind: str, content: OrderFact, version: int) -> Fact:
    """The fact for the log."""
    return Fact(TOPIC, str(content.order_id), kind, 1, version, _ENCODER.encode(content))
