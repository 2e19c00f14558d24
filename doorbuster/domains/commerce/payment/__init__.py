"""Payment owns money in and back: payments, the attempts made for them, refunds.

It promises: an attempt is durable before the provider is called, a time-out is unknown and never "failed", one live
payment per order, a refund happens exactly once and never exceeds what was taken, and whatever is open is asked about
until it is settled, or a person is told.
"""

from doorbuster.domains.commerce.payment.errors import NotCaptured, NotInWindow, PaymentInProgress
from doorbuster.domains.commerce.payment.events import FACTS, MoneyMoved, PaymentReopened, PaymentSettled
from doorbuster.domains.commerce.payment.models import (
    NOT_THE_CARD,
    BankAccount,
    Charge,
    Payment,
    PaymentState,
    Refund,
    RefundWish,
    Returned,
    Session,
    SessionWish,
)
from doorbuster.domains.commerce.payment.rules import ABANDONED
from doorbuster.domains.commerce.payment.service import (
    abandon,
    charge,
    confirm,
    decisions,
    find,
    find_session,
    forget_instrument,
    forget_webhooks,
    get_payment,
    give_back,
    keep_instrument,
    leave,
    list_instruments,
    list_matters,
    list_payments,
    name_refund_account,
    open_session,
    refund,
    resolve,
    settle_matter,
)

__all__ = [
    "ABANDONED", "FACTS", "NOT_THE_CARD", "BankAccount", "Charge", "MoneyMoved", "NotCaptured", "NotInWindow",
    "Payment", "PaymentInProgress", "PaymentReopened", "PaymentSettled", "PaymentState", "Refund", "RefundWish",
    "Returned", "Session", "SessionWish", "abandon", "charge", "confirm", "decisions", "find", "find_session",
    "forget_instrument", "forget_webhooks", "get_payment", "give_back", "keep_instrument", "leave",
    "list_instruments", "list_matters", "list_payments", "name_refund_account", "open_session", "refund", "resolve",
    "settle_matter",
]  # fmt: skip
