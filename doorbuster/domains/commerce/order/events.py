"""Facts of order, all under the order's key, so that everybody reads placed, paid, cancelled in that order."""

from __future__ import annotations

from uuid import UUID

import msgspec

from doorbuster.domains.commerce.order.models import OrderLine
from doorbuster.engines.event_log import Fact, FactType

TOPIC = "commerce.order"


class OrderFact(msgspec.Struct, frozen=True):
    """What OrderPlaced, OrderPaid, OrderCancelled, OrderExpired and OrderRefunded tell: the whole order."""

    order_id: UUID
    customer_id: UUID
    state: str
    currency: str
    total_minor: int
    lines: tuple[OrderLine, ...]
    deal_id: UUID | None


ORDER_PLACED = FactType(TOPIC, "OrderPlaced", 1, OrderFact)
ORDER_PAID = FactType(TOPIC, "OrderPaid", 1, OrderFact)
ORDER_CANCELLED = FactType(TOPIC, "OrderCancelled", 1, OrderFact)
ORDER_EXPIRED = FactType(TOPIC, "OrderExpired", 1, OrderFact)
ORDER_REFUNDED = FactType(TOPIC, "OrderRefunded", 1, OrderFact)
FACTS = (ORDER_PLACED, ORDER_PAID, ORDER_CANCELLED, ORDER_EXPIRED, ORDER_REFUNDED)
_BY_NAME = {kind.name: kind for kind in FACTS}


def order_fact(kind: str, content: OrderFact, version: int, traceparent: str) -> Fact:
    """The fact for the log, made true by the request of this trace."""
    return _BY_NAME[kind].of(content.order_id, version, content, traceparent)
