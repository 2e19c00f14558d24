"""One TLS connection speaking HTTP/1.1: sends prebuilt bytes, reads just enough of the answer, no task per request."""

import asyncio
from typing import Protocol

import httptools

# The fields looked for stand near the front; a longer body is counted, not kept.
KEPT_BODY_BYTES = 65_536
MAX_HEAD_BYTES = 65_536


class Listener(Protocol):
    """Who is told what became of the request on the wire."""

    def answered(self, wire: "Wire", status: int, body: bytes, size: int, reusable: bool) -> None: ...

    def lost(self, wire: "Wire") -> None: ...


class Wire(asyncio.Protocol):
    """Guards one connection: at most one request is out; it gets one `answered`, or the connection one `lost`."""

    __slots__ = (
        "_body",
        "_complete",
        "_head",
        "_in_head",
        "_listener",
        "_parser",
        "_reusable",
        "_size",
        "_transport",
        "is_lost",
        "shopper",
    )

    def __init__(self, listener: Listener, shopper: int) -> None:
        self.shopper = shopper
        self.is_lost = False
        self._listener = listener
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._complete = False
        self._reusable = False
        self._head = b""  # of an answer and of the 1xx before it, which may share a packet
        self._in_head = True
        self._body = b""
        self._size = 0

    def send(self, payload: bytes) -> None:
        assert self._transport is not None
        self._transport.write(payload)

    def abort(self) -> None:
        """Drop the connection; `lost` is still called, later, once."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head += data
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            # What follows can not be told apart any more: as good as a lost connection.
            self._reusable = False
            if not self._complete:
                self.abort()
                return
        if self._complete:
            self._finish()
        elif self._in_head and len(self._head) > MAX_HEAD_BYTES:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        if exc is None and not self._in_head and self._ends_with_the_connection():
            self._reusable = False
            self._finish()
        self._transport = None
        self._listener.lost(self)

    # The parser calls these; it turns an exception in them into a parser error, so they only take notes.

    def on_headers_complete(self) -> None:
        self._in_head = False

    def on_body(self, piece: bytes) -> None:
        if self._size < KEPT_BODY_BYTES:
            self._body = self._body + piece if self._body else piece
        self._size += len(piece)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() < 200:
            self._reset()  # 100 Continue or 103 Early Hints: the answer is still to come
        else:
            self._complete = True
            # Asked here because the parser forgets the message's flags when this callback returns.
            self._reusable = self._parser.should_keep_alive()

    def _finish(self) -> None:
        status, body, size = self._parser.get_status_code(), self._body, self._size
        self._complete = False
        self._reset()
        self._head = b""
        self._listener.answered(self, status, body, size, self._reusable)

    def _ends_with_the_connection(self) -> bool:
        """RFC 9112 6.3: neither a length nor chunks, so the end of the connection is the end of the body."""
        head = self._head.lower()
        return b"\r\ncontent-length:" not in head and b"\r\ntransfer-encoding:" not in head

    def _reset(self) -> None:
        self._in_head = True
        self._body = b""
        self._size = 0
