"""A NICEPAY payment as a frozen value, and what may happen to it: no clock, no sockets, no ledger in here.

States, fields and periods: api/payment-window-server.md and api/cancel.md of github.com/nicepayments/nicepay-manual.
`authenticated` is no state of the wire: NICEPAY knows no transaction before the approval. All times are milliseconds
since 1970; all amounts are won.
"""

from typing import Literal

from msgspec import Struct, structs

from doorbuster.simulators.nicepay.errors import DECLINES, Refused

Status = Literal["authenticated", "ready", "paid", "failed", "cancelled", "partialCancelled", "expired"]
Event = Literal["approve", "issue_account", "decline", "deposit", "cancel_all", "cancel_part", "expire"]
PayMethod = Literal["card", "vbank", "naverpay", "kakaopay", "payco", "ssgpay", "samsungpay"]

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
# The manual gives no number for A245; see docs/psp/nicepay.md.
AUTHENTICATION_MS = 30 * 60_000
NET_CANCEL_MS = HOUR_MS
CANCEL_CARD_MS = 365 * DAY_MS
REFUND_ACCOUNT_MS = 180 * DAY_MS
MIN_CARD_WON = 1_000
MIN_INSTALMENTS_WON = 50_000
MAX_INSTALMENTS = 36
MAX_CANCELS = 1000

TRANSITIONS: dict[tuple[Status, Event], Status] = {
    ("authenticated", "approve"): "paid",
    ("authenticated", "issue_account"): "ready",
    ("authenticated", "decline"): "failed",
    ("ready", "deposit"): "paid",
    ("ready", "cancel_all"): "cancelled",
    ("ready", "expire"): "expired",
    ("paid", "cancel_all"): "cancelled",
    ("paid", "cancel_part"): "partialCancelled",
    ("partialCancelled", "cancel_part"): "partialCancelled",
    ("partialCancelled", "cancel_all"): "cancelled",
    # Only under the rule over_refund, which lifts the cap.
    ("cancelled", "cancel_all"): "cancelled",
}


class NotPossible(Exception):
    """Expected: the window or the bank cannot do this in this state (not an answer of the API)."""


class Account(Struct, frozen=True):
    """A virtual account the buyer pays into until `due_at_ms`."""

    number: str
    holder: str
    due_at_ms: int


class Cancel(Struct, frozen=True):
    """`tid` is the payment's own when it was cancelled whole, and a new one for a part."""

    tid: str
    amount: int
    tax_free: int
    reason: str
    at_ms: int


class Payment(Struct, frozen=True):
    """`decline_code` is what the network will say; `expires` is the card's YYMM, when the caller gave a card."""

    tid: str
    order_id: str
    amount: int
    status: Status
    authenticated_at_ms: int
    goods_name: str = "goods"
    pay_method: PayMethod = "card"
    tax_free: int = 0
    mall_reserved: str | None = None
    mall_user_id: str | None = None
    buyer_name: str | None = None
    buyer_tel: str | None = None
    buyer_email: str | None = None
    card_no: str = "1234120000001234"
    expires: str | None = None
    card_quota: int = 0
    part_cancelable: bool = True
    decline_code: str | None = None
    bid: str | None = None
    account_hours: int = 168
    holder: str = "buyer"
    account: Account | None = None
    issued_at_ms: int | None = None
    paid_at_ms: int | None = None
    failed_at_ms: int | None = None
    failure_code: str | None = None
    cancels: tuple[Cancel, ...] = ()

    @property
    def captured(self) -> int:
        """Won taken from the buyer and not given back; it is what can be cancelled, the wire's balanceAmt."""
        return 0 if self.paid_at_ms is None else self.amount - sum(cancel.amount for cancel in self.cancels)

    @property
    def tax_free_left(self) -> int:
        return self.tax_free - sum(cancel.tax_free for cancel in self.cancels)

    @property
    def uses_its_order_id(self) -> bool:
        """Whether no other payment may have its orderId any more; a decline sets it free."""
        return self.status not in ("authenticated", "failed")


def after(status: Status, event: Event) -> Status:
    """Raises NotPossible when the table has no such step."""
    try:
        return TRANSITIONS[status, event]
    except KeyError:
        raise NotPossible(f"{event} cannot happen to a payment that is {status}") from None


def is_overdue(payment: Payment, now_ms: int) -> bool:
    return payment.status == "ready" and payment.account is not None and now_ms >= payment.account.due_at_ms


def expired(payment: Payment) -> Payment:
    """Nobody paid into the account in time."""
    return structs.replace(payment, status=after(payment.status, "expire"))


def refuse_approval(payment: Payment, amount: int, now_ms: int) -> None:
    """Raises Refused with what the vendor answers to an approval that does not fit the authentication."""
    if payment.status != "authenticated":
        raise Refused("U114")
    if now_ms >= payment.authenticated_at_ms + AUTHENTICATION_MS:
        raise Refused("A245")
    if amount != payment.amount:
        raise Refused("A123")


def network_refusal(payment: Payment, now_yymm: str) -> str | None:
    """What the payment network says no with, from what the request itself holds; None lets the issuer decide."""
    if payment.pay_method == "vbank":
        return None
    if payment.expires is not None and payment.expires < now_yymm:
        return "3021"
    if payment.card_quota != 0 and not 2 <= payment.card_quota <= MAX_INSTALMENTS:
        return "3022"
    if payment.card_quota > 1 and payment.amount < MIN_INSTALMENTS_WON:
        return "3024"
    return "3041" if payment.amount < MIN_CARD_WON else None


def approved(payment: Payment, now_ms: int) -> Payment:
    """Money moved: the buyer paid the whole amount."""
    return structs.replace(payment, status=after(payment.status, "approve"), paid_at_ms=now_ms)


def declined(payment: Payment, code: str, now_ms: int) -> Payment:
    """The network said no: failed, for good; its orderId is free again."""
    assert code in DECLINES, "only what the network may say"
    return structs.replace(payment, status=after(payment.status, "decline"), failure_code=code, failed_at_ms=now_ms)


def account_issued(payment: Payment, number: str, now_ms: int) -> Payment:
    """No money moved yet: the buyer has an account to pay into."""
    account = Account(number, payment.holder, now_ms + payment.account_hours * HOUR_MS)
    return structs.replace(payment, status=after(payment.status, "issue_account"), account=account, issued_at_ms=now_ms)


def deposited(payment: Payment, now_ms: int) -> Payment:
    """The buyer paid into the account; a bank takes the whole amount or nothing."""
    return structs.replace(payment, status=after(payment.status, "deposit"), paid_at_ms=now_ms)


class CancelAsk(Struct, frozen=True):
    """What a cancel request asks for; `amount` None is the whole payment."""

    reason: str
    amount: int | None = None
    tax_free: int = 0
    has_refund_account: bool = False


def refuse_cancel(payment: Payment, ask: CancelAsk, now_ms: int, over_refund: bool = False) -> None:
    """Raises Refused with what the vendor answers when this cannot be cancelled. The cap stands here, and only here.

    With `over_refund` there is no cap: a provider that would pay back more than it took, if it were asked to.
    """
    if payment.status in ("failed", "expired") or len(payment.cancels) >= MAX_CANCELS:
        raise Refused("2014")
    if payment.status == "cancelled" and (payment.paid_at_ms is None or ask.amount is None or not over_refund):
        raise Refused("2015")
    if payment.status == "ready":
        if ask.amount is not None and ask.amount != payment.amount:
            raise Refused("1534")
        return
    assert payment.paid_at_ms is not None, "whatever else can be cancelled was paid"
    period_ms = REFUND_ACCOUNT_MS if payment.pay_method == "vbank" else CANCEL_CARD_MS
    if now_ms - payment.paid_at_ms > period_ms:
        raise Refused("2016")
    if payment.pay_method == "vbank" and not ask.has_refund_account:
        raise Refused("U100", "refundAccount")
    if ask.amount is None:
        if payment.status == "partialCancelled":
            raise Refused("2031")
        return
    if not over_refund:
        _refuse_part(payment, ask.amount, ask.tax_free)


def _refuse_part(payment: Payment, amount: int, tax_free: int) -> None:
    if amount > payment.captured:
        raise Refused("U123")
    if amount < payment.captured and not payment.part_cancelable:
        raise Refused("1534")
    if tax_free > amount:
        raise Refused("U321")
    if amount == payment.captured:
        return
    if tax_free > payment.tax_free_left:
        raise Refused("U319")
    # Neither part may be given back beyond what was taken of it.
    if amount - tax_free > payment.captured - payment.tax_free_left:
        raise Refused("U318")


def refuse_net_cancel(payment: Payment, now_ms: int) -> None:
    """Raises Refused: a net cancel is for the hour after an approval, and for the whole of it."""
    if payment.status == "cancelled":
        raise Refused("2015")
    if payment.status == "partialCancelled":
        raise Refused("2031")
    began_ms = payment.issued_at_ms if payment.pay_method == "vbank" else payment.paid_at_ms
    if payment.status not in ("paid", "ready") or began_ms is None:
        raise Refused("2014")
    if now_ms - began_ms > NET_CANCEL_MS:
        raise Refused("2020")
    if payment.pay_method == "vbank" and payment.status == "paid":
        raise Refused("2014")


def cancelled(payment: Payment, ask: CancelAsk, tid: str, now_ms: int) -> Payment:
    """Give back a part or all. Whatever is left of the tax-free part goes with the rest."""
    whole = payment.amount if payment.status == "ready" else payment.captured
    amount = whole if ask.amount is None else ask.amount
    left = whole - amount
    tax_free = payment.tax_free_left if left <= 0 else ask.tax_free
    status = after(payment.status, "cancel_all" if left <= 0 else "cancel_part")
    cancel = Cancel(tid, amount, tax_free, ask.reason, now_ms)
    return structs.replace(payment, status=status, cancels=(*payment.cancels, cancel))
