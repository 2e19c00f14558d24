"""The Toss API itself: routes, and for each what it decides and records; no sockets, no waiting."""

import base64
import hmac
import re
import secrets
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct, structs

from doorbuster.simulators.host.settlement import Seeds
from doorbuster.simulators.host.wire import Answer, Kind, Request
from doorbuster.simulators.toss.books import Books, Entry
from doorbuster.simulators.toss.errors import ERRORS, Refused
from doorbuster.simulators.toss.lists import settlements, transactions
from doorbuster.simulators.toss.payment import (
    Account,
    CancelAsk,
    Payment,
    account_issued,
    approved,
    authenticated,
    cancelled,
    declined,
    expired,
    refuse_cancel,
    refuse_confirm,
)
from doorbuster.simulators.toss.requests import (
    CancelBody,
    ChargeBillingBody,
    ConfirmBody,
    IssueBillingBody,
    VirtualAccountBody,
    decoded,
    settlements_page,
    transactions_page,
)
from doorbuster.simulators.toss.views import (
    View,
    billing_view,
    deposit_webhook,
    payment_view,
    status_webhook,
)

MAX_KEY_CHARS = 300
WINDOW_ACCOUNT_HOURS = 168
HOUR_MS = 3_600_000


class Ticket(Struct, frozen=True):
    """A request that was let in and is not decided yet."""

    request: Request
    decide: Callable[["Provider", Request, str | None], Answer]
    scope: str | None


class Rules(Struct):
    """How this provider deviates from strictness; changed by the admin endpoints."""

    over_refund: bool = False
    cancel_gap_ms: int = 0
    seeds: Seeds = Seeds()


class Provider:
    """Guards the books, the keys in progress and the webhooks that are to be sent."""

    def __init__(
        self, books: Books, secret: str, now_ms: Callable[[], int], send: Callable[[str, View, int], None]
    ) -> None:
        self.books = books
        self.rules = Rules()
        self.now_ms = now_ms
        self._send = send
        self._secret = secret
        self._credential = base64.b64encode(f"{secret}:".encode()).decode()
        self._in_progress: set[str] = set()
        self._declines: Callable[[], bool] = lambda: False

    def admit(self, request: Request) -> Answer | Ticket:
        """Authentication, routing and idempotency. A ticket must be given to `decide` or to `abandon`."""
        try:
            self._authenticate(request)
            decide = _route(request)
            scope = self._scope(request) if request.method == "POST" else None
            if scope is None:
                return Ticket(request, decide, None)
            if scope in self._in_progress:
                raise Refused("IDEMPOTENT_REQUEST_PROCESSING")
            kept = self.books.kept_answer(scope, self.now_ms())
            if kept is not None:
                return _answer_of(kept)
            self._in_progress.add(scope)
            return Ticket(request, decide, scope)
        except Refused as refusal:
            return Answer(refusal.status, refusal.body)

    def decide(self, ticket: Ticket, declines: Callable[[], bool]) -> Answer:
        """What happens now; `declines` is asked once an issuer is.

        Raises LedgerUnavailable, and then nothing happened and the key stays unused.
        """
        self._declines = declines
        try:
            self.sweep()
            self._play_test_code(ticket.request)
            return ticket.decide(self, ticket.request, ticket.scope)
        except Refused as refusal:
            if ticket.scope is not None:
                detail = str(refusal.args[1])
                self.books.record(Entry(self.now_ms(), scope=ticket.scope, refused=refusal.code, detail=detail))
            return Answer(refusal.status, refusal.body)
        finally:
            self.abandon(ticket)

    def abandon(self, ticket: Ticket) -> None:
        """The request ended; its key is no longer in progress."""
        if ticket.scope is not None:
            self._in_progress.discard(ticket.scope)

    def sweep(self) -> None:
        """End what is overdue: READY after 30 minutes, IN_PROGRESS after 10, an account after its due date."""
        for payment in self.books.overdue(self.now_ms()):
            self.record(expired(payment))

    def record(self, payment: Payment, scope: str | None = None, refused: str | None = None) -> None:
        """Durable, and then told."""
        before = self.books.payments.get(payment.key)
        entry = Entry(self.now_ms(), payment=payment, scope=scope, refused=refused)
        self.books.record(entry)
        self._tell(before, entry)

    def replay(self, entry: Entry) -> None:
        """An entry of an earlier life; its webhooks have the ids they had."""
        before = None if entry.payment is None else self.books.payments.get(entry.payment.key)
        self.books.apply(entry)
        self._tell(before, entry)

    def declines_with(self, payment: Payment) -> str | None:
        """The code the issuer answers when it is asked now; None lets it pay."""
        return "REJECT_CARD_COMPANY" if self._declines() else payment.decline_code

    def _tell(self, before: Payment | None, entry: Entry) -> None:
        """Each step that ends or pays something is told; a virtual account tells it twice."""
        payment = entry.payment
        if payment is None or payment.status in ("READY", "IN_PROGRESS"):
            return
        if before is not None and (before.status, before.moves) == (payment.status, payment.moves):
            return
        id_ = f"{payment.key[-12:]}-{self.books.entries}"
        self._send(f"{id_}-status", status_webhook(payment, entry.at_ms), entry.at_ms)
        if payment.account is not None:
            self._send(f"{id_}-deposit", deposit_webhook(payment, entry.at_ms), entry.at_ms)

    def find(self, key: str) -> Payment:
        self.sweep()
        payment = self.books.payments.get(key)
        if payment is None:
            raise Refused("NOT_FOUND_PAYMENT")
        return payment

    def issue_account(self, payment: Payment, bank: str, hours: int) -> Payment:
        now_ms = self.now_ms()
        # The X is the vendor's sign of a test account that takes no real money.
        number = f"X{secrets.randbelow(10**13):013d}"
        account = Account(bank, number, payment.customer_name, now_ms + hours * HOUR_MS)
        return account_issued(payment, account, f"ps_{secrets.token_hex(16)}", transaction_key())

    def _authenticate(self, request: Request) -> None:
        scheme, _, credential = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic" or not credential:
            raise Refused("UNAUTHORIZED_KEY")
        if hmac.compare_digest(credential.strip().encode(), self._credential.encode()):
            return
        try:
            has_colon = b":" in base64.b64decode(credential.strip().encode(), validate=True)
        except ValueError:
            has_colon = False
        raise Refused("UNAUTHORIZED_KEY" if has_colon else "INCORRECT_BASIC_AUTH_FORMAT")

    def _scope(self, request: Request) -> str | None:
        """API key + method + URL + key. The body is not in it: a key used for another body replays the first answer."""
        key = request.headers.get("idempotency-key")
        if key is None:
            return None
        if not 1 <= len(key) <= MAX_KEY_CHARS:
            raise Refused("INVALID_IDEMPOTENCY_KEY")
        return f"{request.method} {request.path} {key}"

    def _play_test_code(self, request: Request) -> None:
        code = request.headers.get("tosspayments-test-code")
        if code is None or request.method != "POST" or not self._secret.startswith("test_"):
            return
        raise Refused(code) if code in ERRORS else Refused("INVALID_REQUEST", "TossPayments-Test-Code")


Handler = Callable[[Provider, Request, str | None], Answer]


def confirm(provider: Provider, request: Request, scope: str | None) -> Answer:
    """Execute what the buyer authenticated: DONE, WAITING_FOR_DEPOSIT, or ABORTED with the issuer's code."""
    body = decoded(request.body, ConfirmBody)
    payment = provider.books.payments.get(body.payment_key)
    if payment is None:
        raise Refused("NOT_FOUND_PAYMENT_SESSION")
    refuse_confirm(payment, body.order_id, body.amount)
    if (code := provider.declines_with(payment)) is not None:
        return _decline(provider, payment, code, scope)
    if payment.is_virtual_account:
        payment = provider.issue_account(payment, "88", WINDOW_ACCOUNT_HOURS)
        provider.record(payment, scope)
        return _shown(payment, "other")
    payment = approved(payment, transaction_key(), provider.now_ms())
    provider.record(payment, scope)
    return _shown(payment, "capture")


def charge_billing(provider: Provider, request: Request, scope: str | None) -> Answer:
    """Charge a registered card without the buyer: DONE at once, or ABORTED with the issuer's code."""
    body = decoded(request.body, ChargeBillingBody)
    billing = provider.books.billing_by_key.get(request.path.rpartition("/")[2])
    if billing is None:
        raise Refused("NOT_FOUND_BILLING")
    if billing.customer_key != body.customer_key:
        raise Refused("NOT_MATCHES_CUSTOMER_KEY")
    _refuse_used_order(provider, body.order_id)
    payment = _fresh(provider, body, type="BILLING", customer_key=body.customer_key)
    payment = structs.replace(
        payment, decline_code=billing.decline_code, installment_months=body.card_installment_plan or 0
    )
    payment = authenticated(payment, provider.now_ms())
    if (code := provider.declines_with(payment)) is not None:
        return _decline(provider, payment, code, scope)
    payment = approved(payment, transaction_key(), provider.now_ms())
    provider.record(payment, scope)
    return _shown(payment, "capture")


def issue_virtual_account(provider: Provider, request: Request, scope: str | None) -> Answer:
    body = decoded(request.body, VirtualAccountBody)
    _refuse_used_order(provider, body.order_id)
    fresh = _fresh(provider, body, method="가상계좌", customer_name=body.customer_name)
    payment = provider.issue_account(authenticated(fresh, provider.now_ms()), body.bank, body.valid_hours)
    provider.record(payment, scope)
    return _shown(payment, "other")


def issue_billing(provider: Provider, request: Request, scope: str | None) -> Answer:
    """Turn the authKey of the window into a billing key; an authKey works once."""
    body = decoded(request.body, IssueBillingBody)
    billing = provider.books.billing_by_auth.get(body.auth_key)
    if billing is None or billing.billing_key is not None:
        raise Refused("INVALID_REQUEST", "authKey")
    if billing.customer_key != body.customer_key:
        raise Refused("NOT_MATCHES_CUSTOMER_KEY")
    now_ms = provider.now_ms()
    billing = structs.replace(billing, billing_key=f"bk_{secrets.token_urlsafe(32)}", issued_at_ms=now_ms)
    entry = Entry(now_ms, billing=billing, scope=scope)
    provider.books.record(entry)
    return _answer_of(entry)


def cancel(provider: Provider, request: Request, scope: str | None) -> Answer:
    body = decoded(request.body, CancelBody)
    payment = provider.find(request.path.split("/")[3])
    ask = CancelAsk(
        body.cancel_reason,
        body.cancel_amount,
        body.tax_free_amount or 0,
        body.refundable_amount,
        body.refund_receive_account is not None,
    )
    now_ms = provider.now_ms()
    if payment.cancels and now_ms - payment.cancels[-1].at_ms < provider.rules.cancel_gap_ms:
        raise Refused("FORBIDDEN_CONSECUTIVE_REQUEST")
    refuse_cancel(payment, ask, provider.rules.over_refund)
    payment = cancelled(payment, ask, transaction_key(), now_ms)
    provider.record(payment, scope)
    return _shown(payment, "refund")


def get_payment(provider: Provider, request: Request, _scope: str | None) -> Answer:
    return _shown(provider.find(request.path.rpartition("/")[2]), "read")


def get_order(provider: Provider, request: Request, _scope: str | None) -> Answer:
    payment = provider.books.of_order(request.path.rpartition("/")[2])
    if payment is None:
        raise Refused("NOT_FOUND_PAYMENT")
    return _shown(payment, "read")


def list_transactions(provider: Provider, request: Request, _scope: str | None) -> Answer:
    return _json(transactions(provider.books, transactions_page(request.query)))


def list_settlements(provider: Provider, request: Request, _scope: str | None) -> Answer:
    page = settlements_page(request.query)
    span = request.query["startDate"], request.query["endDate"]
    return _json(settlements(provider.books, provider.rules.seeds, *span, page))


ROUTES: tuple[tuple[str, re.Pattern[str], Handler], ...] = (
    ("POST", re.compile(r"/v1/payments/confirm"), confirm),
    ("POST", re.compile(r"/v1/payments/[^/]{1,200}/cancel"), cancel),
    ("POST", re.compile(r"/v1/virtual-accounts"), issue_virtual_account),
    ("POST", re.compile(r"/v1/billing/authorizations/issue"), issue_billing),
    ("POST", re.compile(r"/v1/billing/[^/]{1,200}"), charge_billing),
    ("GET", re.compile(r"/v1/payments/orders/[^/]{1,64}"), get_order),
    ("GET", re.compile(r"/v1/payments/[^/]{1,200}"), get_payment),
    ("GET", re.compile(r"/v1/transactions"), list_transactions),
    ("GET", re.compile(r"/v1/settlements"), list_settlements),
)


def transaction_key() -> str:
    return f"txrd_{secrets.token_hex(14)}"


def _route(request: Request) -> Handler:
    for method, pattern, handler in ROUTES:
        if method == request.method and pattern.fullmatch(request.path):
            return handler
    raise Refused("NOT_FOUND")


def _fresh(provider: Provider, body: ChargeBillingBody | VirtualAccountBody, **fields: Any) -> Payment:
    tax_free = body.tax_free_amount or 0
    if tax_free > body.amount:
        raise Refused("INVALID_REQUEST", "taxFreeAmount")
    return Payment(
        key=f"tviva{secrets.token_hex(16)}",
        order_id=body.order_id,
        order_name=body.order_name,
        method=fields.pop("method", "카드"),
        amount=body.amount,
        status="READY",
        requested_at_ms=provider.now_ms(),
        tax_free=tax_free,
        **fields,
    )


def _refuse_used_order(provider: Provider, order_id: str) -> None:
    payment = provider.books.of_order(order_id)
    if payment is not None and (payment.moves or payment.status == "WAITING_FOR_DEPOSIT"):
        raise Refused("DUPLICATED_ORDER_ID")


def _decline(provider: Provider, payment: Payment, code: str, scope: str | None) -> Answer:
    provider.record(declined(payment, code, provider.now_ms()), scope, refused=code)
    refusal = Refused(code)
    return Answer(refusal.status, refusal.body, "decline")


def _answer_of(entry: Entry) -> Answer:
    """The kept answer: a pure function of its entry."""
    if entry.refused is not None:
        refusal = Refused(entry.refused, entry.detail)
        return Answer(refusal.status, refusal.body)
    if entry.payment is not None:
        return _shown(entry.payment, "other")
    assert entry.billing is not None and entry.billing.billing_key is not None
    billing = entry.billing
    return _json(billing_view(billing.billing_key or "", billing.customer_key, billing.issued_at_ms or 0))


def _shown(payment: Payment, kind: Kind) -> Answer:
    return Answer(200, msgspec.json.encode(payment_view(payment)), kind)


def _json(value: Any) -> Answer:
    return Answer(200, msgspec.json.encode(value), "read")
