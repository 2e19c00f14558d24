"""What each call takes, as tables and as frozen values.

The names: docs.stripe.com/api, and the parameter types of the official SDK 16.1.0 (version 2026-10-28.endive).
"""

from msgspec import Struct

from doorbuster.simulators.stripe.params import (
    Schema,
    hash_of,
    metadata,
    not_simulated_all,
    one_of,
    span,
    text,
    texts,
    truth,
    truth_or,
    whole,
)

MAX_PAGE = 100
DEFAULT_PAGE = 10
MAX_INT = 2**53

EXPAND: Schema = {"expand": texts()}
CONFIRMING: Schema = {
    "capture_method": one_of("automatic", "automatic_async", "manual"),
    "error_on_requires_action": truth,
    "off_session": truth_or("one_off", "recurring"),
    "payment_method": text(),
    "receipt_email": text(800),
    "return_url": text(),
    "setup_future_usage": one_of("off_session", "on_session"),
    "use_stripe_sdk": truth,
    **EXPAND,
    **not_simulated_all(
        "allowed_payment_method_types",
        "amount_details",
        "confirmation_token",
        "excluded_payment_method_types",
        "hooks",
        "mandate",
        "mandate_data",
        "payment_details",
        "payment_method_data",
        "payment_method_options",
        "radar_options",
        "shipping",
    ),
}
CREATE: Schema = {
    **CONFIRMING,
    "amount": whole(-MAX_INT, MAX_INT),
    "automatic_payment_methods": hash_of(
        {"enabled": truth, "allow_redirects": one_of("always", "never")}, required=("enabled",)
    ),
    "confirm": truth,
    "confirmation_method": one_of("automatic"),
    "currency": text(),
    "customer": text(),
    "description": text(1000),
    "metadata": metadata,
    "payment_method_types": texts(),
    "statement_descriptor": text(22),
    "statement_descriptor_suffix": text(22),
    **not_simulated_all(
        "application_fee_amount",
        "customer_account",
        "on_behalf_of",
        "payment_method_configuration",
        "transfer_data",
        "transfer_group",
    ),
}
CONFIRM: Schema = {**CONFIRMING, **not_simulated_all("amount_to_confirm")}
UPDATE: Schema = {
    "description": text(1000),
    "metadata": metadata,
    "receipt_email": text(800),
    **EXPAND,
    **not_simulated_all(
        "allowed_payment_method_types",
        "amount",
        "amount_details",
        "application_fee_amount",
        "capture_method",
        "currency",
        "customer",
        "customer_account",
        "excluded_payment_method_types",
        "hooks",
        "payment_details",
        "payment_method",
        "payment_method_configuration",
        "payment_method_data",
        "payment_method_options",
        "payment_method_types",
        "setup_future_usage",
        "shipping",
        "statement_descriptor",
        "statement_descriptor_suffix",
        "transfer_data",
        "transfer_group",
    ),
}
CAPTURE: Schema = {
    "amount_to_capture": whole(1, MAX_INT),
    "metadata": metadata,
    "statement_descriptor": text(22),
    "statement_descriptor_suffix": text(22),
    **EXPAND,
    **not_simulated_all(
        "amount_details", "application_fee_amount", "final_capture", "hooks", "payment_details", "transfer_data"
    ),
}
CANCEL: Schema = {
    "cancellation_reason": one_of("abandoned", "duplicate", "fraudulent", "requested_by_customer"),
    **EXPAND,
}
RETRIEVE: Schema = {"client_secret": text(), **EXPAND}
REFUND: Schema = {
    "amount": whole(1, MAX_INT),
    "charge": text(),
    "metadata": metadata,
    "payment_intent": text(),
    "reason": one_of("duplicate", "fraudulent", "requested_by_customer"),
    **EXPAND,
    **not_simulated_all(
        "currency", "customer", "instructions_email", "origin", "refund_application_fee", "reverse_transfer"
    ),
}
REFUND_UPDATE: Schema = {"metadata": metadata, **EXPAND}
PAGE: Schema = {
    "created": span,
    "ending_before": text(),
    "limit": whole(1, MAX_PAGE),
    "starting_after": text(),
    **EXPAND,
}
LISTS: dict[str, Schema] = {
    "payment_intents": {**PAGE, "customer": text(), **not_simulated_all("customer_account")},
    "charges": {**PAGE, "customer": text(), "payment_intent": text(), **not_simulated_all("transfer_group")},
    "refunds": {**PAGE, "charge": text(), "payment_intent": text()},
    "events": {**PAGE, "type": text(), "types": texts(), **not_simulated_all("delivery_success")},
    "balance_transactions": {
        **PAGE,
        "currency": text(),
        "source": text(),
        "type": text(),
        **not_simulated_all("payout"),
    },
}
SEARCH: Schema = {"limit": whole(1, MAX_PAGE), "page": text(), "query": text(), **EXPAND}


class Confirming(Struct, frozen=True, kw_only=True):
    capture_method: str | None = None
    error_on_requires_action: bool = False
    off_session: bool = False
    payment_method: str | None = None
    receipt_email: str | None = None
    return_url: str | None = None
    setup_future_usage: str | None = None
    use_stripe_sdk: bool = False
    expand: list[str] = []


class Automatic(Struct, frozen=True):
    enabled: bool
    allow_redirects: str = "always"


class Create(Confirming, frozen=True, kw_only=True):
    amount: int
    currency: str
    automatic_payment_methods: Automatic | None = None
    confirm: bool = False
    confirmation_method: str = "automatic"
    customer: str | None = None
    description: str | None = None
    metadata: dict[str, str] = {}
    payment_method_types: list[str] | None = None
    statement_descriptor: str | None = None
    statement_descriptor_suffix: str | None = None


class Update(Struct, frozen=True, kw_only=True):
    description: str | None = None
    metadata: dict[str, str] | None = None
    receipt_email: str | None = None
    expand: list[str] = []


class Capture(Struct, frozen=True, kw_only=True):
    amount_to_capture: int | None = None
    metadata: dict[str, str] | None = None
    statement_descriptor: str | None = None
    statement_descriptor_suffix: str | None = None
    expand: list[str] = []


class Cancel(Struct, frozen=True, kw_only=True):
    cancellation_reason: str | None = None
    expand: list[str] = []


class Retrieve(Struct, frozen=True, kw_only=True):
    client_secret: str | None = None
    expand: list[str] = []


class RefundAsk(Struct, frozen=True, kw_only=True):
    amount: int | None = None
    charge: str | None = None
    metadata: dict[str, str] = {}
    payment_intent: str | None = None
    reason: str | None = None
    expand: list[str] = []


class RefundUpdate(Struct, frozen=True, kw_only=True):
    metadata: dict[str, str] | None = None
    expand: list[str] = []


class Page(Struct, frozen=True, kw_only=True):
    created: dict[str, int] = {}
    ending_before: str | None = None
    limit: int = DEFAULT_PAGE
    starting_after: str | None = None
    expand: list[str] = []
    customer: str | None = None
    payment_intent: str | None = None
    charge: str | None = None
    currency: str | None = None
    source: str | None = None
    type: str | None = None
    types: list[str] | None = None


class Search(Struct, frozen=True, kw_only=True):
    query: str
    limit: int = DEFAULT_PAGE
    page: str | None = None
    expand: list[str] = []
