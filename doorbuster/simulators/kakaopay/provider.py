"""The KakaoPay API itself: routes, and for each what it decides and records; no sockets, no waiting."""

import hmac
import secrets
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct, structs

from doorbuster.simulators.host.settlement import Columns, Seeds, seeded
from doorbuster.simulators.host.wire import Answer, Kind, Request
from doorbuster.simulators.kakaopay.books import Books, Entry
from doorbuster.simulators.kakaopay.errors import Refused
from doorbuster.simulators.kakaopay.payment import (
    ApproveAsk,
    CancelAsk,
    Payment,
    Subscription,
    Sums,
    Urls,
    approved,
    authenticated,
    cancelled,
    failed,
    refuse_approve,
    refuse_cancel,
    refuse_charge,
    vat_of,
)
from doorbuster.simulators.kakaopay.requests import (
    ONE_TIME,
    SUBSCRIPTION,
    ApproveBody,
    CancelBody,
    OrderBody,
    ReadyBody,
    SidBody,
    SubscriptionBody,
    decoded,
)
from doorbuster.simulators.kakaopay.views import (
    View,
    approve_view,
    cancel_view,
    inactive_view,
    order_view,
    ready_view,
    subscription_view,
)

# The method says "wait": nothing was decided, and the same approval may be asked again.
NOT_DECIDED = frozenset({"USER_LOCKED"})


class Ticket(Struct, frozen=True):
    """A request that was let in and is not decided yet; `subject` is the tid or sid it is about."""

    request: Request
    decide: Callable[["Provider", Request], Answer]
    subject: str | None


class Rules(Struct):
    """How this provider deviates from strictness; changed by the admin endpoints."""

    over_refund: bool = False
    seeds: Seeds = Seeds()


class Provider:
    """Guards the books and the payments an approval or cancellation is in progress for."""

    def __init__(self, books: Books, secret: str, now_ms: Callable[[], int]) -> None:
        self.books = books
        self.rules = Rules()
        self.now_ms = now_ms
        self._secret = secret.encode()
        self._in_progress: set[str] = set()
        self._declines: Callable[[], bool] = lambda: False

    def admit(self, request: Request) -> Answer | Ticket:
        """Authentication, routing, one approval or cancellation of a payment at a time. A ticket must be given back."""
        try:
            self._authenticate(request)
            handler = ROUTES.get(request.path) if request.method == "POST" else None
            if handler is None:
                raise Refused(-404)
            subject = _subject(request) if request.path in EXCLUSIVE else None
            if subject is not None and subject in self._in_progress:
                raise Refused(-785)
            if subject is not None:
                self._in_progress.add(subject)
            return Ticket(request, handler, subject)
        except Refused as refusal:
            return Answer(refusal.status, refusal.body)

    def decide(self, ticket: Ticket, declines: Callable[[], bool]) -> Answer:
        """What happens now; `declines` is asked once a card or bank is. Raises LedgerUnavailable: nothing happened."""
        self._declines = declines
        try:
            return ticket.decide(self, ticket.request)
        except Refused as refusal:
            return Answer(refusal.status, refusal.body)
        finally:
            self.abandon(ticket)

    def abandon(self, ticket: Ticket) -> None:
        """The request ended; its payment is free for the next one."""
        if ticket.subject is not None:
            self._in_progress.discard(ticket.subject)

    def find(self, tid: str) -> Payment:
        payment = self.books.payments.get(tid)
        if payment is None:
            raise Refused(-721)
        return payment

    def find_subscription(self, sid: str) -> Subscription:
        subscription = self.books.subscriptions.get(sid)
        if subscription is None:
            raise Refused(-750)
        return subscription

    def record(self, payment: Payment, subscription: Subscription | None = None) -> None:
        self.books.record(Entry(self.now_ms(), payment, subscription))

    def told(self, result_code: str | None) -> str | None:
        """What the card or bank says when it is asked now; None lets it pay."""
        return "DECLINED" if self._declines() else result_code

    def _authenticate(self, request: Request) -> None:
        header = request.headers.get("authorization", "")
        if not header:
            raise Refused(-400)
        scheme, _, key = header.partition(" ")
        if scheme not in ("SECRET_KEY", "DEV_SECRET_KEY") or not hmac.compare_digest(
            key.strip().encode(), self._secret
        ):
            raise Refused(-401)


Handler = Callable[[Provider, Request], Answer]


def ready(provider: Provider, request: Request) -> Answer:
    """Open a payment: a tid and the URLs of the window. Asked twice it opens two; no key tells them apart."""
    body = decoded(request.body, ReadyBody)
    if body.cid not in (ONE_TIME, SUBSCRIPTION):
        raise Refused(-731)
    if body.total_amount == 0 and body.cid != SUBSCRIPTION:
        raise Refused(-724)
    payment = Payment(
        tid=new_id("T"),
        cid=body.cid,
        partner_order_id=body.partner_order_id,
        partner_user_id=body.partner_user_id,
        item_name=body.item_name,
        quantity=body.quantity,
        sums=_sums(body.total_amount, body.tax_free_amount, body.vat_amount),
        status="READY",
        created_at_ms=provider.now_ms(),
        urls=Urls(body.approval_url, body.cancel_url, body.fail_url),
        item_code=body.item_code,
        install_month=body.install_month or 0,
    )
    provider.record(payment)
    return _json(ready_view(payment, f"{request.origin}/mockup/v1/{payment.tid}"), "other")


def approve(provider: Provider, request: Request) -> Answer:
    """Take the money the buyer agreed to in the window; once, for there is no second approval of a tid."""
    body = decoded(request.body, ApproveBody)
    payment = provider.find(body.tid)
    ask = ApproveAsk(body.cid, body.partner_order_id, body.partner_user_id, body.pg_token, body.total_amount)
    refuse_approve(payment, ask, provider.now_ms())
    code = provider.told(payment.result_code)
    if code is not None and not payment.captures_all_the_same:
        if code not in NOT_DECIDED:
            provider.record(failed(payment, provider.now_ms()))
        return _refused(Refused(-780, result_code=code), "decline")
    now_ms = provider.now_ms()
    sid = new_id("S") if payment.cid == SUBSCRIPTION else None
    payment = approved(payment, new_id("A"), sid, now_ms)
    provider.record(payment, _subscription_of(payment, now_ms))
    if code is not None:
        return _refused(Refused(-780, result_code=code), "capture")
    return _json(approve_view(payment), "capture")


def order(provider: Provider, request: Request) -> Answer:
    body = decoded(request.body, OrderBody)
    payment = provider.find(body.tid)
    if payment.cid != body.cid:
        raise Refused(-731)
    return _json(order_view(payment), "read")


def cancel(provider: Provider, request: Request) -> Answer:
    """Give back a part or all; no key protects it, so the same part asked twice is given back twice."""
    body = decoded(request.body, CancelBody)
    payment = provider.find(body.tid)
    ask = CancelAsk(
        body.cid,
        body.cancel_amount,
        body.cancel_tax_free_amount,
        body.cancel_vat_amount,
        body.cancel_available_amount,
        body.payload,
    )
    refuse_cancel(payment, ask, provider.rules.over_refund)
    payment = cancelled(payment, ask, new_id("A"), provider.now_ms())
    provider.record(payment)
    return _json(cancel_view(payment), "refund")


def charge(provider: Provider, request: Request) -> Answer:
    """A later charge of a sid, without the buyer. Asked twice it charges twice."""
    body = decoded(request.body, SubscriptionBody)
    subscription = provider.find_subscription(body.sid)
    refuse_charge(subscription, body.cid, body.partner_user_id)
    now_ms = provider.now_ms()
    payment = Payment(
        tid=new_id("T"),
        cid=body.cid,
        partner_order_id=body.partner_order_id,
        partner_user_id=body.partner_user_id,
        item_name=body.item_name or subscription.item_name,
        quantity=body.quantity,
        sums=_sums(body.total_amount, body.tax_free_amount, body.vat_amount),
        status="READY",
        created_at_ms=now_ms,
        item_code=body.item_code,
    )
    code = provider.told(subscription.result_code)
    payment = authenticated(payment, subscription.method, new_id("P"), code, False)
    if code is not None:
        if code not in NOT_DECIDED:
            provider.record(failed(payment, provider.now_ms()))
        return _refused(Refused(-782, result_code=code), "decline")
    payment = approved(payment, new_id("A"), body.sid, now_ms)
    provider.record(payment, structs.replace(subscription, last_approved_at_ms=now_ms))
    return _json(approve_view(payment), "capture")


def get_subscription(provider: Provider, request: Request) -> Answer:
    return _json(subscription_view(_asked_subscription(provider, request)), "read")


def end_subscription(provider: Provider, request: Request) -> Answer:
    """INACTIVE for good; asked again it stays so."""
    subscription = _asked_subscription(provider, request)
    if subscription.active:
        now_ms = provider.now_ms()
        subscription = structs.replace(subscription, active=False, inactivated_at_ms=now_ms)
        provider.books.record(Entry(now_ms, subscription=subscription))
    return _json(inactive_view(subscription), "other")


ROOT = "/online/v1/payment"
ROUTES: dict[str, Handler] = {
    f"{ROOT}/ready": ready,
    f"{ROOT}/approve": approve,
    f"{ROOT}/order": order,
    f"{ROOT}/cancel": cancel,
    f"{ROOT}/subscription": charge,
    f"{ROOT}/manage/subscription/status": get_subscription,
    f"{ROOT}/manage/subscription/inactive": end_subscription,
}
READS = frozenset({f"{ROOT}/order", f"{ROOT}/manage/subscription/status"})
EXCLUSIVE = frozenset({f"{ROOT}/approve", f"{ROOT}/cancel"})


class _Tid(Struct, frozen=True):
    tid: str = ""


def new_id(letter: str) -> str:
    """20 characters, as the vendor's tid, aid and sid have."""
    return letter + secrets.token_hex(10)[:19]


COLUMNS = Columns(key="aid", amount="amount", fee="fee", pay_out="pay_out_amount")


def settlement_rows(provider: Provider) -> list[View]:
    """Every movement of money, oldest first, in a form of our own: the vendor documents none."""
    rows = []
    for payment in provider.books.payments.values():
        for action in payment.actions:
            if action.kind == "ISSUED_SID":
                continue
            amount = action.sums.total if action.kind == "PAYMENT" else -action.sums.total
            fee = abs(amount) * 3 // 100 * (1 if amount > 0 else -1)
            rows.append(
                {
                    "tid": payment.tid,
                    "aid": action.aid,
                    "partner_order_id": payment.partner_order_id,
                    "amount": amount,
                    "fee": fee,
                    "pay_out_amount": amount - fee,
                    "at_ms": action.at_ms,
                }
            )
    return seeded(sorted(rows, key=lambda row: (row["at_ms"], row["aid"])), provider.rules.seeds, COLUMNS)


def _subject(request: Request) -> str | None:
    # A body that cannot be read is refused when it is decided; it can hold no lock.
    try:
        return msgspec.json.decode(request.body, type=_Tid).tid or None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _subscription_of(payment: Payment, now_ms: int) -> Subscription | None:
    if payment.sid is None or payment.method is None:
        return None
    last = now_ms if payment.sums.total else None
    return Subscription(
        payment.sid,
        payment.cid,
        payment.partner_user_id,
        payment.item_name,
        payment.method,
        now_ms,
        last_approved_at_ms=last,
    )


def _asked_subscription(provider: Provider, request: Request) -> Subscription:
    body = decoded(request.body, SidBody)
    subscription = provider.find_subscription(body.sid)
    if subscription.cid != body.cid:
        raise Refused(-731)
    return subscription


def _sums(total: int, tax_free: int, vat: int | None) -> Sums:
    if tax_free > total:
        raise Refused(-722, "tax_free_amount")
    vat = vat_of(total - tax_free) if vat is None else vat
    if tax_free + vat > total:
        raise Refused(-722, "vat_amount")
    return Sums(total, tax_free, vat)


def _json(value: Any, kind: Kind) -> Answer:
    return Answer(200, msgspec.json.encode(value), kind)


def _refused(refusal: Refused, kind: Kind) -> Answer:
    return Answer(refusal.status, refusal.body, kind)
