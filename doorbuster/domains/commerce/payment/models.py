"""What payment takes and gives. Amounts are minor units of an ISO 4217 currency."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

import msgspec

PaymentState = Literal["processing", "unknown", "succeeded", "declined", "failed", "refunding", "refunded"]


NOT_THE_CARD = frozenset({"unreachable", "never_started", "superseded", "not_found"})
"""Codes of failed payments in which the buyer's card had no part: the provider could not be asked, or never was."""


class Charge(msgspec.Struct, frozen=True):
    """Take this much for this order, once per `payment_id`. The instrument is never stored."""

    payment_id: UUID
    order_id: UUID
    customer_id: UUID
    amount_minor: int
    currency: str
    instrument: str
    request_hash: str


class Payment(msgspec.Struct, frozen=True):
    """A payment as it stands. `code` says why it was declined or failed."""

    payment_id: UUID
    order_id: UUID
    amount_minor: int
    currency: str
    state: PaymentState
    code: str
    request_hash: str
    version: int

    @property
    def is_settled(self) -> bool:
        """Whether the provider's answer is known."""
        return self.state not in ("processing", "unknown")
