"""What the payment network says to an authenticated payment, and the answer it makes; the one place money is taken."""

import secrets
from typing import Any

from msgspec import Struct

from doorbuster.simulators.host.wire import Kind
from doorbuster.simulators.nicepay.errors import DECLINES, NET_CANCELLED, Refused
from doorbuster.simulators.nicepay.payment import (
    CancelAsk,
    Payment,
    account_issued,
    approved,
    cancelled,
    declined,
    network_refusal,
)
from doorbuster.simulators.nicepay.provider import Provider
from doorbuster.simulators.nicepay.views import View, compact, payment_view

# What a decline that was asked for by a fault says: the card company answered no.
ISSUER_SAID_NO = "3095"


class Outcome(Struct, frozen=True):
    """The answer of a call that was not refused, and what it did."""

    view: dict[str, Any]
    kind: Kind


def judge(provider: Provider, payment: Payment) -> Outcome:
    """Paid, an account issued, or failed with the network's code. Raises Refused for NICEPAY's own failure.

    That failure comes after the approval: the payment is taken back at once, and only its webhook tells of it.
    """
    now_ms = provider.now_ms()
    code = network_refusal(payment, compact(now_ms)[:4]) or _issuers_code(provider, payment)
    if code in NET_CANCELLED:
        taken = approved(payment, now_ms)
        provider.record(cancelled(taken, CancelAsk("망취소"), taken.tid, now_ms), now_ms)
        raise Refused(code)
    if code is not None:
        done = declined(payment, code, now_ms)
        provider.record(done, now_ms)
        return Outcome(_view(provider, done, now_ms), "decline")
    if payment.pay_method == "vbank":
        # The N is the vendor's sign of a test account that takes no real money.
        done = account_issued(payment, f"N{secrets.randbelow(10**12):012d}", now_ms)
        provider.record(done, now_ms)
        return Outcome(_view(provider, done, now_ms), "other")
    done = approved(payment, now_ms)
    provider.record(done, now_ms)
    return Outcome(_view(provider, done, now_ms), "capture")


def _issuers_code(provider: Provider, payment: Payment) -> str | None:
    if provider.declines():
        return ISSUER_SAID_NO
    if payment.decline_code is not None:
        return payment.decline_code
    ending = payment.card_no[-4:]
    return ending if ending in DECLINES and payment.pay_method == "card" else None


def _view(provider: Provider, payment: Payment, now_ms: int) -> View:
    return payment_view(payment, now_ms, provider.keys.secret)
