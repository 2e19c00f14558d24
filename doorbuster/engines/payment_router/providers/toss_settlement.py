"""Toss Payments' settlement rows: build the request for a day, read its pages. Pure. Sources: docs/psp/toss.md."""

from __future__ import annotations

import datetime as dt
from urllib.parse import urlencode

import msgspec

from doorbuster.engines.payment_router.outcome import HttpAnswer, HttpCall
from doorbuster.engines.payment_router.provider import Login, SettlementPage, SettlementRow, Unreadable
from doorbuster.engines.payment_router.providers import wire
from doorbuster.platform import money

_PAGE = 1_000
_MAX_PAGES = 10_000


class _Fee(msgspec.Struct, rename="camel"):
    payment_key: str
    transaction_key: str
    order_id: str
    currency: str
    amount: int
    fee: int
    pay_out_amount: int
    sold_date: str
    paid_out_date: str | None = None
    cancel: dict[str, object] | None = None


def settlement_call(day: dt.date, page: str, login: Login, now: dt.datetime) -> HttpCall:
    """The rows sold on this Korean day, 1,000 a page."""
    query = {
        "startDate": day.isoformat(), "endDate": day.isoformat(), "dateType": "soldDate", "page": page or "1",
        "size": str(_PAGE),
    }  # fmt: skip
    headers = {"authorization": wire.basic(login.secret.reveal(), "")}
    return HttpCall("GET", "/v1/settlements?" + urlencode(query), headers)


def read_settlement(day: dt.date, page: str, answer: HttpAnswer) -> SettlementPage | Unreadable:
    """Only an empty page is the last. A row whose amount, fee and payout do not agree spoils the page."""
    if answer.status != 200:
        return Unreadable(f"status {answer.status}")
    fees = wire.read_json(answer.body, list[_Fee])
    number = int(page) if page.isascii() and page.isdigit() and len(page) < 8 else 1
    if fees is None or len(fees) > _PAGE or number >= _MAX_PAGES:
        return Unreadable("not a list of settlements")
    rows: list[SettlementRow] = []
    for fee in fees:
        row = _settled(fee)
        if row is None or row.sold_on != day:
            return Unreadable(f"row {len(rows)}")
        rows.append(row)
    # Nobody says how many rows a page may have at most, so a short one proves nothing.
    return SettlementPage(tuple(rows), str(number + 1) if fees else "")


def _settled(fee: _Fee) -> SettlementRow | None:
    try:
        sold_on = dt.date.fromisoformat(fee.sold_date)
        paid_on = dt.date.fromisoformat(fee.paid_out_date) if fee.paid_out_date else None
    except ValueError:
        return None
    named = all(wire.ID.fullmatch(text) for text in (fee.payment_key, fee.transaction_key))
    # A cancel's amount is negative; a positive one would be counted as a sale.
    sign_fits = (fee.amount < 0) == (fee.cancel is not None)
    if not named or not money.is_currency(fee.currency) or not sign_fits or fee.amount - fee.fee != fee.pay_out_amount:
        return None
    return SettlementRow(
        "toss", fee.payment_key, fee.transaction_key, wire.dotted(fee.order_id), fee.amount, fee.fee,
        fee.currency, sold_on, paid_on,
    )  # fmt: skip
