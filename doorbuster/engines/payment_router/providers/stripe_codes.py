"""Stripe's error codes and what each is evidence of, and its rules for amounts. Sources: docs/psp/stripe.md."""

from __future__ import annotations

from doorbuster.engines.payment_router.provider import AmountLimit
from doorbuster.platform import money

# decline_code beside `card_declined`: the issuer, or Stripe for it, said no. `duplicate_transaction` is left out: it
# says that a like charge was seen, which may be ours.
DECLINES = frozenset({
    "approve_with_id", "authentication_not_handled", "authentication_required", "call_issuer", "card_not_supported",
    "card_velocity_exceeded", "currency_not_supported", "do_not_honor", "do_not_try_again", "expired_card",
    "fraudulent", "generic_decline", "incorrect_address", "incorrect_cvc", "incorrect_number", "incorrect_pin",
    "incorrect_zip", "insufficient_funds", "invalid_account", "invalid_amount", "invalid_cvc", "invalid_expiry_month",
    "invalid_expiry_year", "invalid_number", "invalid_pin", "issuer_not_available", "lost_card", "merchant_blacklist",
    "mobile_device_authentication_required", "new_account_information_available", "no_action_taken", "not_permitted",
    "offline_pin_required", "online_or_offline_pin_required", "pickup_card", "pin_try_exceeded", "processing_error",
    "reenter_transaction", "restricted_card", "revocation_of_all_authorizations", "revocation_of_authorization",
    "security_violation", "service_not_allowed", "stolen_card", "stop_payment_order", "testmode_decline",
    "transaction_not_allowed", "try_again_later", "withdrawal_count_limit_exceeded",
})  # fmt: skip

# `code` of a card_error (HTTP 402) other than card_declined.
CARD_ERRORS = frozenset({
    "authentication_required", "card_decline_rate_limit_exceeded", "expired_card", "incorrect_address",
    "incorrect_cvc", "incorrect_number", "incorrect_zip", "invalid_cvc", "invalid_expiry_month",
    "invalid_expiry_year", "invalid_number", "payment_intent_authentication_failure", "processing_error",
})  # fmt: skip

RETRYABLE = frozenset({
    "card_declined", "card_not_supported", "currency_not_supported", "do_not_honor", "generic_decline",
    "issuer_not_available", "no_action_taken", "processing_error", "reenter_transaction", "service_not_allowed",
    "transaction_not_allowed", "try_again_later",
})  # fmt: skip

# `code` of an invalid_request_error (HTTP 400 or 404): the request was refused as it stood. Not here, because a
# payment may stand behind them: payment_intent_unexpected_state, intent_invalid_state, charge_already_captured,
# charge_already_refunded, charge_expired_for_capture, idempotency_key_in_use, lock_timeout.
NOT_EXECUTED = frozenset({
    "account_invalid", "amount_too_large", "amount_too_small", "api_key_expired", "charge_invalid_parameter",
    "charge_not_refundable", "country_unsupported", "customer_max_payment_methods", "email_invalid",
    "invalid_characters", "invalid_charge_amount", "invalid_source_usage", "livemode_mismatch",
    "parameter_invalid_empty", "parameter_invalid_integer", "parameter_invalid_string_blank",
    "parameter_invalid_string_empty", "parameter_missing", "parameter_unknown", "parameters_exclusive",
    "payment_intent_invalid_parameter", "payment_method_customer_decline",
    "payment_method_invalid_parameter", "payment_method_not_available", "payment_method_unactivated",
    "payment_method_unexpected_state", "platform_api_key_expired", "resource_missing", "secret_key_required",
    "testmode_charges_only", "tls_version_unsupported", "url_invalid",
})  # fmt: skip

# Stripe counts these in another unit than ISO 4217 does: ISK by hundredths that must be 00, MGA by whole ones. UGX is
# not taken at all: its page lists it both as a whole currency and among the special cases.
_DIGITS = {"ISK": 2, "MGA": 0}
_TENS = (1, 10, 100)
_WIRE_MAX = 99_999_999

# The least charge in ISO minor units where Stripe's page of currencies names one.
_LEAST = {
    "AED": 200, "AUD": 50, "BRL": 50, "CAD": 50, "CHF": 50, "CZK": 1500, "DKK": 250, "EUR": 50, "GBP": 30,
    "HKD": 400, "HUF": 17_500, "INR": 50, "JPY": 50, "MXN": 1000, "MYR": 200, "NOK": 300, "NZD": 50, "PLN": 200,
    "RON": 200, "SEK": 300, "SGD": 50, "THB": 1000, "USD": 50,
}  # fmt: skip
_ALSO = ("BHD", "CLP", "ISK", "JOD", "KRW", "KWD", "MGA", "OMR", "TND", "TWD", "VND")


def to_wire(amount_minor: int, currency: str) -> int:
    """Our minor units as Stripe counts them. ValueError: the amount cannot be said in Stripe's unit."""
    shift = _shift(currency)
    amount, rest = divmod(amount_minor * _TENS[max(shift, 0)], _TENS[max(-shift, 0)])
    # Currencies of three digits are sent with all three, and the last must be 0.
    if rest or (money.exponent(currency) == 3 and amount % 10):
        raise ValueError(f"Stripe takes no fraction of {currency} as small as this")
    return amount


def from_wire(amount: int, currency: str) -> int:
    """Stripe's count as our minor units; a rest that ISO 4217 does not know makes it no amount of ours: -1."""
    shift = _shift(currency)
    minor, rest = divmod(amount * _TENS[max(-shift, 0)], _TENS[max(shift, 0)])
    return -1 if rest else minor


def amounts() -> tuple[AmountLimit, ...]:
    """Between Stripe's least charge, where it names one, and eight digits."""
    currencies = sorted([*_LEAST, *_ALSO])
    return tuple(AmountLimit(code, _LEAST.get(code, 1), _most(code)) for code in currencies)


def _shift(currency: str) -> int:
    return _DIGITS.get(currency, money.exponent(currency)) - money.exponent(currency)


def _most(currency: str) -> int:
    shift = _shift(currency)
    return _WIRE_MAX * _TENS[max(-shift, 0)] // _TENS[max(shift, 0)]
