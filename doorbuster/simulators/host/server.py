"""The HTTP side of a simulated PSP: bounded requests in, faults thrown, answers out, and the admin door.

Admin door (`Authorization: Bearer SECRET`, JSON): GET/PUT /admin/faults, GET/POST /admin/clock,
GET/PUT /admin/webhooks, POST /admin/webhooks/send, POST /admin/refuse, GET /admin/ledger/summary,
GET /admin/ledger/captures, GET /admin/ledger/declines, and what the PSP adds. GET /livez needs nothing.
"""

import asyncio
import hmac
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any, Protocol

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from doorbuster.simulators.host.clock import Clock
from doorbuster.simulators.host.faults import After, Dice, Faults, parse_faults
from doorbuster.simulators.host.ledger import LedgerUnavailable
from doorbuster.simulators.host.summary import Capture, Decline, Summary
from doorbuster.simulators.host.webhooks import Outbox, Style, parse_send_now
from doorbuster.simulators.host.wire import Answer, Request

MAX_BODY_BYTES = 64 * 1024
MAX_IN_FLIGHT = 4096
MAX_PAGE = 1000
# A reset throws away what the caller has not read yet, so the half that arrives is given a moment to.
_HALF_ARRIVES_S = 0.05


class AdminRefused(Exception):
    """Expected: the admin door answers 400 with this text."""


class Psp(Protocol):
    """What a PSP brings. A ticket `admit` gave out goes to `decide`, or to `abandon` when it will not be decided."""

    def admit(self, request: Request) -> Any:
        """An Answer, or a ticket."""

    def changes(self, method: str, path: str) -> bool:
        """False for what only reads: such a request meets no fault but latency and `inquiry_down`."""

    def decide(self, ticket: Any, declines: Callable[[], bool]) -> Answer:
        """What happens now; `declines` is asked once an issuer is. Raises LedgerUnavailable: nothing happened."""

    def abandon(self, ticket: Any) -> None: ...

    def error(self, status: int) -> Answer:
        """This PSP's own form of 413, 429, 500 and 503."""

    def wrong_amount(self, body: bytes) -> bytes:
        """The same answer with an amount that is not true."""

    def window(self, path: str) -> str | None:
        """Where a browser at this path is sent; None when there is no window at it."""

    def admin(self) -> Mapping[tuple[str, str], Callable[[bytes], object]]:
        """Further admin endpoints: (method, path) → from body to a JSON value, or CSV text; raises AdminRefused."""

    def summary(self) -> Summary: ...

    def captures(self) -> list[Capture]: ...

    def declines(self) -> list[Decline]: ...

    def tick(self) -> None:
        """The clock was moved."""


class Advance(Struct, frozen=True, forbid_unknown_fields=True):
    advance_ms: Annotated[int, Meta(ge=0)]


class Refuse(Struct, frozen=True, forbid_unknown_fields=True):
    ms: Annotated[int, Meta(ge=1, le=600_000)]


class Desk:
    """Guards the dice in force, the number of requests in work and whether connections are taken at all."""

    def __init__(self, psp: Psp, secret: str, clock: Clock, outbox: Outbox) -> None:
        self._psp = psp
        self._secret = secret.encode()
        self._clock = clock
        self._outbox = outbox
        self._dice = Dice(Faults())
        self._in_flight = 0
        self._refusing = False
        self._absence: asyncio.Task[None] | None = None
        # Set by whoever listens: stop listening for so many seconds.
        self.refuse: Callable[[float], Awaitable[None]] | None = None

    def set_faults(self, faults: Faults) -> None:
        self._dice = Dice(faults)

    def close(self) -> None:
        """The process ends: nobody listens again."""
        if self._absence is not None:
            self._absence.cancel()

    async def serve(self, incoming: web.Request) -> web.StreamResponse:
        path = incoming.rel_url.raw_path
        if path == "/livez":
            return _response(Answer(200, b'{"status":"ok"}'))
        if path.startswith("/admin/"):
            return await self._serve_admin(incoming, path)
        if self._dice.faults.down or self._refusing:
            return _cut(incoming, reset=False)
        if self._in_flight >= MAX_IN_FLIGHT:
            return _response(self._psp.error(503))
        self._in_flight += 1
        try:
            return await self._serve_psp(incoming, path)
        finally:
            self._in_flight -= 1

    async def _serve_psp(self, incoming: web.Request, path: str) -> web.StreamResponse:
        try:
            if incoming.method == "GET" and (url := self._psp.window(path)) is not None:
                return web.Response(status=302, headers={"location": url})
            body = await incoming.read()
        except web.HTTPRequestEntityTooLarge:
            return _response(self._psp.error(413))
        except ConnectionError:
            # The caller went away inside its own request: there is nothing to decide and nobody to answer.
            return _cut(incoming, reset=False)
        except LedgerUnavailable:
            return _response(self._psp.error(503))
        changes = self._psp.changes(incoming.method, path)
        if not changes and self._dice.faults.inquiry_down:
            return _response(self._psp.error(503))
        match self._dice.before() if changes else None:
            case "reset":
                return _cut(incoming, reset=True)
            case "error":
                return _response(self._psp.error(500))
            case "rate_limit":
                return _response(self._psp.error(429))
            case None:
                pass
        admitted = self._psp.admit(_request(incoming, path, body))
        # A PSP does not stop for a lost caller: the wait and the verdict are one, whoever still listens.
        delay_s = self._dice.delay_s()
        if delay_s:
            await asyncio.sleep(delay_s)
        answer = admitted if isinstance(admitted, Answer) else self._decide(admitted)
        return await self._send(incoming, answer)

    def _decide(self, ticket: Any) -> Answer:
        try:
            return self._psp.decide(ticket, self._dice.declines)
        except LedgerUnavailable:
            return self._psp.error(503)
        finally:
            self._psp.abandon(ticket)

    async def _send(self, incoming: web.Request, answer: Answer) -> web.StreamResponse:
        if answer.kind == "refund" and self._dice.loses_refund_answer():
            return _cut(incoming, reset=True)
        fault = self._dice.after_capture() if answer.kind == "capture" else None
        return _response(answer) if fault is None else await self._spoil(incoming, answer, fault)

    async def _spoil(self, incoming: web.Request, answer: Answer, fault: After) -> web.StreamResponse:
        match fault:
            case "error":
                return _response(self._fail(answer))
            case "reset":
                return _cut(incoming, reset=True)
            case "malformed":
                return _response(msgspec.structs.replace(answer, body=answer.body[: len(answer.body) // 2]))
            case "wrong_amount":
                return _response(msgspec.structs.replace(answer, body=self._psp.wrong_amount(answer.body)))
            case "timeout":
                await asyncio.sleep(self._dice.faults.hold_ms / 1000)
                return _cut(incoming, reset=False)
            case "slow_drip":
                return await _drip(incoming, answer, self._dice.faults.drip_ms / 1000)
            case "reset_mid_answer":
                return await _half(incoming, answer)

    def _fail(self, answer: Answer) -> Answer:
        try:
            return self._psp.error(500) if answer.fails is None else answer.fails()
        except LedgerUnavailable:
            return self._psp.error(503)

    async def _serve_admin(self, incoming: web.Request, path: str) -> web.StreamResponse:
        scheme, _, credential = _plain(incoming.headers.get("authorization", "")).partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(credential.strip().encode(), self._secret):
            return _response(Answer(401, b'{"error":"the bearer secret is missing or wrong"}'))
        try:
            body = await incoming.read()
            value = await self._admin(incoming, path, body)
        except web.HTTPRequestEntityTooLarge:
            return _response(Answer(413, b'{"error":"too large"}'))
        except ConnectionError:
            return _cut(incoming, reset=False)
        except (AdminRefused, ValueError, RecursionError, LedgerUnavailable) as error:
            # msgspec's errors are ValueErrors: what the operator sent cannot be read, or not done.
            return _response(Answer(400, msgspec.json.encode({"error": str(error)})))
        if value is None:
            return _response(Answer(404, b'{"error":"no such admin endpoint"}'))
        if isinstance(value, str):
            return web.Response(text=value, content_type="text/csv")
        return _response(Answer(200, msgspec.json.encode(value)))

    async def _admin(self, incoming: web.Request, path: str, body: bytes) -> object | None:
        """None: there is no such endpoint."""
        match incoming.method, path:
            case "GET", "/admin/faults":
                return self._dice.faults
            case "PUT", "/admin/faults":
                self.set_faults(parse_faults(body))
                return self._dice.faults
            case "GET", "/admin/clock":
                return {"now_ms": self._clock.now_ms(), "offset_ms": self._clock.offset_ms}
            case "POST", "/admin/clock":
                self._clock.advance(msgspec.json.decode(body, type=Advance).advance_ms)
                self._psp.tick()
                self._outbox.wake()
                return {"now_ms": self._clock.now_ms(), "offset_ms": self._clock.offset_ms}
            case "GET", "/admin/webhooks":
                return {"style": self._outbox.style, "idle": self._outbox.is_idle, "webhooks": self._outbox.shown()}
            case "PUT", "/admin/webhooks":
                self._outbox.restyle(msgspec.json.decode(body, type=Style))
                return self._outbox.style
            case "POST", "/admin/webhooks/send":
                ids = parse_send_now(body, self._outbox.shown())
                return {"statuses": await self._outbox.send_now(ids)}
            case "POST", "/admin/refuse":
                return await self._refuse(msgspec.json.decode(body, type=Refuse).ms)
            case "GET", "/admin/ledger/summary":
                return self._psp.summary()
            case "GET", "/admin/ledger/captures":
                return _page(self._psp.captures(), incoming.query)
            case "GET", "/admin/ledger/declines":
                return _page(self._psp.declines(), incoming.query)
        handler = self._psp.admin().get((incoming.method, path))
        return None if handler is None else handler(body)

    async def _refuse(self, ms: int) -> object:
        if self.refuse is None or self._refusing:
            raise AdminRefused("nobody listens")
        self._refusing = True
        refuse = self.refuse

        async def for_a_while() -> None:
            try:
                await refuse(ms / 1000)
            finally:
                self._refusing = False

        self._absence = asyncio.create_task(for_a_while())
        return {"refusing_ms": ms}


def _request(incoming: web.Request, path: str, body: bytes) -> Request:
    headers = {name.lower(): _plain(value) for name, value in incoming.headers.items()}
    origin = f"http://{headers.get('host', 'localhost')}"
    return Request(
        incoming.method, path, dict(incoming.query), headers, body, origin, incoming.rel_url.raw_query_string
    )


def _plain(value: str) -> str:
    """A header as text that can be written again: its bytes that are no UTF-8 came as surrogates, which cannot."""
    return value.encode("utf-8", "surrogateescape").decode("latin-1")


def _page(ledger: Sequence[Capture | Decline], query: Mapping[str, str]) -> object:
    after, limit = query.get("after", "0"), query.get("limit", str(MAX_PAGE))
    if not (after.isdigit() and limit.isdigit() and len(after) < 12 and 1 <= int(limit) <= MAX_PAGE):
        raise AdminRefused(f"after is a number, limit is 1 to {MAX_PAGE}")
    start, end = int(after), int(after) + int(limit)
    rows = [msgspec.structs.replace(row, seq=seq) for seq, row in enumerate(ledger[start:end], start=start + 1)]
    return {"data": rows, "next_after": end if end < len(ledger) else None}


def _response(answer: Answer) -> web.Response:
    return web.Response(
        status=answer.status,
        body=answer.body,
        content_type="application/json",
        charset=answer.charset,
        headers=dict(answer.headers),
    )


def _cut(incoming: web.Request, reset: bool) -> web.Response:
    """No answer: the connection is closed, or reset (RST)."""
    transport = incoming.transport
    if transport is not None:
        if reset:
            sock: socket.socket = transport.get_extra_info("socket")
            # Linger 0 turns the close into an RST.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response(status=500)


async def _begun(incoming: web.Request, answer: Answer) -> web.StreamResponse:
    """Its head has gone out, with the length of the whole."""
    headers = {**answer.headers, "content-type": f"application/json; charset={answer.charset}"}
    response = web.StreamResponse(status=answer.status, headers=headers)
    response.content_length = len(answer.body)
    await response.prepare(incoming)
    return response


async def _half(incoming: web.Request, answer: Answer) -> web.StreamResponse:
    """The first half of the answer, and once it is on its way a reset."""
    response = await _begun(incoming, answer)
    await response.write(answer.body[: len(answer.body) // 2])
    await asyncio.sleep(_HALF_ARRIVES_S)
    _cut(incoming, reset=True)
    return response


async def _drip(incoming: web.Request, answer: Answer, every_s: float) -> web.StreamResponse:
    """The whole answer, a byte at a time."""
    response = await _begun(incoming, answer)
    for at in range(len(answer.body)):
        await asyncio.sleep(every_s)
        await response.write(answer.body[at : at + 1])
    return response
