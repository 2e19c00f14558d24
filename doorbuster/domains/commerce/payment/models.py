"""What payment takes and gives. Amounts are minor units of an ISO 4217 currency."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec

PaymentState = Literal["processing", "waiting", "unknown", "succeeded", "declined", "failed", "refunding", "refunded"]
"""`waiting`: for the buyer, who is in the provider's window or has yet to make the transfer."""
_NO_NUL = r"^[^\u0000]*$"
Method = Literal["card", "window", "virtual_account"]


NOT_THE_CARD = frozenset({"unreachable", "never_started", "superseded", "not_found", "no_provider"})
"""Codes of failed payments in which the buyer's card had no part: the provider could not be asked, or never was."""


class Charge(msgspec.Struct, frozen=True):
    """Take this much for this order, once per `payment_id`. The instrument is never stored."""

    payment_id: UUID
    order_id: UUID
    customer_id: UUID
    amount_minor: int
    currency: str
    instrument: str
    """A provider's token (`tok_…`, `pm_…`), or the id of an instrument that the customer keeps with us."""
    request_hash: str


class Payment(msgspec.Struct, frozen=True):
    """A payment as it stands. `code` says why it was declined or failed."""

    payment_id: UUID
    order_id: UUID
    amount_minor: int
    currency: str
    state: PaymentState
    code: str
    request_hash: str
    version: int
    returning_minor: int = 0
    """All of it that was asked to go back."""
    returned_minor: int = 0
    """What of that has gone."""

    @property
    def is_settled(self) -> bool:
        """Whether the provider's answer is known."""
        return self.state not in ("processing", "waiting", "unknown")


class SessionWish(msgspec.Struct, frozen=True):
    """Let the buyer pay this much for this order in a provider's window, once per `payment_id`."""

    payment_id: UUID
    order_id: UUID
    customer_id: UUID
    amount_minor: int
    currency: str
    method: Method
    title: str
    """What the buyer reads there."""
    return_url: str
    """Where the window sends the buyer back to, with what `confirm` wants to see."""
    request_hash: str


class Session(msgspec.Struct, frozen=True):
    """An open window. `client` is what the browser gives to the provider's own script, or the addresses it goes to
    (see docs/how-to/pay-in-a-window.md); it is for this buyer's browser alone."""

    payment_id: UUID
    account: str
    provider: str
    method: Method
    client: dict[str, str | int]
    expires_at: datetime

    def __repr__(self) -> str:
        return f"Session({self.payment_id} {self.account} {self.method})"


class Returned(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """With what the window sent the buyer back: the query or the form fields, all of them, as they came."""

    form: Annotated[
        dict[
            Annotated[str, msgspec.Meta(max_length=100)],
            Annotated[str, msgspec.Meta(max_length=2_000)],
        ],
        msgspec.Meta(max_length=60),
    ]

    def __repr__(self) -> str:
        return f"Returned({sorted(self.form)})"


class DepositAccount(msgspec.Struct, frozen=True):
    """Where the buyer's transfer is awaited. The bank's code and `due`, the last moment, are the provider's own."""

    bank: str
    number: str
    due: str


class BankAccount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A buyer's own account, to which a transfer goes back. The bank's code is the one of the provider that took it."""

    bank: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9]{1,20}$", max_length=20)]
    number: Annotated[str, msgspec.Meta(pattern="^[0-9-]{4,30}$", max_length=30)]
    holder: Annotated[str, msgspec.Meta(min_length=1, max_length=60, pattern=_NO_NUL)]

    def __repr__(self) -> str:
        return "BankAccount(hidden)"


MatterKind = Literal["unknown_outcome", "refund_refused", "unknown_refund", "provider_differs"]
Note = Annotated[str, msgspec.Meta(max_length=500, pattern=_NO_NUL)]
Label = Annotated[str, msgspec.Meta(min_length=1, max_length=80, pattern=_NO_NUL)]
Account = Annotated[str, msgspec.Meta(pattern="^[a-z0-9][a-z0-9_-]{0,63}$", max_length=64)]
Token = Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_=+/.-]{1,300}$", max_length=300)]


class RefundWish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Give back so much of a payment; no amount: all that is left of it."""

    amount_minor: Annotated[int, msgspec.Meta(ge=1, le=10**15)] | None = None
    reason: Annotated[str, msgspec.Meta(max_length=200, pattern=_NO_NUL)] = ""


class Refund(msgspec.Struct, frozen=True):
    """Money that goes back. `sending` until the provider has confirmed it, however long that takes; `code` is what it
    said last."""

    id: UUID
    payment_id: UUID
    amount_minor: int
    currency: str
    state: Literal["sending", "succeeded"]
    reason: str
    code: str
    created_at: datetime
    settled_at: datetime | None


class Matter(msgspec.Struct, frozen=True):
    """What nothing settles by itself, so that a person must look: an outcome that stays unknown, a refund that is
    refused, a capture that the provider no longer has. It closes itself when the provider's answer comes after all."""

    id: UUID
    kind: MatterKind
    payment_id: UUID
    number: int | None
    """The attempt."""
    refund_id: UUID | None
    provider: str
    code: str
    """What the provider said last."""
    opened_at: datetime
    closed_at: datetime | None
    closed_by: str
    note: str


class HandSettlement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person saw at the provider. Of an unknown outcome: that it took the money (`provider_id` names the charge
    there), or did not. Of a refund that it refused: that it has gone back (`provider_id` names the movement), by hand.
    Of what the provider did by itself: that it is `noted`, and what follows is done."""

    outcome: Literal["succeeded", "not_executed", "noted"]
    note: Annotated[str, msgspec.Meta(min_length=3, max_length=500, pattern=_NO_NUL)]
    provider_id: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_-]{0,200}$", max_length=200)] = ""


class KeyAtAccount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """By what an account knows a card; `customer` is who the buyer is there, where its provider wants to be told
    (Stripe's `cus_…`, the customerKey of a Toss billing key). None: our own name of the customer."""

    key: Token
    customer: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_=+@.-]{0,300}$", max_length=300)] = ""

    def __repr__(self) -> str:
        return "KeyAtAccount(hidden)"


class InstrumentWish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A card to keep: what to call it, and its billing key at each account that knows it."""

    label: Label
    keys: Annotated[dict[Account, KeyAtAccount], msgspec.Meta(min_length=1, max_length=16)]

    def __repr__(self) -> str:
        return f"InstrumentWish({self.label!r}, {sorted(self.keys)})"


class Instrument(msgspec.Struct, frozen=True):
    """A card that a customer keeps with us. The more accounts know it, the more providers can take its payments."""

    id: UUID
    label: str
    accounts: tuple[str, ...]
    created_at: datetime


class Attempt(msgspec.Struct, frozen=True):
    """One attempt to take a payment's money, as it stands."""

    number: int
    provider: str
    state: str
    provider_id: str
    code: str
    created_at: datetime


class PaymentDetail(msgspec.Struct, frozen=True):
    """A payment with all that was tried and given back."""

    id: UUID
    order_id: UUID
    state: PaymentState
    code: str
    amount_minor: int
    currency: str
    returning_minor: int
    returned_minor: int
    created_at: datetime
    updated_at: datetime
    attempts: tuple[Attempt, ...]
    refunds: tuple[Refund, ...]
    deposit: DepositAccount | None = None
    """While a transfer is awaited."""


class PaymentLine(msgspec.Struct, frozen=True):
    """A payment in a list; `provider` is where its last attempt went."""

    id: UUID
    order_id: UUID
    state: PaymentState
    code: str
    amount_minor: int
    currency: str
    returned_minor: int
    provider: str
    created_at: datetime


class PaymentFilter(msgspec.Struct, frozen=True):
    """Which payments; what is not said does not narrow."""

    state: str = ""
    provider: str = ""
    order_id: UUID | None = None
