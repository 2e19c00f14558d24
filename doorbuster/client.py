"""The way of our own tools (command line, drills, tests) into a running shop: its URL, its CA, a token of its key."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import aiohttp
import msgspec

from doorbuster.domains.user.account import keys
from doorbuster.engines.embedded import DataPaths, is_data_directory, read_state
from doorbuster.platform import tls
from doorbuster.platform.settings import Settings

_PEOPLE = UUID("6f0d4c1e-6d0b-4a53-9f0e-d00b57e40000")
_TIMEOUT_S = 60
ROLES = ("shopper", "merchant", "admin")


class NotRunning(Exception):
    """There is no shop to talk to; the message says what to do."""


class ShopRefused(Exception):
    """The shop refused a request; the message carries its code and detail."""


class Shop(msgspec.Struct, frozen=True):
    """A running local shop."""

    url: str
    paths_root: str
    settings: Settings

    @property
    def authority(self) -> Path:
        """The CA that signs the shop's certificate."""
        return DataPaths(Path(self.paths_root)).keys / "ca.pem"


def find(data: Path) -> Shop:
    """The shop that runs on a data directory. Raises NotRunning."""
    state = read_state(data) if is_data_directory(data) else None
    if state is None or state.status != "ready":
        raise NotRunning(f"No shop runs on {data}. Start one with `doorbuster up --detach`.")
    return Shop(state.url, str(data.absolute()), read_settings(data))


def read_settings(data: Path) -> Settings:
    """The settings that the shop of a data directory was last started with. Raises NotRunning."""
    file = data / "settings.json"
    if not file.exists():
        raise NotRunning(f"{data} holds no shop yet. Start one with `doorbuster up`.")
    return msgspec.json.decode(file.read_bytes(), type=Settings)


def token(settings: Settings, role: str, subject: UUID | None = None, lifetime_s: int = 86_400) -> str:
    """An access token from the shop's own key; each role has one well-known test subject."""
    who = subject or uuid5(_PEOPLE, role)
    return keys.mint_access_token(settings.signing_key_file, settings.issuer, who, [role], lifetime_s)


def shopper_tokens(settings: Settings, count: int, lifetime_s: int = 86_400) -> list[str]:
    """Tokens of `count` different shoppers, the same subjects every time."""
    return [token(settings, "shopper", uuid5(_PEOPLE, f"shopper {n}"), lifetime_s) for n in range(count)]


class Client:
    """Guards one HTTPS connection pool to the shop, as somebody."""

    def __init__(self, shop: Shop, role: str = "merchant") -> None:
        self._shop = shop
        self._headers = {"authorization": f"Bearer {token(shop.settings, role, lifetime_s=3_600)}"}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Client:
        context = tls.client_context(self._shop.authority)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=context), timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._session is not None
        await self._session.close()

    async def call(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        """One request; the decoded answer. Raises ShopRefused with the problem's code and detail."""
        assert self._session is not None
        content = None if body is None else msgspec.json.encode(body)
        all_headers = self._headers | {"content-type": "application/json"} | (headers or {})
        try:
            async with self._session.request(
                method, self._shop.url + path, data=content, headers=all_headers
            ) as answer:
                said = await answer.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise NotRunning(f"The shop at {self._shop.url} does not answer: {error}") from error
        if answer.status >= 400:
            raise ShopRefused(_explain(answer.status, said))
        return msgspec.json.decode(said) if said else None


def _explain(status: int, said: bytes) -> str:
    try:
        problem = msgspec.json.decode(said)
        return f"{problem['code']}: {problem['detail']}" + _errors(problem.get("errors"))
    except (msgspec.DecodeError, KeyError, TypeError):
        return f"HTTP {status}"


def _errors(errors: Sequence[Any] | None) -> str:
    return "" if not errors else " " + msgspec.json.encode(errors[:3]).decode()
