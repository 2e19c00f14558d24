"""What Envoy itself answers, as problem documents (RFC 9457) with the codes clients already know from the workers."""

from __future__ import annotations

from typing import Any, NamedTuple

TYPE_PREFIX = "type.googleapis.com/envoy."
PROBLEM = "application/problem+json"

REQUEST_ID = '%COALESCE({"operators":[{"command":"REQ","param":"X-REQUEST-ID"},"UNIQUE_ID"]})%'
"""What could not be read as a request at all has no id; its answer still gets one, so that the member is a string."""


class EdgeProblem(NamedTuple):
    """One answer of the edge: its stable code, its title, and what the client should do."""

    status: int
    code: str
    title: str
    detail: str
    retry_after_s: int = 0


PROBLEMS = (
    EdgeProblem(
        400,
        "bad_request",
        "The request is not valid HTTP for this shop",
        "Check the request line, header names (no underscores) and the path (no encoded slash, no control characters).",
    ),
    EdgeProblem(
        401,
        "unauthenticated",
        "A valid access token is needed",
        "Send `Authorization: Bearer <access token>`. Get one at POST /api/v1/account/login, "
        "or a fresh one at POST /api/v1/account/refresh.",
    ),
    EdgeProblem(
        403,
        "forbidden",
        "This may not be done here",
        "Send a token that this shop issued for its own API (POST /api/v1/account/login), and no Upgrade header.",
    ),
    EdgeProblem(404, "not_found", "There is nothing here", "No such path in this API; see /api/v1/docs."),
    EdgeProblem(
        405,
        "method_not_allowed",
        "This path does not take that method",
        "Use one of the methods named in the Allow header; see /api/v1/docs.",
    ),
    EdgeProblem(
        408,
        "request_timeout",
        "The request took too long to arrive",
        "Send the whole request faster, on a new connection.",
    ),
    EdgeProblem(
        413,
        "body_too_large",
        "The body is larger than this path takes",
        "Send a smaller body; the limit of each path is in /api/v1/docs.",
    ),
    EdgeProblem(
        429,
        "rate_limited",
        "Too many requests",
        "Wait for the seconds named in Retry-After, then send the same request again.",
        retry_after_s=1,
    ),
    EdgeProblem(
        431,
        "headers_too_large",
        "The request headers are too large",
        "Send fewer or shorter headers: at most 100 headers and 32 KiB in all.",
    ),
    EdgeProblem(
        502,
        "unavailable",
        "The shop cannot answer right now",
        "Send the same request again after Retry-After; with the same Idempotency-Key it is safe.",
        retry_after_s=1,
    ),
    EdgeProblem(
        503,
        "unavailable",
        "The shop cannot answer right now",
        "Send the same request again after Retry-After; with the same Idempotency-Key it is safe.",
        retry_after_s=1,
    ),
    EdgeProblem(
        504,
        "upstream_timeout",
        "The shop did not answer in time",
        "The outcome is not known. Send the same request again with the same Idempotency-Key, or read the state first.",
        retry_after_s=1,
    ),
)

OTHER_CLIENT_ERROR = EdgeProblem(
    400, "bad_request", "The request was refused", "Send HTTP/1.1 or HTTP/2 as described in /api/v1/docs."
)


def set_header(name: str, value: str) -> dict[str, Any]:
    """A header that replaces whatever stood under that name."""
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def local_reply_config() -> dict[str, Any]:
    """Envoy's `local_reply_config`: only what Envoy itself answers; documents of the workers pass untouched."""
    exact = [_mapper("EQ", problem.status, problem) for problem in PROBLEMS]
    unavailable = next(problem for problem in PROBLEMS if problem.status == 503)
    # Statuses without a line of their own (426 for HTTP/1.0, say) still get the one format; the first match wins.
    rest = [_mapper("GE", 500, unavailable, own_status=True), _mapper("GE", 400, OTHER_CLIENT_ERROR, own_status=True)]
    return {"mappers": exact + rest}


def _mapper(op: str, status: int, problem: EdgeProblem, *, own_status: bool = False) -> dict[str, Any]:
    document = {
        "type": "about:blank",
        "title": problem.title,
        "status": "%RESPONSE_CODE%" if own_status else problem.status,
        "code": problem.code,
        "detail": problem.detail,
        "request_id": REQUEST_ID,
    }
    headers = [set_header("x-content-type-options", "nosniff")]
    if problem.retry_after_s:
        headers.append(set_header("retry-after", str(problem.retry_after_s)))
    comparison = {"op": op, "value": {"default_value": status, "runtime_key": f"doorbuster.status_{op}_{status}"}}
    return {
        "filter": {"status_code_filter": {"comparison": comparison}},
        "body_format_override": {"json_format": document, "content_type": PROBLEM},
        "headers_to_add": headers,
    }
