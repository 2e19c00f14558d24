"""Toss Payments as the host wants a PSP: what it decides, how its errors look, and what the admin door adds.

Further admin endpoints: POST /admin/buyer, /admin/authenticate, /admin/card, /admin/deposit, /admin/deposit/reverse;
GET/PUT /admin/rules; GET /admin/settlements and /admin/settlements.csv.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from doorbuster.simulators.host.server import AdminRefused
from doorbuster.simulators.host.settlement import Seeds, as_csv
from doorbuster.simulators.host.summary import Capture, Decline, Summary, summarise
from doorbuster.simulators.host.wire import Answer, Request
from doorbuster.simulators.toss import window
from doorbuster.simulators.toss.errors import Refused
from doorbuster.simulators.toss.lists import settlement_rows
from doorbuster.simulators.toss.payment import NotPossible, Payment
from doorbuster.simulators.toss.provider import Provider, Rules, Ticket
from doorbuster.simulators.toss.requests import BillingBuyerBody, BuyerBody, WhichBody
from doorbuster.simulators.toss.views import payment_view

Body = TypeVar("Body")
CODES = {
    413: "INVALID_REQUEST",
    429: "FORBIDDEN_CONSECUTIVE_REQUEST",
    500: "FAILED_INTERNAL_SYSTEM_PROCESSING",
    503: "COMMON_ERROR",
}


class RulesBody(Struct, frozen=True, forbid_unknown_fields=True):
    over_refund: bool = False
    cancel_gap_ms: Annotated[int, Meta(ge=0, le=60_000)] = 0
    seeds: Seeds = Seeds()


class TossPsp:
    """The host's view of the provider; it holds nothing of its own."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def admit(self, request: Request) -> Answer | Ticket:
        return self._provider.admit(request)

    def changes(self, method: str, path: str) -> bool:
        return method == "POST"

    def decide(self, ticket: Ticket, declines: Callable[[], bool]) -> Answer:
        return self._provider.decide(ticket, declines)

    def abandon(self, ticket: Ticket) -> None:
        self._provider.abandon(ticket)

    def error(self, status: int) -> Answer:
        return Answer(status, Refused(CODES[status]).body)

    def wrong_amount(self, body: bytes) -> bytes:
        shown = msgspec.json.decode(body)
        if "totalAmount" in shown:
            shown["totalAmount"] += 1
            shown["balanceAmount"] += 1
        return msgspec.json.encode(shown)

    def window(self, _path: str) -> str | None:
        return None

    def tick(self) -> None:
        self._provider.sweep()

    def summary(self) -> Summary:
        payments = self._provider.books.payments.values()
        refunds = sum(1 for p in payments for move in p.moves if move.amount < 0)
        return summarise(self.captures(), len(self.declines()), refunds)

    def captures(self) -> list[Capture]:
        captures = [_capture(payment) for payment in self._provider.books.payments.values() if payment.moves]
        return sorted(captures, key=lambda capture: (capture.at_ms, capture.psp_key))

    def declines(self) -> list[Decline]:
        """None of the windows whose time was over: nobody asked an issuer."""
        declines = [
            Decline(p.key, p.order_id, p.amount, p.failed_at_ms or p.requested_at_ms, p.failure_code or "")
            for p in self._provider.books.payments.values()
            if p.status == "ABORTED"
        ]
        return sorted(declines, key=lambda decline: (decline.at_ms, decline.psp_key))

    def admin(self) -> Mapping[tuple[str, str], Callable[[bytes], object]]:
        provider = self._provider
        return {
            ("POST", "/admin/buyer"): lambda raw: _played(window.play_buyer, provider, raw, BuyerBody),
            ("POST", "/admin/card"): lambda raw: _played(window.register_card, provider, raw, BillingBuyerBody),
            ("POST", "/admin/authenticate"): lambda raw: _stepped(window.authenticate, provider, raw),
            ("POST", "/admin/deposit"): lambda raw: _stepped(window.deposit, provider, raw),
            ("POST", "/admin/deposit/reverse"): lambda raw: _stepped(window.reverse_deposit, provider, raw),
            ("GET", "/admin/rules"): lambda _raw: provider.rules,
            ("PUT", "/admin/rules"): lambda raw: _set_rules(provider, raw),
            ("GET", "/admin/settlements"): lambda _raw: settlement_rows(provider.books, provider.rules.seeds),
            ("GET", "/admin/settlements.csv"): lambda _raw: as_csv(
                settlement_rows(provider.books, provider.rules.seeds)
            ),
        }


def _capture(payment: Payment) -> Capture:
    taken = sum(move.amount for move in payment.moves if move.amount > 0)
    return Capture(
        payment.key,
        payment.order_id,
        taken,
        taken - payment.captured,
        payment.moves[0].at_ms,
        payment.status,
    )


def _played(play: Callable[[Provider, Body], object], provider: Provider, raw: bytes, type_: type[Body]) -> object:
    try:
        return play(provider, msgspec.json.decode(raw, type=type_))
    except (NotPossible, Refused) as error:
        raise AdminRefused(str(error)) from error


def _stepped(step: Callable[[Provider, str], Payment], provider: Provider, raw: bytes) -> object:
    try:
        return payment_view(step(provider, msgspec.json.decode(raw, type=WhichBody).payment_key))
    except (NotPossible, Refused) as error:
        raise AdminRefused(str(error)) from error


def _set_rules(provider: Provider, raw: bytes) -> Rules:
    body = msgspec.json.decode(raw, type=RulesBody)
    provider.rules = Rules(body.over_refund, body.cancel_gap_ms, body.seeds)
    return provider.rules
