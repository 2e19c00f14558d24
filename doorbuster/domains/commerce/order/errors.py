"""What order refuses, with stable codes."""

from __future__ import annotations

from doorbuster.platform.errors import Refusal


class PriceChanged(Refusal):
    code, status, title = "price_changed", 409, "A price differs from today's"


class NotPayable(Refusal):
    code, status, title = "order_not_payable", 409, "This order can not be paid now"


class NotCancellable(Refusal):
    code, status, title = "order_not_cancellable", 409, "This order can not be cancelled any more"


class PaymentDeclined(Refusal):
    code, status, title = "payment_declined", 402, "The payment was declined"


class PaymentUnavailable(Refusal):
    code, status, title = "payment_unavailable", 503, "The payment provider can not be reached; nothing was taken"


class PlacedTooLate(Refusal):
    code, status, title = "placed_too_late", 409, "The hold was given up before the order was written"
