"""Balance transactions: what each charge, refund and reversal does to the balance, with fee, net and availability.

Fields: docs.stripe.com/api/balance_transactions. The fee is the simulator's own (the real one follows the contract):
2.9 % and 30 minor units, 3.6 % and nothing more for currencies without minor units; a refund does not give it back
(docs.stripe.com/refunds). A capture of a part has two rows: the whole, and a `partial_capture_reversal` of the rest
(docs.stripe.com/reports/reporting-categories).
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import Struct

from doorbuster.simulators.stripe.cards import kind_of
from doorbuster.simulators.stripe.currencies import ZERO_DECIMAL
from doorbuster.simulators.stripe.intent import Charge, Intent, Refund

AVAILABLE_WORKDAYS = 2

View = dict[str, Any]


class Transaction(Struct, frozen=True):
    """`amount` is signed, `fee` is what was kept; `source` is the id of the charge or refund."""

    id: str
    type: str
    reporting_category: str
    amount: int
    fee: int
    currency: str
    at_ms: int
    source: str
    intent: str
    description: str | None


def fee_of(amount: int, currency: str) -> int:
    """Minor units, rounded to the nearest, a half up."""
    if currency in ZERO_DECIMAL:
        return (amount * 36 + 500) // 1000
    return (amount * 29 + 500) // 1000 + 30


def available_on(at_ms: int) -> int:
    """Seconds: midnight UTC, two workdays on; holidays are not known here."""
    day = datetime.fromtimestamp(at_ms // 1000, UTC).replace(hour=0, minute=0, second=0)
    left = AVAILABLE_WORKDAYS
    while left:
        day += timedelta(days=1)
        left -= day.weekday() < 5
    return int(day.timestamp())


def transactions_of(intent: Intent) -> list[Transaction]:
    """Every movement of this intent's money so far."""
    rows: list[Transaction] = []
    for charge in intent.charges:
        rows += _of_charge(intent, charge)
        for refund in charge.refunds:
            rows += _of_refund(intent, charge, refund)
    return rows


def _of_charge(intent: Intent, charge: Charge) -> list[Transaction]:
    if charge.transaction is None or charge.transaction_at_ms is None:
        return []
    fee = fee_of(charge.captured, intent.currency)
    return [
        Transaction(
            charge.transaction,
            "charge" if kind_of(charge.method) == "card" else "payment",
            "charge",
            charge.amount,
            fee,
            intent.currency,
            charge.transaction_at_ms,
            charge.id,
            intent.id,
            intent.description,
        )
    ]


def _of_refund(intent: Intent, charge: Charge, refund: Refund) -> list[Transaction]:
    rows: list[Transaction] = []
    is_card = kind_of(charge.method) == "card"
    if refund.transaction is not None:
        type_ = "refund" if is_card else "payment_refund"
        category = "partial_capture_reversal" if refund.releases else "refund"
        rows.append(_refund_row(intent, refund, refund.transaction, (type_, category), -refund.amount, refund.at_ms))
    if refund.failure_transaction is not None and refund.failed_at_ms is not None:
        kinds = ("refund_failure" if is_card else "payment_failure_refund", "refund_failure")
        rows.append(_refund_row(intent, refund, refund.failure_transaction, kinds, refund.amount, refund.failed_at_ms))
    return rows


def _refund_row(
    intent: Intent, refund: Refund, id_: str, kinds: tuple[str, str], amount: int, at_ms: int
) -> Transaction:
    description = "REFUND FOR CHARGE" if intent.description is None else f"REFUND FOR CHARGE ({intent.description})"
    return Transaction(id_, *kinds, amount, 0, intent.currency, at_ms, refund.id, intent.id, description)


def flat(transaction: Transaction) -> View:
    """The row with net, as wrong rows are seeded into it."""
    return {
        "id": transaction.id,
        "amount": transaction.amount,
        "fee": transaction.fee,
        "net": transaction.amount - transaction.fee,
        "transaction": transaction,
    }


def transaction_view(row: View, now_ms: int) -> View:
    """The API object of a flat row."""
    transaction: Transaction = row["transaction"]
    available = available_on(transaction.at_ms)
    fee = row["fee"]
    fees = [
        {
            "amount": fee,
            "application": None,
            "currency": transaction.currency,
            "description": "Stripe processing fees",
            "type": "stripe_fee",
        }
    ]
    return {
        "id": row["id"],
        "object": "balance_transaction",
        "amount": row["amount"],
        "available_on": available,
        "balance_type": "payments",
        "created": transaction.at_ms // 1000,
        "currency": transaction.currency,
        "description": transaction.description,
        "exchange_rate": None,
        "fee": fee,
        "fee_details": fees if fee else [],
        "net": row["net"],
        "reporting_category": transaction.reporting_category,
        "source": transaction.source,
        "status": "available" if now_ms // 1000 >= available else "pending",
        "type": transaction.type,
    }
