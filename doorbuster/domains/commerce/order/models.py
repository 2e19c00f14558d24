"""What order takes and gives. Amounts are minor units of the order's currency; times are aware, UTC."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec

from doorbuster.domains.commerce.payment import Session

State = Literal[
    "awaiting_payment", "paying", "payment_waiting", "payment_unknown", "captured", "paid", "cancel_pending",
    "cancelling", "cancelled", "expiring", "expired", "refunding", "refunded_no_stock",
]  # fmt: skip
_NO_NUL = r"^[^\u0000]*$"
"""PostgreSQL's text holds every character but NUL."""
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=200, pattern=_NO_NUL)]
Note = Annotated[str, msgspec.Meta(max_length=200, pattern=_NO_NUL)]


class WishedLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """So many of one option, at the price the buyer saw (when given, another price today is refused)."""

    option_id: UUID
    quantity: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    unit_price_minor: Annotated[int, msgspec.Meta(ge=0, le=10**15)] | None = None


class ShipTo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where it goes. The country is ISO 3166-1 alpha-2."""

    name: Text
    line1: Text
    city: Text
    postal_code: Annotated[str, msgspec.Meta(min_length=1, max_length=20, pattern=_NO_NUL)]
    country: Annotated[str, msgspec.Meta(pattern="^[A-Z]{2}$", max_length=2)]
    line2: Note = ""
    region: Note = ""
    phone: Annotated[str, msgspec.Meta(max_length=40, pattern=_NO_NUL)] = ""


class Pay(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to pay. With a `card`: a provider's token for the instrument (never stored or logged) or the id of a card
    that the customer keeps with payment. In a provider's `window`, or by transfer to a `virtual_account` that is chosen
    there: where the window sends the buyer back to; not while placing, but for an order that is there."""

    method: Literal["card", "window", "virtual_account"]
    instrument: Annotated[str, msgspec.Meta(max_length=64, pattern="^[A-Za-z0-9_-]*$")] = ""
    return_url: Annotated[
        str,
        msgspec.Meta(
            max_length=500, pattern=r"^(https://[!-~]+|http://(localhost|127\.0\.0\.1)(:[0-9]+)?(/[!-~]*)?)?$"
        ),
    ] = ""


class Place(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A wish to buy."""

    lines: Annotated[tuple[WishedLine, ...], msgspec.Meta(min_length=1, max_length=50)]
    currency: Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$", max_length=3)] | None = None
    deal_id: UUID | None = None
    ship_to: ShipTo | None = None
    payment: Pay | None = None


class Cancel(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why, for the timeline."""

    reason: Note = ""


class OrderLine(msgspec.Struct, frozen=True):
    """One line as placed."""

    option_id: UUID
    item_id: UUID
    quantity: int
    unit_price_minor: int


class PaymentSummary(msgspec.Struct, frozen=True):
    """The last payment begun for the order, as far as it is known."""

    payment_id: UUID
    state: str
    code: str


class Order(msgspec.Struct, frozen=True):
    """An order as it stood at `version`."""

    id: UUID
    state: State
    version: int
    currency: str
    total_minor: int
    lines: tuple[OrderLine, ...]
    created_at: datetime
    updated_at: datetime
    pay_by: datetime
    deal_id: UUID | None = None
    ship_to: ShipTo | None = None
    payment: PaymentSummary | None = None
    session: Session | None = None
    """The provider's window, while the buyer may pay in it."""


class Step(msgspec.Struct, frozen=True):
    """One line of the timeline: what happened, and the state it led to."""

    version: int
    event: str
    state: State
    at: datetime
    code: str = ""
    payment_id: UUID | None = None
    trace_id: str | None = None
    """The trace of the request that took this step; none, when it was not traced."""


class OrderRow(msgspec.Struct, frozen=True):
    """An order's row with the last transition's code, as the process needs it. Never leaves this domain."""

    id: UUID
    customer_id: UUID
    state: State
    version: int
    request_hash: str
    deal_id: UUID | None
    currency: str
    total_minor: int
    lines: tuple[OrderLine, ...]
    ship_to: ShipTo | None
    pays_at_once: bool
    payment_id: UUID | None
    answer_version: int | None
    cancel_key: str | None
    cancel_hash: str | None
    pay_by: datetime
    attempt: int
    created_at: datetime
    updated_at: datetime
    code: str = ""
    event: str = ""
