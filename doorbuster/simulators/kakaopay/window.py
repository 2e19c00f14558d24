"""The buyer in KakaoPay's window, as a test plays them, and where the browser goes next. No sockets in here."""

import secrets

from msgspec import Struct, structs

from doorbuster.simulators.kakaopay.books import Entry
from doorbuster.simulators.kakaopay.payment import NotPossible, Payment, authenticated, is_overdue, stepped
from doorbuster.simulators.kakaopay.provider import Provider
from doorbuster.simulators.kakaopay.requests import BuyerBody, SidRuleBody
from doorbuster.simulators.kakaopay.views import with_pg_token


class Went(Struct, frozen=True):
    """Where the payment stands, and the URL the browser is sent to once the buyer is done there."""

    tid: str
    status: str
    pg_token: str | None
    redirect_url: str | None


def play_buyer(provider: Provider, body: BuyerBody) -> Went:
    """Raises NotPossible for a step the state does not allow; after 15 minutes the window only leads to fail_url."""
    payment = provider.find(body.tid)
    if is_overdue(payment, provider.now_ms()):
        return Went(payment.tid, payment.status, None, payment.urls.fail if payment.urls else None)
    if body.does == "authenticate":
        token = secrets.token_hex(10)
        payment = authenticated(payment, body.method, token, body.result_code, body.captures_all_the_same)
    else:
        payment = stepped(payment, body.does)
    provider.record(payment)
    return Went(payment.tid, payment.status, payment.pg_token, _redirect(payment))


def visit(provider: Provider, tid: str) -> str:
    """A browser that opens the window pays at once with KakaoPay Money; the URL it is sent to. Raises NotPossible."""
    went = play_buyer(provider, BuyerBody(tid))
    if went.redirect_url is None:
        raise NotPossible("this payment has no window")
    return went.redirect_url


def rule_sid(provider: Provider, body: SidRuleBody) -> None:
    """From now on every later charge of this sid is told `result_code`, or pays."""
    subscription = structs.replace(provider.find_subscription(body.sid), result_code=body.result_code)
    provider.books.record(Entry(provider.now_ms(), subscription=subscription))


def _redirect(payment: Payment) -> str | None:
    if payment.urls is None:
        return None
    match payment.status:
        case "AUTH_PASSWORD":
            assert payment.pg_token is not None
            return with_pg_token(payment.urls.approval, payment.pg_token)
        case "QUIT_PAYMENT":
            return payment.urls.cancel
        case "FAIL_AUTH_PASSWORD":
            return payment.urls.fail
        case _:
            return None
