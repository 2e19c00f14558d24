"""NICEPAY as the host wants a PSP: what it decides, how its errors look, and what the admin door adds.

Further admin endpoints: POST /admin/buyer, /admin/deposit, /admin/bid; GET/PUT /admin/rules.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec
from msgspec import Struct

from doorbuster.simulators.host.server import AdminRefused
from doorbuster.simulators.host.summary import Capture, Decline, Summary, summarise
from doorbuster.simulators.host.wire import Answer, Request
from doorbuster.simulators.nicepay import calls, window
from doorbuster.simulators.nicepay.calls import Ticket
from doorbuster.simulators.nicepay.errors import Refused
from doorbuster.simulators.nicepay.payment import NotPossible, Payment
from doorbuster.simulators.nicepay.provider import Provider, Rules
from doorbuster.simulators.nicepay.requests import BidBody, BuyerBody, WhichBody
from doorbuster.simulators.nicepay.signing import answer_signature
from doorbuster.simulators.nicepay.views import payment_view

Body = TypeVar("Body")
CODES = {413: "U105", 429: "A246", 500: "9999", 503: "U303"}


class RulesBody(Struct, frozen=True, forbid_unknown_fields=True):
    over_refund: bool = False
    reused_order_ids: bool = False
    any_order_date: bool = False


class NicepayPsp:
    """The host's view of the provider; it holds nothing of its own."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def admit(self, request: Request) -> Answer | Ticket:
        return calls.admit(self._provider, request)

    def changes(self, method: str, path: str) -> bool:
        return method == "POST" and not path.startswith("/v1/check-amount/")

    def decide(self, ticket: Ticket, declines: Callable[[], bool]) -> Answer:
        return calls.decide(self._provider, ticket, declines)

    def abandon(self, ticket: Ticket) -> None:
        calls.abandon(self._provider, ticket)

    def error(self, status: int) -> Answer:
        return Answer(status, Refused(CODES[status]).body)

    def wrong_amount(self, body: bytes) -> bytes:
        """Signed all the same: only who compares the amount with his own finds it."""
        charset = _charset(body)
        shown = msgspec.json.decode(body.decode(charset))
        shown["amount"] += 1
        shown["balanceAmt"] += 1
        secret = self._provider.keys.secret
        shown["signature"] = answer_signature(shown["tid"], shown["amount"], shown["ediDate"], secret)
        return msgspec.json.encode(shown).decode().encode(charset)

    def window(self, _path: str) -> str | None:
        return None

    def tick(self) -> None:
        self._provider.sweep()

    def summary(self) -> Summary:
        payments = self._provider.books.payments.values()
        refunds = sum(len(p.cancels) for p in payments if p.paid_at_ms is not None)
        return summarise(self.captures(), len(self.declines()), refunds)

    def captures(self) -> list[Capture]:
        captures = [_capture(p, p.paid_at_ms) for p in self._provider.books.payments.values() if p.paid_at_ms]
        return sorted(captures, key=lambda capture: (capture.at_ms, capture.psp_key))

    def declines(self) -> list[Decline]:
        payments = self._provider.books.payments.values()
        declines = [
            Decline(p.tid, p.order_id, p.amount, p.failed_at_ms, p.failure_code or "")
            for p in payments
            if p.failed_at_ms
        ]
        return sorted(declines, key=lambda decline: (decline.at_ms, decline.psp_key))

    def admin(self) -> Mapping[tuple[str, str], Callable[[bytes], object]]:
        provider = self._provider
        return {
            ("POST", "/admin/buyer"): lambda raw: _played(window.play_buyer, provider, raw, BuyerBody),
            ("POST", "/admin/deposit"): lambda raw: _played(_deposit, provider, raw, WhichBody),
            ("POST", "/admin/bid"): lambda raw: _played(window.tell_card, provider, raw, BidBody),
            ("GET", "/admin/rules"): lambda _raw: provider.rules,
            ("PUT", "/admin/rules"): lambda raw: _set_rules(provider, raw),
        }


def _charset(body: bytes) -> str:
    """The host hands back only the bytes of an answer; ours are UTF-8 unless EUC-KR was asked for."""
    try:
        body.decode()
    except UnicodeDecodeError:
        return "euc-kr"
    return "utf-8"


def _capture(payment: Payment, paid_at_ms: int) -> Capture:
    return Capture(
        payment.tid,
        payment.order_id,
        payment.amount,
        payment.amount - payment.captured,
        paid_at_ms,
        payment.status,
    )


def _deposit(provider: Provider, body: WhichBody) -> object:
    return payment_view(window.deposit(provider, body.tid), provider.now_ms(), provider.keys.secret)


def _played(play: Callable[[Provider, Body], object], provider: Provider, raw: bytes, type_: type[Body]) -> object:
    try:
        return play(provider, msgspec.json.decode(raw, type=type_))
    except (NotPossible, Refused) as error:
        raise AdminRefused(str(error)) from error


def _set_rules(provider: Provider, raw: bytes) -> Rules:
    body = msgspec.json.decode(raw, type=RulesBody)
    provider.rules = Rules(body.over_refund, body.reused_order_ids, body.any_order_date)
    return provider.rules
