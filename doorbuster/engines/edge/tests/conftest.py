"""Starts the real Envoy from the wheel before two real upstreams on Unix sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from doorbuster.engines import edge
from doorbuster.engines.edge.tests import tokens
from doorbuster.engines.edge.tests.client import ask
from doorbuster.engines.edge.tests.workers import Book, Worker
from doorbuster.map import ROUTES, Access, Route

READY_S = 10.0
PROBES = (
    Route("GET", "/api/v1/probe/slow", Access.OPEN, timeout_s=0.3),
    Route("POST", "/api/v1/probe/limited", Access.OPEN, rate_per_s=2),
    Route("POST", "/api/v1/probe/small", Access.OPEN, body_limit=100),
    Route("POST", "/api/v1/probe/write", Access.OPEN),
    Route("DELETE", "/api/v1/probe/{name}", Access.USER),
)
"""Routes of the tests only, beside all routes of the map: short timeouts, small limits."""


@dataclass
class Shop:
    """One running edge with its workers and what they saw."""

    model: edge.EdgeModel
    directory: Path
    workers: tuple[Worker, ...]
    book: Book

    @property
    def port(self) -> int:
        return self.model.port


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def model_in(place: Path, **changes: object) -> edge.EdgeModel:
    certificate, key = tokens.make_certificate(place, "first")
    settings: dict[str, object] = {
        "directory": str(place),
        "port": free_port(),
        "routes": ROUTES + PROBES,
        "upstreams": (str(place / "w0.sock"), str(place / "w1.sock")),
        "certificate_path": certificate,
        "key_path": key,
        "jwks": tokens.jwks("one"),
        "issuer": tokens.ISSUER,
        "access_log_path": str(place / "access.log"),
        "admin_socket": str(place / "admin.sock"),
        "request_timeout_s": 1.0,
        "headers_timeout_s": 0.7,
    }
    return edge.EdgeModel(**(settings | changes))  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def open_shop(*, standby: bool = False, **more: object) -> AsyncIterator[Shop]:
    with tempfile.TemporaryDirectory(prefix="edge-") as name:
        directory = Path(name)
        first, second = str(directory / "w0.sock"), str(directory / "w1.sock")
        changes: dict[str, object] = {"upstreams": (first,), "standby": (second,)} if standby else {}
        model, book = model_in(directory, **changes, **more), Book()
        workers = tuple(Worker(Path(path), book) for path in (*model.upstreams, *model.standby))
        for worker in workers:
            await worker.start()
        edge.write(edge.render(model), directory)
        with (directory / "envoy.log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(*edge.command(model), stdout=log, stderr=log)
        try:
            await _until_ready(model.port, process, directory / "envoy.log")
            yield Shop(model, directory, workers, book)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            for worker in workers:
                await worker.die()


async def _until_ready(port: int, process: asyncio.subprocess.Process, log: Path) -> None:
    async with asyncio.timeout(READY_S):
        while process.returncode is None:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                if (await ask(port, "GET", "/api/v1/account/jwks")).status == 200:
                    return
            await asyncio.sleep(0.02)
    raise AssertionError(log.read_text())


@pytest.fixture(scope="session")
async def running() -> AsyncIterator[Shop]:
    async with open_shop() as shop:
        yield shop


@pytest.fixture
def shop(running: Shop) -> Shop:
    """The shared edge with an empty book."""
    running.book.seen.clear()
    return running


@pytest.fixture
async def own_shop() -> AsyncIterator[Shop]:
    """An edge for one test, which may break it."""
    async with open_shop() as shop:
        yield shop


@pytest.fixture
async def guarded_shop() -> AsyncIterator[Shop]:
    """An edge for one test, with one worker that serves (w0) and one that stands by (w1)."""
    async with open_shop(standby=True) as shop:
        yield shop
