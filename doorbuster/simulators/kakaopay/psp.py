"""KakaoPay as the host wants a PSP: what it decides, how its errors look, and what the admin door adds.

Further admin endpoints: POST /admin/buyer, POST /admin/sid, GET/PUT /admin/rules, GET /admin/settlements. A browser
that opens `next_redirect_*_url` pays at once and is sent to approval_url with its pg_token.
"""

import re
from collections.abc import Callable, Mapping

import msgspec
from msgspec import Struct

from doorbuster.simulators.host.server import AdminRefused
from doorbuster.simulators.host.settlement import Seeds, as_csv
from doorbuster.simulators.host.summary import Capture, Decline, Summary, summarise
from doorbuster.simulators.host.wire import Answer, Request
from doorbuster.simulators.kakaopay import window
from doorbuster.simulators.kakaopay.errors import Refused
from doorbuster.simulators.kakaopay.payment import NotPossible, Payment
from doorbuster.simulators.kakaopay.provider import READS, Provider, Rules, Ticket, settlement_rows
from doorbuster.simulators.kakaopay.requests import BuyerBody, SidRuleBody

CODES = {413: -2, 429: -429, 500: -500, 503: -503}
WINDOW = re.compile(r"/mockup/v1/(T[0-9a-f]{19})/(?:info|mInfo|aInfo)")


class RulesBody(Struct, frozen=True, forbid_unknown_fields=True):
    over_refund: bool = False
    seeds: Seeds = Seeds()


class KakaoPsp:
    """The host's view of the provider; it holds nothing of its own."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def admit(self, request: Request) -> Answer | Ticket:
        return self._provider.admit(request)

    def changes(self, method: str, path: str) -> bool:
        return path not in READS

    def decide(self, ticket: Ticket, declines: Callable[[], bool]) -> Answer:
        return self._provider.decide(ticket, declines)

    def abandon(self, ticket: Ticket) -> None:
        self._provider.abandon(ticket)

    def error(self, status: int) -> Answer:
        return Answer(status, Refused(CODES[status]).body)

    def wrong_amount(self, body: bytes) -> bytes:
        shown = msgspec.json.decode(body)
        if "amount" in shown:
            shown["amount"]["total"] += 1
        return msgspec.json.encode(shown)

    def window(self, path: str) -> str | None:
        match = WINDOW.fullmatch(path)
        if match is None:
            return None
        try:
            return window.visit(self._provider, match[1])
        except (NotPossible, Refused):
            return None

    def tick(self) -> None:
        """Nothing happens by itself: a tid that is too old is found so when it is used."""

    def summary(self) -> Summary:
        payments = self._provider.books.payments.values()
        refunds = sum(1 for p in payments for action in p.actions if action.kind == "CANCEL")
        return summarise(self.captures(), len(self.declines()), refunds)

    def captures(self) -> list[Capture]:
        payments = self._provider.books.payments.values()
        captures = [_capture(p) for p in payments if p.approved_at_ms is not None and p.sums.total]
        return sorted(captures, key=lambda capture: (capture.at_ms, capture.psp_key))

    def declines(self) -> list[Decline]:
        payments = self._provider.books.payments.values()
        declines = [
            Decline(p.tid, p.partner_order_id, p.sums.total, p.failed_at_ms or p.created_at_ms, p.result_code or "")
            for p in payments
            if p.status == "FAIL_PAYMENT"
        ]
        return sorted(declines, key=lambda decline: (decline.at_ms, decline.psp_key))

    def admin(self) -> Mapping[tuple[str, str], Callable[[bytes], object]]:
        provider = self._provider
        return {
            ("POST", "/admin/buyer"): lambda raw: _play_buyer(provider, raw),
            ("POST", "/admin/sid"): lambda raw: _rule_sid(provider, raw),
            ("GET", "/admin/rules"): lambda _raw: provider.rules,
            ("PUT", "/admin/rules"): lambda raw: _set_rules(provider, raw),
            ("GET", "/admin/settlements"): lambda _raw: settlement_rows(provider),
            ("GET", "/admin/settlements.csv"): lambda _raw: as_csv(settlement_rows(provider)),
        }


def _capture(payment: Payment) -> Capture:
    assert payment.approved_at_ms is not None
    return Capture(
        payment.tid,
        payment.partner_order_id,
        payment.sums.total,
        payment.canceled.total,
        payment.approved_at_ms,
        payment.status,
    )


def _play_buyer(provider: Provider, raw: bytes) -> object:
    try:
        return window.play_buyer(provider, msgspec.json.decode(raw, type=BuyerBody))
    except (NotPossible, Refused) as error:
        raise AdminRefused(str(error)) from error


def _rule_sid(provider: Provider, raw: bytes) -> object:
    body = msgspec.json.decode(raw, type=SidRuleBody)
    try:
        window.rule_sid(provider, body)
    except Refused as error:
        raise AdminRefused(str(error)) from error
    return body


def _set_rules(provider: Provider, raw: bytes) -> Rules:
    body = msgspec.json.decode(raw, type=RulesBody)
    provider.rules = Rules(body.over_refund, body.seeds)
    return provider.rules
