"""What the sandbox settles: a row for each capture and refund of a day, and rows that are wrong on purpose.

`GET /v1/settlements?date=2026-11-23&page=1` (bearer secret, as everywhere) answers

    {"data": [{"id": "ch_…", "charge_id": "ch_…", "reference": "PAYMENT.1", "type": "charge", "amount_minor": 7000,
               "fee_minor": 203, "net_minor": 6797, "currency": "USD", "date": "2026-11-23",
               "paid_out_on": "2026-11-24"}, …],
     "next_page": 2}

A day is a calendar day in UTC. Rows come in the order in which they were recorded, MAX_ROWS a page; `next_page` is null
on the last. `id` is the id of the charge or refund; a refund has its charge's `charge_id` and `reference`, a negative
`amount_minor`, and gives the fee back. The fee is 2.9 % of the amount, rounded half away from nothing. It is paid out
the day after.

`PUT /admin/settlements` with any of `missing`, `twice`, `made_up`, `amount`, `fee`, `currency` (how many rows of each
day), `seed`, and `days_back` (as if everything had happened so many days earlier) makes rows wrong; `{}` ends it. A
row is wrong in one way at most. `GET /admin/settlements?date=…` tells which are:
`{"wrong": [{"kind": "fee", "id": "ch_…"}, …]}`. The same day with the same seed is wrong in the same rows, once nothing
more is recorded for it.
"""

import random
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from doorbuster.simulators.sandbox.books import Books
from doorbuster.simulators.sandbox.ledger import Charge, Record

MAX_ROWS = 200
FEE_PPM = 29_000
Count = Annotated[int, Meta(ge=0, le=10_000)]
Kind = Literal["missing", "twice", "made_up", "amount", "fee", "currency"]
KINDS: tuple[Kind, ...] = ("missing", "twice", "made_up", "amount", "fee", "currency")


class WrongRows(Struct, frozen=True, forbid_unknown_fields=True):
    """How many rows of each day are wrong in which way."""

    missing: Count = 0
    twice: Count = 0
    """Listed again under an id of its own."""
    made_up: Count = 0
    """For a charge that never was."""
    amount: Count = 0
    fee: Count = 0
    currency: Count = 0
    seed: int = 0
    days_back: Annotated[int, Meta(ge=0, le=365)] = 0


class SettlementRow(Struct, frozen=True):
    id: str
    charge_id: str
    reference: str
    type: str
    amount_minor: int
    fee_minor: int
    net_minor: int
    currency: str
    date: str
    paid_out_on: str


class Wrong(Struct, frozen=True):
    """One row that is wrong, by the id of the row it was made of."""

    kind: Kind
    id: str


def parse_wrong_rows(raw: bytes) -> WrongRows:
    """Raises msgspec.DecodeError (its subclass ValidationError names the field) or UnicodeDecodeError."""
    return msgspec.json.decode(raw, type=WrongRows)


def settle(books: Books, day: date, wrong: WrongRows) -> tuple[list[SettlementRow], list[Wrong]]:
    """All rows of a day as they are shown, and what is wrong with them."""
    honest = [_row(books, record, day) for record in books.of_day(day + timedelta(days=wrong.days_back))]
    dice = random.Random(f"{wrong.seed} {day}")  # noqa: S311 - faults, not secrets
    left = sorted(honest, key=lambda row: row.id)
    dice.shuffle(left)
    picked: dict[str, Kind] = {}
    for kind in KINDS:
        if kind != "made_up":
            for row in left[: getattr(wrong, kind)]:
                picked[row.id] = kind
            left = left[getattr(wrong, kind) :]
    shown = [row for one in honest for row in _shown(one, picked.get(one.id), dice)]
    made_up = [_made_up(day, number, wrong.seed, dice) for number in range(wrong.made_up)]
    told = [Wrong(kind, row_id) for row_id, kind in picked.items()] + [Wrong("made_up", row.id) for row in made_up]
    return shown + made_up, told


def page_of(rows: Sequence[SettlementRow], page: int) -> dict[str, object]:
    """One page, the first is 1."""
    begin = (page - 1) * MAX_ROWS
    return {"data": rows[begin : begin + MAX_ROWS], "next_page": page + 1 if begin + MAX_ROWS < len(rows) else None}


def _row(books: Books, record: Record, day: date) -> SettlementRow:
    if isinstance(record, Charge):
        return _settled(record.id, record.id, record.reference, "charge", record.amount_minor, record.currency, day)
    charge = books.charge_by_id[record.charge_id]
    return _settled(record.id, charge.id, charge.reference, "refund", -record.amount_minor, charge.currency, day)


def _settled(
    row_id: str, charge_id: str, reference: str, kind: str, amount_minor: int, currency: str, day: date
) -> SettlementRow:
    fee = (abs(amount_minor) * FEE_PPM + 500_000) // 1_000_000
    fee = fee if amount_minor > 0 else -fee
    paid_out_on = (day + timedelta(days=1)).isoformat()
    return SettlementRow(
        row_id,
        charge_id,
        reference,
        kind,
        amount_minor,
        fee,
        amount_minor - fee,
        currency,
        day.isoformat(),
        paid_out_on,
    )


def _shown(row: SettlementRow, kind: Kind | None, dice: random.Random) -> list[SettlementRow]:
    replace = msgspec.structs.replace
    match kind:
        case "missing":
            return []
        case "twice":
            return [row, replace(row, id=f"{row.id}_again")]
        case "amount":
            amount_minor = row.amount_minor + dice.randint(1, 500) * (1 if row.amount_minor > 0 else -1)
            return [replace(row, amount_minor=amount_minor, net_minor=amount_minor - row.fee_minor)]
        case "fee":
            fee_minor = row.fee_minor + dice.randint(5, 500)
            return [replace(row, fee_minor=fee_minor, net_minor=row.amount_minor - fee_minor)]
        case "currency":
            return [replace(row, currency="CHF" if row.currency != "CHF" else "USD")]
        case _:
            return [row]


def _made_up(day: date, number: int, seed: int, dice: random.Random) -> SettlementRow:
    row_id = f"ch_made_up_{day:%Y%m%d}_{seed}_{number}"
    return _settled(row_id, row_id, f"made-up-{seed}-{number}", "charge", dice.randint(100, 100_000), "USD", day)
