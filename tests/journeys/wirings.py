"""The shop's services as processes of their own, for journeys: real HTTP between them, the test's own PostgreSQL."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import msgspec

from doorbuster import on_kafka, services
from doorbuster.background import SUBSCRIPTIONS
from doorbuster.engines.embedded import PostgresServer
from doorbuster.engines.embedded.kafka_temporary import TemporaryKafka
from doorbuster.engines.event_log.kafka import Plan, Watch, dismantle, group_of, prepare_publisher
from doorbuster.platform import calls, remote, service_token
from doorbuster.platform import settings as settings_file
from doorbuster.platform.remote import Remote
from doorbuster.platform.settings import DatabaseLogin, Settings
from doorbuster.services import STOREFRONT, Split

_START_S = 60.0
_STOP_S = 20.0


class Apart:
    """Guards the processes of one layout. The test itself is the storefront: it calls every domain, and runs none."""

    def __init__(self, split: Split, shop: Settings, kafka: str = "") -> None:
        if kafka:
            shop = msgspec.structs.replace(shop, events="kafka", kafka=kafka)
        self._shop = shop
        self._folder = tempfile.TemporaryDirectory(prefix="apart-")
        self._parts = [part for part in services.plan(split) if part.domains]
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._now: dict[str, object] = {}
        folder = Path(self._folder.name)
        self._keys = {name: folder / f"{name}.pem" for name in (STOREFRONT, *(part.name for part in self._parts))}
        self._public = {name: service_token.ensure_key(file) for name, file in self._keys.items()}
        self._address = {d: f"unix:{folder / part.name}.sock" for part in self._parts for d in part.domains}
        signer = service_token.Signer(STOREFRONT, str(self._keys[STOREFRONT]))
        self._carriers: dict[str, Remote] = remote.connect(self._address, signer)

    async def use(self, **changes: object) -> None:
        """Run with these settings of commerce; its services are started again when they run with others."""
        stale = [part for part in self._parts if changes != self._now and part.name.startswith("commerce")]
        starting = [part for part in self._parts if part in stale or part.name not in self._processes]
        self._now = changes
        self._stop([part.name for part in stale])
        for part in starting:
            self._start(part)
        deadline = time.monotonic() + _START_S
        for where in dict.fromkeys(self._address.values()):
            while not await remote.is_ready(where):
                assert time.monotonic() < deadline, f"{where} is not ready"
                await asyncio.sleep(0.05)

    def _start(self, part: services.Service) -> None:
        folder = Path(self._folder.name)
        own = msgspec.structs.replace(
            self._shop,
            service=part.name,
            serves=part.serves,
            databases={domain: self._shop.databases[domain] for domain in part.domains},
            addresses={domain: where for domain, where in self._address.items() if domain not in part.domains},
            service_key_file=str(self._keys[part.name]),
            service_keys=self._public,
            log_level="error",
            **self._now,
        )
        file, socket = folder / f"{part.name}.json", folder / f"{part.name}.sock"
        settings_file.write(own, file)
        argv = [sys.executable, "-m", "doorbuster.app", "--listen", f"unix:{socket}", "--settings", str(file)]
        self._processes[part.name] = subprocess.Popen(argv)

    def call_far(self) -> None:
        """From here on this process's calls go to the services."""
        calls.use_far(self._carriers)

    async def hang_up(self) -> None:
        """Calls are near again."""
        calls.use_far({})
        for one in set(self._carriers.values()):
            await one.close()

    def _stop(self, names: Sequence[str]) -> None:
        """Stop these processes, gently."""
        stopping = [self._processes.pop(name) for name in names if name in self._processes]
        for process in stopping:
            process.terminate()
        for process in stopping:
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)

    def close(self) -> None:
        """Stop all, and leave nothing on disk."""
        self._stop(list(self._processes))
        self._folder.cleanup()


@asynccontextmanager
async def feeding(
    kafka: TemporaryKafka, server: PostgresServer, login: DatabaseLogin, passwords: Mapping[str, str]
) -> AsyncIterator[None]:
    """The outboxes of the test's shop, tailed into topics of this Kafka; at the end there is no trace of it."""
    (publisher,) = on_kafka.publishers(login.host, passwords, apart=False)
    admin = await asyncpg.connect(server.dsn(database=login.database))
    plan = Plan(kafka.place.bootstrap, kafka.place.connect_url, str(kafka.place.secrets), (publisher,))
    running = asyncio.Event()
    try:
        await prepare_publisher(admin, publisher)
        watching = asyncio.create_task(Watch(publisher, plan, lambda _: running.set()).run())
        try:
            async with asyncio.timeout(_START_S):
                await running.wait()
            yield
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            await dismantle(admin, plan, publisher, [group_of(s.consumer, s.source) for s in SUBSCRIPTIONS])
    finally:
        await admin.close()
