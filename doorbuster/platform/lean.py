"""The hot routes without the framework: decode, call, encode, and nothing else in between.

The framework costs more than the whole order process on the hottest route (see BENCHMARKS.md), so that route is served
here, straight on the server's own interface (RSGI). It answers byte for byte like the framework's own handler, which
stays mounted for the API's description and for tests that compare the two.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import msgspec

from doorbuster.platform import ids, tracing
from doorbuster.platform.calls import Ctx
from doorbuster.platform.http import PROBLEM, ctx_of, decode_strictly, problem_of, require_json
from doorbuster.platform.rsgi import Protocol, RsgiApp, Scope, answer, body_of

B = TypeVar("B")

_ENCODER = msgspec.json.Encoder()


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

    async def serve(self, scope: Scope, protocol: Protocol) -> None:
        """Answer one request."""
        headers = scope.headers
        tracing.name_route(self.path)
        try:
            ctx = ctx_of(headers)
            require_json(headers)
            wish = decode_strictly(self._decoder, await body_of(scope, protocol, self._body_limit))
            status, result, extra = await self._handle(ctx, wish)
            body, media = _ENCODER.encode(result), "application/json"
        except Exception as error:  # every failure becomes a problem document; a bug is logged there
            status, body, extra = problem_of(error, headers.get("x-request-id") or str(ids.uuid7()))
            media = PROBLEM
        answer(protocol, status, [("content-type", media), *extra.items()], body)


def with_lean_routes(app: RsgiApp, routes: tuple[LeanRoute[Any], ...]) -> RsgiApp:
    """`app`, with these POST routes served leanly."""
    by_path = {route.path: route.serve for route in routes}

    def outer(scope: Scope, protocol: Protocol) -> Awaitable[None]:
        if scope.method == "POST" and (serve := by_path.get(scope.path)) is not None:
            return serve(scope, protocol)
        return app(scope, protocol)

    return outer
