"""Fixtures for all tests: a real PostgreSQL with every migration, the sandbox provider as a process, and the API."""

from __future__ import annotations

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

import httpx
import pytest
from xdist.scheduler import LoadScopeScheduling

from doorbuster import demo, invariants, provision
from doorbuster.domains.user.account import keys
from doorbuster.engines.embedded import PostgresServer, StartError, temporary_postgres
from doorbuster.engines.embedded.kafka_temporary import TemporaryKafka, temporary_kafka
from doorbuster.engines.embedded.postgres import CAPTURED
from doorbuster.platform import db, settings
from doorbuster.platform.settings import ProviderLogin, Settings
from tests.in_process import Api, client_of, living_app

_LONGEST_FIRST = (
    "kafka", "tests/drills/test_events_drill_kafka.py", "tests/drills/test_events_drill.py", "tests/tracing",
    "tests/drills/test_event_bench.py", "doorbuster/drills/timedeal/tests/test_before.py", "tests/shop", "journeys",
    "doorbuster/drills/psp/tests/test_psp_drill.py", "doorbuster/drills/timedeal/tests/test_shop_drill.py",
    "doorbuster/engines/schedule/tests/test_run_once.py",
)  # fmt: skip
_SHARED_FOLDERS = ("tests/shop", "tests/split", "tests/tracing")


class _Together(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """For several workers (`-n 2`): what shares a server that is slow to start is done by one of them."""

    def _split_scope(self, nodeid: str) -> str:
        return _group(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> _Together:
    """However `--dist` is set."""
    return _Together(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest begins, so that no worker is left with it at the end."""
    order = {name: number for number, name in enumerate(_LONGEST_FIRST)}
    items.sort(key=lambda item: order.get(_group(item.nodeid).split(":")[0], len(order)))


def _group(nodeid: str) -> str:
    file, _, test = nodeid.partition("::")
    if "/journeys/" in file:
        wiring = next((name for name in ("group", "domain", "kafka") if f"[{name}" in test), "here")
        return "kafka" if wiring == "kafka" else f"journeys:{wiring}"
    folder = file.rpartition("/")[0]
    return "kafka" if "/kafka/" in file else folder if folder in _SHARED_FOLDERS else file


@pytest.fixture(scope="session")
async def postgres() -> AsyncIterator[PostgresServer]:
    """One real PostgreSQL for the session."""
    # Tailed by Connect in the journeys over Kafka, so all tests run on what such a server writes.
    async with temporary_postgres(settings=CAPTURED) as server:
        yield server


@pytest.fixture(scope="session")
async def kafka() -> AsyncIterator[TemporaryKafka]:
    """One Kafka for the session. Without Java the tests say so and are skipped; in CI that is a failure."""
    try:
        running = temporary_kafka(short_lived=True)
        kafka = await running.__aenter__()
    except StartError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI runs the Kafka tests: {error.message} {error.hint}")
        pytest.skip(f"{error.message} {error.hint}")
    yield kafka
    await running.__aexit__(None, None, None)


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

    async def settle_wrongly(self, **wrong: int) -> None:
        """So many rows of each day of its settlements are wrong; without arguments none is."""
        async with httpx.AsyncClient() as client:
            answer = await client.put(f"{self.url}/admin/settlements", json=wrong, headers=self._auth())
            assert answer.status_code == 200, answer.text

    async def wrong_rows(self, day: str) -> list[dict[str, str]]:
        """Which rows of a day are wrong, and how."""
        async with httpx.AsyncClient() as client:
            path = f"{self.url}/admin/settlements"
            answer = await client.get(path, params={"date": day}, headers=self._auth())
            return list(answer.json()["wrong"])

    async def post(self, path: str, key: str, body: dict[str, Any]) -> dict[str, Any]:
        """Ask it for something as somebody else than the shop would."""
        async with httpx.AsyncClient() as client:
            headers = self._auth() | {"idempotency-key": key}
            answer = await client.post(self.url + path, json=body, headers=headers)
            assert answer.status_code == 200, answer.text
            return dict(answer.json())

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
def by_domain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The passwords of the shop's logins."""
    return provision.passwords(tmp_path_factory.mktemp("passwords"))


@pytest.fixture(scope="session")
async def shop(
    postgres: PostgresServer, sandbox: Sandbox, by_domain: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Settings]:
    """Settings of a shop with all schemas migrated; pools are closed at the end."""
    folder = tmp_path_factory.mktemp("shop")
    await provision.migrate_shop(postgres, by_domain)
    key = folder / "signing.pem"
    keys.ensure_signing_key(key)
    current = settings.use(
        Settings(
            databases=provision.logins(str(postgres.socket_dir), by_domain),
            outboxes=provision.outboxes(str(postgres.socket_dir), by_domain),
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


@pytest.fixture(scope="module")
async def api(shop: Settings) -> AsyncIterator[Api]:
    """The whole web application with its background work, called in process."""
    async with living_app() as app, client_of(app) as api:
        yield api


@pytest.fixture(scope="module")
async def sound_books(dsn: str, shop: Settings, sandbox: Sandbox) -> AsyncIterator[None]:
    """After all tests of a file that asks for this, every invariant holds."""
    yield
    await sandbox.faults()
    _, breaches = await invariants.check(dsn)
    assert breaches == []
