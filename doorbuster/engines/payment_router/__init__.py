"""The payment router: choose a provider, attempt, classify, resolve. It knows providers, not orders."""

from doorbuster.engines.payment_router.outcome import ChargeOrder, Outcome, RefundOrder, Result
from doorbuster.engines.payment_router.router import charge, choose, close, horizon_s, inquire, refund

__all__ = [
    "ChargeOrder", "Outcome", "RefundOrder", "Result", "charge", "choose", "close", "horizon_s", "inquire", "refund",
]  # fmt: skip
