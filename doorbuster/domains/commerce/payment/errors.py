"""What payment refuses, with stable codes."""

from __future__ import annotations

from doorbuster.platform.errors import Refusal


class PaymentInProgress(Refusal):
    code, status, title = "payment_in_progress", 409, "Another payment of this order is live"


class NotCaptured(Refusal):
    code, status, title = "not_captured", 409, "There is no captured money to give back"
