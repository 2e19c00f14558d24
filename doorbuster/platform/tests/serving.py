"""Serves an application for a test as a worker does: the real server on a Unix socket, in this event loop."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from granian.constants import Interfaces
from granian.server.embed import Server

from doorbuster.platform.rsgi import RsgiApp

_START_S = 5.0


@asynccontextmanager
async def served_at(app: RsgiApp) -> AsyncIterator[Path]:
    """The socket that `app` answers on."""
    with tempfile.TemporaryDirectory(prefix="serve-") as folder:
        socket = Path(folder) / "app.sock"
        server = Server(app, uds=socket, interface=Interfaces.RSGI, log_enabled=False, websockets=False)
        serving = asyncio.create_task(server.serve())
        try:
            async with asyncio.timeout(_START_S):
                while not socket.exists():
                    assert not serving.done(), serving
                    await asyncio.sleep(0.01)
            yield socket
        finally:
            server.stop()  # type: ignore[no-untyped-call]
            await serving


@asynccontextmanager
async def served(app: RsgiApp) -> AsyncIterator[httpx.AsyncClient]:
    """A client of `app`."""
    async with served_at(app) as socket:
        transport = httpx.AsyncHTTPTransport(uds=str(socket))
        async with httpx.AsyncClient(transport=transport, base_url="http://shop", timeout=30) as client:
            yield client
