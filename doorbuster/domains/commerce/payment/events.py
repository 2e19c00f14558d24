"""Facts of payment."""

from __future__ import annotations

from uuid import UUID

import msgspec

from doorbuster.domains.commerce.payment.models import PaymentState
from doorbuster.engines.event_log import Fact

TOPIC = "commerce.payment"


class PaymentSettled(msgspec.Struct, frozen=True):
    """Version 1. What became of a payment is known: succeeded, declined, failed, or refunded."""

    payment_id: UUID
    order_id: UUID
    state: PaymentState
    amount_minor: int
    currency: str
    code: str


def payment_settled(settled: PaymentSettled, version: int) -> Fact:
    """The fact for the log, keyed by order so that an order's payments are read in order."""
    return Fact(TOPIC, str(settled.order_id), "PaymentSettled", 1, version, msgspec.json.encode(settled))
