"""Facts of payment, keyed by order: what became of a payment, and each movement of money at a provider."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

import msgspec

from doorbuster.engines.event_log import Fact, FactType

TOPIC = "commerce.payment"


class PaymentSettled(msgspec.Struct, frozen=True):
    """What became of a payment is known: succeeded, declined, failed, or refunded."""

    payment_id: UUID
    order_id: UUID
    state: Literal["processing", "unknown", "succeeded", "declined", "failed", "refunding", "refunded"]
    amount_minor: int
    currency: str
    code: str


class PaymentReopened(msgspec.Struct, frozen=True):
    """The bank took back a transfer that had paid: the payment waits for the buyer again."""

    payment_id: UUID
    order_id: UUID


class MoneyMoved(msgspec.Struct, frozen=True):
    """A provider took a buyer's money, or gave it back: as certain as its answer, once for each movement."""

    movement_id: UUID
    """The same for the same movement, however often it is told."""
    payment_id: UUID
    order_id: UUID
    provider: str
    """Our account at a provider."""
    provider_id: str
    """The provider's id of the payment that the money came with."""
    transaction_id: str
    """The provider's id of this movement, where it has one of its own; else empty."""
    reference: str
    """What we called it there: `PAYMENT.ATTEMPT` of what came in, the refund's id of what went back."""
    amount_minor: int
    """Positive: it came in. Negative: it went back."""
    currency: str
    reason: str
    """`paid`, `late_success` (it came after we had given up, and goes back), or why it went back."""


PAYMENT_SETTLED = FactType(TOPIC, "PaymentSettled", 1, PaymentSettled)
MONEY_MOVED = FactType(TOPIC, "MoneyMoved", 1, MoneyMoved)
PAYMENT_REOPENED = FactType(TOPIC, "PaymentReopened", 1, PaymentReopened)
FACTS = (PAYMENT_SETTLED, PAYMENT_REOPENED, MONEY_MOVED)


def payment_settled(settled: PaymentSettled, version: int, traceparent: str) -> Fact:
    """The fact for the log, keyed by order so that an order's payments are read in order."""
    return PAYMENT_SETTLED.of(settled.order_id, version, settled, traceparent)


def payment_reopened(reopened: PaymentReopened, version: int, traceparent: str) -> Fact:
    """The fact for the log, in the order of what became of the payment."""
    return PAYMENT_REOPENED.of(reopened.order_id, version, reopened, traceparent)


def money_moved(moved: MoneyMoved, version: int, traceparent: str) -> Fact:
    """The fact for the log, behind what became of its payment."""
    return MONEY_MOVED.of(moved.order_id, version, moved, traceparent)
