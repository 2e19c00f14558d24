"""The buyer, the bank and the saved card, as a test plays them: Stripe.js, the 3-D Secure page, time. No sockets."""

import hmac
from typing import Annotated
from urllib.parse import urlencode

from msgspec import Meta, Struct

from doorbuster.simulators.stripe.books import Entry, SavedMethod
from doorbuster.simulators.stripe.calls import confirm, find_method
from doorbuster.simulators.stripe.cards import METHODS
from doorbuster.simulators.stripe.confirmation import Attempt, bank_answered, refund_turned, unauthenticated
from doorbuster.simulators.stripe.intent import Intent, NotPossible, after, with_refund
from doorbuster.simulators.stripe.provider import Provider, new_id

Text = Annotated[str, Meta(min_length=1, max_length=2000)]


class BuyerBody(Struct, frozen=True, forbid_unknown_fields=True):
    """What the buyer does in the browser with a client secret; `authenticates` null walks away from the bank's page."""

    client_secret: Text
    payment_method: Text = "pm_card_visa"
    return_url: Text | None = None
    authenticates: bool | None = True


class AuthenticateBody(Struct, frozen=True, forbid_unknown_fields=True):
    payment_intent: Text
    succeeds: bool = True


class WhichBody(Struct, frozen=True, forbid_unknown_fields=True):
    payment_intent: Text


class RefundBody(Struct, frozen=True, forbid_unknown_fields=True):
    """What becomes of a refund now: a pending one succeeds, another fails."""

    refund: Text


class CardBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A card the buyer saved: `card` names the test method it is."""

    card: Text = "pm_card_visa"
    customer: Text | None = None


class Went(Struct, frozen=True):
    """What the browser sees in the end; `redirect_url` is null when there is no page to go back to."""

    id: str
    client_secret: str
    status: str
    code: str | None
    decline_code: str | None
    redirect_url: str | None


def play_buyer(provider: Provider, body: BuyerBody) -> Went:
    """Confirm in the browser, authenticate where the issuer asks, and come back."""
    intent = _find(provider, body.client_secret.partition("_secret_")[0])
    if not hmac.compare_digest(intent.secret.encode(), body.client_secret.encode()):
        raise NotPossible("the client secret is not that of the intent")
    after(intent.status, "attach" if intent.status == "processing" else "pay")
    if intent.allows_redirects and body.return_url is None:
        raise NotPossible("a return_url is needed: a payment method may redirect the buyer")
    found = find_method(provider, body.payment_method, intent)
    attempt = Attempt(found.id, found.method, provider.now_ms(), return_url=body.return_url)
    intent = _recorded(provider, confirm(provider, intent, attempt))
    if intent.status == "requires_action" and body.authenticates is not None:
        intent = authenticate(provider, AuthenticateBody(intent.id, body.authenticates))
    return went(intent, body.return_url)


def authenticate(provider: Provider, body: AuthenticateBody) -> Intent:
    """The bank's page: the buyer authenticates, and the issuer is asked again; or does not, and the attempt is over."""
    intent = _find(provider, body.payment_intent)
    if intent.status != "requires_action":
        raise NotPossible(f"nothing is asked of the buyer in {intent.status}")
    assert intent.method_id is not None and intent.method is not None
    if not body.succeeds:
        return _recorded(provider, unauthenticated(intent))
    attempt = Attempt(intent.method_id, intent.method, provider.now_ms(), has_authenticated=True)
    return _recorded(provider, confirm(provider, intent, attempt))


def open_page(provider: Provider, path: str) -> str | None:
    """A browser opened the bank's page: it authenticates and is sent back. None when there is no such page."""
    parts = path.split("/")
    if len(parts) != 4 or parts[1] != "3ds":
        return None
    intent = provider.books.intents.get(parts[2])
    if intent is None or intent.action_token is None or intent.return_url is None:
        return None
    if not hmac.compare_digest(intent.action_token.encode(), parts[3].encode("utf-8", "surrogateescape")):
        return None
    return_url = intent.return_url
    return went(authenticate(provider, AuthenticateBody(intent.id)), return_url).redirect_url


def settle(provider: Provider, body: WhichBody) -> Intent:
    """The bank of a payment that is processing answers now: what its test account says."""
    intent = _find(provider, body.payment_intent)
    if intent.status != "processing":
        raise NotPossible(f"no bank is asked in {intent.status}")
    return _recorded(provider, bank_answered(intent, provider.now_ms(), new_id))


def turn_refund(provider: Provider, body: RefundBody) -> Intent:
    """A pending refund succeeds now, and one that had succeeded fails."""
    intent = _find(provider, provider.books.intent_of_refund.get(body.refund, ""))
    for refund in intent.latest.refunds if intent.latest is not None else ():
        if refund.id == body.refund and refund.status != "failed":
            return _recorded(provider, with_refund(intent, refund_turned(refund, new_id, provider.now_ms())))
    raise NotPossible("the refund has failed before")


def save_card(provider: Provider, body: CardBody) -> SavedMethod:
    """A payment method the shop may charge without the buyer, set up for that."""
    if body.card not in METHODS:
        raise NotPossible(f"card is one of {', '.join(METHODS)}")
    if body.customer is not None and body.customer not in provider.books.customers:
        raise NotPossible("there is no such customer")
    saved = SavedMethod(new_id("pm"), METHODS[body.card], body.customer)
    provider.books.record(Entry(provider.now_ms(), method=saved))
    return saved


def open_customer(provider: Provider) -> dict[str, str]:
    id_ = new_id("cus")
    provider.books.record(Entry(provider.now_ms(), customer=id_))
    return {"id": id_}


def went(intent: Intent, return_url: str | None) -> Went:
    """docs.stripe.com/payments/accept-a-payment: what is added to the return_url."""
    redirect = None
    if return_url is not None:
        ended = {"succeeded": "succeeded", "requires_capture": "succeeded", "processing": "processing"}
        query = {
            "payment_intent": intent.id,
            "payment_intent_client_secret": intent.secret,
            "redirect_status": ended.get(intent.status, "failed"),
        }
        redirect = f"{return_url}{'&' if '?' in return_url else '?'}{urlencode(query)}"
    problem = intent.problem
    code, decline_code = (None, None) if problem is None else (problem.code, problem.decline_code)
    return Went(intent.id, intent.secret, intent.status, code, decline_code, redirect)


def _find(provider: Provider, id_: str) -> Intent:
    provider.sweep()
    intent = provider.books.intents.get(id_)
    if intent is None:
        raise NotPossible("there is no such intent")
    return intent


def _recorded(provider: Provider, intent: Intent) -> Intent:
    provider.record(Entry(provider.now_ms(), intent=intent))
    return intent
