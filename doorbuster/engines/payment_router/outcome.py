"""What can be known of a call to a payment provider, and the values that go in and come out."""

from __future__ import annotations

import datetime as dt
from enum import StrEnum

import msgspec


class Outcome(StrEnum):
    """Exactly one of these follows from the evidence; whatever is not listed as evidence of another is UNKNOWN.

    It speaks of the call that was answered. When the same key is sent again, NOT_SENT and NOT_EXECUTED say nothing
    of the first sending: the attempt is then as unknown as it was.
    """

    NOT_SENT = "not_sent"
    """The connection failed before any byte of the request left."""
    NOT_EXECUTED = "not_executed"
    """No money is held and none can come: the provider refused before doing anything (validation, credentials), the
    payment was cancelled or expired for good (code `voided`, `expired`), or the horizon of an inquiry passed."""
    DECLINED = "declined"
    """An allow-listed decline."""
    PENDING = "pending"
    """The provider says it is still at it, or waits for the buyer, a deposit or a capture; `code` says which."""
    SUCCEEDED = "succeeded"
    """Captured (or given back, for a refund), with our reference, amount and currency confirmed."""
    UNKNOWN = "unknown"
    """Anything may have happened: time-out, reset, 5xx, unreadable or unlisted answer."""


VOIDED = "voided"
"""Code of NOT_EXECUTED: whatever was taken or authorised has been cancelled in full at the provider."""
EXPIRED = "expired"
"""Code of NOT_EXECUTED: the session ended at the provider without a payment, and it cannot be paid any more."""
AUTHORISED = "authorised"
"""Code of PENDING: the money is held, not taken; capture or void it."""
NOT_FOUND_YET = "not_found_yet"
"""The code of an UNKNOWN outcome whose provider knows of nothing, which is not certain so soon."""
WAITING_FOR_DEPOSIT = "waiting_for_deposit"
"""Code of PENDING: a virtual account was issued (see `Result.deposit`) and the buyer has yet to pay into it."""
WAITING_FOR_BUYER = "waiting_for_buyer"
"""Code of PENDING: the window is open, or closed without our confirmation; nothing was taken so far."""


class ChargeOrder(msgspec.Struct, frozen=True):
    """One attempt to take money. `reference` and `idempotency_key` are ours and never change for the attempt.

    `reference` is `{payment_id}.{n}`. What a flow does not need stays empty. `instrument` and `token` are worth money
    to a thief, so the repr leaves them out.
    """

    provider: str
    reference: str
    idempotency_key: str
    amount_minor: int
    currency: str
    instrument: str = ""
    """Billing key or portable instrument; a window has none."""
    method: str = "card"
    """`card`, `window` or `virtual_account`: a value of provider.Method."""
    customer: str = ""
    """Our opaque name of the buyer; it must be the same from prepare to confirm, and the one of a billing key."""
    title: str = ""
    """What the buyer reads: a few words about the order."""
    instalment_months: int = 0
    """0 or 1: at once."""
    tax_free_minor: int = 0
    token: str = ""
    """What the window gave the buyer back (paymentKey, tid, pg_token)."""
    provider_id: str = ""
    """The provider's id of this payment, once it is known; some providers can be asked by nothing else."""
    capture: bool = True
    """False: authorise only; the money is taken by a capture later."""
    began_at: dt.datetime | None = None
    """When the attempt began (aware); one provider finds an order only by its day."""

    def __repr__(self) -> str:
        return f"ChargeOrder({self.provider} {self.reference} {self.amount_minor} {self.currency} {self.method})"


class RefundAccount(msgspec.Struct, frozen=True):
    """Where a paid virtual account is paid back to. The bank's code is the provider's own."""

    bank: str
    number: str
    holder: str

    def __repr__(self) -> str:
        return "RefundAccount(…)"


class RefundOrder(msgspec.Struct, frozen=True):
    """Money to give back from one charge."""

    provider: str
    reference: str
    """Ours, its own for each refund. (The sandbox still takes the payment's.)"""
    idempotency_key: str
    provider_charge_id: str
    amount_minor: int
    currency: str
    charge_reference: str = ""
    """`{payment_id}.{n}` of the attempt that took the money, named in the answer; all but the sandbox need it."""
    charged_minor: int = 0
    """What that attempt took."""
    refunded_minor: int = 0
    """What has gone back before this refund. An inquiry stays open while more has gone back than this explains."""
    tax_free_minor: int = 0
    """The part of this refund that is free of tax."""
    account: RefundAccount | None = None
    reason: str = ""

    @property
    def is_partial(self) -> bool:
        """Whether this is less than all that was taken."""
        return self.amount_minor < self.charged_minor


class Deposit(msgspec.Struct, frozen=True):
    """The virtual account a buyer pays into. `due` is the provider's own text of the last moment."""

    bank: str
    number: str
    due: str = ""


class Result(msgspec.Struct, frozen=True):
    """What is known after a call. `code` is the provider's code, for people and records."""

    outcome: Outcome
    provider_id: str = ""
    code: str = ""
    refunded_minor: int = 0
    """How much of a capture has gone back, where the answer says so."""
    deposit: Deposit | None = None


class HttpCall(msgspec.Struct, frozen=True):
    """A request for a provider, built without sending it. Its headers hold secrets, so the repr leaves them out."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""

    def __repr__(self) -> str:
        return f"HttpCall({self.method} {self.path} {len(self.body)} bytes)"


class HttpAnswer(msgspec.Struct, frozen=True):
    """What came back, complete."""

    status: int
    body: bytes
