"""The rows of the report `balance_change_from_activity.itemized.3`: the balance as a CSV file, amounts in major units.

Columns: docs.stripe.com/reports/report-types/balance; those the simulator knows a value for, in the vendor's order of
names. The vendor makes the file in a report run and lets it be downloaded; here the admin door gives it.
"""

from datetime import UTC, datetime
from decimal import Decimal

from doorbuster.simulators.stripe.balance import View, available_on
from doorbuster.simulators.stripe.cards import kind_of
from doorbuster.simulators.stripe.currencies import THREE_DECIMAL, ZERO_DECIMAL
from doorbuster.simulators.stripe.lists import EVERYBODY, balance_rows
from doorbuster.simulators.stripe.provider import Provider


def report_rows(provider: Provider, metadata_key: str) -> list[View]:
    """Oldest first, with the wrongs that were asked for, and that one key of the intent's metadata."""
    provider.sweep()
    return [_row(provider, row, metadata_key) for row in balance_rows(provider, EVERYBODY)]


def major(amount: int, currency: str) -> str:
    """Minor units as the decimal the report has: 1050 of usd is 10.50, 1050 of jpy is 1050."""
    digits = 0 if currency in ZERO_DECIMAL else 3 if currency in THREE_DECIMAL else 2
    return str(Decimal(amount).scaleb(-digits).quantize(Decimal(1).scaleb(-digits)))


def _row(provider: Provider, row: View, metadata_key: str) -> View:
    transaction = row["transaction"]
    currency = transaction.currency
    intent = provider.books.intents[transaction.intent]
    charge = intent.latest
    assert charge is not None
    return {
        "balance_transaction_id": row["id"],
        "created_utc": _utc(transaction.at_ms // 1000),
        "created": _utc(transaction.at_ms // 1000),
        "available_on_utc": _utc(available_on(transaction.at_ms)),
        "available_on": _utc(available_on(transaction.at_ms)),
        "currency": currency,
        "gross": major(row["amount"], currency),
        "fee": major(row["fee"], currency),
        "net": major(row["net"], currency),
        "reporting_category": transaction.reporting_category,
        "source_id": transaction.source,
        "description": transaction.description or "",
        "customer_facing_amount": major(row["amount"], currency),
        "customer_facing_currency": currency,
        "customer_id": intent.customer or "",
        "charge_id": charge.id,
        "payment_intent_id": intent.id,
        "charge_created_utc": _utc(charge.at_ms // 1000),
        "payment_method_type": kind_of(charge.method),
        "card_brand": charge.method.brand,
        "card_funding": charge.method.funding,
        "card_country": charge.method.country,
        f"payment_metadata[{metadata_key}]": intent.metadata.get(metadata_key, ""),
    }


def _utc(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")
