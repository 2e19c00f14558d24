"""The server's own interface (RSGI), and a bridge over which the framework, which speaks ASGI, is served on it.

RSGI hands a request over as one object and takes an answer in one call, where ASGI exchanges messages: half the cost
for an answer that is ready at once (decision 0016). HTTP only.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any
from typing import Protocol as Interface
from urllib.parse import quote

from granian._granian import RSGIProtocolClosed as ProtocolClosed

from doorbuster.platform import errors


class Headers(Interface):
    """Header names are lower case."""

    def get(self, key: str, default: str | None = None) -> str | None: ...
    def items(self) -> list[tuple[str, str]]: ...


class Scope(Interface):
    """One request without its body."""

    method: str
    path: str
    query_string: str
    scheme: str
    http_version: str

    @property
    def headers(self) -> Mapping[str, str]: ...


class Stream(Interface):
    """An answer that is sent in parts."""

    async def send_bytes(self, data: bytes) -> None: ...


class Protocol(Interface):
    """Where a request's body comes from and its answer goes to."""

    async def __call__(self) -> bytes: ...
    async def client_disconnect(self) -> None: ...
    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None: ...
    def response_empty(self, status: int, headers: list[tuple[str, str]]) -> None: ...
    def response_stream(self, status: int, headers: list[tuple[str, str]]) -> Stream: ...


RsgiApp = Callable[[Scope, Protocol], Awaitable[None]]
Message = MutableMapping[str, Any]
AsgiApp = Callable[[Any, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]


async def body_of(scope: Scope, protocol: Protocol, limit: int) -> bytes:
    """The whole body. Refuses with BodyTooLarge before it is read, and with InvalidRequest one without a length.

    The server hands on what it has when a client goes away in the middle, as if it were all. Only the announced length
    tells half a body from a whole one; the edge, which holds a body back until it is complete, always announces it.
    """
    announced = scope.headers.get("content-length")
    if announced is None:
        if scope.headers.get("transfer-encoding") is not None:
            raise errors.InvalidRequest("Say how long the body is: send Content-Length")
        return b""
    if not announced.isdecimal() or len(announced) > 15:
        raise errors.InvalidRequest("Content-Length is not a number")
    if int(announced) > limit:
        raise errors.BodyTooLarge()
    body = await protocol()
    if len(body) != int(announced):
        raise errors.InvalidRequest("The body ended before its Content-Length")
    return body


def answer(protocol: Protocol, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
    """Send a whole answer; a client that went away is nobody's failure."""
    with suppress(ProtocolClosed):
        protocol.response_bytes(status, headers, body)


def serve_asgi(app: AsgiApp, body_limit: int) -> RsgiApp:
    """`app` as the server's interface wants it, bodies up to a limit; HEAD is answered as GET without its body."""

    async def serve(scope: Scope, protocol: Protocol) -> None:
        exchange = _Exchange(scope, protocol, body_limit)
        try:
            with suppress(ProtocolClosed):
                await app(exchange.scope(), exchange.receive, exchange.send)
        finally:
            exchange.end()

    return serve


EDGE_HEADER = "x-door-edge"
_PROBES = frozenset({"/livez", "/readyz"})


def behind_edge(app: RsgiApp, secret: str) -> RsgiApp:
    """`app` for whoever proves to be the edge, which alone says who a caller is; probes are answered to all."""
    assert len(secret) >= 16, "the edge's secret is too short to be one"
    expected = secret.encode()

    def serve(scope: Scope, protocol: Protocol) -> Awaitable[None]:
        shown = (scope.headers.get(EDGE_HEADER) or "").encode()
        if scope.path in _PROBES or hmac.compare_digest(shown, expected):
            return app(scope, protocol)
        return _refuse(protocol)

    return serve


async def _refuse(protocol: Protocol) -> None:
    body = (
        b'{"type":"about:blank","title":"A valid access token is needed","status":401,"code":"unauthenticated",'
        b'"detail":"This service answers behind its edge only"}'
    )
    answer(protocol, 401, [("content-type", "application/problem+json")], body)


class _Exchange:
    """Guards what has been said in one exchange of ASGI messages."""

    def __init__(self, scope: Scope, protocol: Protocol, body_limit: int) -> None:
        self._body_limit = body_limit
        self._scope = scope
        self._protocol = protocol
        self._is_head = scope.method == "HEAD"
        self._is_read = False
        self._status = 500
        self._headers: list[tuple[str, str]] = []
        self._stream: Stream | None = None

    def scope(self) -> Message:
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": self._scope.http_version,
            "method": "GET" if self._is_head else self._scope.method,
            "scheme": self._scope.scheme,
            "path": self._scope.path,
            "raw_path": quote(self._scope.path).encode(),
            "query_string": self._scope.query_string.encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in self._scope.headers.items()],
            "client": None,
            "server": None,
        }

    def end(self) -> None:
        """Let go of the stream: that is how the server learns that nothing follows."""
        self._stream = None

    async def receive(self) -> Message:
        if self._is_read:
            await self._protocol.client_disconnect()
            return {"type": "http.disconnect"}
        self._is_read = True
        body = await body_of(self._scope, self._protocol, self._body_limit)
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = [(name.decode(), value.decode("latin-1")) for name, value in message["headers"]]
            return
        body = b"" if self._is_head else message.get("body", b"")
        if self._stream is None and not message.get("more_body"):
            self._protocol.response_bytes(self._status, self._headers, body)
            return
        if self._stream is None:
            self._stream = self._protocol.response_stream(self._status, self._headers)
        if body:
            await self._stream.send_bytes(body)
        if not message.get("more_body"):
            self.end()
