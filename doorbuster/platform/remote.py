"""Calls to verbs of other processes: kept-alive HTTP/1.1, a deadline, a service token, the same refusal class back."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec
import structlog
from prometheus_client import Histogram

from doorbuster.platform import tracing
from doorbuster.platform.calls import Ctx, Verb, decode_refusal
from doorbuster.platform.errors import OutcomeUnknown, Unavailable
from doorbuster.platform.service_token import Signer

PREFIX = "/internal/v1/"
TIMEOUT_HEADER = "x-door-timeout-ms"
PATIENCE_S = 20.0
"""How long a call without a deadline of its own may take."""
MAX_RESULT = 33_554_432
_CONNECT_S = 1.0
_CONNECTIONS = 256
_IDLE_S = 10.0
"""Shorter than a worker keeps an idle connection (30 s), so that a call rarely meets one that is closing."""
_PAUSES_S = (0.03, 0.2)
_LOG = structlog.get_logger("remote")
SECONDS = Histogram("doorbuster_call_seconds", "Seconds per call of a verb elsewhere", ["verb"])


class _Fault(msgspec.Struct):
    """What a callee says when it can not answer now."""

    detail: str = "it gave no reason"
    retry_after_s: int = 1
    is_unknown: bool = False


class _NotSent(Exception):
    """No byte of the call can have been seen by the callee."""


class Remote:
    """Guards the connections to one address, which is kept for the process's life."""

    def __init__(self, address: str, signer: Signer) -> None:
        self._address = address
        self._origin = ""
        self._signer = signer
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, verb: Verb, ctx: Ctx, arguments: bytes) -> Any:
        """The verb's result, or its refusal.

        A query is repeated twice at most; a command only when it was surely not sent. Raises Unavailable, and for a
        command whose answer was lost OutcomeUnknown: the caller asks again with the same ids, as after a lost COMMIT.
        """
        with SECONDS.labels(verb.wire_id).time():
            for pause_s in (*_PAUSES_S, None):
                try:
                    return await self._send(verb, ctx, arguments)
                except _NotSent as error:
                    unavailable = Unavailable(f"{verb.domain} is away")
                    unavailable.__cause__ = error
                except Unavailable as error:
                    if verb.kind != "query":
                        raise
                    unavailable = error
                if pause_s is None or ctx.remaining_s(PATIENCE_S) <= pause_s:
                    raise unavailable
                await asyncio.sleep(pause_s)
        raise AssertionError("the loop above returns or raises")

    async def close(self) -> None:
        """Close the connections; the next call opens new ones."""
        if self._session is not None:
            await self._session.close()
        self._session = None

    async def _send(self, verb: Verb, ctx: Ctx, arguments: bytes) -> Any:
        session = self._open()
        remaining_s = ctx.remaining_s(PATIENCE_S)
        if remaining_s <= 0:
            raise Unavailable(f"There was no time left to ask {verb.domain}")
        headers = {
            "authorization": f"Bearer {self._signer.token_for(verb.domain)}",
            "content-type": "application/json",
            TIMEOUT_HEADER: str(int(remaining_s * 1_000)),
        }
        if traceparent := tracing.current_traceparent():
            headers["traceparent"] = traceparent
        if ctx.request_id:
            headers["x-request-id"] = quote(ctx.request_id, safe=":-._")
        timeout = aiohttp.ClientTimeout(total=remaining_s, connect=_CONNECT_S)
        try:
            async with session.post(
                f"{self._origin}{PREFIX}{verb.wire_id}",
                data=arguments,
                headers=headers,
                timeout=timeout,
                allow_redirects=False,
            ) as answer:
                said = await answer.content.read(MAX_RESULT + 1)
                while len(said) <= MAX_RESULT and (more := await answer.content.read(MAX_RESULT)):
                    said += more
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise _NotSent from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            kind = OutcomeUnknown if verb.kind == "command" else Unavailable
            raise kind(f"{verb.domain} did not answer") from error
        return self._read(verb, answer.status, said)

    def _read(self, verb: Verb, status: int, said: bytes) -> Any:
        try:
            if status == 200 and len(said) <= MAX_RESULT:
                return verb.decode_result(said)
            if status == 409:
                raise decode_refusal(said)
            fault = msgspec.json.decode(said, type=_Fault) if status == 503 else None
        except msgspec.MsgspecError as error:
            raise self._misfit(verb, status) from error
        if fault is None:
            raise self._misfit(verb, status)
        kind = OutcomeUnknown if fault.is_unknown else Unavailable
        raise kind(fault.detail, fault.retry_after_s)

    def _misfit(self, verb: Verb, status: int) -> Exception:
        """The callee runs, but does not understand us, or is broken: for the caller that is away, for us an alarm."""
        _LOG.error("call_misfit", verb=verb.wire_id, status=status, address=self._address)
        kind = OutcomeUnknown if verb.kind == "command" and status in (200, 500) else Unavailable
        return kind(f"{verb.domain} answered {status} to {verb.wire_id}")

    def _open(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is None or self._loop is not loop or self._session.closed:
            connector, self._origin = _dial(self._address)
            self._session = aiohttp.ClientSession(
                connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
            )
            self._loop = loop
        return self._session


async def is_ready(address: str, timeout_s: float = 1.0) -> bool:
    """Whether the process at an address (`unix:/path` or `http://host:port`) says that it can take requests."""
    connector, origin = _dial(address)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=timeout_s)) as session,
            session.get(f"{origin}/readyz") as answer,
        ):
            return answer.status == 200
    except (aiohttp.ClientError, OSError, TimeoutError):
        return False


def _dial(address: str) -> tuple[aiohttp.BaseConnector, str]:
    """How to connect to an address, and the origin of its URLs."""
    if address.startswith("unix:"):
        path = address.removeprefix("unix:")
        return aiohttp.UnixConnector(path=path, limit=_CONNECTIONS, keepalive_timeout=_IDLE_S), "http://service"
    return aiohttp.TCPConnector(limit=_CONNECTIONS, keepalive_timeout=_IDLE_S), address


def connect(addresses: Mapping[str, str], signer: Signer) -> dict[str, Remote]:
    """By domain, what carries its calls; domains at one address share its connections."""
    by_address = {address: Remote(address, signer) for address in set(addresses.values())}
    return {domain: by_address[address] for domain, address in addresses.items()}
