"""The order process as literal tables, and the pure decisions around it. No await, no SQL, no clock."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from doorbuster.domains.commerce.order import errors
from doorbuster.domains.commerce.order.models import OrderLine, OrderRow, PaymentSummary, State, WishedLine
from doorbuster.domains.item.price import Quote
from doorbuster.platform.errors import InvalidRequest
from doorbuster.platform.money import MAX_MINOR

# (state, event) → state. What is absent is refused. "" is an order that is not there yet.
NEXT: dict[tuple[str, str], State] = {
    ("", "placed"): "awaiting_payment",
    ("", "placed_paying"): "paying",
    ("awaiting_payment", "pay"): "paying",
    ("paying", "captured"): "captured",
    ("paying", "declined"): "awaiting_payment",
    ("paying", "failed"): "awaiting_payment",
    ("paying", "unknown"): "payment_unknown",
    ("paying", "waiting"): "payment_waiting",
    # For the buyer, in the provider's window or before the transfer.
    ("payment_waiting", "captured"): "captured",
    ("payment_waiting", "declined"): "awaiting_payment",
    ("payment_waiting", "failed"): "awaiting_payment",
    ("payment_waiting", "unknown"): "payment_unknown",
    ("payment_waiting", "cancel"): "cancel_pending",
    ("payment_unknown", "waiting"): "payment_waiting",
    # The bank took the transfer back, and it is awaited again.
    ("captured", "waiting"): "payment_waiting",
    ("paid", "waiting"): "payment_waiting",
    ("payment_unknown", "captured"): "captured",
    ("payment_unknown", "declined"): "awaiting_payment",
    ("payment_unknown", "failed"): "awaiting_payment",
    ("captured", "claimed"): "paid",
    ("captured", "no_stock"): "refunding",
    ("refunding", "refunded"): "refunded_no_stock",
    ("awaiting_payment", "cancel"): "cancelling",
    ("paying", "cancel"): "cancel_pending",
    ("payment_unknown", "cancel"): "cancel_pending",
    ("captured", "cancel"): "cancelling",
    ("paid", "cancel"): "cancelling",
    ("cancel_pending", "captured"): "cancelling",
    ("cancel_pending", "declined"): "cancelling",
    ("cancel_pending", "failed"): "cancelling",
    ("cancelling", "cancelled"): "cancelled",
    ("awaiting_payment", "expire"): "expiring",
    ("expiring", "expired"): "expired",
}

AT_REST = frozenset({"paid", "cancelled", "expired", "refunded_no_stock"})
"""Nothing follows by itself."""

ANSWERS = frozenset(
    {
        "paid",
        "awaiting_payment",
        "payment_waiting",
        "payment_unknown",
        "cancel_pending",
        "refunded_no_stock",
        "cancelled",
        "expired",
    }
)
"""States in which a placing request that pays at once is answered."""

# Seconds that the sweeper leaves a state to the request working on it; `paying` adds the payment's time-out.
PATIENCE_S = {
    "paying": 4.0,
    "payment_waiting": 5.0,
    "payment_unknown": 1.0,
    "cancel_pending": 1.0,
    "captured": 5.0,
    "cancelling": 5.0,
    "expiring": 5.0,
    "refunding": 5.0,
}

# What a payment's state means for its order.
EVENT_OF_PAYMENT = {
    "succeeded": "captured",
    "refunding": "captured",
    "refunded": "captured",
    "declined": "declined",
    "failed": "failed",
    "unknown": "unknown",
    "processing": "unknown",
    "waiting": "waiting",
}

HOLDS_UNITS = frozenset(
    {"awaiting_payment", "paying", "payment_waiting", "payment_unknown", "captured", "paid", "cancel_pending"}
)
"""States that will claim or give back the order's units; in all others they have been given back already."""

PUBLISHED = {
    "paid": "OrderPaid",
    "cancelled": "OrderCancelled",
    "expired": "OrderExpired",
    "refunded_no_stock": "OrderRefunded",
}
"""States whose entry is a fact, beside OrderPlaced."""


def price_lines(wished: Sequence[WishedLine], quote: Quote) -> tuple[OrderLine, ...]:
    """Lines at today's prices. Refuses with PriceChanged (and the new quote) when the buyer saw another price."""
    today = {line.option_id: line for line in quote.lines}
    changed = [
        line for line in wished
        if line.unit_price_minor is not None and line.unit_price_minor != today[line.option_id].unit_price_minor
    ]  # fmt: skip
    if changed:
        raise errors.PriceChanged(
            "Show the new prices and, if they are accepted, order again with them and a new Idempotency-Key",
            quote={
                "currency": quote.currency,
                "lines": [
                    {"option_id": line.option_id, "unit_price_minor": today[line.option_id].unit_price_minor}
                    for line in wished
                ],
            },
        )
    return tuple(
        OrderLine(
            option_id=line.option_id,
            item_id=today[line.option_id].item_id,
            quantity=line.quantity,
            unit_price_minor=today[line.option_id].unit_price_minor,
        )
        for line in wished
    )


def total(lines: Sequence[OrderLine]) -> int:
    """What the lines cost together, in minor units. Refuses an amount beyond what the shop can count."""
    amount = sum(line.unit_price_minor * line.quantity for line in lines)
    if amount > MAX_MINOR:
        raise InvalidRequest("The total is larger than this shop can take")
    return amount


def payment_summary(row: OrderRow) -> PaymentSummary | None:
    """What an order shows of its payment at this version."""
    if row.payment_id is None:
        return None
    match row.state:
        case "paying":
            state = "processing"
        case "payment_unknown" | "cancel_pending":
            state = "unknown"
        case "payment_waiting":
            state = "waiting"
        case "awaiting_payment" | "expiring" | "expired":
            state = "declined" if row.event == "declined" else "failed"
        case "captured" | "paid":
            state = "succeeded"
        case "refunding":
            state = "refunding"
        case "refunded_no_stock":
            state = "refunded"
        case _:
            state = row.state
    return PaymentSummary(row.payment_id, state, row.code if row.event in ("declined", "failed", "unknown") else "")


def decide(row: OrderRow, event: str, payment_id: UUID | None, now: datetime) -> State | None:
    """The state that follows, or None when the table has no such step from here.

    Beyond the table: an order is paid for only before `pay_by` and expires only from then on, and a payment's outcome
    moves the order only while it is the order's latest payment.
    """
    if event == "pay" and now >= row.pay_by:
        return None
    if event == "expire" and now < row.pay_by:
        return None
    if event in ("captured", "declined", "failed", "unknown", "waiting") and payment_id != row.payment_id:
        return None
    return NEXT.get((row.state, event))
