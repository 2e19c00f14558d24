"""Order owns the order process: its state machine, the saga over price, stock and payment, and the timeline.

It promises: the same key gives the same order and answer; nothing a crash leaves behind stays unfinished; an order
that was answered exists. It decides nothing about stock or prices itself.
"""

from doorbuster.domains.commerce.order.errors import (
    NotCancellable,
    NotPayable,
    PaymentDeclined,
    PaymentUnavailable,
    PriceChanged,
)
from doorbuster.domains.commerce.order.events import FACTS, OrderFact
from doorbuster.domains.commerce.order.models import Cancel, Order, Pay, Place, ShipTo, Step, WishedLine
from doorbuster.domains.commerce.order.service import (
    cancel,
    get_order,
    list_orders,
    pay,
    place,
    release_orphans,
    sweep,
    timeline,
)

__all__ = [
    "FACTS", "Cancel", "NotCancellable", "NotPayable", "Order", "OrderFact", "Pay", "PaymentDeclined",
    "PaymentUnavailable",
    "Place", "PriceChanged", "ShipTo", "Step", "WishedLine", "cancel", "get_order", "list_orders", "pay", "place",
    "release_orphans", "sweep", "timeline",
]  # fmt: skip
