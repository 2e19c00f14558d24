"""The web application in this process, with or without its background work, and a client of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import httpx
import msgspec
import pytest

from doorbuster.app import create_app
from doorbuster.background import SCHEDULED
from doorbuster.platform.tests.commit_cutter import aside


class Api:
    """A client of the web application in this process, as the edge would call it: identity comes in headers."""

    def __init__(self, client: httpx.AsyncClient, headers: dict[str, str]) -> None:
        self._client = client
        self._headers = headers

    def as_user(self, subject: UUID | None = None, roles: str = "shopper") -> Api:
        """The same API as somebody with these roles."""
        return Api(self._client, {"x-door-sub": str(subject or uuid4()), "x-door-roles": roles})

    def with_headers(self, **headers: str) -> Api:
        """The same API with more headers; underscores become dashes."""
        return Api(self._client, self._headers | {key.replace("_", "-"): value for key, value in headers.items()})

    async def request(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        headers = self._headers | kwargs.pop("headers", {})
        return await self._client.request(method, path, headers=headers, **kwargs)

    async def get(self, path: str, **kwargs: Any) -> httpx.Response:
        return await self.request("GET", path, **kwargs)

    async def post(self, path: str, **kwargs: Any) -> httpx.Response:
        return await self.request("POST", path, **kwargs)

    async def put(self, path: str, **kwargs: Any) -> httpx.Response:
        return await self.request("PUT", path, **kwargs)


@asynccontextmanager
async def client_of(app: Any) -> AsyncIterator[Api]:
    """Call an application of this process."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
        yield Api(client, {})


@asynccontextmanager
async def living_app() -> AsyncIterator[Any]:
    """The application while its background work goes on."""
    monkeypatch = pytest.MonkeyPatch()
    planned = tuple(msgspec.structs.replace(one, work=aside(one.work)) for one in SCHEDULED)
    monkeypatch.setattr("doorbuster.app.SCHEDULED", planned)
    app = create_app()
    entered, leave = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        # Fixtures are torn down in another task than they are set up in, which the lifespan does not bear.
        async with app.lifespan():
            entered.set()
            await leave.wait()

    living = asyncio.create_task(live())
    await asyncio.wait([living, asyncio.create_task(entered.wait())], return_when=asyncio.FIRST_COMPLETED)
    try:
        yield app
    finally:
        leave.set()
        await living
        monkeypatch.undo()
