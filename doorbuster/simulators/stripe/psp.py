"""Stripe as the host wants a PSP: what it decides, how its errors look, and what the admin door adds.

Further admin endpoints: POST /admin/buyer, /admin/authenticate, /admin/settle, /admin/refund, /admin/card,
/admin/customer; GET/PUT /admin/rules; GET /admin/settlements and /admin/settlements.csv.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta, Struct

from doorbuster.simulators.host.server import AdminRefused
from doorbuster.simulators.host.settlement import Seeds, as_csv
from doorbuster.simulators.host.summary import Capture, Decline, Summary, summarise
from doorbuster.simulators.host.wire import Answer, Request
from doorbuster.simulators.stripe import window
from doorbuster.simulators.stripe.balance import transaction_view
from doorbuster.simulators.stripe.errors import BY_STATUS, Invalid, Refused, error_body
from doorbuster.simulators.stripe.intent import Intent, NotPossible
from doorbuster.simulators.stripe.lists import EVERYBODY, balance_rows
from doorbuster.simulators.stripe.provider import SEARCH_DELAY_MS, SEARCHES_PER_SECOND, Provider, Rules, Ticket, new_id
from doorbuster.simulators.stripe.report import report_rows
from doorbuster.simulators.stripe.views import VERSION, View, charge_view, intent_view

Body = TypeVar("Body")


class RulesBody(Struct, frozen=True, forbid_unknown_fields=True):
    over_refund: bool = False
    search_delay_ms: Annotated[int, Meta(ge=0, le=3_600_000)] = SEARCH_DELAY_MS
    searches_per_second: Annotated[int, Meta(ge=1, le=1_000_000)] = SEARCHES_PER_SECOND
    failing: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    seeds: Seeds = Seeds()


class StripePsp:
    """The host's view of the provider; `reference_key` is the metadata key that holds the shop's own reference."""

    def __init__(self, provider: Provider, reference_key: str) -> None:
        self._provider = provider
        self._reference_key = reference_key

    def admit(self, request: Request) -> Answer | Ticket:
        return self._provider.admit(request)

    def changes(self, method: str, path: str) -> bool:
        return method == "POST"

    def decide(self, ticket: Ticket, declines: Callable[[], bool]) -> Answer:
        return self._provider.decide(ticket, declines)

    def abandon(self, ticket: Ticket) -> None:
        self._provider.abandon(ticket)

    def error(self, status: int) -> Answer:
        headers = {"request-id": new_id("req"), "stripe-version": VERSION}
        return Answer(status, error_body(BY_STATUS[status]), headers=headers)

    def wrong_amount(self, body: bytes) -> bytes:
        shown = msgspec.json.decode(body)
        for name in ("amount", "amount_received"):
            if name in shown:
                shown[name] += 1
        return msgspec.json.encode(shown)

    def window(self, path: str) -> str | None:
        return window.open_page(self._provider, path)

    def tick(self) -> None:
        self._provider.sweep()

    def summary(self) -> Summary:
        charges = [charge for intent in self._provider.books.intents.values() for charge in intent.charges]
        declined = sum(1 for charge in charges if charge.status == "failed")
        refunds = sum(1 for c in charges for r in c.refunds if not r.releases and r.status != "failed")
        return summarise(self.captures(), declined, refunds)

    def captures(self) -> list[Capture]:
        self._provider.sweep()
        intents = self._provider.books.intents.values()
        captures = [capture for intent in intents if (capture := self._capture(intent)) is not None]
        return sorted(captures, key=lambda capture: (capture.at_ms, capture.psp_key))

    def declines(self) -> list[Decline]:
        """Every failed charge; an intent may have several, each with another card."""
        declines = [
            Decline(
                intent.id, self._reference(intent), charge.amount, charge.at_ms,
                charge.decline_code or charge.code or "", intent.currency.upper(),
            )
            for intent in self._provider.books.intents.values()
            for charge in intent.charges
            if charge.status == "failed"
        ]  # fmt: skip
        return sorted(declines, key=lambda decline: (decline.at_ms, decline.psp_key))

    def admin(self) -> Mapping[tuple[str, str], Callable[[bytes], object]]:
        provider = self._provider
        return {
            ("POST", "/admin/buyer"): lambda raw: _played(window.play_buyer, provider, raw, window.BuyerBody),
            ("POST", "/admin/authenticate"): lambda raw: _stepped(
                window.authenticate, provider, raw, window.AuthenticateBody
            ),
            ("POST", "/admin/settle"): lambda raw: _stepped(window.settle, provider, raw, window.WhichBody),
            ("POST", "/admin/refund"): lambda raw: _stepped(window.turn_refund, provider, raw, window.RefundBody),
            ("POST", "/admin/card"): lambda raw: _played(window.save_card, provider, raw, window.CardBody),
            ("POST", "/admin/customer"): lambda _raw: window.open_customer(provider),
            ("GET", "/admin/rules"): lambda _raw: provider.rules,
            ("PUT", "/admin/rules"): lambda raw: _set_rules(provider, raw),
            ("GET", "/admin/settlements"): lambda _raw: _settlements(provider),
            ("GET", "/admin/settlements.csv"): lambda _raw: as_csv(report_rows(provider, self._reference_key)),
        }

    def _capture(self, intent: Intent) -> Capture | None:
        charge = intent.latest
        if charge is None or charge.captured_at_ms is None:
            return None
        return Capture(
            intent.id,
            self._reference(intent),
            charge.captured,
            charge.returned,
            charge.captured_at_ms,
            intent.status,
            intent.currency.upper(),
        )

    def _reference(self, intent: Intent) -> str:
        """Raises AdminRefused rather than guess: with a wrong reference nothing would ever be captured twice."""
        metadata = intent.metadata
        if self._reference_key in metadata or not metadata:
            return metadata.get(self._reference_key, intent.id)
        if len(metadata) == 1:
            return next(iter(metadata.values()))
        raise AdminRefused(f"{intent.id} has no metadata {self._reference_key!r}; see --reference-key")


def _settlements(provider: Provider) -> list[View]:
    provider.sweep()
    now_ms = provider.now_ms()
    return [transaction_view(row, now_ms) for row in balance_rows(provider, EVERYBODY)]


def _played(play: Callable[[Provider, Body], object], provider: Provider, raw: bytes, type_: type[Body]) -> object:
    try:
        return play(provider, msgspec.json.decode(raw or b"{}", type=type_))
    except (NotPossible, Refused, Invalid) as error:
        raise AdminRefused(str(error)) from error


def _stepped(step: Callable[[Provider, Body], Intent], provider: Provider, raw: bytes, type_: type[Body]) -> object:
    try:
        intent = step(provider, msgspec.json.decode(raw, type=type_))
    except (NotPossible, Refused, Invalid) as error:
        raise AdminRefused(str(error)) from error
    shown = intent_view(intent, "")
    return shown if intent.latest is None else {**shown, "latest_charge": charge_view(intent, intent.latest)}


def _set_rules(provider: Provider, raw: bytes) -> Rules:
    body = msgspec.json.decode(raw, type=RulesBody)
    provider.rules = Rules(body.over_refund, body.search_delay_ms, body.searches_per_second, body.failing, body.seeds)
    return provider.rules
