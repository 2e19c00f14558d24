"""Turns the n-th request of a plan into bytes at the moment of sending, so that a large plan stays small."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from doorbuster.drills.load.plan import Plan, Request


class Source(NamedTuple):
    """The requests of a plan by position; both functions are pure, so a retry sends identical bytes."""

    size: int
    payload: Callable[[int], bytes]
    tag: Callable[[int], str]


def request_source(plan: Plan) -> Source:
    """The plan's requests, whichever of its two forms it uses."""
    return _from_rows(plan) if plan.rows else _from_requests(plan)


def _from_requests(plan: Plan) -> Source:
    requests, host = plan.requests, _host(plan)

    def payload(position: int) -> bytes:
        request: Request = requests[position]
        token = b"" if request.token is None else _token_line(request.token)
        head = _head(request.method, request.path, request.headers, host)
        return head + token + _ending(request.method, request.idempotency_key, request.body)

    return Source(len(requests), payload, lambda position: requests[position].tag)


def _from_rows(plan: Plan) -> Source:
    rows, bodies, routes, host = plan.rows, plan.bodies, plan.routes, _host(plan)
    heads = [_head(route.method, route.path, route.headers, host) for route in routes]
    # One more at the end, so that position -1 ("no token") needs no branch.
    token_lines = [*map(_token_line, plan.tokens), b""]

    def payload(position: int) -> bytes:
        route, token, body, key = rows[position]
        text = None if body < 0 else bodies[body]
        return heads[route] + token_lines[token] + _ending(routes[route].method, key, text)

    return Source(len(rows), payload, lambda position: routes[rows[position][0]].tag)


def _host(plan: Plan) -> str:
    return f"{plan.server_name}:{plan.port}"


def _token_line(token: str) -> bytes:
    return b"authorization: Bearer %b\r\n" % token.encode()


def _head(method: str, path: str, headers: Mapping[str, str], host: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"host: {host}", *(f"{name}: {text}" for name, text in headers.items())]
    if method in ("POST", "PUT", "PATCH") and not any(name.lower() == "content-type" for name in headers):
        lines.append("content-type: application/json")
    return ("\r\n".join(lines) + "\r\n").encode()


def _ending(method: str, key: str | None, body: str | None) -> bytes:
    key_line = b"" if key is None else b"idempotency-key: %b\r\n" % key.encode()
    if body is None:
        return key_line + (b"\r\n" if method == "GET" else b"content-length: 0\r\n\r\n")
    raw = body.encode()
    return b"%bcontent-length: %d\r\n\r\n%b" % (key_line, len(raw), raw)
