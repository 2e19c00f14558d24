"""HTTP in: who calls, problem documents (RFC 9457), cursors, ETags. Domains' routes use these and nothing else.

A worker listens on a Unix socket that only the edge reaches; the edge has verified the token and set the identity
headers, and has removed any that a client sent. So the headers are believed here and nowhere else.
"""

from __future__ import annotations

import base64
import functools
import time
from collections.abc import Mapping
from typing import Any, TypeVar
from uuid import UUID

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import (
    ClientException,
    HTTPException,
    MethodNotAllowedException,
    NotFoundException,
    SerializationException,
    ValidationException,
)

from doorbuster.platform import errors, ids, tracing
from doorbuster.platform.calls import Ctx
from doorbuster.platform.errors import Refusal, Unavailable

T = TypeVar("T")
PROBLEM = "application/problem+json"
_LOG = structlog.get_logger("http")
REQUEST_DEADLINE_S = 25.0
MAX_KEY_LENGTH = 255


def ctx_of(headers: Mapping[str, str], *, authenticated: bool = True) -> Ctx:
    """Read caller, key and request id from headers set by the edge. Raises `Unauthenticated` without a caller."""
    subject = headers.get("x-door-sub")
    if subject is None and authenticated:
        raise errors.Unauthenticated("Send `Authorization: Bearer <access token>`; get one at /api/v1/account/login")
    try:
        caller = UUID(subject) if subject is not None else None
    except ValueError:
        raise errors.Unauthenticated("The token's subject is not an account of this shop") from None
    return Ctx(
        subject=caller,
        roles=frozenset((headers.get("x-door-roles") or "").split()),
        deadline=time.time() + REQUEST_DEADLINE_S,
        idempotency_key=headers.get("idempotency-key") or "",
        request_id=headers.get("x-request-id") or str(ids.uuid7()),
    )


def ctx_from(request: Request[Any, Any, Any], *, authenticated: bool = True) -> Ctx:
    """`ctx_of` for a Litestar request; pass `authenticated=False` on open routes."""
    return ctx_of(request.headers, authenticated=authenticated)


async def check_body(request: Request[Any, Any, Any]) -> None:
    """Refuse a JSON body that is not exactly what its route takes; run before each request.

    The framework alone would take `"5"` for 5, and any media type for JSON.
    """
    tracing.name_route(request.scope["path_template"])
    field = request.route_handler.parsed_data_field
    if field is None:
        return
    body = await request.body()
    if not body and field.is_optional:
        return
    require_json(request.headers)
    decode_strictly(_decoder(field.annotation), body)


@functools.cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def decode_strictly(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """The value of a JSON body. Refuses with BrokenJson, or with InvalidRequest that names the field."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise errors.InvalidRequest(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise errors.BrokenJson(str(error)) from None


def require_json(headers: Mapping[str, str]) -> None:
    """Refuse a body that does not call itself JSON."""
    if (headers.get("content-type") or "").partition(";")[0].strip().lower() != "application/json":
        raise errors.UnsupportedMediaType()


def require_role(ctx: Ctx, role: str) -> None:
    """Refuse unless the caller has this role or is an admin."""
    if not ctx.roles & {role, "admin", "system"}:
        raise errors.Forbidden(f"This needs the role {role}")


def require_key(ctx: Ctx) -> str:
    """The Idempotency-Key of the request: 1..255 visible ASCII characters. Refused when absent or malformed."""
    key = ctx.idempotency_key
    if not key:
        raise errors.IdempotencyKeyRequired(
            "Send an Idempotency-Key header with a fresh random value (a UUID); repeat it when you repeat the request"
        )
    if len(key) > MAX_KEY_LENGTH or not key.isascii() or not key.isprintable():
        raise errors.InvalidRequest("Idempotency-Key must be 1 to 255 visible ASCII characters")
    return key


def make_cursor(value: Any) -> str:
    """An opaque page cursor that holds `value`."""
    return base64.urlsafe_b64encode(msgspec.json.encode(value)).rstrip(b"=").decode()


def parse_cursor(text: str | None, kind: type[T]) -> T | None:
    """The value inside a cursor, or None without one. A cursor not made by `make_cursor` is refused."""
    if text is None:
        return None
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), type=kind)
    except (ValueError, msgspec.DecodeError):
        raise errors.InvalidRequest("This cursor was not made by this shop; start again without one") from None


def etag_of(version: int) -> str:
    """The strong ETag of a version."""
    return f'"v{version}"'


def require_if_match(request: Request[Any, Any, Any], version: int) -> None:
    """Refuse a write unless If-Match names the version that stands now."""
    sent = request.headers.get("if-match")
    if sent is None:
        raise errors.PreconditionRequired("Send If-Match with the ETag of your last GET, so that no edit is lost")
    if sent.strip() != "*" and etag_of(version) not in (part.strip() for part in sent.split(",")):
        raise errors.PreconditionFailed("Read it again, put your change on top, and send the new ETag", current=version)


def problem_body(
    status: int, code: str, title: str, detail: str, request_id: str, members: dict[str, Any] | None = None
) -> bytes:
    """A problem document (RFC 9457) with the members `code` and `request_id`."""
    document = {
        "type": "about:blank",
        "title": title,
        "status": status,
        "code": code,
        "detail": detail,
        "request_id": request_id,
    }
    return msgspec.json.encode(document | (members or {}))


def problem_of(error: Exception, request_id: str) -> tuple[int, bytes, dict[str, str]]:
    """(status, body, headers) for any failure. A bug is logged with its trace and answered without any detail."""
    if isinstance(error, Refusal):
        headers = {"retry-after": str(error.members["retry_after_s"])} if "retry_after_s" in error.members else {}
        body = problem_body(error.status, error.code, error.title, error.detail, request_id, error.members)
        return error.status, body, headers
    if isinstance(error, Unavailable):
        body = problem_body(error.status, error.code, error.title, error.detail, request_id)
        return error.status, body, {"retry-after": str(error.retry_after_s)}
    _LOG.error("bug", request_id=request_id, exc_info=error)
    detail = f"This is our mistake; it was logged under request id {request_id}"
    return 500, problem_body(500, "internal_error", "Something broke on our side", detail, request_id), {}


def _as_refusal(error: Exception) -> Exception:
    """What the framework refuses, as our refusals, so that clients see one format and stable codes."""
    match error:
        case MethodNotAllowedException():
            return errors.MethodNotAllowed()
        case NotFoundException():
            return errors.NotFound("No such path in this API; see /api/v1/docs")
        case RecursionError() if "deserializing" in str(error):
            return errors.BrokenJson("The body is nested too deeply")
        case SerializationException() | UnicodeDecodeError():
            return errors.BrokenJson(str(error))
        case ValidationException():
            return errors.InvalidRequest(error.detail, errors=error.extra) if error.extra else _from_detail(error)
        case ClientException() if error.status_code == 413:
            return errors.BodyTooLarge()
        case ClientException() if error.status_code == 415:
            return errors.UnsupportedMediaType()
        case ClientException():
            return _from_detail(error)
        case _:
            return error


def _from_detail(error: HTTPException) -> Refusal:
    if any(word in error.detail.lower() for word in ("malformed", "decod", "truncated", "invalid utf-8")):
        return errors.BrokenJson(error.detail)
    return errors.InvalidRequest(error.detail)


def render_error(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Litestar exception handler for everything."""
    request_id = request.headers.get("x-request-id") or str(ids.uuid7())
    status, body, headers = problem_of(_as_refusal(error), request_id)
    return Response(body, status_code=status, headers=headers, media_type=PROBLEM)
