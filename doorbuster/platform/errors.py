"""The three kinds of failure: a refusal (expected, typed), unavailable (try again later), and a bug (anything else).

A refusal carries a stable `code` that clients act on, an HTTP `status`, and a `detail` that says what to do. Extra
members (a new quote, a live payment's id) travel in `members` and are rendered into the problem document (RFC 9457).
"""

from __future__ import annotations

from typing import Any, ClassVar

_BY_CODE: dict[str, type[Refusal]] = {}


class Refusal(Exception):
    """The plain no: the request was understood and nothing was changed."""

    code: ClassVar[str] = "refused"
    status: ClassVar[int] = 409
    title: ClassVar[str] = "The request was refused"

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        known = _BY_CODE.get(cls.code)
        assert known is None or known.__qualname__ == cls.__qualname__, f"two refusals share the code {cls.code}"
        _BY_CODE[cls.code] = cls

    def __init__(self, detail: str = "", **members: Any) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.members = members


class Unavailable(Exception):
    """Not now: nothing is wrong with the request; the caller may send the same one again after `retry_after_s`."""

    code = "unavailable"
    status = 503
    title = "The service cannot answer right now"

    def __init__(self, what: str, retry_after_s: int = 1) -> None:
        super().__init__(what)
        self.detail = (
            f"{what}. Send the same request again in {retry_after_s} s; with the same Idempotency-Key it is safe."
        )
        self.retry_after_s = retry_after_s


class OutcomeUnknown(Unavailable):
    """A write may or may not have happened (the connection was lost at COMMIT); asking again by id settles it."""

    code = "outcome_unknown"


def refusal_class(code: str) -> type[Refusal] | None:
    """The class that carries this code, so that a refusal from afar is raised as the same class here."""
    return _BY_CODE.get(code)


def refusal_codes() -> dict[str, type[Refusal]]:
    """Every refusal known to this process by code, for the documentation."""
    return dict(_BY_CODE)


class InvalidRequest(Refusal):
    code, status, title = "invalid_request", 400, "The request is not valid"


class BrokenJson(Refusal):
    code, status, title = "broken_json", 400, "The body is not valid JSON"


class Unauthenticated(Refusal):
    code, status, title = "unauthenticated", 401, "A valid access token is needed"


class Forbidden(Refusal):
    code, status, title = "forbidden", 403, "This role may not do that"


class NotFound(Refusal):
    code, status, title = "not_found", 404, "There is nothing here"


class MethodNotAllowed(Refusal):
    code, status, title = "method_not_allowed", 405, "This path does not take that method"


class BodyTooLarge(Refusal):
    code, status, title = "body_too_large", 413, "The body is larger than this path takes"


class UnsupportedMediaType(Refusal):
    code, status, title = "unsupported_media_type", 415, "Send application/json"


class IdempotencyKeyRequired(Refusal):
    code, status, title = "idempotency_key_required", 400, "This request needs an Idempotency-Key header"


class IdempotencyKeyReused(Refusal):
    code, status, title = "idempotency_key_reused", 422, "This Idempotency-Key was used with another body"


class PreconditionRequired(Refusal):
    code, status, title = "precondition_required", 428, "Send If-Match with the ETag you last read"


class PreconditionFailed(Refusal):
    code, status, title = "precondition_failed", 412, "Somebody changed this since you read it"
