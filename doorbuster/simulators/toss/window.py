"""The buyer and the bank, as a test plays them: the window, the deposit, the deposit taken back. No sockets in here."""

import secrets
from urllib.parse import urlencode

from msgspec import Struct

from doorbuster.simulators.toss.books import Billing, Entry
from doorbuster.simulators.toss.payment import Payment, authenticated, deposit_reversed, deposited
from doorbuster.simulators.toss.provider import Provider, transaction_key
from doorbuster.simulators.toss.requests import BillingBuyerBody, BuyerBody


class Success(Struct, frozen=True, rename="camel"):
    """What the redirect to successUrl carries; `redirect_url` is null when no URL was given."""

    payment_key: str
    order_id: str
    amount: int
    payment_type: str
    redirect_url: str | None


def play_buyer(provider: Provider, body: BuyerBody) -> Success:
    """Open the window and, unless the buyer walks away, authenticate: READY, then IN_PROGRESS."""
    now_ms = provider.now_ms()
    payment = Payment(
        key=f"tviva{secrets.token_hex(16)}",
        order_id=body.order_id,
        order_name=body.order_name,
        method=body.method,
        amount=body.amount,
        status="READY",
        requested_at_ms=now_ms,
        tax_free=body.tax_free_amount,
        customer_name=body.customer_name,
        installment_months=body.installment_months,
        partial_cancelable=body.partial_cancelable,
        decline_code=body.decline_code,
    )
    provider.record(payment)
    if body.authenticates:
        provider.record(authenticated(payment, now_ms))
    redirect = None
    if body.success_url is not None:
        query = {
            "paymentKey": payment.key,
            "orderId": payment.order_id,
            "amount": payment.amount,
            "paymentType": "NORMAL",
        }
        joint = "&" if "?" in body.success_url else "?"
        redirect = f"{body.success_url}{joint}{urlencode(query)}"
    return Success(payment.key, payment.order_id, payment.amount, "NORMAL", redirect)


def authenticate(provider: Provider, key: str) -> Payment:
    """The buyer who opened the window comes back and authenticates."""
    payment = authenticated(provider.find(key), provider.now_ms())
    provider.record(payment)
    return payment


def register_card(provider: Provider, body: BillingBuyerBody) -> Billing:
    """The buyer registers a card; the redirect carries authKey and customerKey."""
    billing = Billing(f"bln_{secrets.token_urlsafe(24)}", body.customer_key, decline_code=body.decline_code)
    provider.books.record(Entry(provider.now_ms(), billing=billing))
    return billing


def deposit(provider: Provider, key: str) -> Payment:
    """The buyer pays into the account: DONE, and two webhooks."""
    payment = deposited(provider.find(key), transaction_key(), provider.now_ms())
    provider.record(payment)
    return payment


def reverse_deposit(provider: Provider, key: str) -> Payment:
    """The bank takes a deposit back: WAITING_FOR_DEPOSIT again, and two webhooks."""
    payment = deposit_reversed(provider.find(key), transaction_key(), provider.now_ms())
    provider.record(payment)
    return payment
