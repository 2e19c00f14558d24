"""A PaymentIntent with its charges and refunds as one frozen value, and what may happen to it: no clock, no sockets.

States: docs.stripe.com/payments/paymentintents/lifecycle and the `status` of docs.stripe.com/api/payment_intents.
All times are milliseconds since 1970; all amounts are minor units of the intent's currency.
"""

from typing import Literal

from msgspec import Struct, structs

from doorbuster.simulators.stripe.cards import Method

Status = Literal[
    "requires_payment_method",
    "requires_confirmation",
    "requires_action",
    "processing",
    "requires_capture",
    "canceled",
    "succeeded",
]
Event = Literal["attach", "ask", "decline", "pay", "authorize", "process", "capture", "cancel", "expire"]
CaptureMethod = Literal["automatic", "automatic_async", "manual"]
RefundStatus = Literal["pending", "succeeded", "failed"]

# docs.stripe.com/payments/place-a-hold-on-a-payment-method: a card's authorization lasts 7 days.
HOLD_MS = 7 * 86_400_000
MAX_REFUNDS = 1000

TRANSITIONS: dict[tuple[Status, Event], Status] = {
    ("requires_payment_method", "attach"): "requires_confirmation",
    ("requires_payment_method", "ask"): "requires_action",
    ("requires_payment_method", "decline"): "requires_payment_method",
    ("requires_payment_method", "pay"): "succeeded",
    ("requires_payment_method", "authorize"): "requires_capture",
    ("requires_payment_method", "process"): "processing",
    ("requires_payment_method", "cancel"): "canceled",
    ("requires_confirmation", "attach"): "requires_confirmation",
    ("requires_confirmation", "ask"): "requires_action",
    ("requires_confirmation", "decline"): "requires_payment_method",
    ("requires_confirmation", "pay"): "succeeded",
    ("requires_confirmation", "authorize"): "requires_capture",
    ("requires_confirmation", "process"): "processing",
    ("requires_confirmation", "cancel"): "canceled",
    ("requires_action", "ask"): "requires_action",
    ("requires_action", "decline"): "requires_payment_method",
    ("requires_action", "pay"): "succeeded",
    ("requires_action", "authorize"): "requires_capture",
    ("requires_action", "process"): "processing",
    ("requires_action", "cancel"): "canceled",
    ("processing", "pay"): "succeeded",
    ("processing", "decline"): "requires_payment_method",
    ("requires_capture", "capture"): "succeeded",
    ("requires_capture", "cancel"): "canceled",
    ("requires_capture", "expire"): "canceled",
}


class NotPossible(Exception):
    """Expected: this cannot happen in this state; the API says `payment_intent_unexpected_state`."""


class Refund(Struct, frozen=True, omit_defaults=True):
    """`releases`: it gives back what was authorized and never taken. `turns_at_ms` is when its state changes."""

    id: str
    amount: int
    status: RefundStatus
    at_ms: int
    transaction: str | None
    reason: str | None = None
    metadata: dict[str, str] = {}
    releases: bool = False
    turns_at_ms: int | None = None
    failure_reason: str | None = None
    failure_transaction: str | None = None
    failed_at_ms: int | None = None


class Charge(Struct, frozen=True, omit_defaults=True):
    """One attempt at an issuer. `captured` is what was taken; `transaction` is null until it is in the balance."""

    id: str
    amount: int
    status: Literal["pending", "succeeded", "failed"]
    at_ms: int
    method_id: str
    method: Method
    captured: int = 0
    captured_at_ms: int | None = None
    transaction: str | None = None
    transaction_at_ms: int | None = None
    code: str | None = None
    decline_code: str | None = None
    refunds: tuple[Refund, ...] = ()
    expired: bool = False

    @property
    def refunded(self) -> int:
        """What counts as given back, released authorizations too; a failed refund gave nothing back."""
        return sum(refund.amount for refund in self.refunds if refund.status != "failed")

    @property
    def returned(self) -> int:
        """What was taken and is given back."""
        return sum(r.amount for r in self.refunds if r.status != "failed" and not r.releases)


class Problem(Struct, frozen=True, omit_defaults=True):
    """Why the last confirmation failed."""

    code: str
    message: str
    method_id: str
    method: Method
    decline_code: str | None = None
    charge: str | None = None
    is_card_error: bool = True


class Intent(Struct, frozen=True, omit_defaults=True):
    id: str
    secret: str
    amount: int
    currency: str
    status: Status
    created_ms: int
    account: str | None = None
    capture_method: CaptureMethod = "automatic_async"
    is_automatic: bool = True
    allows_redirects: bool = True
    method_types: tuple[str, ...] = ("card",)
    customer: str | None = None
    description: str | None = None
    metadata: dict[str, str] = {}
    receipt_email: str | None = None
    setup_future_usage: str | None = None
    statement_descriptor: str | None = None
    statement_descriptor_suffix: str | None = None
    method_id: str | None = None
    method: Method | None = None
    return_url: str | None = None
    action_token: str | None = None
    problem: Problem | None = None
    charges: tuple[Charge, ...] = ()
    canceled_at_ms: int | None = None
    cancellation_reason: str | None = None
    turns_at_ms: int | None = None

    @property
    def latest(self) -> Charge | None:
        return self.charges[-1] if self.charges else None

    @property
    def received(self) -> int:
        latest = self.latest
        return latest.captured if latest is not None else 0

    @property
    def capturable(self) -> int:
        return self.amount if self.status == "requires_capture" else 0


def after(status: Status, event: Event) -> Status:
    """Raises NotPossible for a step that is not in the table."""
    try:
        return TRANSITIONS[status, event]
    except KeyError as error:
        raise NotPossible(f"{event} is not possible in {status}") from error


def attached(intent: Intent, method_id: str, method: Method) -> Intent:
    status = after(intent.status, "attach")
    return structs.replace(intent, status=status, method_id=method_id, method=method, problem=None)


def with_charge(intent: Intent, charge: Charge, event: Event, turns_at_ms: int | None = None) -> Intent:
    """A confirmation went through: paid, authorized or processing."""
    return structs.replace(
        intent,
        status=after(intent.status, event),
        charges=(*intent.charges[:-1], charge) if _replaces(intent, charge) else (*intent.charges, charge),
        action_token=None,
        problem=None,
        turns_at_ms=turns_at_ms,
    )


def asked(intent: Intent, token: str, return_url: str | None) -> Intent:
    """The issuer wants the buyer."""
    status = after(intent.status, "ask")
    return structs.replace(intent, status=status, action_token=token, return_url=return_url, problem=None)


def declined(intent: Intent, problem: Problem, charge: Charge | None) -> Intent:
    """The attempt is over; the intent waits for another payment method."""
    charges = intent.charges
    if charge is not None:
        charges = (*charges[:-1], charge) if _replaces(intent, charge) else (*charges, charge)
    return structs.replace(
        intent,
        status=after(intent.status, "decline"),
        charges=charges,
        problem=problem,
        method_id=None,
        method=None,
        action_token=None,
        turns_at_ms=None,
    )


def captured(intent: Intent, amount: int, transaction: str, release: Refund | None, now_ms: int) -> Intent:
    """Take `amount` of what was authorized; the rest is released by `release`."""
    status = after(intent.status, "capture")
    latest = intent.latest
    assert latest is not None and amount + (release.amount if release else 0) == latest.amount
    charge = structs.replace(
        latest,
        captured=amount,
        captured_at_ms=now_ms,
        transaction=transaction,
        transaction_at_ms=now_ms,
        refunds=latest.refunds if release is None else (*latest.refunds, release),
    )
    return structs.replace(intent, status=status, charges=(*intent.charges[:-1], charge), turns_at_ms=None)


def canceled(intent: Intent, reason: str | None, release: Refund | None, now_ms: int, expires: bool = False) -> Intent:
    """Nothing will be taken; an authorization is released by `release`."""
    status = after(intent.status, "expire" if expires else "cancel")
    charges = intent.charges
    if release is not None:
        charge = structs.replace(charges[-1], refunds=(*charges[-1].refunds, release), expired=expires)
        charges = (*charges[:-1], charge)
    return structs.replace(
        intent,
        status=status,
        charges=charges,
        canceled_at_ms=now_ms,
        cancellation_reason=reason,
        action_token=None,
        turns_at_ms=None,
    )


def settled(intent: Intent, transaction: str, now_ms: int) -> Intent:
    """The charge of an asynchronous capture came into the balance."""
    latest = intent.latest
    assert latest is not None and latest.transaction is None and latest.captured_at_ms is not None
    charge = structs.replace(latest, transaction=transaction, transaction_at_ms=now_ms)
    return structs.replace(intent, charges=(*intent.charges[:-1], charge), turns_at_ms=None)


def with_refund(intent: Intent, refund: Refund) -> Intent:
    """A new refund of the latest charge, or a new state of one it has."""
    latest = intent.latest
    assert latest is not None
    others = tuple(refund if old.id == refund.id else old for old in latest.refunds)
    refunds = others if refund in others else (*others, refund)
    charge = structs.replace(latest, refunds=refunds)
    return structs.replace(intent, charges=(*intent.charges[:-1], charge))


def _replaces(intent: Intent, charge: Charge) -> bool:
    return intent.latest is not None and intent.latest.id == charge.id
