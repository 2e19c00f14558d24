"""Fixtures of the log's tests: a database of their own with two schemas, and logs as workers write them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import msgspec
import pytest
import structlog

from doorbuster.engines import event_log
from doorbuster.engines.embedded import PostgresServer
from doorbuster.engines.event_log.tests.history import KEYS, Log
from doorbuster.platform import db, settings, telemetry
from doorbuster.platform.migrations import DomainSchema, Reader, migrate
from doorbuster.platform.settings import DatabaseLogin, Settings


@pytest.fixture(autouse=True)
def plain_logs() -> Iterator[None]:
    """As workers log. The default for terminals draws every traceback for half a second, in the event loop."""
    before = structlog.get_config()
    telemetry.configure("warning")
    yield
    structlog.configure(**before)


@pytest.fixture
async def log(postgres: PostgresServer, shop: Settings, tmp_path: Path) -> AsyncIterator[Log]:
    name = f"log_{uuid4().hex[:10]}"
    owner = await asyncpg.connect(postgres.dsn())
    await owner.execute(f"CREATE DATABASE {name}")
    admin = await asyncpg.connect(postgres.dsn(database=name))
    sql = event_log.SCHEMA_FILES
    pub, sub, ear = f"{name}_pub", f"{name}_sub", f"{name}_ear"
    schemas = [DomainSchema("pub", pub, "pw", sql), DomainSchema("sub", sub, "pw", sql)]
    await migrate(admin, schemas, [Reader(ear, "pw", ("pub",), event_log.READER_GRANTS)])
    await admin.execute("CREATE TABLE pub.counter (key text PRIMARY KEY, number int NOT NULL)")
    await admin.execute(f"INSERT INTO pub.counter SELECT n::text, 0 FROM generate_series(1, {KEYS}) AS n")
    await admin.execute("CREATE TABLE sub.effect (id bigserial PRIMARY KEY, key text, number int)")
    for role, schema in ((pub, "pub"), (sub, "sub")):
        await admin.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {role}")
        await admin.execute(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA {schema} TO {role}")
    host = str(postgres.socket_dir)
    logins = {"test.pub": DatabaseLogin(host, name, pub, "pw"), "test.sub": DatabaseLogin(host, name, sub, "pw")}
    ears = {"test": DatabaseLogin(host, name, ear, "pw")}
    with_log = msgspec.structs.replace(shop, databases={**shop.databases, **logins}, outboxes={**shop.outboxes, **ears})
    settings.write(with_log, tmp_path / "settings.json")
    settings.use(with_log)
    log = Log(admin, tmp_path / "settings.json")
    yield log
    await log.close()
    settings.use(shop)
    for domain in logins:
        await db.of(domain).close()
    await db.log_of("test.pub").close()
    await admin.close()
    await owner.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await owner.close()
