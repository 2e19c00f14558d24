"""Send one call to one provider and classify what is known afterwards. Never raises for anything a provider does.

First form: one provider. The caller has made the attempt durable before it calls here.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import aiohttp
import msgspec
import structlog
from prometheus_client import Counter, Histogram

from doorbuster.engines.payment_router.outcome import ChargeOrder, HttpAnswer, HttpCall, Outcome, RefundOrder, Result
from doorbuster.engines.payment_router.providers import sandbox
from doorbuster.platform import settings

_PROVIDERS = {sandbox.NAME: sandbox}
MAX_ANSWER = 1_048_576
MAX_CODE = 64
_LOG = structlog.get_logger("payment_router")
CALLS = Counter("doorbuster_psp_calls_total", "Calls to providers", ["provider", "operation", "outcome"])
SECONDS = Histogram("doorbuster_psp_seconds", "Seconds per provider call", ["provider", "operation"])


class _Lines:
    """Guards the keep-alive connections and secrets of this process."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._secrets: dict[str, str] = {}

    def session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is None or self._loop is not loop or self._session.closed:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=256, keepalive_timeout=30), auto_decompress=False
            )
            self._loop = loop
        return self._session

    def secret(self, provider: str) -> str:
        if provider not in self._secrets:
            login = settings.current().providers[provider]
            self._secrets[provider] = Path(login.secret_file).read_text().strip()
        return self._secrets[provider]

    async def close(self) -> None:
        if self._session is not None and not self._session.closed:
            await self._session.close()
        self._session = None


_LINES = _Lines()


def choose() -> str:
    """The provider for a new payment; with one configured there is nothing to weigh."""
    return next(iter(settings.current().providers))


def horizon_s(provider: str) -> float:
    """How long after an attempt its outcome may still be open: time-out, horizon, and slack for a busy machine."""
    horizon: float = _PROVIDERS[provider].INQUIRY_HORIZON_S
    return settings.current().payment_timeout_s + horizon + 30


async def charge(order: ChargeOrder) -> Result:
    """Take the money, once. The attempt must already be durable."""
    provider = _PROVIDERS[order.provider]
    answer = await _send(order.provider, "charge", provider.charge_call(order, _LINES.secret(order.provider)))
    result = answer if isinstance(answer, Result) else provider.read_charge(order, answer)
    return _counted(order.provider, "charge", result)


async def inquire(order: ChargeOrder, *, age_s: float) -> Result:
    """Ask what became of an attempt that began `age_s` seconds ago. NOT_SENT here means the inquiry was not sent."""
    provider = _PROVIDERS[order.provider]
    answer = await _send(order.provider, "inquiry", provider.inquiry_call(order, _LINES.secret(order.provider)))
    if isinstance(answer, Result):
        return _counted(order.provider, "inquiry", Result(Outcome.UNKNOWN, code=f"inquiry_{answer.code}"))
    return _counted(order.provider, "inquiry", provider.read_inquiry(order, answer, age_s=age_s))


async def refund(order: RefundOrder) -> Result:
    """Give the money back; safe to repeat with the same key."""
    provider = _PROVIDERS[order.provider]
    answer = await _send(order.provider, "refund", provider.refund_call(order, _LINES.secret(order.provider)))
    result = answer if isinstance(answer, Result) else provider.read_refund(order, answer)
    return _counted(order.provider, "refund", result)


async def close() -> None:
    """Close the connections to providers."""
    await _LINES.close()


async def _send(provider: str, operation: str, call: HttpCall) -> HttpAnswer | Result:
    url = settings.current().providers[provider].base_url + call.path
    began = time.perf_counter()
    timeout = aiohttp.ClientTimeout(total=settings.current().payment_timeout_s, sock_connect=3)
    try:
        async with _LINES.session().request(
            call.method, url, data=call.body or None, headers=call.headers, timeout=timeout, allow_redirects=False
        ) as answer:
            body = bytearray()
            async for part in answer.content.iter_any():
                body += part
                if len(body) > MAX_ANSWER:
                    answer.close()
                    return Result(Outcome.UNKNOWN, code="answer_too_large")
            return HttpAnswer(answer.status, bytes(body))
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        # Neither could a connection be made nor had a byte of the request been written.
        _LOG.warning("provider_unreachable", provider=provider, operation=operation, why=type(error).__name__)
        return Result(Outcome.NOT_SENT, code="unreachable")
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
        return Result(Outcome.UNKNOWN, code=type(error).__name__)
    finally:
        SECONDS.labels(provider, operation).observe(time.perf_counter() - began)


def _counted(provider: str, operation: str, result: Result) -> Result:
    # A provider's words go into our records and logs: printable, short, and free of what PostgreSQL's text refuses.
    code = "".join(sign for sign in result.code if sign.isascii() and sign.isprintable())[:MAX_CODE]
    result = msgspec.structs.replace(result, code=code)
    CALLS.labels(provider, operation, result.outcome.value).inc()
    if result.outcome is Outcome.UNKNOWN:
        _LOG.warning("outcome_unknown", provider=provider, operation=operation, code=result.code)
    return result
