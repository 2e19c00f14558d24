"""Pure decisions of payment as literal tables. No await, no SQL, no clock."""

from __future__ import annotations

from datetime import timedelta

from doorbuster.domains.commerce.payment.models import PaymentState
from doorbuster.engines.payment_router import Outcome

ABANDONED = "abandoned"
"""Stands for the request of a payment that never began: it fits whichever request comes late."""

LIVE_ATTEMPT = frozenset({"sending", "unknown", "pending"})

# (attempt's state, what is known now) → attempt's next state. What is absent changes nothing: a settled attempt stays,
# except that money which turns up after we had given up is a late success and must go back.
ATTEMPT_NEXT = {
    **{(state, Outcome.NOT_SENT): "not_sent" for state in ("sending",)},
    **{(state, outcome): outcome.value for state in LIVE_ATTEMPT for outcome in (
        Outcome.NOT_EXECUTED, Outcome.DECLINED, Outcome.PENDING, Outcome.SUCCEEDED, Outcome.UNKNOWN)},
    ("not_executed", Outcome.SUCCEEDED): "late_success",
    ("declined", Outcome.SUCCEEDED): "late_success",
    ("not_sent", Outcome.SUCCEEDED): "late_success",
}  # fmt: skip

# What the payment becomes when its attempt comes to a state.
PAYMENT_AFTER: dict[str, PaymentState] = {
    "succeeded": "succeeded",
    "declined": "declined",
    "not_executed": "failed",
    "not_sent": "failed",
    "unknown": "unknown",
    "pending": "unknown",
}

_FIRST_INQUIRY_S = 1.0
_LONGEST_PAUSE_S = 60.0


def inquiry_pause(inquiries: int) -> timedelta:
    """How long until the next inquiry: 1, 2, 4 … 60 seconds."""
    return timedelta(seconds=min(_LONGEST_PAUSE_S, _FIRST_INQUIRY_S * 2 ** min(inquiries, 10)))
