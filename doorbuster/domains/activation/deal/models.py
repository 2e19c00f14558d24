"""What deal takes and gives. Prices are minor units; a window's end is exclusive; times are aware."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec

State = Literal["scheduled", "open", "sold_out", "closed"]


Title = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=r"^[^\u0000]*$")]
"""PostgreSQL's text holds every character but NUL."""


class DealLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """So many units of one option, at the deal's price or a price of its own."""

    option_id: UUID
    quantity: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    price_minor: Annotated[int, msgspec.Meta(ge=1, le=10**15)] | None = None


class DealDraft(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A deal as a merchant makes it. `price_minor` is for every line that names none."""

    title: Title
    item_id: UUID
    opens_at: Annotated[datetime, msgspec.Meta(tz=True)]
    closes_at: Annotated[datetime, msgspec.Meta(tz=True)]
    price_minor: Annotated[int, msgspec.Meta(ge=1, le=10**15)]
    allotment: Annotated[tuple[DealLine, ...], msgspec.Meta(min_length=1, max_length=50)]
    per_customer_limit: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None


class StoredLine(msgspec.Struct, frozen=True):
    """A line with the prices of the moment the deal was made."""

    option_id: UUID
    item_id: UUID
    quantity: int
    price_minor: int
    list_minor: int


class DealOption(msgspec.Struct, frozen=True):
    """One option of a deal as people see it."""

    option_id: UUID
    price_minor: int
    list_minor: int
    quantity: int
    remaining: int
    sold: int


class Deal(msgspec.Struct, frozen=True):
    """A deal as it stands at `as_of` (the database's clock)."""

    id: UUID
    title: str
    item_id: UUID
    state: State
    currency: str
    opens_at: datetime
    closes_at: datetime
    per_customer_limit: int | None
    options: tuple[DealOption, ...]
    as_of: datetime


class DealRow(msgspec.Struct, frozen=True):
    """The row, as the domain needs it."""

    id: UUID
    merchant_id: UUID
    title: str
    request_hash: str
    currency: str
    per_customer_limit: int | None
    opens_at: datetime
    closes_at: datetime
    lines: tuple[StoredLine, ...]
    phase: str
    refusal: bytes | None
