"""What a confirmation does to an intent: what the issuer says, and what follows from it. Pure but for new ids.

Sources: docs.stripe.com/payments/paymentintents/lifecycle, …/payments/payment-intents/asynchronous-capture (the charge
of `automatic_async` has no balance transaction at first, within an hour it has), docs.stripe.com/testing.
"""

from collections.abc import Callable

from msgspec import Struct, structs

from doorbuster.simulators.stripe.cards import Method, issuer_decline, kind_of
from doorbuster.simulators.stripe.intent import (
    HOLD_MS,
    Charge,
    Intent,
    Problem,
    Refund,
    asked,
    canceled,
    declined,
    settled,
    with_charge,
    with_refund,
)

# How long things take that Stripe does in its own time; the vendor promises no more than an hour for the first.
ASYNC_MS = 2_000
BANK_MS = 60_000
REFUND_MS = 60_000

NewId = Callable[[str], str]


class Attempt(Struct, frozen=True):
    """`is_away`: the buyer cannot authenticate. `has_authenticated`: they just did. `is_set_up`: the card is saved."""

    method_id: str
    method: Method
    now_ms: int
    is_away: bool = False
    has_authenticated: bool = False
    is_set_up: bool = False
    must_not_ask: bool = False
    return_url: str | None = None
    issuer_declines: bool = False


def confirmed(intent: Intent, attempt: Attempt, new_id: NewId) -> Intent:
    """The intent after this attempt: paid, authorized, processing, asking for the buyer, or declined."""
    method = attempt.method
    if method.settles:
        charge = _charge(intent, attempt, "pending", new_id)
        return with_charge(_using(intent, attempt), charge, "process", attempt.now_ms + BANK_MS)
    if _asks(attempt):
        if attempt.is_away or attempt.must_not_ask:
            return _fail(intent, attempt, "authentication_required", "authentication_required", new_id)
        return asked(_using(intent, attempt), new_id("action"), attempt.return_url)
    if attempt.issuer_declines:
        return _fail(intent, attempt, *issuer_decline(), new_id)
    if method.code is not None:
        return _fail(intent, attempt, method.code, method.decline_code, new_id)
    charge = _charge(intent, attempt, "succeeded", new_id)
    return _taken(_using(intent, attempt), charge, attempt.now_ms, new_id)


def unauthenticated(intent: Intent) -> Intent:
    """The buyer did not authenticate: no charge was tried."""
    assert intent.method_id is not None and intent.method is not None
    problem = Problem(
        "payment_intent_authentication_failure",
        "The buyer did not authenticate.",
        intent.method_id,
        intent.method,
        is_card_error=False,
    )
    return declined(intent, problem, None)


def turned(intent: Intent, now_ms: int, new_id: NewId) -> Intent:
    """All that happens by itself until now: a bank answers, an authorization ends, money and refunds settle."""
    at_ms = intent.turns_at_ms
    if at_ms is not None and at_ms <= now_ms:
        match intent.status:
            case "processing":
                intent = bank_answered(intent, now_ms, new_id)
            case "requires_capture":
                intent = canceled(intent, "automatic", release(intent, new_id, now_ms), now_ms, expires=True)
            case _:
                intent = settled(intent, new_id("txn"), at_ms)
    for refund in intent.latest.refunds if intent.latest is not None else ():
        if refund.turns_at_ms is not None and refund.turns_at_ms <= now_ms:
            intent = with_refund(intent, refund_turned(refund, new_id, refund.turns_at_ms))
    return intent


def bank_answered(intent: Intent, now_ms: int, new_id: NewId) -> Intent:
    """A payment that is processing is paid, or refused by the bank."""
    charge = intent.latest
    assert charge is not None
    if charge.method.code is None:
        return _taken(intent, structs.replace(charge, status="succeeded"), now_ms, new_id)
    code, decline_code = charge.method.code, charge.method.decline_code
    problem = Problem(code, "The bank refused.", charge.method_id, charge.method, decline_code, charge.id)
    return declined(intent, problem, structs.replace(charge, status="failed", code=code, decline_code=decline_code))


def refund_turned(refund: Refund, new_id: NewId, now_ms: int) -> Refund:
    """A pending refund succeeds; one that had succeeded fails, and the money comes back."""
    if refund.status == "pending":
        return structs.replace(refund, status="succeeded", turns_at_ms=None)
    return structs.replace(
        refund,
        status="failed",
        turns_at_ms=None,
        failure_reason="expired_or_canceled_card",
        failure_transaction=new_id("txn"),
        failed_at_ms=now_ms,
    )


def release(intent: Intent, new_id: NewId, now_ms: int) -> Refund | None:
    """What gives an authorization back, when there is one."""
    if intent.status != "requires_capture" or intent.latest is None:
        return None
    return Refund(new_id("re"), intent.latest.amount, "succeeded", now_ms, None, releases=True)


def refund_of(intent: Intent, amount: int, now_ms: int, new_id: NewId) -> Refund:
    """A new refund, in the state its test card gives it."""
    charge = intent.latest
    assert charge is not None
    way = charge.method.refunds
    return Refund(
        new_id("re" if kind_of(charge.method) == "card" else "pyr"),
        amount,
        "pending" if way == "pend" else "succeeded",
        now_ms,
        new_id("txn"),
        turns_at_ms=None if way == "succeed" else now_ms + REFUND_MS,
    )


def _asks(attempt: Attempt) -> bool:
    if attempt.has_authenticated or attempt.method.asks == "never":
        return False
    return not (attempt.method.asks == "on_session" and attempt.is_away and attempt.is_set_up)


def _using(intent: Intent, attempt: Attempt) -> Intent:
    return structs.replace(intent, method_id=attempt.method_id, method=attempt.method)


def _charge(intent: Intent, attempt: Attempt, status: str, new_id: NewId) -> Charge:
    id_ = new_id("ch" if kind_of(attempt.method) == "card" else "py")
    return Charge(id_, intent.amount, status, attempt.now_ms, attempt.method_id, attempt.method)  # type: ignore[arg-type]


def _taken(intent: Intent, charge: Charge, now_ms: int, new_id: NewId) -> Intent:
    """The issuer agreed: the money is taken, or held when the shop captures by itself."""
    if intent.capture_method == "manual":
        return with_charge(intent, charge, "authorize", now_ms + HOLD_MS)
    charge = structs.replace(charge, captured=charge.amount, captured_at_ms=now_ms)
    if intent.capture_method == "automatic_async":
        return with_charge(intent, charge, "pay", now_ms + ASYNC_MS)
    charge = structs.replace(charge, transaction=new_id("txn"), transaction_at_ms=now_ms)
    return with_charge(intent, charge, "pay")


def _fail(intent: Intent, attempt: Attempt, code: str, decline_code: str | None, new_id: NewId) -> Intent:
    charge = _charge(intent, attempt, "failed", new_id)
    charge = structs.replace(charge, code=code, decline_code=decline_code)
    message = "The card was declined."
    problem = Problem(code, message, attempt.method_id, attempt.method, decline_code, charge.id)
    return declined(intent, problem, charge)
