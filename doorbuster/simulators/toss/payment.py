"""A Toss payment as a frozen value, and what may happen to it: no clock, no sockets, no ledger in here.

States and times: docs.tosspayments.com/en/webhooks (READY 30 minutes, confirm within 10 minutes of IN_PROGRESS, a
virtual account may go DONE → WAITING_FOR_DEPOSIT) and the Payment object of docs.tosspayments.com/reference.
All times are milliseconds since 1970; all amounts are won.
"""

from typing import Literal

from msgspec import Struct, structs

from doorbuster.simulators.toss.errors import DECLINES, Refused

Status = Literal[
    "READY", "IN_PROGRESS", "WAITING_FOR_DEPOSIT", "DONE", "CANCELED", "PARTIAL_CANCELED", "ABORTED", "EXPIRED"
]
Event = Literal[
    "authenticate",
    "approve",
    "issue_account",
    "decline",
    "deposit",
    "reverse_deposit",
    "cancel_all",
    "cancel_part",
    "expire",
]
Method = Literal["카드", "가상계좌", "간편결제", "휴대폰", "계좌이체"]

READY_MS = 30 * 60_000
CONFIRM_MS = 10 * 60_000
MAX_CANCELS = 1000

TRANSITIONS: dict[tuple[Status, Event], Status] = {
    ("READY", "authenticate"): "IN_PROGRESS",
    ("READY", "expire"): "EXPIRED",
    ("IN_PROGRESS", "approve"): "DONE",
    ("IN_PROGRESS", "issue_account"): "WAITING_FOR_DEPOSIT",
    ("IN_PROGRESS", "decline"): "ABORTED",
    ("IN_PROGRESS", "expire"): "EXPIRED",
    ("WAITING_FOR_DEPOSIT", "deposit"): "DONE",
    ("WAITING_FOR_DEPOSIT", "cancel_all"): "CANCELED",
    ("WAITING_FOR_DEPOSIT", "expire"): "EXPIRED",
    ("DONE", "reverse_deposit"): "WAITING_FOR_DEPOSIT",
    ("DONE", "cancel_all"): "CANCELED",
    ("DONE", "cancel_part"): "PARTIAL_CANCELED",
    ("PARTIAL_CANCELED", "cancel_part"): "PARTIAL_CANCELED",
    # Measured by a public client against the vendor's test system: the last part does not make it CANCELED; only the
    # balance says that nothing is left. See docs/psp/toss.md.
    ("PARTIAL_CANCELED", "cancel_all"): "PARTIAL_CANCELED",
}


class NotPossible(Exception):
    """Expected: the window or the bank cannot do this in this state (not an answer of the API)."""


class Account(Struct, frozen=True):
    """A virtual account the buyer pays into until `due_at_ms`."""

    bank_code: str
    number: str
    customer_name: str
    due_at_ms: int
    expired: bool = False


class Cancel(Struct, frozen=True):
    transaction_key: str
    amount: int
    tax_free: int
    reason: str
    at_ms: int
    refundable_after: int


class Move(Struct, frozen=True):
    """One transaction, as `/v1/transactions` and the settlement list it: an approval (+) or a cancellation (-)."""

    transaction_key: str
    amount: int
    status: Status
    at_ms: int


class Payment(Struct, frozen=True):
    """`decline_code` is what the issuer will say when it is asked; `moves` is every movement of money, oldest first."""

    key: str
    order_id: str
    order_name: str
    method: Method
    amount: int
    status: Status
    requested_at_ms: int
    tax_free: int = 0
    type: Literal["NORMAL", "BILLING"] = "NORMAL"
    customer_key: str | None = None
    customer_name: str = "buyer"
    installment_months: int = 0
    partial_cancelable: bool = True
    decline_code: str | None = None
    secret: str | None = None
    account: Account | None = None
    authenticated_at_ms: int | None = None
    approved_at_ms: int | None = None
    last_transaction_key: str | None = None
    failure_code: str | None = None
    failed_at_ms: int | None = None
    cancels: tuple[Cancel, ...] = ()
    moves: tuple[Move, ...] = ()

    @property
    def balance(self) -> int:
        """What can still be cancelled."""
        return self.amount - sum(cancel.amount for cancel in self.cancels)

    @property
    def tax_free_balance(self) -> int:
        return self.tax_free - sum(cancel.tax_free for cancel in self.cancels)

    @property
    def captured(self) -> int:
        """Won taken from the buyer and not given back."""
        return sum(move.amount for move in self.moves)

    @property
    def is_virtual_account(self) -> bool:
        return self.method == "가상계좌"


def after(status: Status, event: Event) -> Status:
    """Raises NotPossible when the table has no such step."""
    try:
        return TRANSITIONS[status, event]
    except KeyError:
        raise NotPossible(f"{event} cannot happen to a payment that is {status}") from None


def vat_of(taxable: int) -> int:
    """VAT contained in a taxable amount: an eleventh, half a won up (vendor: 15000 → 1364, 9026 → 821)."""
    return (2 * taxable + 11) // 22


def expires_at_ms(payment: Payment) -> int | None:
    """When it will be EXPIRED if nothing happens; None when time does nothing to it."""
    match payment.status:
        case "READY":
            return payment.requested_at_ms + READY_MS
        case "IN_PROGRESS":
            assert payment.authenticated_at_ms is not None
            return payment.authenticated_at_ms + CONFIRM_MS
        case "WAITING_FOR_DEPOSIT":
            assert payment.account is not None
            return payment.account.due_at_ms
        case _:
            return None


def is_overdue(payment: Payment, now_ms: int) -> bool:
    at_ms = expires_at_ms(payment)
    return at_ms is not None and now_ms >= at_ms


def expired(payment: Payment) -> Payment:
    account = payment.account and structs.replace(payment.account, expired=True)
    return structs.replace(
        payment, status=after(payment.status, "expire"), account=account, failure_code="EXPIRED_PAYMENT"
    )


def authenticated(payment: Payment, now_ms: int) -> Payment:
    """The buyer proved who they are in the window; from here the shop has 10 minutes to confirm."""
    return structs.replace(payment, status=after(payment.status, "authenticate"), authenticated_at_ms=now_ms)


def refuse_confirm(payment: Payment, order_id: str, amount: int) -> None:
    """Raises Refused with what the vendor answers to a confirm that does not fit the payment."""
    if payment.status in ("READY", "EXPIRED"):
        raise Refused("NOT_FOUND_PAYMENT_SESSION")
    if payment.status != "IN_PROGRESS":
        raise Refused("ALREADY_PROCESSED_PAYMENT")
    if order_id != payment.order_id:
        raise Refused("FORBIDDEN_REQUEST", "orderId")
    if amount != payment.amount:
        raise Refused("INVALID_REQUEST", "amount")


def approved(payment: Payment, transaction_key: str, now_ms: int) -> Payment:
    """Money moved: the buyer paid the whole amount."""
    status = after(payment.status, "approve")
    return structs.replace(
        payment,
        status=status,
        approved_at_ms=now_ms,
        last_transaction_key=transaction_key,
        moves=(*payment.moves, Move(transaction_key, payment.amount, status, now_ms)),
    )


def declined(payment: Payment, code: str, now_ms: int) -> Payment:
    """The issuer said no: ABORTED, for good."""
    assert code in DECLINES, "only what an issuer may say"
    return structs.replace(payment, status=after(payment.status, "decline"), failure_code=code, failed_at_ms=now_ms)


def account_issued(payment: Payment, account: Account, secret: str, transaction_key: str) -> Payment:
    """No money moved yet: the buyer has an account to pay into."""
    return structs.replace(
        payment,
        status=after(payment.status, "issue_account"),
        account=account,
        secret=secret,
        last_transaction_key=transaction_key,
    )


def deposited(payment: Payment, transaction_key: str, now_ms: int) -> Payment:
    """The buyer paid into the account; a bank takes the whole amount or nothing."""
    status = after(payment.status, "deposit")
    return structs.replace(
        payment,
        status=status,
        approved_at_ms=now_ms,
        last_transaction_key=transaction_key,
        moves=(*payment.moves, Move(transaction_key, payment.amount, status, now_ms)),
    )


def deposit_reversed(payment: Payment, transaction_key: str, now_ms: int) -> Payment:
    """The bank took its word back (docs.tosspayments.com/en/webhooks): DONE → WAITING_FOR_DEPOSIT, no money."""
    if not payment.is_virtual_account:
        raise NotPossible("only a virtual account waits again for its deposit")
    status = after(payment.status, "reverse_deposit")
    return structs.replace(
        payment,
        status=status,
        approved_at_ms=None,
        last_transaction_key=transaction_key,
        moves=(*payment.moves, Move(transaction_key, -payment.amount, status, now_ms)),
    )


class CancelAsk(Struct, frozen=True):
    """What a cancel request asks for; `amount` None is everything that is left."""

    reason: str
    amount: int | None = None
    tax_free: int = 0
    refundable: int | None = None
    has_refund_account: bool = False


def refuse_cancel(payment: Payment, ask: CancelAsk, over_refund: bool = False) -> None:
    """Raises Refused with what the vendor answers when this cannot be cancelled. The cap stands here, and only here.

    With `over_refund` there is no cap: a provider that would pay back more than it took, if it were asked to.
    """
    if payment.status == "CANCELED":
        raise Refused("ALREADY_CANCELED_PAYMENT")
    if payment.status not in ("DONE", "PARTIAL_CANCELED", "WAITING_FOR_DEPOSIT"):
        raise Refused("NOT_CANCELABLE_PAYMENT")
    if ask.refundable is not None and ask.refundable != payment.balance:
        raise Refused("NOT_MATCHES_REFUNDABLE_AMOUNT")
    amount = payment.balance if ask.amount is None else ask.amount
    if not over_refund and (payment.balance <= 0 or amount > payment.balance):
        raise Refused("NOT_CANCELABLE_AMOUNT")
    if amount <= 0:
        raise Refused("INVALID_REQUEST", "cancelAmount")
    if payment.status == "WAITING_FOR_DEPOSIT":
        if amount < payment.amount:
            raise Refused("NOT_ALLOWED_PARTIAL_REFUND_WAITING_DEPOSIT")
        return
    if payment.is_virtual_account and not ask.has_refund_account:
        raise Refused("INVALID_REFUND_ACCOUNT_INFO")
    if amount < payment.balance:
        if not payment.partial_cancelable:
            raise Refused("NOT_ALLOWED_PARTIAL_REFUND")
        taxable_left = payment.balance - payment.tax_free_balance
        # Neither part may be given back beyond what was taken of it.
        if not over_refund and not (
            ask.tax_free <= payment.tax_free_balance and 0 <= amount - ask.tax_free <= taxable_left
        ):
            raise Refused("INVALID_REQUEST", "taxFreeAmount")


def cancelled(payment: Payment, ask: CancelAsk, transaction_key: str, now_ms: int) -> Payment:
    """Give back a part or the rest. Whatever is left of the tax-free part goes with the rest."""
    if len(payment.cancels) >= MAX_CANCELS:
        raise Refused("NOT_CANCELABLE_PAYMENT", "too many cancels")
    amount = payment.balance if ask.amount is None else ask.amount
    left = payment.balance - amount
    tax_free = payment.tax_free_balance if left <= 0 else ask.tax_free
    status = after(payment.status, "cancel_all" if left <= 0 else "cancel_part")
    cancel = Cancel(transaction_key, amount, tax_free, ask.reason, now_ms, left)
    moves = payment.moves
    if payment.status != "WAITING_FOR_DEPOSIT":
        moves = (*moves, Move(transaction_key, -amount, status, now_ms))
    return structs.replace(
        payment,
        status=status,
        last_transaction_key=transaction_key,
        cancels=(*payment.cancels, cancel),
        moves=moves,
    )
