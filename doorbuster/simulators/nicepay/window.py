"""The buyer and the bank, as a test plays them: the window, the deposit, what a card is told. No sockets in here."""

import secrets

from msgspec import structs

from doorbuster.simulators.nicepay.books import Billing
from doorbuster.simulators.nicepay.errors import ERRORS, Refused
from doorbuster.simulators.nicepay.payment import Payment, deposited
from doorbuster.simulators.nicepay.provider import ACCOUNT_TID, CARD_TID, Provider
from doorbuster.simulators.nicepay.requests import METHODS, BidBody, BuyerBody
from doorbuster.simulators.nicepay.views import form

WALKED_AWAY = "I002"


def play_buyer(provider: Provider, body: BuyerBody) -> dict[str, str]:
    """Open the window and authenticate, or walk away: the form fields the browser posts to returnUrl.

    Raises Refused U112 for an orderId that was paid: the window does not open for it.
    """
    provider.sweep()
    if provider.is_taken(body.order_id):
        raise Refused("U112")
    if not body.authenticates:
        return {
            "authResultCode": WALKED_AWAY,
            "authResultMsg": ERRORS[WALKED_AWAY][1],
            "clientId": provider.keys.client,
            "orderId": body.order_id,
            "amount": str(body.amount),
            "mallReserved": body.mall_reserved or "",
            "authToken": "",
        }
    payment = _authenticated(provider, body)
    now_ms = provider.now_ms()
    provider.record(payment, now_ms)
    auth_token = f"NICEUNTT{secrets.token_hex(16).upper()}"
    return form(payment, provider.keys.client, auth_token, provider.keys.secret)


def deposit(provider: Provider, tid: str) -> Payment:
    """The buyer pays into the account: paid, and a webhook."""
    payment = deposited(provider.find(tid), provider.now_ms())
    provider.record(payment, provider.now_ms())
    return payment


def tell_card(provider: Provider, body: BidBody) -> Billing:
    """From now on charges of this billing key are told this."""
    billing = provider.books.billings.get(body.bid)
    if billing is None:
        raise Refused("U309")
    changed = structs.replace(billing, decline_code=body.decline_code)
    provider.record_billing(changed)
    return changed


def _authenticated(provider: Provider, body: BuyerBody) -> Payment:
    pay_method = METHODS[body.method]
    payment = Payment(
        tid=provider.new_tid(ACCOUNT_TID if pay_method == "vbank" else CARD_TID),
        order_id=body.order_id,
        amount=body.amount,
        status="authenticated",
        authenticated_at_ms=provider.now_ms(),
        goods_name=body.goods_name,
        pay_method=pay_method,
        tax_free=body.tax_free_amt,
        mall_reserved=body.mall_reserved,
        mall_user_id=body.mall_user_id,
        buyer_name=body.buyer_name,
        buyer_tel=body.buyer_tel,
        buyer_email=body.buyer_email,
        card_quota=body.card_quota,
        part_cancelable=body.can_part_cancel,
        decline_code=body.decline_code,
        account_hours=body.vbank_valid_hours,
        holder=body.vbank_holder,
    )
    return payment if body.card_no is None else structs.replace(payment, card_no=body.card_no)
