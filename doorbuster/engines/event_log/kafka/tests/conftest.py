"""Fixtures of the Kafka tests: one real broker with Connect, a PostgreSQL that is tailed, and a feed of one's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
import structlog

from doorbuster.engines import event_log
from doorbuster.engines.embedded import PostgresServer, temporary_postgres
from doorbuster.engines.embedded.kafka_temporary import TemporaryKafka
from doorbuster.engines.embedded.postgres import CAPTURED
from doorbuster.engines.event_log import retention
from doorbuster.engines.event_log.kafka import LISTENER, Plan, Publisher, prepare_publisher
from doorbuster.engines.event_log.kafka.tests.feed import KEYS, Feed
from doorbuster.platform import db, settings, telemetry
from doorbuster.platform.migrations import DomainSchema, migrate
from doorbuster.platform.settings import DatabaseLogin, Settings


@pytest.fixture(autouse=True)
def plain_logs() -> Iterator[None]:
    """As workers log. The default for terminals draws every traceback for half a second, in the event loop."""
    before = structlog.get_config()
    telemetry.configure("warning")
    yield
    structlog.configure(**before)


@pytest.fixture(scope="session")
async def captured() -> AsyncIterator[PostgresServer]:
    """A PostgreSQL whose outboxes are tailed, which gives a slot up that is behind by three files of WAL."""
    async with temporary_postgres(settings={**CAPTURED, "max_slot_wal_keep_size": "48MB"}) as server:
        yield server


@pytest.fixture
async def feed(kafka: TemporaryKafka, captured: PostgresServer, tmp_path: Path) -> AsyncIterator[Feed]:
    """Two schemas in a database of their own, a publisher with topics of its own, and a running watch."""
    name = f"t{uuid4().hex[:10]}"
    owner = await asyncpg.connect(captured.dsn())
    await owner.execute(f"CREATE DATABASE {name}")
    admin = await asyncpg.connect(captured.dsn(database=name))
    files = event_log.SCHEMA_FILES
    pub, sub = f"{name}_pub", f"{name}_sub"
    await migrate(admin, [DomainSchema("pub", pub, "pw", files), DomainSchema("sub", sub, "pw", files)])
    await admin.execute("CREATE TABLE pub.counter (key text PRIMARY KEY, number int NOT NULL)")
    await admin.execute(f"INSERT INTO pub.counter SELECT n::text, 0 FROM generate_series(1, {KEYS}) AS n")
    await admin.execute("CREATE TABLE sub.effect (id bigserial PRIMARY KEY, key text, number int)")
    for role, schema in ((pub, "pub"), (sub, "sub")):
        await admin.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {role}")
        await admin.execute(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA {schema} TO {role}")
    host = str(captured.socket_dir)
    cdc = DatabaseLogin(host, name, f"{name}_cdc", "pw")
    publisher = Publisher(name, cdc, ("test.pub",), topic_prefix=f"{name}-")
    await admin.execute("SET search_path = pub")
    await retention.prepare(admin, {LISTENER: ["Counted"]})
    await admin.execute("RESET search_path")
    await prepare_publisher(admin, publisher)
    before = settings._current
    logins = {"test.pub": DatabaseLogin(host, name, pub, "pw"), "test.sub": DatabaseLogin(host, name, sub, "pw")}
    now = settings.use(Settings(databases=logins, kafka=kafka.place.bootstrap))
    settings.write(now, tmp_path / "settings.json")
    plan = Plan(kafka.place.bootstrap, kafka.place.connect_url, str(kafka.place.secrets), (publisher,))
    feed = Feed(admin, kafka, plan, tmp_path / "settings.json")
    feed.watch()
    yield feed
    await feed.close()
    settings.use(before or Settings())
    for domain in logins:
        await db.of(domain).close()
    await admin.close()
    await owner.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await owner.close()
