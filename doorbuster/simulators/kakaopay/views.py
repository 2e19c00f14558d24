"""How a KakaoPay payment, a cancellation and a subscription look on the wire: values to JSON values, nothing else.

Fields: developers.kakaopay.com/docs/payment/online/{single-payment,subscription,cancellation,payment-detail}. Times are
those of Seoul without an offset, as `2016-11-15T21:18:22`.
"""

from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from doorbuster.simulators.kakaopay.payment import Payment, Subscription, Sums

KST = timezone(timedelta(hours=9))

View = dict[str, Any]


def kst(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms // 1000, KST).strftime("%Y-%m-%dT%H:%M:%S")


def ready_view(payment: Payment, window_url: str) -> View:
    scheme = f"kakaotalk://kakaopay/pg?url={window_url}"
    return {
        "tid": payment.tid,
        "tms_result": False,
        "next_redirect_app_url": f"{window_url}/aInfo",
        "next_redirect_mobile_url": f"{window_url}/mInfo",
        "next_redirect_pc_url": f"{window_url}/info",
        "android_app_scheme": scheme,
        "ios_app_scheme": scheme,
        "created_at": kst(payment.created_at_ms),
    }


def approve_view(payment: Payment) -> View:
    """The answer to an approval, and to a later charge of a sid."""
    assert payment.approved_at_ms is not None
    view: View = {
        "aid": payment.actions[0].aid,
        "tid": payment.tid,
        "cid": payment.cid,
        "partner_order_id": payment.partner_order_id,
        "partner_user_id": payment.partner_user_id,
        "payment_method_type": payment.method,
        "item_name": payment.item_name,
        "item_code": payment.item_code or "",
        "quantity": payment.quantity,
        "amount": sums_view(payment.sums),
        "created_at": kst(payment.created_at_ms),
        "approved_at": kst(payment.approved_at_ms),
    }
    if payment.sid is not None:
        view["sid"] = payment.sid
    if payment.method == "CARD":
        view["card_info"] = _card_info(payment)
    return view


def order_view(payment: Payment) -> View:
    view: View = {
        "tid": payment.tid,
        "cid": payment.cid,
        "status": payment.status,
        "partner_order_id": payment.partner_order_id,
        "partner_user_id": payment.partner_user_id,
        "payment_method_type": payment.method,
        "item_name": payment.item_name,
        "quantity": payment.quantity,
        "amount": sums_view(payment.sums),
        "canceled_amount": sums_view(payment.canceled),
        "cancel_available_amount": sums_view(payment.available),
        "created_at": kst(payment.created_at_ms),
        "payment_action_details": [
            {
                "aid": action.aid,
                "payment_action_type": action.kind,
                "payment_method_type": payment.method,
                "amount": action.sums.total,
                "point_amount": 0,
                "discount_amount": 0,
                "approved_at": kst(action.at_ms),
                "green_deposit": 0,
            }
            for action in payment.actions
        ],
    }
    if payment.approved_at_ms is not None:
        view["approved_at"] = kst(payment.approved_at_ms)
    if payment.canceled_at_ms is not None:
        view["canceled_at"] = kst(payment.canceled_at_ms)
    if payment.method == "CARD":
        view["selected_card_info"] = {
            "card_bin": "621640",
            "install_month": payment.install_month,
            "card_corp_name": "현대카드",
            "interest_free_install": "N",
        }
    return view


def cancel_view(payment: Payment) -> View:
    """The answer to the last cancellation of this payment."""
    last = payment.actions[-1]
    assert payment.approved_at_ms is not None and last.kind == "CANCEL"
    view: View = {
        "aid": last.aid,
        "tid": payment.tid,
        "cid": payment.cid,
        "status": payment.status,
        "partner_order_id": payment.partner_order_id,
        "partner_user_id": payment.partner_user_id,
        "payment_method_type": payment.method,
        "item_name": payment.item_name,
        "quantity": payment.quantity,
        "amount": sums_view(payment.sums),
        "approved_cancel_amount": sums_view(last.sums),
        "canceled_amount": sums_view(payment.canceled),
        "cancel_available_amount": sums_view(payment.available),
        "created_at": kst(payment.created_at_ms),
        "approved_at": kst(payment.approved_at_ms),
        "canceled_at": kst(last.at_ms),
    }
    return view if last.payload is None else view | {"payload": last.payload}


def subscription_view(subscription: Subscription) -> View:
    view: View = {
        "available": subscription.active,
        "cid": subscription.cid,
        "sid": subscription.sid,
        "status": "ACTIVE" if subscription.active else "INACTIVE",
        "payment_method_type": subscription.method,
        "item_name": subscription.item_name,
        "created_at": kst(subscription.created_at_ms),
    }
    if subscription.last_approved_at_ms is not None:
        view["last_approved_at"] = kst(subscription.last_approved_at_ms)
    if subscription.inactivated_at_ms is not None:
        view["inactivated_at"] = kst(subscription.inactivated_at_ms)
    return view


def inactive_view(subscription: Subscription) -> View:
    """The answer to making a sid inactive: its state without `available`, the method and the item."""
    view = subscription_view(subscription)
    return {name: view[name] for name in view if name not in ("available", "payment_method_type", "item_name")}


def sums_view(sums: Sums) -> View:
    return {
        "total": sums.total,
        "tax_free": sums.tax_free,
        "vat": sums.vat,
        "point": 0,
        "discount": 0,
        "green_deposit": 0,
    }


def with_pg_token(approval_url: str, pg_token: str) -> str:
    """The shop's own query stays; pg_token comes after it."""
    parts = urlsplit(approval_url)
    query = "&".join(part for part in (parts.query, urlencode({"pg_token": pg_token})) if part)
    return urlunsplit(parts._replace(query=query))


def _card_info(payment: Payment) -> View:
    return {
        "kakaopay_purchase_corp": "현대카드",
        "kakaopay_purchase_corp_code": "104",
        "kakaopay_issuer_corp": "현대카드",
        "kakaopay_issuer_corp_code": "104",
        "bin": "621640",
        "card_type": "신용",
        "install_month": f"{payment.install_month:02d}",
        "approved_id": "70001234",
        "card_mid": "123456789",
        "interest_free_install": "N",
        "installment_type": "CARD_INSTALLMENT",
        "card_item_code": "",
    }
