"""The NICEPAY API itself: routes, and for each what it decides and records; no sockets, no waiting."""

import re
from collections.abc import Callable
from datetime import date
from urllib.parse import unquote

import msgspec
from msgspec import Struct

from doorbuster.simulators.host.wire import Answer, Kind, Request
from doorbuster.simulators.nicepay.billing import charge, delete_bid, register
from doorbuster.simulators.nicepay.books import Entry
from doorbuster.simulators.nicepay.errors import Refused
from doorbuster.simulators.nicepay.payment import (
    CancelAsk,
    Payment,
    cancelled,
    refuse_approval,
    refuse_cancel,
    refuse_net_cancel,
)
from doorbuster.simulators.nicepay.provider import CARD_TID, TOKEN_MS, Provider
from doorbuster.simulators.nicepay.requests import Fields, cancel_ask, charset_of, fields_of
from doorbuster.simulators.nicepay.verdict import Outcome, judge
from doorbuster.simulators.nicepay.views import View, amount_check_view, day, payment_view, token_view

TOKEN_PATH = "/v1/access-token"  # noqa: S105 - a path, not a token

Handler = Callable[[Provider, Request, Fields], Outcome]


class Ticket(Struct, frozen=True):
    """A request that was let in and is not decided yet; `holds` is what nobody else may work on meanwhile."""

    request: Request
    fields: Fields
    decide: Handler
    holds: tuple[str, ...]


def admit(provider: Provider, request: Request) -> Answer | Ticket:
    """Authentication, routing, the body, and what is in work already."""
    charset = "utf-8"
    try:
        if request.path == TOKEN_PATH:
            provider.authenticate_for_token(request)
        else:
            provider.authenticate(request)
        handler = _route(request)
        # The token call has no body: its only parameter is in the query.
        fields = Fields(request.query) if request.path == TOKEN_PATH else fields_of(request)
        charset = charset_of(fields)
        holds = _holds(provider, request, handler, fields)
    except Refused as refusal:
        return _refusal(refusal, charset)
    provider.in_work.update(holds)
    return Ticket(request, fields, handler, holds)


def decide(provider: Provider, ticket: Ticket, declines: Callable[[], bool]) -> Answer:
    """What happens now; `declines` is asked once the issuer is. Raises LedgerUnavailable: nothing happened."""
    provider.declines = declines
    charset = charset_of(ticket.fields)
    try:
        outcome = ticket.decide(provider, ticket.request, ticket.fields)
    except Refused as refusal:
        return _refusal(refusal, charset)
    finally:
        abandon(provider, ticket)
    return _answer(200, msgspec.json.encode(outcome.view), outcome.kind, charset)


def abandon(provider: Provider, ticket: Ticket) -> None:
    """The request ended; nobody waits for it any more."""
    provider.in_work.difference_update(ticket.holds)


def approve(provider: Provider, request: Request, fields: Fields) -> Outcome:
    """Execute what the buyer authenticated: paid, an account that waits, or failed with the network's code."""
    tid = _named(request)
    amount = fields.amount()
    fields.check_charset()
    fields.check_signature(provider.keys.secret, tid, amount)
    payment = provider.books.payments.get(tid)
    if payment is None:
        raise Refused("U121")
    refuse_approval(payment, amount, provider.now_ms())
    if provider.is_taken(payment.order_id):
        raise Refused("U112")
    return judge(provider, payment)


def cancel(provider: Provider, request: Request, fields: Fields) -> Outcome:
    """All of it, or with cancelAmt a part. The orderId of a part is used up, also when the part is refused."""
    tid = _named(request)
    order_id, ask = fields.order_id(), cancel_ask(fields)
    fields.text_or_none("mallReserved", 500)
    fields.check_charset()
    fields.check_signature(provider.keys.secret, tid)
    payment = provider.find(tid)
    now_ms = provider.now_ms()
    if ask.amount is None:
        refuse_cancel(payment, ask, now_ms)
        return _gave_back(provider, cancelled(payment, ask, payment.tid, now_ms), now_ms)
    if provider.books.is_used(order_id):
        raise Refused("U112")
    try:
        refuse_cancel(payment, ask, now_ms, provider.rules.over_refund)
    except Refused:
        provider.books.record(Entry(now_ms, spent=order_id))
        raise
    return _gave_back(provider, cancelled(payment, ask, provider.new_tid(CARD_TID), now_ms), now_ms, order_id)


def net_cancel(provider: Provider, _request: Request, fields: Fields) -> Outcome:
    """Take back the one payment of an orderId, within the hour. What was not approved yet is not known here."""
    order_id = fields.order_id()
    fields.text_or_none("mallReserved", 500)
    fields.check_charset()
    fields.check_signature(provider.keys.secret, order_id)
    provider.sweep()
    payments = provider.books.of_order(order_id)
    if not payments:
        raise Refused("U107")
    if len(payments) > 1:
        raise Refused("P035")
    now_ms = provider.now_ms()
    refuse_net_cancel(payments[0], now_ms)
    return _gave_back(provider, cancelled(payments[0], CancelAsk("망취소"), payments[0].tid, now_ms), now_ms)


def look(provider: Provider, request: Request, fields: Fields) -> Outcome:
    tid = _named(request)
    fields.check_charset()
    fields.check_signature(provider.keys.secret, tid)
    return Outcome(_view(provider, provider.find(tid), provider.now_ms()), "read")


def look_by_order(provider: Provider, request: Request, fields: Fields) -> Outcome:
    """The transaction of an orderId on a day of Seoul: that of its authentication, or that of its approval."""
    order_id = unquote(request.path.split("/")[4])
    order_date = None if provider.rules.any_order_date else _order_date(fields)
    fields.check_charset()
    fields.check_signature(provider.keys.secret, order_id)
    provider.sweep()
    found = [p for p in provider.books.of_order(order_id) if order_date is None or order_date in _days(p)]
    if not found:
        raise Refused("U107")
    return Outcome(_view(provider, found[-1], provider.now_ms()), "read")


def check_amount(provider: Provider, request: Request, fields: Fields) -> Outcome:
    tid = unquote(request.path.split("/")[3])
    amount = fields.amount()
    fields.check_charset()
    fields.check_signature(provider.keys.secret, tid, amount)
    payment = provider.find(tid)
    view = amount_check_view(tid, payment.amount == amount, provider.now_ms(), provider.keys.secret)
    return Outcome(view, "read")


def issue_token(provider: Provider, _request: Request, fields: Fields) -> Outcome:
    fields.check_charset()
    token = provider.token()
    return Outcome(token_view(token.value, token.issued_at_ms, TOKEN_MS, provider.now_ms()), "other")


ROUTES: tuple[tuple[str, re.Pattern[str], Handler], ...] = (
    ("POST", re.compile(r"/v1/access-token"), issue_token),
    ("POST", re.compile(r"/v1/payments/netcancel"), net_cancel),
    ("POST", re.compile(r"/v1/payments/[^/]{1,200}/cancel"), cancel),
    ("POST", re.compile(r"/v1/payments/[^/]{1,200}"), approve),
    ("POST", re.compile(r"/v1/check-amount/[^/]{1,200}"), check_amount),
    ("POST", re.compile(r"/v1/subscribe/regist"), register),
    ("POST", re.compile(r"/v1/subscribe/[^/]{1,200}/payments"), charge),
    ("POST", re.compile(r"/v1/subscribe/[^/]{1,200}/expire"), delete_bid),
    ("GET", re.compile(r"/v1/payments/find/[^/]{1,200}"), look_by_order),
    ("GET", re.compile(r"/v1/payments/[^/]{1,200}"), look),
)


def _route(request: Request) -> Handler:
    methods = {method: handler for method, pattern, handler in reversed(ROUTES) if pattern.fullmatch(request.path)}
    if not methods:
        raise Refused("U320")
    if request.method not in methods:
        raise Refused("U308")
    return methods[request.method]


def _holds(provider: Provider, request: Request, handler: Handler, fields: Fields) -> tuple[str, ...]:
    """What this request works on alone: its tid, and its orderId. Raises Refused when another does already."""
    names: tuple[str, ...] = ()
    if handler is charge:
        order_id = fields.values.get("orderId")
        names = (f"order {order_id}",) if isinstance(order_id, str) else ()
    elif handler is approve:
        tid = _named(request)
        if f"tid {tid}" in provider.in_work:
            raise Refused("P049")
        payment = provider.books.payments.get(tid)
        names = (f"tid {tid}",) if payment is None else (f"tid {tid}", f"order {payment.order_id}")
    if provider.rules.reused_order_ids:
        names = tuple(name for name in names if name.startswith("tid "))
    if provider.in_work.intersection(names):
        raise Refused("U112")
    return names


def _named(request: Request) -> str:
    return unquote(request.path.split("/")[3])


def _order_date(fields: Fields) -> str:
    text = fields.text("orderDate", 8)
    try:
        # The basic form is eight digits; fromisoformat would take weeks and dashes too.
        parsed = date.fromisoformat(text) if text.isascii() and text.isdigit() else None
    except ValueError:
        parsed = None
    if parsed is None or f"{parsed:%Y%m%d}" != text:
        raise Refused("U130", "orderDate")
    return text


def _days(payment: Payment) -> set[str]:
    moments = (payment.authenticated_at_ms, payment.issued_at_ms, payment.paid_at_ms)
    return {day(at_ms) for at_ms in moments if at_ms is not None}


def _gave_back(provider: Provider, payment: Payment, now_ms: int, spent: str | None = None) -> Outcome:
    provider.record(payment, now_ms, spent)
    view = payment_view(payment, now_ms, provider.keys.secret, payment.cancels[-1])
    return Outcome(view, "other" if payment.paid_at_ms is None else "refund")


def _view(provider: Provider, payment: Payment, now_ms: int) -> View:
    return payment_view(payment, now_ms, provider.keys.secret)


def _refusal(refusal: Refused, charset: str) -> Answer:
    return _answer(refusal.status, refusal.body, "other", charset)


def _answer(status: int, body: bytes, kind: Kind, charset: str) -> Answer:
    """EUC-KR cannot say everything; what it cannot is a question mark, as in any such system."""
    written = body if charset == "utf-8" else body.decode().encode(charset, errors="replace")
    return Answer(status, written, kind, charset)
