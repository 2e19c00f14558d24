"""Pure decisions of payment as literal tables. No await, no SQL, no clock."""

from __future__ import annotations

from datetime import timedelta

from doorbuster.domains.commerce.payment.models import PaymentState
from doorbuster.engines.payment_router import WAITING_FOR_DEPOSIT, Outcome

ABANDONED = "abandoned"
"""Stands for the request of a payment that never began: it fits whichever request comes late."""

IN_WINDOW = frozenset({"opening", "window", "closing"})
"""States of an attempt whose window was not confirmed: nothing can have been taken."""
NOT_ITS_FAULT = ("window_closed", "never_opened", "expired", "voided")
"""Codes of attempts that took nothing because the buyer did not pay: their account may well be asked again."""
LIVE_ATTEMPT = frozenset({"sending", "unknown", "pending"})
TOOK_NOTHING = frozenset({"not_sent", "not_executed", "declined"})
"""States of an attempt after which another one may follow. Nobody is ever asked while one is open."""

# (attempt's state, what is known now) → attempt's next state. What is absent changes nothing: a settled attempt stays,
# except that money which turns up after we had given up is a late success and must go back.
ATTEMPT_NEXT = {
    **{(state, Outcome.NOT_SENT): "not_sent" for state in ("sending",)},
    **{(state, outcome): outcome.value for state in LIVE_ATTEMPT for outcome in (
        Outcome.NOT_EXECUTED, Outcome.DECLINED, Outcome.PENDING, Outcome.SUCCEEDED, Outcome.UNKNOWN)},
    # What was not confirmed is ended by what is certain; "not yet" and silence change nothing.
    **{(state, outcome): outcome.value for state in IN_WINDOW for outcome in (
        Outcome.NOT_SENT, Outcome.NOT_EXECUTED, Outcome.DECLINED, Outcome.SUCCEEDED)},
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


def payment_after(state: str, code: str) -> PaymentState:
    """What the payment becomes when its attempt comes to a state: that a transfer is awaited is no doubt."""
    return "waiting" if state == "pending" and code == WAITING_FOR_DEPOSIT else PAYMENT_AFTER[state]


_FIRST_INQUIRY_S = 1.0
_LONGEST_PAUSE_S = 60.0


def inquiry_pause(inquiries: int) -> timedelta:
    """How long until the next inquiry: 1, 2, 4 … 60 seconds."""
    return timedelta(seconds=min(_LONGEST_PAUSE_S, _FIRST_INQUIRY_S * 2 ** min(inquiries, 10)))
