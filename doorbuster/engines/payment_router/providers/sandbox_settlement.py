"""The sandbox's settlement rows: build the request for a page of a day, read it. Pure."""

from __future__ import annotations

import datetime as dt
from urllib.parse import urlencode

import msgspec

from doorbuster.engines.payment_router.outcome import HttpAnswer, HttpCall
from doorbuster.engines.payment_router.provider import Login, SettlementPage, SettlementRow, Unreadable
from doorbuster.engines.payment_router.providers import wire
from doorbuster.platform import money


class _Row(msgspec.Struct):
    id: str
    charge_id: str
    reference: str
    type: str
    amount_minor: int
    fee_minor: int
    net_minor: int
    currency: str
    date: dt.date
    paid_out_on: dt.date


class _Page(msgspec.Struct):
    data: list[_Row]
    next_page: int | None


def settlement_call(day: dt.date, page: str, login: Login, now: dt.datetime) -> HttpCall:
    """The rows of this UTC day; pages are counted from 1."""
    query = urlencode({"date": day.isoformat(), "page": page or "1"})
    return HttpCall("GET", f"/v1/settlements?{query}", {"authorization": f"Bearer {login.secret.reveal()}"})


def read_settlement(day: dt.date, page: str, answer: HttpAnswer) -> SettlementPage | Unreadable:
    """A row whose amount, fee and net do not agree, or that is of another day, spoils the page."""
    if answer.status != 200:
        return Unreadable(f"status {answer.status}")
    found = wire.read_json(answer.body, _Page)
    number = int(page) if page.isascii() and page.isdigit() and len(page) < 8 else 1
    if found is None or found.next_page not in (None, number + 1):
        return Unreadable("not a page of settlements")
    rows: list[SettlementRow] = []
    for row in found.data:
        if not _is_sound(row) or row.date != day:
            return Unreadable(f"row {len(rows)}")
        rows.append(
            SettlementRow(
                "sandbox", row.charge_id, row.id, wire.kept(row.reference), row.amount_minor, row.fee_minor,
                row.currency, row.date, row.paid_out_on,
            )
        )  # fmt: skip
    return SettlementPage(tuple(rows), str(found.next_page or ""))


def _is_sound(row: _Row) -> bool:
    named = all(wire.ID.fullmatch(text) for text in (row.id, row.charge_id))
    sign = {"charge": row.amount_minor > 0, "refund": row.amount_minor < 0}.get(row.type, False)
    return named and sign and money.is_currency(row.currency) and row.amount_minor - row.fee_minor == row.net_minor
