"""Fixtures for all tests: a real PostgreSQL with every migration, the sandbox provider as a process, and the API."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from doorbuster import demo, invariants, provision
from doorbuster.app import create_app
from doorbuster.domains.user.account import keys
from doorbuster.engines.embedded import PostgresServer, temporary_postgres
from doorbuster.platform import db, settings
from doorbuster.platform.settings import ProviderLogin, Settings


@pytest.fixture(scope="session")
async def postgres() -> AsyncIterator[PostgresServer]:
    """One real PostgreSQL for the session."""
    async with temporary_postgres() as server:
        yield server


class Sandbox:
    """The sandbox provider as a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secret = secrets.token_hex(16)
        (folder / "psp-secret").write_text(self.secret)
        self.process: subprocess.Popen[bytes] | None = None
        self.url = ""
        self.start()

    def start(self) -> None:
        """Start it (again): the same ledger, the same port once it has one."""
        ready = self.folder / "psp-ready.json"
        ready.unlink(missing_ok=True)
        port = self.url.rsplit(":", 1)[-1] if self.url else "0"
        self.process = subprocess.Popen([
            sys.executable, "-m", "doorbuster.simulators.sandbox", "--port", port,
            "--ledger", str(self.folder / "psp-ledger"), "--secret-file", str(self.folder / "psp-secret"),
            "--ready-file", str(ready),
        ])  # fmt: skip
        deadline = time.monotonic() + 15
        while not ready.exists():
            assert time.monotonic() < deadline, "the sandbox provider did not start"
            time.sleep(0.02)
        where = json.loads(ready.read_text())
        self.url = f"http://{where['host']}:{where['port']}"

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the process; its ledger stays."""
        assert self.process is not None
        self.process.send_signal(how)
        self.process.wait(10)

    async def faults(self, **faults: Any) -> None:
        """Set its faults; without arguments all are cleared."""
        async with httpx.AsyncClient() as client:
            answer = await client.put(f"{self.url}/admin/faults", json=faults, headers=self._auth())
            assert answer.status_code == 200, answer.text

    async def charges(self, reference: str) -> list[dict[str, Any]]:
        """What its ledger holds for a reference."""
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"{self.url}/v1/charges", params={"reference": reference}, headers=self._auth())
            return list(answer.json()["data"])

    async def summary(self) -> dict[str, Any]:
        """Totals of its ledger."""
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"{self.url}/v1/ledger/summary", headers=self._auth())
            return dict(answer.json())

    def _auth(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.secret}"}


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """The provider process of the session."""
    running = Sandbox(tmp_path_factory.mktemp("psp"))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def dsn(postgres: PostgresServer) -> str:
    """The shop's database as its superuser."""
    return postgres.dsn(database=provision.DATABASE)


@pytest.fixture(scope="session")
async def shop(
    postgres: PostgresServer, sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Settings]:
    """Settings of a shop with all schemas migrated; pools are closed at the end."""
    folder = tmp_path_factory.mktemp("shop")
    by_domain = provision.passwords(folder)
    await provision.migrate_shop(postgres.dsn(), postgres.dsn(database=provision.DATABASE), by_domain)
    key = folder / "signing.pem"
    keys.ensure_signing_key(key)
    current = settings.use(
        Settings(
            databases=provision.logins(str(postgres.socket_dir), by_domain),
            signing_key_file=str(key),
            providers={"sandbox": ProviderLogin(sandbox.url, str(sandbox.folder / "psp-secret"))},
            demo_media_dir=str(demo.MEDIA),
            payment_timeout_s=1.0,
        )
    )
    settings.write(current, folder / "settings.json")
    os.environ["DOORBUSTER_SETTINGS"] = str(folder / "settings.json")
    yield current
    await db.close_all()


@pytest.fixture(autouse=True)
def _shop_for_domain_tests(request: pytest.FixtureRequest) -> None:
    """Tests inside doorbuster/domains and tests/journeys always stand on the shop."""
    path = str(request.node.path)
    if "/domains/" in path or "/journeys/" in path:
        request.getfixturevalue("shop")


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


@pytest.fixture(scope="session")
async def api(shop: Settings) -> AsyncIterator[Api]:
    """The whole web application with its background work, called in process."""
    app = create_app()
    entered, leave = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        # Fixtures are torn down in another task than they are set up in, which the lifespan does not bear.
        async with app.lifespan():
            entered.set()
            await leave.wait()

    living = asyncio.create_task(live())
    await asyncio.wait([living, asyncio.create_task(entered.wait())], return_when=asyncio.FIRST_COMPLETED)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
        yield Api(client, {})
    leave.set()
    await living


@pytest.fixture(scope="module")
async def sound_books(dsn: str, shop: Settings, sandbox: Sandbox) -> AsyncIterator[None]:
    """After all tests of a file that asks for this, every invariant holds."""
    yield
    await sandbox.faults()
    _, breaches = await invariants.check(dsn)
    assert breaches == []
