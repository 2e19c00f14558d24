"""How a PaymentIntent, a charge, a refund and a payment method look on the wire: values to JSON values, nothing else.

Fields: the objects of docs.stripe.com/api in version 2026-10-28.endive, as the official SDK 16.1.0 types them.
"""

from typing import Any

from doorbuster.simulators.stripe.cards import Method, kind_of
from doorbuster.simulators.stripe.intent import Charge, Intent, Problem, Refund

VERSION = "2026-10-28.endive"
# Where the vendor's receipts would be; a reserved name, so nothing follows it by accident.
DASHBOARD = "https://pay.stripe.invalid"

View = dict[str, Any]
NO_ADDRESS = {"city": None, "country": None, "line1": None, "line2": None, "postal_code": None, "state": None}
NO_BILLING = {"address": NO_ADDRESS, "email": None, "name": None, "phone": None, "tax_id": None}


def seconds(at_ms: int | None) -> int | None:
    return None if at_ms is None else at_ms // 1000


def intent_view(intent: Intent, origin: str) -> View:
    """`origin` is the address the buyer's browser reaches the simulator at."""
    latest = intent.latest
    automatic = {"allow_redirects": "always" if intent.allows_redirects else "never", "enabled": True}
    return {
        "id": intent.id,
        "object": "payment_intent",
        "amount": intent.amount,
        "amount_capturable": intent.capturable,
        "amount_details": {"tip": {}},
        "amount_received": intent.received,
        "application": None,
        "application_fee_amount": None,
        "automatic_payment_methods": automatic if intent.is_automatic else None,
        "canceled_at": seconds(intent.canceled_at_ms),
        "cancellation_reason": intent.cancellation_reason,
        "capture_method": intent.capture_method,
        "client_secret": intent.secret,
        "confirmation_method": "automatic",
        "created": seconds(intent.created_ms),
        "currency": intent.currency,
        "customer": intent.customer,
        "customer_account": None,
        "description": intent.description,
        "excluded_payment_method_types": None,
        "last_payment_error": None if intent.problem is None else problem_view(intent, intent.problem),
        "latest_charge": None if latest is None else latest.id,
        "livemode": False,
        "metadata": intent.metadata,
        "next_action": _next_action(intent, origin),
        "on_behalf_of": None,
        "payment_method": intent.method_id,
        "payment_method_configuration_details": None,
        "payment_method_options": {
            "card": {
                "installments": None,
                "mandate_options": None,
                "network": None,
                "request_three_d_secure": "automatic",
            }
        },
        "payment_method_types": list(intent.method_types),
        "processing": None,
        "receipt_email": intent.receipt_email,
        "review": None,
        "setup_future_usage": intent.setup_future_usage,
        "shipping": None,
        "statement_descriptor": intent.statement_descriptor,
        "statement_descriptor_suffix": intent.statement_descriptor_suffix,
        "status": intent.status,
        "transfer_data": None,
        "transfer_group": None,
    }


def _next_action(intent: Intent, origin: str) -> View | None:
    if intent.action_token is None:
        return None
    if intent.return_url is None:
        # Stripe.js finishes it in the page; what is in here is its own business.
        return {"type": "use_stripe_sdk", "use_stripe_sdk": {"type": "three_d_secure_redirect"}}
    url = f"{origin}/3ds/{intent.id}/{intent.action_token}"
    return {"type": "redirect_to_url", "redirect_to_url": {"return_url": intent.return_url, "url": url}}


def problem_view(intent: Intent, problem: Problem) -> View:
    shown: View = {
        "code": problem.code,
        "doc_url": f"https://docs.stripe.com/error-codes#{problem.code.replace('_', '-')}",
        "message": problem.message,
        "payment_method": method_view(problem.method_id, problem.method, intent),
        "type": "card_error" if problem.is_card_error else "invalid_request_error",
    }
    for name in ("charge", "decline_code"):
        if (value := getattr(problem, name)) is not None:
            shown[name] = value
    return shown


def method_view(id_: str, method: Method, intent: Intent) -> View:
    kind = kind_of(method)
    return {
        "id": id_,
        "object": "payment_method",
        "allow_redisplay": "unspecified",
        "billing_details": NO_BILLING,
        kind: _card(method) if kind == "card" else _bank(method),
        "created": seconds(intent.created_ms),
        "customer": intent.customer,
        "customer_account": None,
        "livemode": False,
        "metadata": {},
        "type": kind,
    }


def _card(method: Method) -> View:
    return {
        "brand": method.brand,
        "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"},
        "country": method.country,
        "display_brand": method.brand,
        "exp_month": 12,
        "exp_year": 2034,
        "fingerprint": f"fp{method.brand}{method.last4}",
        "funding": method.funding,
        "generated_from": None,
        "last4": method.last4,
        "networks": {"available": [method.brand], "preferred": None},
        "three_d_secure_usage": {"supported": True},
        "wallet": None,
    }


def _bank(method: Method) -> View:
    return {
        "account_holder_type": "individual",
        "account_type": "checking",
        "bank_name": "STRIPE TEST BANK",
        "fingerprint": f"fpbank{method.last4}",
        "last4": method.last4,
        "routing_number": "110000000",
    }


def charge_view(intent: Intent, charge: Charge) -> View:
    failed = charge.status == "failed"
    kind = kind_of(charge.method)
    return {
        "id": charge.id,
        "object": "charge",
        "amount": charge.amount,
        "amount_captured": charge.captured,
        "amount_refunded": charge.refunded,
        "application": None,
        "application_fee": None,
        "application_fee_amount": None,
        "balance_transaction": charge.transaction,
        "billing_details": NO_BILLING,
        "calculated_statement_descriptor": "SIMULATOR",
        "captured": charge.captured_at_ms is not None,
        "created": seconds(charge.at_ms),
        "currency": intent.currency,
        "customer": intent.customer,
        "description": intent.description,
        "disputed": False,
        "failure_balance_transaction": None,
        "failure_code": charge.code,
        "failure_message": "The payment was declined." if failed else None,
        "fraud_details": {},
        "livemode": False,
        "metadata": intent.metadata,
        "on_behalf_of": None,
        "outcome": _outcome(charge),
        "paid": charge.status == "succeeded",
        "payment_intent": intent.id,
        "payment_method": charge.method_id,
        "payment_method_details": {
            "type": kind,
            kind: {
                **(_card(charge.method) if kind == "card" else _bank(charge.method)),
                **({"amount_authorized": charge.amount} if kind == "card" and not failed else {}),
            },
        },
        "receipt_email": intent.receipt_email,
        "receipt_number": None,
        "receipt_url": None if failed else f"{DASHBOARD}/receipts/{charge.id}",
        "refunded": charge.refunded >= charge.amount,
        "review": None,
        "shipping": None,
        "source": None,
        "source_transfer": None,
        "statement_descriptor": intent.statement_descriptor,
        "statement_descriptor_suffix": intent.statement_descriptor_suffix,
        "status": charge.status,
        "transfer_data": None,
        "transfer_group": None,
    }


def _outcome(charge: Charge) -> View:
    if charge.status == "failed":
        return {
            "network_status": "declined_by_network",
            "reason": charge.decline_code or charge.code,
            "risk_level": "normal",
            "seller_message": "The issuer declined.",
            "type": "issuer_declined",
        }
    return {
        "network_status": "approved_by_network",
        "reason": None,
        "risk_level": "normal",
        "seller_message": "Payment complete.",
        "type": "authorized",
    }


def refund_view(intent: Intent, charge: Charge, refund: Refund) -> View:
    shown: View = {
        "id": refund.id,
        "object": "refund",
        "amount": refund.amount,
        "balance_transaction": refund.transaction,
        "charge": charge.id,
        "created": seconds(refund.at_ms),
        "currency": intent.currency,
        "destination_details": _destination(charge, refund),
        "metadata": refund.metadata,
        "payment_intent": intent.id,
        "reason": refund.reason,
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": refund.status,
        "transfer_reversal": None,
    }
    if refund.status == "pending":
        shown["pending_reason"] = "processing"
    if refund.status == "failed":
        shown["failure_reason"] = refund.failure_reason
        shown["failure_balance_transaction"] = refund.failure_transaction
    return shown


def _destination(charge: Charge, refund: Refund) -> View:
    kind = kind_of(charge.method)
    if kind != "card":
        return {"type": "us_bank_transfer", "us_bank_transfer": {"reference": None, "reference_status": "pending"}}
    way = {"type": "reversal" if refund.releases else "refund", "reference_status": "pending"}
    return {"type": "card", "card": {**way, "reference_type": "acquirer_reference_number"}}


def list_view(url: str, rows: list[View], has_more: bool) -> View:
    return {"object": "list", "data": rows, "has_more": has_more, "url": url}
