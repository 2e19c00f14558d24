"""Ledger owns the books of all money that providers took or gave back, and what providers say of it.

It promises: each movement is booked once, in transactions that sum to nothing and never change; what a provider's
settlement says differently becomes a case, with both sides and what to do, until it is explained or a person closes it.
"""

from doorbuster.domains.commerce.ledger.errors import (
    CaseClosed,
    NoSettlements,
    TooMuchUnexplained,
    UnknownProvider,
    UnreadableSettlements,
)
from doorbuster.domains.commerce.ledger.models import Balance, Case, Close, Entry, Figure, Reading, Report
from doorbuster.domains.commerce.ledger.reconciliation import NotAllRead, run_daily
from doorbuster.domains.commerce.ledger.service import (
    balances,
    cases,
    close_case,
    reconcile,
    report,
    reports,
    take_file,
)

__all__ = [
    "Balance", "Case", "CaseClosed", "Close", "Entry", "Figure", "NoSettlements", "NotAllRead", "Reading", "Report",
    "TooMuchUnexplained", "UnknownProvider", "UnreadableSettlements", "balances", "cases", "close_case", "reconcile",
    "report", "reports", "run_daily", "take_file",
]  # fmt: skip
