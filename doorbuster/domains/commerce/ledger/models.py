"""What ledger keeps and gives. Amounts are minor units; in the books debits are positive and credits negative."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal
from uuid import UUID

import msgspec

CaseClass = Literal["missing_ours", "missing_theirs", "amount", "currency", "fee", "duplicate_capture"]
Class = Literal[
    "matched", "waiting", "missing_ours", "missing_theirs", "amount", "currency", "fee", "duplicate_capture"
]
Note = Annotated[str, msgspec.Meta(min_length=1, max_length=2_000, pattern=r"^[^\u0000]*$")]
AccountName = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$")]


class Movement(msgspec.Struct, frozen=True):
    """Money that a provider took or gave back, as payment told it. Positive: it came in."""

    id: UUID
    provider: str
    provider_id: str
    transaction_id: str
    reference: str
    payment_id: UUID
    order_id: UUID
    amount_minor: int
    currency: str
    reason: str
    moved_at: dt.datetime


class Row(msgspec.Struct, frozen=True):
    """One line of a provider's account. `provider` is our account there, `sold_on` a day of the provider."""

    id: UUID
    provider: str
    provider_id: str
    transaction_id: str
    reference: str
    amount_minor: int
    fee_minor: int
    currency: str
    fee_currency: str
    sold_on: dt.date
    paid_on: dt.date | None


class Entry(msgspec.Struct, frozen=True):
    """One side of a transaction of the books. The account's name ends in the currency."""

    account: str
    currency: str
    amount_minor: int


class Transaction(msgspec.Struct, frozen=True):
    """What is booked together: its entries sum to nothing in each currency."""

    id: UUID
    kind: Literal["movement", "fee", "payout"]
    source_id: UUID
    happened_at: dt.datetime
    entries: tuple[Entry, ...]


class Finding(msgspec.Struct, frozen=True):
    """Something that the provider says and we do not, or the other way round. The same finding has the same id."""

    id: UUID
    kind: CaseClass
    provider: str
    day: dt.date
    amount_minor: int
    """Theirs less ours; of a fee, what they kept less what they should have."""
    currency: str
    ours: tuple[Movement, ...] = ()
    theirs: tuple[Row, ...] = ()


class Balance(msgspec.Struct, frozen=True):
    """An account of the books. `balance_minor` is debits less credits."""

    account: str
    currency: str
    balance_minor: int
    debit_minor: int
    credit_minor: int
    entries: int


class Case(msgspec.Struct, frozen=True):
    """A finding that somebody must look at, or has. `closed_by` is an account's id, or `ledger` when it explained
    itself."""

    id: UUID
    provider: str
    day: dt.date
    kind: CaseClass
    amount_minor: int
    currency: str
    ours: tuple[Movement, ...]
    theirs: tuple[Row, ...]
    next_step: str
    state: Literal["open", "closed"]
    opened_at: dt.datetime
    closed_at: dt.datetime | None
    closed_by: str
    note: str


class Close(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why a case needs nothing more."""

    note: Note


class Figure(msgspec.Struct, frozen=True):
    """How many of a class there are on a day in one currency, and their sum.

    The sum is of amounts for `matched` (the provider's) and `waiting` (ours), else of the differences.
    """

    kind: Class
    currency: str
    count: int
    sum_minor: int
    open: int = 0
    """Of cases: how many nobody has closed."""


class Report(msgspec.Struct, frozen=True):
    """One day of one provider. `rows` is None for a day that was never read to its end."""

    provider: str
    day: dt.date
    rows: int | None
    read_at: dt.datetime | None
    figures: tuple[Figure, ...]


class Reading(msgspec.Struct, frozen=True):
    """What one reconciliation did."""

    provider: str
    day: dt.date | None
    rows: int
    new: int
    matched: int
    opened: int
    closed: int
