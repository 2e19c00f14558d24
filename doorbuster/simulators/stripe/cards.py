"""The test payment methods by their ids: what each does when it is charged or its money is given back.

Source: docs.stripe.com/testing (the PaymentMethods column of each table), docs.stripe.com/declines/codes.
"""

from typing import Literal

from msgspec import Struct

Refunds = Literal["succeed", "pend", "fail"]


class Method(Struct, frozen=True):
    """`code` and `decline_code` are what the issuer says to a charge; None lets it pay.

    `asks`: never, always, or unless the buyer is away (a card set up for off-session payments asks only on session).
    `settles` is for a bank debit: the payment is processing first, and `code` is what the bank says in the end.
    """

    brand: str = "visa"
    last4: str = "4242"
    country: str = "US"
    funding: str = "credit"
    code: str | None = None
    decline_code: str | None = None
    asks: Literal["never", "always", "on_session"] = "never"
    refunds: Refunds = "succeed"
    settles: bool = False


def _declining(last4: str, decline_code: str | None, code: str = "card_declined") -> Method:
    return Method(last4=last4, code=code, decline_code=decline_code)


METHODS: dict[str, Method] = {
    "pm_card_visa": Method(),
    "pm_card_visa_debit": Method(last4="5556", funding="debit"),
    "pm_card_mastercard": Method("mastercard", "4444"),
    "pm_card_amex": Method("amex", "8431"),
    "pm_card_discover": Method("discover", "1117"),
    "pm_card_diners": Method("diners", "0004"),
    "pm_card_jcb": Method("jcb", "0505"),
    "pm_card_unionpay": Method("unionpay", "0005"),
    "pm_card_kr": Method(last4="0008", country="KR"),
    "pm_card_jp": Method(last4="0003", country="JP"),
    "pm_card_bypassPending": Method(last4="0077"),
    "pm_card_chargeDeclined": _declining("0002", "generic_decline"),
    "pm_card_visa_chargeDeclined": _declining("0002", "generic_decline"),
    "pm_card_chargeDeclinedInsufficientFunds": _declining("9995", "insufficient_funds"),
    "pm_card_visa_chargeDeclinedInsufficientFunds": _declining("9995", "insufficient_funds"),
    "pm_card_visa_chargeDeclinedLostCard": _declining("9987", "lost_card"),
    "pm_card_visa_chargeDeclinedStolenCard": _declining("9979", "stolen_card"),
    "pm_card_chargeDeclinedExpiredCard": _declining("0069", "expired_card", "expired_card"),
    "pm_card_chargeDeclinedIncorrectCvc": _declining("0127", "incorrect_cvc", "incorrect_cvc"),
    "pm_card_chargeDeclinedProcessingError": _declining("0119", "processing_error", "processing_error"),
    "pm_card_visa_chargeDeclinedVelocityLimitExceeded": _declining("6975", "card_velocity_exceeded"),
    "pm_card_chargeDeclinedFraudulent": _declining("0019", "fraudulent"),
    "pm_card_chargeCustomerFail": _declining("0341", "generic_decline"),
    "pm_card_radarBlock": _declining("0019", "fraudulent"),
    "pm_card_authenticationRequired": Method(last4="3155", asks="on_session"),
    "pm_card_authenticationRequiredOnSetup": Method(last4="3155", asks="on_session"),
    "pm_card_threeDSecure2Required": Method(last4="3220", asks="always"),
    "pm_card_threeDSecureRequired": Method(last4="3220", asks="always"),
    "pm_card_authenticationRequiredChargeDeclinedInsufficientFunds": Method(
        last4="3178", asks="always", code="card_declined", decline_code="insufficient_funds"
    ),
    "pm_card_pendingRefund": Method(last4="7726", refunds="pend"),
    "pm_card_refundFail": Method(last4="5126", refunds="fail"),
    "pm_usBankAccount_success": Method("", "6789", funding="", settles=True),
    "pm_usBankAccount_insufficientFunds": Method(
        "", "2222", funding="", settles=True, code="payment_intent_payment_attempt_failed", decline_code=None
    ),
}


def kind_of(method: Method) -> Literal["card", "us_bank_account"]:
    return "us_bank_account" if method.settles else "card"


def issuer_decline() -> tuple[str, str]:
    """What an issuer says when it is told to decline: the code and the decline code."""
    return "card_declined", "generic_decline"
