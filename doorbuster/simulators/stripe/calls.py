"""What each call of the API decides: payment intents and refunds.

Parameters and rules: docs.stripe.com/api/payment_intents, docs.stripe.com/api/refunds, docs.stripe.com/refunds.
"""

import secrets
from typing import cast

from msgspec import Struct, structs

from doorbuster.simulators.host.wire import Answer, Kind
from doorbuster.simulators.stripe.asks import (
    CANCEL,
    CAPTURE,
    CONFIRM,
    CREATE,
    REFUND,
    REFUND_UPDATE,
    RETRIEVE,
    UPDATE,
    Cancel,
    Capture,
    Confirming,
    Create,
    RefundAsk,
    RefundUpdate,
    Retrieve,
    Update,
)
from doorbuster.simulators.stripe.books import Said
from doorbuster.simulators.stripe.cards import METHODS, Method, kind_of
from doorbuster.simulators.stripe.confirmation import Attempt, confirmed, refund_of, release
from doorbuster.simulators.stripe.currencies import MAXIMUM, refuse_amount
from doorbuster.simulators.stripe.errors import ErrorInfo, Invalid, missing, no_such, refused
from doorbuster.simulators.stripe.expand import refuse_expand
from doorbuster.simulators.stripe.intent import (
    MAX_REFUNDS,
    CaptureMethod,
    Charge,
    Event,
    Intent,
    NotPossible,
    Refund,
    after,
    attached,
    canceled,
    captured,
    with_refund,
)
from doorbuster.simulators.stripe.params import read
from doorbuster.simulators.stripe.provider import Call, Provider, new_id

METHOD_TYPES = ("card", "us_bank_account")


class Found(Struct, frozen=True):
    """A payment method as it may be charged; `is_saved` when the shop was given its id to keep."""

    id: str
    method: Method
    is_saved: bool


def create_intent(provider: Provider, call: Call) -> Answer:
    ask = read(call.tree, CREATE, Create, required=("amount", "currency"))
    refuse_expand("payment_intent", ask.expand)
    refuse_amount(ask.amount, ask.currency)
    intent = _opened(provider, call, ask)
    if ask.payment_method is not None:
        found = find_method(provider, ask.payment_method, intent)
        intent = attached(intent, found.id, found.method)
    if not ask.confirm:
        _refuse_confirming_only(ask)
        return _shown(provider, call, intent, ask.expand, "other")
    if ask.payment_method is None:
        raise missing("payment_method")
    return _confirm(provider, call, intent, ask)


def confirm_intent(provider: Provider, call: Call) -> Answer:
    ask = read(call.tree, CONFIRM, Confirming)
    refuse_expand("payment_intent", ask.expand)
    intent = provider.find(call, call.target)
    _refuse_step(intent, "pay" if intent.status != "processing" else "attach")
    if ask.payment_method is not None:
        found = find_method(provider, ask.payment_method, intent)
        intent = structs.replace(intent, method_id=found.id, method=found.method)
    if intent.method_id is None:
        raise refused("There is no payment method to confirm with.", "payment_intent_unexpected_state", intent=intent)
    intent = structs.replace(
        intent,
        capture_method=cast(CaptureMethod, ask.capture_method or intent.capture_method),
        receipt_email=ask.receipt_email or intent.receipt_email,
        setup_future_usage=ask.setup_future_usage or intent.setup_future_usage,
    )
    return _confirm(provider, call, intent, ask)


def update_intent(provider: Provider, call: Call) -> Answer:
    ask = read(call.tree, UPDATE, Update)
    refuse_expand("payment_intent", ask.expand)
    intent = provider.find(call, call.target)
    intent = structs.replace(
        intent,
        description=ask.description or intent.description,
        metadata=_merged(intent.metadata, ask.metadata, call),
        receipt_email=ask.receipt_email or intent.receipt_email,
    )
    return _shown(provider, call, intent, ask.expand, "other")


def capture_intent(provider: Provider, call: Call) -> Answer:
    ask = read(call.tree, CAPTURE, Capture)
    refuse_expand("payment_intent", ask.expand)
    intent = provider.find(call, call.target)
    _refuse_step(intent, "capture")
    amount = intent.capturable if ask.amount_to_capture is None else ask.amount_to_capture
    if amount > intent.capturable:
        raise refused("More than was authorized.", "amount_too_large", "amount_to_capture", intent)
    now_ms = provider.now_ms()
    rest = None
    if amount < intent.capturable:
        rest = Refund(new_id("re"), intent.capturable - amount, "succeeded", now_ms, new_id("txn"), releases=True)
    intent = structs.replace(
        intent,
        metadata=_merged(intent.metadata, ask.metadata, call),
        statement_descriptor=ask.statement_descriptor or intent.statement_descriptor,
        statement_descriptor_suffix=ask.statement_descriptor_suffix or intent.statement_descriptor_suffix,
    )
    intent = captured(intent, amount, new_id("txn"), rest, now_ms)
    return _shown(provider, call, intent, ask.expand, "capture")


def cancel_intent(provider: Provider, call: Call) -> Answer:
    ask = read(call.tree, CANCEL, Cancel)
    refuse_expand("payment_intent", ask.expand)
    intent = provider.find(call, call.target)
    _refuse_step(intent, "cancel")
    now_ms = provider.now_ms()
    intent = canceled(intent, ask.cancellation_reason, release(intent, new_id, now_ms), now_ms)
    return _shown(provider, call, intent, ask.expand, "other")


def retrieve_intent(provider: Provider, call: Call) -> Answer:
    ask = read(call.tree, RETRIEVE, Retrieve)
    refuse_expand("payment_intent", ask.expand)
    intent = provider.find(call, call.target)
    if ask.client_secret is not None and ask.client_secret != intent.secret:
        raise no_such("payment_intent", call.target, "client_secret", 404)
    return _shown(provider, call, intent, ask.expand, "read")


def create_refund(provider: Provider, call: Call) -> Answer:
    ask = read(call.tree, REFUND, RefundAsk)
    refuse_expand("refund", ask.expand)
    intent, charge = _to_refund(provider, call, ask)
    left = charge.captured - charge.returned
    is_capped = not provider.rules.over_refund
    if left <= 0 and (is_capped or ask.amount is None):
        raise refused("The charge was refunded before.", "charge_already_refunded")
    amount = left if ask.amount is None else ask.amount
    if amount > (left if is_capped else MAXIMUM):
        raise refused("More than is left of the charge.", param="amount")
    if len(charge.refunds) >= MAX_REFUNDS:
        raise refused(f"A charge has at most {MAX_REFUNDS} refunds here.")
    refund = refund_of(intent, amount, provider.now_ms(), new_id)
    refund = structs.replace(refund, reason=ask.reason, metadata=ask.metadata)
    said = Said(refund=refund.id, expand=tuple(ask.expand), origin=call.origin)
    return provider.answer(call, with_refund(intent, refund), said, "refund")


def update_refund(provider: Provider, call: Call) -> Answer:
    ask = read(call.tree, REFUND_UPDATE, RefundUpdate)
    refuse_expand("refund", ask.expand)
    intent, refund = find_refund(provider, call)
    refund = structs.replace(refund, metadata=_merged(refund.metadata, ask.metadata, call))
    said = Said(refund=refund.id, expand=tuple(ask.expand), origin=call.origin)
    return provider.answer(call, with_refund(intent, refund), said)


def retrieve_refund(provider: Provider, call: Call) -> Answer:
    ask = read(call.tree, RETRIEVE, Retrieve)
    refuse_expand("refund", ask.expand)
    intent, refund = find_refund(provider, call)
    return provider.show(call, intent, Said(refund=refund.id, expand=tuple(ask.expand), origin=call.origin))


def find_refund(provider: Provider, call: Call) -> tuple[Intent, Refund]:
    intent = provider.books.intents.get(provider.books.intent_of_refund.get(call.target, ""))
    if intent is not None and intent.account == call.account:
        for charge in intent.charges:
            for refund in charge.refunds:
                if refund.id == call.target:
                    return intent, refund
    raise no_such("refund", call.target[:100], "refund", 404)


def find_method(provider: Provider, id_: str, intent: Intent) -> Found:
    """A test method by its name, under an id of its own, or one that was saved or used for this intent before."""
    if id_ in METHODS:
        found = Found(new_id("pm"), METHODS[id_], is_saved=False)
    elif id_ == intent.method_id and intent.method is not None:
        found = Found(id_, intent.method, is_saved=False)
    elif (saved := provider.books.methods.get(id_)) is not None:
        if saved.customer is not None and saved.customer != intent.customer:
            raise Invalid("The payment method belongs to another customer.", param="payment_method")
        found = Found(id_, saved.method, is_saved=True)
    else:
        raise no_such("payment_method", id_[:100], "payment_method", 400)
    if kind_of(found.method) not in intent.method_types:
        code = "payment_intent_incompatible_payment_method"
        raise Invalid("This payment does not take this kind of method.", code, "payment_method")
    return found


def confirm(provider: Provider, intent: Intent, attempt: Attempt) -> Intent:
    """The intent after the attempt. Raises Refused when the state does not let it be confirmed."""
    issuer_declines = attempt.method.code is None and not attempt.method.settles and provider.issuer_declines()
    return confirmed(intent, structs.replace(attempt, issuer_declines=issuer_declines), new_id)


def _confirm(provider: Provider, call: Call, intent: Intent, ask: Confirming) -> Answer:
    assert intent.method_id is not None and intent.method is not None
    _refuse_without_return_url(intent, ask)
    if intent.method.settles and intent.capture_method == "manual":
        raise Invalid("A bank debit cannot be captured by hand.", param="capture_method")
    attempt = Attempt(
        intent.method_id,
        intent.method,
        provider.now_ms(),
        is_away=ask.off_session,
        is_set_up=intent.method_id in provider.books.methods,
        must_not_ask=ask.error_on_requires_action,
        return_url=ask.return_url,
    )
    intent = confirm(provider, intent, attempt)
    if intent.problem is None:
        return _shown(provider, call, intent, ask.expand, "capture" if intent.status == "succeeded" else "other")
    problem = intent.problem
    info = ErrorInfo(402, "card_error", problem.message, problem.code, None, problem.decline_code, problem.charge)
    return provider.answer(call, intent, Said(info, origin=call.origin), "decline")


def _opened(provider: Provider, call: Call, ask: Create) -> Intent:
    if ask.customer is not None and ask.customer not in provider.books.customers:
        raise no_such("customer", ask.customer[:100], "customer", 400)
    types = tuple(ask.payment_method_types or ("card",))
    for at, type_ in enumerate(types):
        if type_ not in METHOD_TYPES:
            raise Invalid(f"{type_[:50]!r} is not simulated.", "not_simulated", f"payment_method_types[{at}]")
    automatic = ask.automatic_payment_methods
    if automatic is not None and automatic.enabled and ask.payment_method_types is not None:
        raise Invalid("payment_method_types and automatic_payment_methods exclude each other.")
    # Since 2023-08-16 an intent that says nothing takes the methods of the dashboard, redirects too.
    is_automatic = automatic.enabled if automatic is not None else ask.payment_method_types is None
    id_ = new_id("pi")
    return Intent(
        id=id_,
        secret=f"{id_}_secret_{secrets.token_urlsafe(18).replace('_', 'x').replace('-', 'y')}",
        amount=ask.amount,
        currency=ask.currency,
        status="requires_payment_method",
        created_ms=provider.now_ms(),
        account=call.account,
        capture_method=cast(CaptureMethod, ask.capture_method or "automatic_async"),
        is_automatic=is_automatic,
        allows_redirects=is_automatic and (automatic is None or automatic.allow_redirects == "always"),
        method_types=METHOD_TYPES if is_automatic and ask.currency == "usd" else types,
        customer=ask.customer,
        description=ask.description,
        metadata=ask.metadata,
        receipt_email=ask.receipt_email,
        setup_future_usage=ask.setup_future_usage,
        statement_descriptor=ask.statement_descriptor,
        statement_descriptor_suffix=ask.statement_descriptor_suffix,
    )


def _refuse_confirming_only(ask: Create) -> None:
    for name in ("error_on_requires_action", "off_session", "return_url"):
        if getattr(ask, name):
            raise Invalid(f"{name} is for confirm=true.", param=name)


def _refuse_without_return_url(intent: Intent, ask: Confirming) -> None:
    """docs.stripe.com/upgrades/manage-payment-methods: where a method may redirect, the confirmation says where to."""
    if intent.allows_redirects and ask.return_url is None and not ask.use_stripe_sdk:
        raise Invalid("A return_url is needed: a payment method may redirect the buyer.", param="return_url")


def _refuse_step(intent: Intent, event: Event) -> None:
    """Raises Refused `payment_intent_unexpected_state` with the intent in it."""
    try:
        after(intent.status, event)
    except NotPossible as error:
        raise refused(str(error), "payment_intent_unexpected_state", intent=intent) from error


def _to_refund(provider: Provider, call: Call, ask: RefundAsk) -> tuple[Intent, Charge]:
    if (ask.payment_intent is None) == (ask.charge is None):
        raise missing("payment_intent") if ask.charge is None else Invalid("Either payment_intent or charge, not both.")
    if ask.payment_intent is not None:
        intent = provider.find(call, ask.payment_intent, "payment_intent", 404)
    else:
        id_ = provider.books.intent_of_charge.get(ask.charge or "")
        if id_ is None:
            raise no_such("charge", (ask.charge or "")[:100], "charge", 404)
        intent = provider.find(call, id_, "charge", 404)
    charge = intent.latest
    if charge is None or charge.status != "succeeded" or (ask.charge is not None and charge.id != ask.charge):
        raise refused("There is no successful charge to refund.", "charge_not_refundable", intent=intent)
    if charge.captured_at_ms is None:
        raise refused("Cancel what is not captured.", "charge_not_refundable", intent=intent)
    return intent, charge


def _merged(old: dict[str, str], new: dict[str, str] | None, call: Call) -> dict[str, str]:
    """docs.stripe.com/api/metadata: keys are added; an empty value takes one away, an empty hash all."""
    asked = call.tree.get("metadata")
    if asked == "":
        return {}
    gone = {key for key, value in asked.items() if value == ""} if isinstance(asked, dict) else set()
    return {key: value for key, value in {**old, **(new or {})}.items() if key not in gone}


def _shown(provider: Provider, call: Call, intent: Intent, expand: list[str], kind: Kind) -> Answer:
    said = Said(expand=tuple(expand), origin=call.origin)
    return provider.show(call, intent, said) if kind == "read" else provider.answer(call, intent, said, kind)
