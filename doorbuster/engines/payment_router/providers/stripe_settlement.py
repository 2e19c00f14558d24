"""Stripe's balance transactions as settlement rows, from the API and from its itemised report. Pure."""

from __future__ import annotations

import csv
import datetime as dt
import io
from decimal import Decimal, InvalidOperation
from urllib.parse import urlencode

import msgspec

from doorbuster.engines.payment_router.outcome import HttpAnswer, HttpCall
from doorbuster.engines.payment_router.provider import Login, SettlementPage, SettlementRow, Unreadable
from doorbuster.engines.payment_router.providers import stripe_codes as codes
from doorbuster.engines.payment_router.providers import wire
from doorbuster.platform import money

VERSION = "2026-10-28.endive"
_PAGE = 100
_MAX_FILE = 64 * 1024 * 1024
_SALES = frozenset({"charge", "payment"})
_REFUNDS = frozenset({"refund", "payment_refund", "refund_failure", "payment_failure_refund"})
# reporting_category of the report; a failed refund comes back as a positive amount.
_CATEGORIES = frozenset({"charge", "refund", "refund_failure"})
_COLUMNS = frozenset({
    "balance_transaction_id", "created_utc", "currency", "gross", "fee", "net", "reporting_category", "source_id",
    "payment_intent_id", "customer_facing_amount", "customer_facing_currency",
})  # fmt: skip


class _Source(msgspec.Struct):
    id: str
    amount: int
    currency: str
    payment_intent: str | None = None
    metadata: dict[str, str] | None = None


class _Movement(msgspec.Struct):
    id: str
    type: str
    amount: int
    currency: str
    fee: int
    net: int
    created: int
    available_on: int
    source: _Source | str | None = None


class _Movements(msgspec.Struct):
    data: list[_Movement]
    has_more: bool


def headers(login: Login, key: str = "") -> dict[str, str]:
    """The headers of every call to Stripe; `key` makes it idempotent."""
    kept = {
        "authorization": f"Bearer {login.secret.reveal()}", "stripe-version": VERSION,
        "content-type": "application/x-www-form-urlencoded",
    }  # fmt: skip
    if login.account:
        kept["stripe-account"] = login.account
    return kept | ({"idempotency-key": key} if key else {})


def settlement_call(day: dt.date, page: str, login: Login, now: dt.datetime) -> HttpCall:
    """The movements of this UTC day, newest first, 100 a page; `page` is the id that the last page ended with."""
    begin = int(dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC).timestamp())
    query = {
        "created[gte]": str(begin), "created[lt]": str(begin + 86_400), "limit": str(_PAGE), "expand[]": "data.source",
    }  # fmt: skip
    if page:
        query["starting_after"] = wire.path_id(page)
    return HttpCall("GET", "/v1/balance_transactions?" + urlencode(query), headers(login))


def read_settlement(day: dt.date, page: str, answer: HttpAnswer) -> SettlementPage | Unreadable:
    """Charges and refunds; payouts, fees of the account and the like are no movements of a payment."""
    if answer.status != 200:
        return Unreadable(f"status {answer.status}")
    found = wire.read_json(answer.body, _Movements)
    if found is None or (found.has_more and not found.data):
        return Unreadable("not a list of balance transactions")
    rows: list[SettlementRow] = []
    for movement in found.data:
        if movement.type not in _SALES | _REFUNDS:
            continue
        row = _row(movement)
        if row is None or row.sold_on != day:
            return Unreadable(f"row {len(rows)}")
        rows.append(row)
    if found.has_more and wire.ID.fullmatch(found.data[-1].id) is None:
        return Unreadable("no next page")
    return SettlementPage(tuple(rows), found.data[-1].id if found.has_more else "")


def read_settlement_csv(file: bytes) -> SettlementPage | Unreadable:
    """The report `balance_change_from_activity.itemized.3` with the columns of `_COLUMNS`, amounts in major units.

    With the column `payment_metadata[reference]` the rows name our references.
    """
    try:
        text = file[: _MAX_FILE + 1].decode("utf-8-sig")
        lines = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        if len(file) > _MAX_FILE or lines.fieldnames is None or not _COLUMNS.issubset(lines.fieldnames):
            return Unreadable("columns are missing")
        # A line that is cut short has None in its last columns, so it fails here and is not skipped.
        rows = [_line(line) for line in lines if line["reporting_category"].strip() in _CATEGORIES]
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, csv.Error) as error:
        return Unreadable(f"not the report: {type(error).__name__}")
    return SettlementPage(tuple(rows))


def _row(movement: _Movement) -> SettlementRow | None:
    source = movement.source
    if not isinstance(source, _Source) or movement.amount - movement.fee != movement.net:
        return None
    currency, settled = source.currency.upper(), movement.currency.upper()
    intent = source.payment_intent or ""
    if not all(wire.ID.fullmatch(text) for text in (source.id, movement.id, intent)):
        return None
    refund = movement.type in _REFUNDS
    sign = -1 if movement.amount < 0 else 1
    # A sale is positive; a refund negative, and a failed refund positive again.
    if (not refund and movement.amount < 0) or source.amount < 0:
        return None
    amount, fee = codes.from_wire(source.amount, currency), codes.from_wire(abs(movement.fee), settled)
    created = _moment(movement.created)
    if amount < 0 or fee < 0 or created is None:
        return None
    named = (source.metadata or {}).get("charge_reference" if refund else "reference", "")
    available = _moment(movement.available_on)
    return SettlementRow(
        "stripe", intent, source.id, wire.kept(named), sign * amount,
        fee if movement.fee >= 0 else -fee, currency, created.date(), available.date() if available else None,
        "" if settled == currency else settled,
    )  # fmt: skip


def _line(line: dict[str, str]) -> SettlementRow:
    settled = line["currency"].upper()
    currency = (line["customer_facing_currency"] or settled).upper()
    gross, fee, net = (_minor(line[name], settled) for name in ("gross", "fee", "net"))
    if gross - fee != net:
        raise ValueError("gross, fee and net do not agree")
    shown = _minor(line["customer_facing_amount"], currency) if line["customer_facing_amount"] else gross
    amount = abs(shown) if gross >= 0 else -abs(shown)
    if line["reporting_category"] == "charge" and amount < 0:
        raise ValueError("a sale of less than nothing")
    intent, source = wire.path_id(line["payment_intent_id"]), wire.path_id(line["source_id"])
    named = line.get("payment_metadata[reference]") or ""
    return SettlementRow(
        "stripe", intent, source, wire.kept(named), amount, fee,
        currency, dt.datetime.fromisoformat(line["created_utc"]).date(), None, "" if settled == currency else settled,
    )  # fmt: skip


def _minor(text: str, currency: str) -> int:
    """Major units as our minor ones; the report says whole yen as `500` or `500.00`. ValueError: not an amount."""
    if not money.is_currency(currency) or len(text) > 24:
        raise ValueError("not an amount")
    try:
        amount = Decimal(text).scaleb(money.exponent(currency))
    except InvalidOperation as error:
        raise ValueError("not an amount") from error
    if not amount.is_finite() or amount != amount.to_integral_value() or abs(amount) > money.MAX_MINOR:
        raise ValueError("not an amount")
    return int(amount)


def _moment(seconds: int) -> dt.datetime | None:
    try:
        return dt.datetime.fromtimestamp(seconds, dt.UTC)
    except (OverflowError, ValueError, OSError):
        return None
