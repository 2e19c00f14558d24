"""What can be known of a call to a payment provider, and the values that go in and come out."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Outcome(StrEnum):
    """Exactly one of these follows from the evidence; whatever is not listed as evidence of another is UNKNOWN."""

    NOT_SENT = "not_sent"
    """The connection failed before any byte of the request left."""
    NOT_EXECUTED = "not_executed"
    """The provider refused before doing anything (validation, credentials), or the horizon of an inquiry passed."""
    DECLINED = "declined"
    """An allow-listed decline."""
    PENDING = "pending"
    """The provider says it is still at it."""
    SUCCEEDED = "succeeded"
    """Captured, with our reference, amount and currency confirmed."""
    UNKNOWN = "unknown"
    """Anything may have happened: time-out, reset, 5xx, unreadable or unlisted answer."""


class ChargeOrder(msgspec.Struct, frozen=True):
    """One attempt to take money. `reference` and `idempotency_key` are ours and never change for the attempt."""

    provider: str
    reference: str
    idempotency_key: str
    amount_minor: int
    currency: str
    instrument: str = ""


class RefundOrder(msgspec.Struct, frozen=True):
    """Money to give back from one charge."""

    provider: str
    reference: str
    idempotency_key: str
    provider_charge_id: str
    amount_minor: int
    currency: str


class Result(msgspec.Struct, frozen=True):
    """What is known after a call. `code` is the provider's code, for people and records."""

    outcome: Outcome
    provider_id: str = ""
    code: str = ""


class HttpCall(msgspec.Struct, frozen=True):
    """A request for a provider, built without sending it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""


class HttpAnswer(msgspec.Struct, frozen=True):
    """What came back, complete."""

    status: int
    body: bytes
