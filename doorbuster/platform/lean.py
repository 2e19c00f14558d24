"""A plain ASGI path for the few hot routes: decode, call, encode, and nothing else in between.

The framework costs more than the whole order process on the hottest route (see BENCHMARKS.md), so that route is served
here. It answers byte for byte like the framework's own handler, which stays mounted for the API's description and for
tests that compare the two.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, TypeVar

import msgspec

from doorbuster.platform import errors, ids
from doorbuster.platform.calls import Ctx
from doorbuster.platform.http import PROBLEM, ctx_of, problem_of

B = TypeVar("B")
Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Any, Any, Any], Awaitable[None]]

_ENCODER = msgspec.json.Encoder()
_WANTED = frozenset({b"x-door-sub", b"x-door-roles", b"x-request-id", b"idempotency-key", b"content-type"})
_JSON = b"application/json"


class LeanRoute(Generic[B]):
    """One POST route with a JSON body of type `B`; `handle` returns (status, answer, headers)."""

    def __init__(
        self,
        path: str,
        body: type[B],
        handle: Callable[[Ctx, B], Awaitable[tuple[int, Any, dict[str, str]]]],
        body_limit: int,
    ) -> None:
        self.path = path
        self._decoder = msgspec.json.Decoder(body)
        self._handle = handle
        self._body_limit = body_limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in _WANTED}
        media = _JSON
        extra: dict[str, str] = {}
        try:
            ctx = ctx_of(headers)
            status, answer, extra = await self._handle(ctx, await self._body(headers, receive))
            body = _ENCODER.encode(answer)
        except Exception as error:  # every failure becomes a problem document; a bug is logged there
            request_id = headers.get("x-request-id") or str(ids.uuid7())
            status, body, extra = problem_of(error, request_id)
            media = PROBLEM.encode()
        raw = [(b"content-type", media), (b"content-length", str(len(body)).encode())]
        raw += [(name.encode(), value.encode()) for name, value in extra.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": body})

    async def _body(self, headers: Mapping[str, str], receive: Receive) -> B:
        if headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            raise errors.UnsupportedMediaType()
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise errors.InvalidRequest("The client went away")
            part = message.get("body", b"")
            size += len(part)
            if size > self._body_limit:
                raise errors.BodyTooLarge()
            parts.append(part)
            if not message.get("more_body"):
                break
        try:
            return self._decoder.decode(parts[0] if len(parts) == 1 else b"".join(parts))
        except msgspec.ValidationError as error:
            raise errors.InvalidRequest(str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise errors.BrokenJson(str(error)) from None


def with_lean_routes(app: AsgiApp, routes: tuple[LeanRoute[Any], ...]) -> AsgiApp:
    """`app`, with these POST routes served leanly and HEAD answered as GET without its body."""
    by_path = {route.path: route for route in routes}

    async def outer(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            method = scope["method"]
            if method == "POST" and (route := by_path.get(scope["path"])) is not None:
                await route(scope, receive, send)
                return
            if method == "HEAD":
                await app(dict(scope, method="GET"), receive, _headless(send))
                return
        await app(scope, receive, send)

    return outer


def _headless(send: Send) -> Send:
    async def bodiless(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            message = dict(message, body=b"")
        await send(message)

    return bodiless
