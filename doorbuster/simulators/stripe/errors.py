"""Errors of Stripe's API v1 as values: `{"error": {type, code, message, param, …}}` with an HTTP status.

Types, codes and statuses: docs.stripe.com/api/errors, …/error-codes, …/error-low-level. The sentences are our own:
the vendor promises types and codes, not wording, so nothing may read them.
"""

from typing import Any, Literal

import msgspec
from msgspec import Struct

from doorbuster.simulators.stripe.intent import Intent

ErrorType = Literal["api_error", "card_error", "idempotency_error", "invalid_request_error"]


class ErrorInfo(Struct, frozen=True, omit_defaults=True):
    """`charge` is the id of the failed charge of a card error."""

    status: int
    type: ErrorType
    message: str
    code: str | None = None
    param: str | None = None
    decline_code: str | None = None
    charge: str | None = None


class Invalid(Exception):
    """Expected: the request was not let in (401, 404, 400 for its parameters). Nothing ran, so no key keeps it."""

    def __init__(self, message: str, code: str | None = None, param: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.info = ErrorInfo(status, "invalid_request_error", message, code, param)


class Refused(Exception):
    """Expected: the endpoint ran and said no; an idempotency key keeps this answer. It may show the intent."""

    def __init__(self, info: ErrorInfo, intent: Intent | None = None) -> None:
        super().__init__(info.message)
        self.info = info
        self.intent = intent


class KeyConflict(Exception):
    """Expected: the idempotency key is in use, or belongs to another request. Nothing ran."""

    def __init__(self, info: ErrorInfo) -> None:
        super().__init__(info.message)
        self.info = info


def refused(message: str, code: str | None = None, param: str | None = None, intent: Intent | None = None) -> Refused:
    return Refused(ErrorInfo(400, "invalid_request_error", message, code, param), intent)


def missing(param: str) -> Invalid:
    return Invalid(f"The parameter {param} is required.", "parameter_missing", param)


def no_such(kind: str, id_: str, param: str, status: int) -> Invalid:
    """404 when the id is the one the request is about, 400 when a parameter names it."""
    return Invalid(f"There is no {kind} {id_!r}.", "resource_missing", param, status)


def unauthorized(message: str) -> Invalid:
    return Invalid(message, status=401)


API_ERROR = ErrorInfo(500, "api_error", "Something went wrong here; what became of the request is not said.")
KEY_IN_USE = ErrorInfo(
    409, "idempotency_error", "Another request with this idempotency key is in progress.", "idempotency_key_in_use"
)
BY_STATUS: dict[int, ErrorInfo] = {
    413: ErrorInfo(413, "invalid_request_error", "The body is too large."),
    429: ErrorInfo(429, "invalid_request_error", "Too many requests; come back later.", "rate_limit"),
    500: API_ERROR,
    503: ErrorInfo(503, "api_error", "Not available now."),
}


def key_of_another(what: Literal["parameters", "endpoint"], key: str) -> KeyConflict:
    """docs.stripe.com/api/idempotent_requests: other parameters, or another endpoint, are an error."""
    message = f"The idempotency key {key!r} was first used with other {what}."
    return KeyConflict(ErrorInfo(400, "idempotency_error", message))


def error_body(info: ErrorInfo, **more: Any) -> bytes:
    """`more` is what a card error carries besides: payment_intent, payment_method."""
    shown: dict[str, Any] = {"type": info.type, "message": info.message}
    if info.code is not None:
        shown |= {"code": info.code, "doc_url": f"https://docs.stripe.com/error-codes#{info.code.replace('_', '-')}"}
    for name in ("param", "decline_code", "charge"):
        if (value := getattr(info, name)) is not None:
            shown[name] = value
    return msgspec.json.encode({"error": {**shown, **more}})
