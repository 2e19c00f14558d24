"""Payment owns money in and back: payments, the attempts made for them, refunds.

It promises: an attempt is durable before the provider is called, a time-out is unknown and never "failed", one live
payment per order, a refund happens exactly once, and whatever is open is asked about until it is settled.
"""

from doorbuster.domains.commerce.payment.errors import NotCaptured, PaymentInProgress
from doorbuster.domains.commerce.payment.events import PaymentSettled
from doorbuster.domains.commerce.payment.models import NOT_THE_CARD, Charge, Payment, PaymentState
from doorbuster.domains.commerce.payment.rules import ABANDONED
from doorbuster.domains.commerce.payment.service import abandon, charge, find, give_back, resolve

__all__ = [
    "ABANDONED", "NOT_THE_CARD", "Charge", "NotCaptured", "Payment", "PaymentInProgress", "PaymentSettled",
    "PaymentState", "abandon", "charge", "find", "give_back", "resolve",
]  # fmt: skip
