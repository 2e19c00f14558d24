"""The lines to providers: connections that are kept, logins that hide their secrets, and one call sent over one.

A login is an account: several may speak the same provider's language. What is sent is built elsewhere; what comes back
is complete and bounded, or says how it failed.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import aiohttp
import structlog
from prometheus_client import Histogram

from doorbuster.engines.payment_router.outcome import HttpAnswer, HttpCall, Outcome, Result
from doorbuster.engines.payment_router.provider import Capability, Login, Secret
from doorbuster.engines.payment_router.providers import PROVIDERS
from doorbuster.platform import settings

MAX_ANSWER = 1_048_576
MOST_LINES = 256
"""To one provider. One that is silent can fill its own and nobody else's."""
_CONNECT_S = 3.0
_LOG = structlog.get_logger("payment_router")
SECONDS = Histogram("doorbuster_psp_seconds", "Seconds per provider call", ["provider", "operation"])


class _Lines:
    """Guards the keep-alive connections and logins of this process."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._logins: dict[str, Login] = {}

    def session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._session is None or self._loop is not loop or self._session.closed:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, limit_per_host=MOST_LINES, keepalive_timeout=30),
                auto_decompress=False,
            )
            self._loop = loop
        return self._session

    def login(self, account: str) -> Login:
        if account not in self._logins:
            known = settings.current().providers[account]
            self._logins[account] = Login(
                base_url=known.base_url,
                secret=_secret(known.secret_file),
                client_key=known.client_key,
                webhook_secrets=tuple(_secret(file) for file in known.webhook_secret_files),
                merchant=known.merchant,
                account=known.account,
            )
        return self._logins[account]

    async def close(self) -> None:
        if self._session is not None and not self._session.closed:
            await self._session.close()
        self._session = None
        # Whoever opens it again may have other settings: a login of before would be refused.
        self._logins.clear()


_LINES = _Lines()


def _secret(file: str) -> Secret:
    return Secret(Path(file).read_text().strip())


def login(account: str) -> Login:
    """How this shop is known to a provider. KeyError for an account that the settings do not have."""
    return _LINES.login(account)


def kind_of(account: str) -> str:
    """The language an account speaks: a key of PROVIDERS and of each flow's table."""
    return settings.current().providers[account].kind or account


def capability_of(account: str) -> Capability:
    """What the provider of an account can do."""
    return PROVIDERS[kind_of(account)].CAPABILITY


def accounts() -> list[str]:
    """The accounts that this shop has, whose language is known, in the order of the settings."""
    return [name for name in settings.current().providers if kind_of(name) in PROVIDERS]


def accounts_that_know(token: str) -> list[str]:
    """The accounts whose provider's own tokens look like this one: they can be asked to charge it."""
    prefixes = {name: capability_of(name).instrument_prefix for name in accounts()}
    return [name for name, prefix in prefixes.items() if prefix and token.startswith(prefix)]


async def send(account: str, operation: str, call: HttpCall, *, most: int = MAX_ANSWER) -> HttpAnswer | Result:
    """Send one call and read its answer whole. A Result says how it failed: NOT_SENT only when no byte has left."""
    url = settings.current().providers[account].base_url + call.path
    began = time.perf_counter()
    total_s = settings.current().payment_timeout_s
    # Shorter than the whole, or who waited in vain for a line or a connection could not say that nothing was sent.
    connect_s = min(_CONNECT_S, total_s / 2)
    timeout = aiohttp.ClientTimeout(total=total_s, connect=connect_s, sock_connect=connect_s)
    try:
        async with _LINES.session().request(
            call.method, url, data=call.body or None, headers=call.headers, timeout=timeout, allow_redirects=False
        ) as answer:
            body = bytearray()
            async for part in answer.content.iter_any():
                body += part
                if len(body) > most:
                    answer.close()
                    return Result(Outcome.UNKNOWN, code="answer_too_large")
            return HttpAnswer(answer.status, bytes(body))
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
        # Neither could a connection be made nor had a byte of the request been written.
        _LOG.warning("provider_unreachable", provider=account, operation=operation, why=type(error).__name__)
        return Result(Outcome.NOT_SENT, code="unreachable")
    except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
        return Result(Outcome.UNKNOWN, code=type(error).__name__)
    finally:
        SECONDS.labels(account, operation).observe(time.perf_counter() - began)


async def close() -> None:
    """Close the connections to providers."""
    await _LINES.close()
