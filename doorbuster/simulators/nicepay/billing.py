"""Billing keys: a card is registered, charged without the buyer, and deleted (api/payment-subscribe.md)."""

import re
from urllib.parse import unquote

from msgspec import structs

from doorbuster.simulators.host.wire import Request
from doorbuster.simulators.nicepay.books import Billing
from doorbuster.simulators.nicepay.errors import Refused
from doorbuster.simulators.nicepay.payment import Payment
from doorbuster.simulators.nicepay.provider import BILLING_TID, Provider
from doorbuster.simulators.nicepay.requests import Fields
from doorbuster.simulators.nicepay.signing import NotReadable, card_fields
from doorbuster.simulators.nicepay.verdict import Outcome, judge
from doorbuster.simulators.nicepay.views import deleted_view, registered_view

BID_BYTES = 30
CARD_NO = re.compile(r"\A[0-9]{13,16}\Z")
EXPIRES = re.compile(r"\A[0-9]{2}(0[1-9]|1[0-2])\Z")


def register(provider: Provider, _request: Request, fields: Fields) -> Outcome:
    """A card that was sent encrypted becomes a bid. The network is not asked yet, so a bad card shows at a charge."""
    order_id = fields.order_id()
    enc_data = fields.text("encData", 512)
    mode = fields.text_or_none("encMode", 10)
    if mode not in (None, "A2"):
        raise Refused("U132", "encMode")
    _buyer(fields)
    fields.check_charset()
    fields.check_signature(provider.keys.secret, order_id)
    try:
        card = card_fields(enc_data, mode, provider.keys.secret)
    except NotReadable as error:
        raise Refused("F101") from error
    expires = card.exp_year + card.exp_month
    if not CARD_NO.match(card.card_no) or not EXPIRES.match(expires):
        raise Refused("U317")
    billing = Billing(provider.new_bid(), card.card_no, expires)
    provider.record_billing(billing)
    tid, now_ms = provider.new_tid(BILLING_TID), provider.now_ms()
    return Outcome(registered_view(tid, order_id, billing.bid, now_ms), "other")


def charge(provider: Provider, request: Request, fields: Fields) -> Outcome:
    """Paid at once, or failed with the network's code; an orderId that was used is refused."""
    bid = bid_of(request)
    payment = _asked(provider, fields, bid)
    fields.check_charset()
    fields.check_signature(provider.keys.secret, payment.order_id, bid)
    billing = provider.books.billings.get(bid)
    if billing is None:
        raise Refused("U309")
    if billing.deleted:
        raise Refused("U115")
    provider.sweep()
    if provider.is_taken(payment.order_id):
        raise Refused("U112")
    card = structs.replace(payment, card_no=billing.card_no, expires=billing.expires, decline_code=billing.decline_code)
    return judge(provider, card)


def delete_bid(provider: Provider, request: Request, fields: Fields) -> Outcome:
    """Deleted for good; a second time, or for a bid that never was, U115."""
    bid = bid_of(request)
    order_id = fields.order_id()
    fields.check_charset()
    fields.check_signature(provider.keys.secret, order_id, bid)
    billing = provider.books.billings.get(bid)
    if billing is None or billing.deleted:
        raise Refused("U115")
    provider.record_billing(structs.replace(billing, deleted=True))
    tid, now_ms = provider.new_tid(BILLING_TID), provider.now_ms()
    return Outcome(deleted_view(tid, order_id, bid, now_ms), "other")


def bid_of(request: Request) -> str:
    """Raises Refused U345 for what has not the length of a bid."""
    bid = unquote(request.path.split("/")[3])
    if len(bid.encode(errors="replace")) != BID_BYTES:
        raise Refused("U345")
    return bid


def _asked(provider: Provider, fields: Fields, bid: str) -> Payment:
    order_id, amount, goods_name = fields.order_id(), fields.amount(), fields.text("goodsName", 40)
    quota = fields.whole("cardQuota")
    if quota is None:
        raise Refused("U100", "cardQuota")
    if fields.truth("useShopInterest"):
        raise Refused("U132", "useShopInterest")
    name, tel, email = _buyer(fields)
    return Payment(
        tid=provider.new_tid(BILLING_TID),
        order_id=order_id,
        amount=amount,
        status="authenticated",
        authenticated_at_ms=provider.now_ms(),
        goods_name=goods_name,
        tax_free=fields.tax_free(amount),
        mall_reserved=fields.text_or_none("mallReserved", 500),
        buyer_name=name,
        buyer_tel=tel,
        buyer_email=email,
        card_quota=quota,
        bid=bid,
    )


def _buyer(fields: Fields) -> tuple[str | None, str | None, str | None]:
    return (
        fields.text_or_none("buyerName", 30),
        fields.text_or_none("buyerTel", 40),
        fields.text_or_none("buyerEmail", 60),
    )
