"""What crosses the wire: requests, answers, bodies, the form of an error and the few ways not to answer."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from doorbuster.simulators.sandbox.ledger import Charge, Refund

MAX_BODY_BYTES = 64 * 1024

# Visible ASCII only: such a value can stand in a header, a query and a log line without being changed on the way.
Token = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"\A[\x21-\x7e]+\Z")]
AmountMinor = Annotated[int, Meta(gt=0, le=999_999_999_999)]
KEY_PATTERN = re.compile(rb"\A[\x21-\x7e]{1,255}\Z")

REASONS = {
    200: b"OK",
    400: b"Bad Request",
    401: b"Unauthorized",
    402: b"Payment Required",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    409: b"Conflict",
    413: b"Content Too Large",
    414: b"URI Too Long",
    415: b"Unsupported Media Type",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    503: b"Service Unavailable",
    505: b"HTTP Version Not Supported",
}


class ChargeBody(Struct, frozen=True, forbid_unknown_fields=True):
    reference: Token
    amount_minor: AmountMinor
    currency: Annotated[str, Meta(pattern=r"\A[A-Z]{3}\Z")]
    instrument: Annotated[str, Meta(max_length=64)]


class RefundBody(Struct, frozen=True, forbid_unknown_fields=True):
    charge_id: Token
    amount_minor: AmountMinor
    reference: Token


class ChargeView(Struct, frozen=True, omit_defaults=True):
    """A charge as it is shown; the last five fields only where somebody inquires, never in the first answer."""

    id: str
    reference: str
    status: str
    amount_minor: int
    currency: str
    created_at: str
    decline_code: str | None = None
    refunded_minor: int | None = None
    seq: int | None = None
    idempotency_key: str | None = None
    instrument: str | None = None


class RefundView(Struct, frozen=True):
    id: str
    charge_id: str
    reference: str
    amount_minor: int
    status: str


class Request(Struct, frozen=True):
    method: bytes
    path: str
    query: str
    headers: dict[bytes, bytes]
    body: bytes


class Answer(Struct, frozen=True):
    """`extra` holds complete header lines, each ending in CRLF."""

    status: int
    body: bytes
    extra: bytes = b""


class Drop(Struct, frozen=True):
    """No answer: after `after_s` the connection is closed, or reset at once (RST)."""

    after_s: float = 0.0
    reset: bool = False


class Later(Struct, frozen=True):
    """`then` runs after `delay_s` whether or not the client still waits: a provider does not stop for a lost caller."""

    delay_s: float
    then: Callable[[], "Answer | Drop"]


Outcome = Answer | Drop | Later


class Refused(Exception):
    """Expected: the request is answered with `answer` and changed nothing."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer)
        self.answer = answer


def ok(value: object, extra: bytes = b"") -> Answer:
    return Answer(200, msgspec.json.encode(value), extra)


def problem(status: int, type_: str, code: str, message: str, extra: bytes = b"") -> Answer:
    return Answer(status, msgspec.json.encode({"error": {"type": type_, "code": code, "message": message}}), extra)


def refused(status: int, code: str, message: str, extra: bytes = b"") -> Refused:
    """A refusal whose error type follows from its status."""
    types = {401: "authentication_error", 409: "idempotency_error", 500: "api_error", 503: "api_error"}
    return Refused(problem(status, types.get(status, "invalid_request_error"), code, message, extra))


def serialise(answer: Answer, keep_alive: bool, http_1_0: bool) -> bytes:
    connection = b""
    if not keep_alive:
        connection = b"connection: close\r\n"
    elif http_1_0:
        connection = b"connection: keep-alive\r\n"
    return b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n%s%s\r\n%s" % (
        answer.status,
        REASONS[answer.status],
        len(answer.body),
        answer.extra,
        connection,
        answer.body,
    )


def charge_view(charge: Charge) -> ChargeView:
    """What the first answer and every replay of it show, byte for byte: nothing in it changes later."""
    status = "captured" if charge.decline_code is None else "declined"
    return ChargeView(charge.id, charge.reference, status, charge.amount_minor, charge.currency, charge.created_at)


def charge_answer(charge: Charge, extra: bytes = b"") -> Answer:
    """200 for a capture, 402 for a decline, as a pure function of the record, so a replay equals the first answer."""
    view = charge_view(charge)
    if charge.decline_code is None:
        return ok(view, extra)
    message = f"The instrument was declined: {charge.decline_code}."
    error = {"type": "card_error", "code": charge.decline_code, "message": message}
    return Answer(402, msgspec.json.encode({"error": error, "charge": view}), extra)


def refund_view(refund: Refund) -> RefundView:
    return RefundView(refund.id, refund.charge_id, refund.reference, refund.amount_minor, "succeeded")


def timestamp() -> str:
    """Now, RFC 3339 in UTC with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
