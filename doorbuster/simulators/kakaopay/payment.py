"""A KakaoPay payment and a subscription (sid) as frozen values, and what may happen to them: no clock, no sockets.

States: developers.kakaopay.com/docs/payment/online/payment-detail. A tid lives 15 minutes (the vendor's forum,
developers.kakaopay.com/forum/t/api/657). Times are milliseconds since 1970; amounts are won.
"""

from typing import Literal

from msgspec import Struct, structs

from doorbuster.simulators.kakaopay.errors import Refused

Status = Literal[
    "READY",
    "SEND_TMS",
    "OPEN_PAYMENT",
    "SELECT_METHOD",
    "ARS_WAITING",
    "AUTH_PASSWORD",
    "ISSUED_SID",
    "SUCCESS_PAYMENT",
    "PART_CANCEL_PAYMENT",
    "CANCEL_PAYMENT",
    "FAIL_AUTH_PASSWORD",
    "QUIT_PAYMENT",
    "FAIL_PAYMENT",
]
Event = Literal[
    "send_tms",
    "open",
    "select",
    "wait_for_ars",
    "authenticate",
    "fail_password",
    "quit",
    "approve",
    "issue_sid",
    "fail",
    "cancel_part",
    "cancel_all",
]
Method = Literal["CARD", "MONEY"]

TID_MS = 15 * 60_000
MAX_ACTIONS = 1000

TRANSITIONS: dict[tuple[Status, Event], Status] = {
    ("READY", "send_tms"): "SEND_TMS",
    ("READY", "open"): "OPEN_PAYMENT",
    ("SEND_TMS", "open"): "OPEN_PAYMENT",
    ("OPEN_PAYMENT", "select"): "SELECT_METHOD",
    ("SELECT_METHOD", "wait_for_ars"): "ARS_WAITING",
    ("READY", "authenticate"): "AUTH_PASSWORD",
    ("SEND_TMS", "authenticate"): "AUTH_PASSWORD",
    ("OPEN_PAYMENT", "authenticate"): "AUTH_PASSWORD",
    ("SELECT_METHOD", "authenticate"): "AUTH_PASSWORD",
    ("ARS_WAITING", "authenticate"): "AUTH_PASSWORD",
    ("READY", "fail_password"): "FAIL_AUTH_PASSWORD",
    ("OPEN_PAYMENT", "fail_password"): "FAIL_AUTH_PASSWORD",
    ("SELECT_METHOD", "fail_password"): "FAIL_AUTH_PASSWORD",
    ("READY", "quit"): "QUIT_PAYMENT",
    ("SEND_TMS", "quit"): "QUIT_PAYMENT",
    ("OPEN_PAYMENT", "quit"): "QUIT_PAYMENT",
    ("SELECT_METHOD", "quit"): "QUIT_PAYMENT",
    ("ARS_WAITING", "quit"): "QUIT_PAYMENT",
    ("AUTH_PASSWORD", "approve"): "SUCCESS_PAYMENT",
    ("AUTH_PASSWORD", "issue_sid"): "ISSUED_SID",
    ("AUTH_PASSWORD", "fail"): "FAIL_PAYMENT",
    ("SUCCESS_PAYMENT", "cancel_part"): "PART_CANCEL_PAYMENT",
    ("SUCCESS_PAYMENT", "cancel_all"): "CANCEL_PAYMENT",
    ("PART_CANCEL_PAYMENT", "cancel_part"): "PART_CANCEL_PAYMENT",
    ("PART_CANCEL_PAYMENT", "cancel_all"): "CANCEL_PAYMENT",
}
PENDING: frozenset[Status] = frozenset({"READY", "SEND_TMS", "OPEN_PAYMENT", "SELECT_METHOD", "ARS_WAITING"})
PAID: frozenset[Status] = frozenset({"SUCCESS_PAYMENT", "PART_CANCEL_PAYMENT", "CANCEL_PAYMENT", "ISSUED_SID"})


class NotPossible(Exception):
    """Expected: the buyer cannot do this in this state (not an answer of the API)."""


class Sums(Struct, frozen=True):
    """An amount and what of it is tax-free and what is VAT."""

    total: int = 0
    tax_free: int = 0
    vat: int = 0

    def plus(self, other: "Sums") -> "Sums":
        return Sums(self.total + other.total, self.tax_free + other.tax_free, self.vat + other.vat)

    def minus(self, other: "Sums") -> "Sums":
        return Sums(self.total - other.total, self.tax_free - other.tax_free, self.vat - other.vat)


class Action(Struct, frozen=True):
    """One approval, cancellation or issue of a sid; `aid` names it."""

    aid: str
    kind: Literal["PAYMENT", "CANCEL", "ISSUED_SID"]
    sums: Sums
    at_ms: int
    payload: str | None = None


class Urls(Struct, frozen=True):
    approval: str
    cancel: str
    fail: str


class Payment(Struct, frozen=True):
    """`result_code` is what the card or bank will say when it is asked to pay; `urls` is None for a later charge."""

    tid: str
    cid: str
    partner_order_id: str
    partner_user_id: str
    item_name: str
    quantity: int
    sums: Sums
    status: Status
    created_at_ms: int
    urls: Urls | None = None
    item_code: str | None = None
    sid: str | None = None
    method: Method | None = None
    install_month: int = 0
    pg_token: str | None = None
    result_code: str | None = None
    captures_all_the_same: bool = False
    approved_at_ms: int | None = None
    canceled_at_ms: int | None = None
    failed_at_ms: int | None = None
    actions: tuple[Action, ...] = ()

    @property
    def canceled(self) -> Sums:
        sums = Sums()
        for action in self.actions:
            if action.kind == "CANCEL":
                sums = sums.plus(action.sums)
        return sums

    @property
    def available(self) -> Sums:
        """What can still be cancelled; nothing before the approval."""
        return self.sums.minus(self.canceled) if self.approved_at_ms is not None else Sums()

    @property
    def captured(self) -> int:
        """Won taken from the buyer and not given back."""
        paid = sum(action.sums.total for action in self.actions if action.kind == "PAYMENT")
        return paid - self.canceled.total


class Subscription(Struct, frozen=True):
    """What a sid allows: later charges of one user without them. `result_code` is what every later charge is told."""

    sid: str
    cid: str
    partner_user_id: str
    item_name: str
    method: Method
    created_at_ms: int
    active: bool = True
    last_approved_at_ms: int | None = None
    inactivated_at_ms: int | None = None
    result_code: str | None = None


def after(status: Status, event: Event) -> Status:
    """Raises NotPossible when the table has no such step."""
    try:
        return TRANSITIONS[status, event]
    except KeyError:
        raise NotPossible(f"{event} cannot happen to a payment that is {status}") from None


def vat_of(taxable: int) -> int:
    """The VAT KakaoPay works out when the shop sends none: an eleventh of the taxable amount, half a won up."""
    return (2 * taxable + 11) // 22


def is_overdue(payment: Payment, now_ms: int) -> bool:
    waits = payment.status in PENDING or payment.status == "AUTH_PASSWORD"
    return waits and now_ms >= payment.created_at_ms + TID_MS


def stepped(payment: Payment, event: Event) -> Payment:
    """The buyer went on in the window, or left it."""
    return structs.replace(payment, status=after(payment.status, event))


def authenticated(
    payment: Payment, method: Method, pg_token: str, result_code: str | None, captures_all_the_same: bool
) -> Payment:
    """The buyer chose a method and gave their password; the redirect carries `pg_token`."""
    return structs.replace(
        payment,
        status=after(payment.status, "authenticate"),
        method=method,
        pg_token=pg_token,
        result_code=result_code,
        captures_all_the_same=captures_all_the_same,
    )


class ApproveAsk(Struct, frozen=True):
    cid: str
    partner_order_id: str
    partner_user_id: str
    pg_token: str
    total_amount: int | None = None


def refuse_approve(payment: Payment, ask: ApproveAsk, now_ms: int) -> None:
    """Raises Refused with what the vendor answers to an approval that does not fit the payment."""
    if ask.cid != payment.cid:
        raise Refused(-731)
    if payment.status in PAID:
        raise Refused(-702)
    if is_overdue(payment, now_ms):
        raise Refused(-723)
    if payment.status in PENDING:
        raise Refused(-701)
    if payment.status != "AUTH_PASSWORD":
        raise Refused(-783)
    if ask.partner_order_id != payment.partner_order_id:
        raise Refused(-706)
    if ask.partner_user_id != payment.partner_user_id:
        raise Refused(-707)
    if ask.pg_token != payment.pg_token:
        raise Refused(-708)
    if ask.total_amount is not None and ask.total_amount != payment.sums.total:
        raise Refused(-704)


def approved(payment: Payment, aid: str, sid: str | None, now_ms: int) -> Payment:
    """Money moved, or, when the amount was 0, only a sid was issued."""
    kind: Literal["PAYMENT", "ISSUED_SID"] = "PAYMENT" if payment.sums.total else "ISSUED_SID"
    return structs.replace(
        payment,
        status=after(payment.status, "approve" if kind == "PAYMENT" else "issue_sid"),
        sid=sid,
        approved_at_ms=now_ms,
        actions=(*payment.actions, Action(aid, kind, payment.sums, now_ms)),
    )


def failed(payment: Payment, now_ms: int) -> Payment:
    return structs.replace(payment, status=after(payment.status, "fail"), failed_at_ms=now_ms)


class CancelAsk(Struct, frozen=True):
    """`vat` None lets KakaoPay work it out; `available` is what the shop believes can be cancelled."""

    cid: str
    amount: int
    tax_free: int
    vat: int | None = None
    available: int | None = None
    payload: str | None = None
    """What the shop wants to be told again with the answer."""


def cancel_sums(payment: Payment, ask: CancelAsk) -> Sums:
    """What a cancellation gives back; the last one takes what is left of each part."""
    left = payment.available
    if ask.amount == left.total:
        return left
    vat = min(vat_of(ask.amount - ask.tax_free), left.vat) if ask.vat is None else ask.vat
    return Sums(ask.amount, ask.tax_free, vat)


def refuse_cancel(payment: Payment, ask: CancelAsk, over_refund: bool = False) -> None:
    """Raises Refused with what the vendor answers when this cannot be cancelled. The cap stands here, and only here.

    With `over_refund` there is no cap: a provider that would pay back more than it took, if it were asked to.
    """
    if ask.cid != payment.cid:
        raise Refused(-731)
    if payment.status not in ("SUCCESS_PAYMENT", "PART_CANCEL_PAYMENT") and not (
        over_refund and payment.status == "CANCEL_PAYMENT"
    ):
        raise Refused(-784)
    left = payment.available
    if ask.available is not None and ask.available != left.total:
        raise Refused(-722, "cancel_available_amount")
    if over_refund:
        return
    if ask.amount > left.total:
        raise Refused(-710)
    sums = cancel_sums(payment, ask)
    rest = left.minus(sums)
    # No part may be given back beyond what was taken of it, and no part of it may be more than the whole.
    if min(rest.tax_free, rest.vat, sums.total - sums.tax_free - sums.vat) < 0 or rest.total < rest.tax_free + rest.vat:
        raise Refused(-722)


def cancelled(payment: Payment, ask: CancelAsk, aid: str, now_ms: int) -> Payment:
    if len(payment.actions) >= MAX_ACTIONS:
        raise Refused(-784, "too many actions")
    sums = cancel_sums(payment, ask)
    is_last = sums.total >= payment.available.total
    # Past the cap there is no step in the table: everything was given back before, and still is.
    beyond = payment.status == "CANCEL_PAYMENT"
    status = payment.status if beyond else after(payment.status, "cancel_all" if is_last else "cancel_part")
    action = Action(aid, "CANCEL", sums, now_ms, ask.payload)
    return structs.replace(payment, status=status, canceled_at_ms=now_ms, actions=(*payment.actions, action))


def refuse_charge(subscription: Subscription, cid: str, partner_user_id: str) -> None:
    """Raises Refused when a later charge does not fit the sid."""
    if cid != subscription.cid:
        raise Refused(-731)
    if not subscription.active:
        raise Refused(-751)
    if partner_user_id != subscription.partner_user_id:
        raise Refused(-753)
