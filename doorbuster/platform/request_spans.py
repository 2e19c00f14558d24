"""One span for each request a worker serves. The edge, the only one that can reach a worker, says which trace it is."""

from __future__ import annotations

from collections.abc import Awaitable

from doorbuster.platform import tracing
from doorbuster.platform.rsgi import Protocol, RsgiApp, Scope, Stream
from doorbuster.platform.tracing import Span

_SILENT = frozenset({"/livez", "/readyz", "/metrics"})
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def with_request_spans(app: RsgiApp) -> RsgiApp:
    """`app`, with a server span around each request but the probes."""

    async def serve(scope: Scope, protocol: Protocol) -> None:
        method = scope.method if scope.method in _METHODS else "_OTHER"
        attributes = {
            "http.request.method": method,
            "url.scheme": "https",
            "door.request_id": scope.headers.get("x-request-id") or "",
        }
        parent = scope.headers.get("traceparent") or ""
        with tracing.begin(method, tracing.SERVER, parent, attributes) as span:
            await app(scope, _Watched(protocol, span))

    def outer(scope: Scope, protocol: Protocol) -> Awaitable[None]:
        return app(scope, protocol) if scope.path in _SILENT else serve(scope, protocol)

    return outer


class _Watched:
    """Guards an exchange whose status its span is told."""

    def __init__(self, protocol: Protocol, span: Span) -> None:
        self._protocol = protocol
        self._span = span

    async def __call__(self) -> bytes:
        return await self._protocol()

    async def client_disconnect(self) -> None:
        await self._protocol.client_disconnect()

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self._note(status)
        self._protocol.response_bytes(status, headers, body)

    def response_empty(self, status: int, headers: list[tuple[str, str]]) -> None:
        self._note(status)
        self._protocol.response_empty(status, headers)

    def response_stream(self, status: int, headers: list[tuple[str, str]]) -> Stream:
        self._note(status)
        return self._protocol.response_stream(status, headers)

    def _note(self, status: int) -> None:
        self._span.set("http.response.status_code", status)
        if status >= 500:
            self._span.fail(str(status))
