"""HTTP/1.1 over a uvloop transport: bounded, in order, and able to fail on purpose (no answer, reset)."""

import asyncio
import socket
import struct
from collections import deque
from typing import cast

import httptools

from doorbuster.simulators.sandbox.provider import Provider
from doorbuster.simulators.sandbox.wire import MAX_BODY_BYTES, Answer, Drop, Later, Request, problem, refused, serialise

MAX_HEAD_BYTES = 16 * 1024
MAX_HEADERS = 64
MAX_TARGET_BYTES = 2048
MAX_QUEUED = 32
MAX_DISCARDED_BYTES = 1024 * 1024
DRAIN_S = 2.0
SLOW_READER_S = 10.0
STOP_GRACE_S = 2.0

# Headers that decide something may come only once: two values would leave the choice to whoever reads them.
KEPT_HEADERS = frozenset({b"authorization", b"idempotency-key", b"content-type", b"content-length", b"host", b"expect"})

HEAD_TOO_LARGE = refused(431, "head_too_large", "The request's head is too large.").answer
TARGET_TOO_LONG = refused(414, "target_too_long", "The request's target is too long.").answer
BODY_TOO_LARGE = refused(413, "body_too_large", f"A body has at most {MAX_BODY_BYTES} bytes.").answer
MALFORMED = refused(400, "malformed_http", "This is not HTTP/1.1.").answer
HEADER_TWICE = refused(400, "header_twice", "A header that decides something came twice.").answer
NO_HOST = refused(400, "host_required", "HTTP/1.1 needs one Host header.").answer
NO_UPGRADE = refused(400, "upgrade_not_supported", "There is nothing to upgrade to.").answer
WRONG_VERSION = refused(505, "http_version_not_supported", "Speak HTTP/1.0 or HTTP/1.1.").answer
TOO_SLOW = refused(408, "request_timeout", "The request did not arrive in time.").answer
TOO_MANY = problem(503, "api_error", "too_many_connections", "Too many connections.")
NO_HEAD = Answer(405, b"", b"allow: GET, POST, PUT\r\n")


class Limits:
    """Seconds a request may take to arrive, seconds a connection may idle, connections at once."""

    def __init__(self, request_s: float, idle_s: float, connections: int) -> None:
        self.request_s = request_s
        self.idle_s = idle_s
        self.connections = connections


class Door:
    """Guards the open connections and sweeps those that outlived a limit."""

    def __init__(self, provider: Provider, limits: Limits, loop: asyncio.AbstractEventLoop) -> None:
        self.provider = provider
        self.limits = limits
        self.loop = loop
        self.open: set[Connection] = set()
        self.stopping = False

    async def sweep(self) -> None:
        """Run until cancelled. One timer for all connections: a timer per request would cost more than the request."""
        period_s = min(1.0, self.limits.request_s / 4, self.limits.idle_s / 4)
        while True:
            await asyncio.sleep(period_s)
            now = self.loop.time()
            for connection in tuple(self.open):
                connection.expire(now)

    async def stop(self) -> None:
        """Let requests in hand finish within STOP_GRACE_S; those held on purpose are cut at once."""
        self.stopping = True
        for connection in tuple(self.open):
            connection.finish()
        give_up_at = self.loop.time() + STOP_GRACE_S
        while self.open and self.loop.time() < give_up_at:
            await asyncio.sleep(0.01)
        for connection in tuple(self.open):
            connection.cut()


class Connection(asyncio.Protocol):
    """One client: requests are answered in the order they came, one in hand at a time, the rest queued."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._provider = door.provider
        self._loop = door.loop
        self._transport: asyncio.Transport
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[tuple[Request | Answer, bool, bool]] = deque()
        self._busy = False
        self._held: asyncio.TimerHandle | None = None
        self._closing = False
        self._deaf = False
        self._discarded = 0
        self._reading = True
        self._blocked_since: float | None = None
        self._deadline = 0.0
        self._begun_at: float | None = None
        self._partial_head = 0
        self._completed = 0
        self._start_message()

    # --- transport ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's has the methods, not the ancestry
        self._deadline = self._loop.time() + self._door.limits.idle_s
        full = len(self._door.open) >= self._door.limits.connections
        self._door.open.add(self)
        if full:
            self._send(TOO_MANY, keep_alive=False, http_1_0=False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._door.open.discard(self)
        self._closing = True
        self._queue.clear()
        if self._held is not None:
            self._held.cancel()

    def eof_received(self) -> bool:
        # A client may half-close and still wait for its answer; one that is held on purpose waits for nothing.
        waits = self._busy and self._held is None
        self._deaf = True
        return waits or bool(self._queue)

    def pause_writing(self) -> None:
        self._blocked_since = self._loop.time()

    def resume_writing(self) -> None:
        self._blocked_since = None
        self._pump()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            self._discarded += len(data)
            if self._discarded > MAX_DISCARDED_BYTES:
                self.cut()
            return
        completed = self._completed
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(NO_UPGRADE)
        except httptools.HttpParserCallbackError:
            # A bug of ours, not of the client: the loop logs it and drops the connection.
            raise
        except httptools.HttpParserError:
            self._refuse(MALFORMED)
        # A head that trickles in reaches no callback before it is whole, so its bytes are counted here.
        in_head = self._begun_at is not None and not self._head_done
        self._partial_head = self._partial_head + len(data) if in_head and completed == self._completed else 0
        if self._partial_head > MAX_HEAD_BYTES:
            self._refuse(HEAD_TOO_LARGE)

    # --- parser ---

    def on_message_begin(self) -> None:
        self._start_message()
        self._begun_at = self._loop.time()

    def on_url(self, part: bytes) -> None:
        self._target += part
        if len(self._target) > MAX_TARGET_BYTES:
            self._refuse(TARGET_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_size += len(name) + len(value) + 4
        self._header_count += 1
        if self._head_size > MAX_HEAD_BYTES or self._header_count > MAX_HEADERS:
            self._refuse(HEAD_TOO_LARGE)
        lowered = name.lower()
        if lowered in KEPT_HEADERS and not self._head_done:
            if lowered in self._headers:
                self._refuse(HEADER_TWICE)
            self._headers[lowered] = value

    def on_headers_complete(self) -> None:
        self._head_done = True
        version = self._parser.get_http_version()
        self._http_1_0 = version == "1.0"
        self._keep_alive = self._parser.should_keep_alive()
        headers = self._headers
        if version not in ("1.0", "1.1"):
            self._refuse(WRONG_VERSION)
        elif self._parser.should_upgrade():
            self._refuse(NO_UPGRADE)
        elif b"host" not in headers and not self._http_1_0:
            self._refuse(NO_HOST)
        elif int(headers.get(b"content-length", b"0")) > MAX_BODY_BYTES:
            self._refuse(BODY_TOO_LARGE)
        elif headers.get(b"expect", b"").lower() == b"100-continue" and not self._busy and not self._queue:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, part: bytes) -> None:
        self._body += part
        if len(self._body) > MAX_BODY_BYTES:
            self._refuse(BODY_TOO_LARGE)

    def on_message_complete(self) -> None:
        self._completed += 1
        self._begun_at = None
        if self._deaf:
            return
        path, _, query = self._target.decode("latin-1").partition("?")
        method = self._parser.get_method()
        request = Request(method, path, query, self._headers, self._body)
        if self._busy or self._queue or self._blocked_since is not None:
            self._enqueue(request, self._keep_alive, self._http_1_0)
        else:
            self._perform(request, self._keep_alive, self._http_1_0)

    # --- answering ---

    def expire(self, now: float) -> None:
        """Close what idles, answer 408 to what trickles, cut who does not read; called by the sweep."""
        if self._blocked_since is not None and now > self._blocked_since + SLOW_READER_S:
            self.cut()
        elif self._busy or self._queue:
            return
        elif self._begun_at is not None and not self._deaf:
            if now > self._begun_at + self._door.limits.request_s:
                self._refuse(TOO_SLOW)
        elif now > self._deadline:
            self.cut() if self._closing else self._transport.close()

    def finish(self) -> None:
        if self._held is not None:
            self.cut()
        elif not self._busy and not self._queue:
            self._transport.close()

    def cut(self) -> None:
        self._transport.abort()

    def _start_message(self) -> None:
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._body = b""
        self._head_size = self._header_count = 0
        self._head_done = self._http_1_0 = False
        self._keep_alive = True

    def _enqueue(self, item: Request | Answer, keep_alive: bool, http_1_0: bool) -> None:
        self._queue.append((item, keep_alive, http_1_0))
        if len(self._queue) >= MAX_QUEUED and self._reading:
            self._reading = False
            self._transport.pause_reading()

    def _pump(self) -> None:
        while self._queue and not self._busy and not self._closing and self._blocked_since is None:
            item, keep_alive, http_1_0 = self._queue.popleft()
            if isinstance(item, Answer):
                self._send(item, keep_alive, http_1_0)
            else:
                self._perform(item, keep_alive, http_1_0)
        if not self._reading and len(self._queue) < MAX_QUEUED // 2 and not self._transport.is_closing():
            self._reading = True
            self._transport.resume_reading()

    def _perform(self, request: Request, keep_alive: bool, http_1_0: bool) -> None:
        # The answer to HEAD may have no body, so no route knows it.
        outcome = NO_HEAD if request.method == b"HEAD" else self._provider.handle(request)
        if isinstance(outcome, Later):
            self._busy = True
            self._loop.call_later(outcome.delay_s, self._resume, outcome, keep_alive, http_1_0)
        else:
            self._conclude(outcome, keep_alive, http_1_0)

    def _resume(self, later: Later, keep_alive: bool, http_1_0: bool) -> None:
        try:
            outcome = later.then()
        except BaseException:
            self.cut()
            raise
        self._busy = False
        if not self._transport.is_closing():
            self._conclude(outcome, keep_alive, http_1_0)
            self._pump()

    def _conclude(self, outcome: Answer | Drop, keep_alive: bool, http_1_0: bool) -> None:
        if isinstance(outcome, Answer):
            self._send(outcome, keep_alive, http_1_0)
        elif outcome.reset:
            # Linger 0 turns the close into an RST.
            sock: socket.socket = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._closing = self._deaf = True
            self._transport.abort()
        else:
            self._busy = True
            self._held = self._loop.call_later(outcome.after_s, self._transport.close)

    def _refuse(self, answer: Answer) -> None:
        """Answer what cannot be a request, after those before it, and listen no more."""
        if self._deaf:
            return
        self._deaf = True
        self._enqueue(answer, False, False)
        self._pump()

    def _send(self, answer: Answer, keep_alive: bool, http_1_0: bool) -> None:
        was_last = self._deaf and not self._queue
        keep_alive = keep_alive and not was_last and not self._door.stopping
        self._transport.write(serialise(answer, keep_alive, http_1_0))
        now = self._loop.time()
        if keep_alive:
            self._deadline = now + self._door.limits.idle_s
            return
        # Unread bytes at close make the kernel send RST, which can overtake the answer: half-close, then drain a while.
        self._closing = self._deaf = True
        self._deadline = now + DRAIN_S
        self._transport.write_eof()
