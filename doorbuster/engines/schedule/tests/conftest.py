"""Fixtures of the scheduler's tests: a database of its own in which every change of a tick is written down."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import msgspec
import pytest
import structlog

from doorbuster.engines import schedule
from doorbuster.engines.embedded import PostgresServer
from doorbuster.engines.schedule.tests.books import DOMAIN, WATCH, Books
from doorbuster.platform import db, settings, telemetry
from doorbuster.platform.migrations import DomainSchema, migrate
from doorbuster.platform.settings import DatabaseLogin, Settings


@pytest.fixture(autouse=True)
def plain_logs() -> Iterator[None]:
    """As workers log. The default for terminals draws every traceback for half a second, in the event loop."""
    before = structlog.get_config()
    telemetry.configure("critical")
    yield
    structlog.configure(**before)


@pytest.fixture
async def books(postgres: PostgresServer, tmp_path: Path) -> AsyncIterator[Books]:
    """A schema with the scheduler's tables, a table of effects, and triggers that write down what happens."""
    name = f"jobs_{uuid4().hex[:10]}"
    owner = await asyncpg.connect(postgres.dsn())
    await owner.execute(f"CREATE DATABASE {name}")
    admin = await asyncpg.connect(postgres.dsn(database=name))
    await migrate(admin, [DomainSchema("jobs", name, "pw", schedule.SCHEMA_FILES)])
    await admin.execute("SET search_path = jobs")
    await admin.execute(WATCH)
    await admin.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA jobs TO {name}")
    await admin.execute(f"GRANT ALL ON ALL SEQUENCES IN SCHEMA jobs TO {name}")
    before = settings._current
    login = DatabaseLogin(str(postgres.socket_dir), name, name, "pw")
    now = settings.use(msgspec.structs.replace(before or Settings(), databases={DOMAIN: login}))
    settings.write(now, tmp_path / "settings.json")
    made = Books(admin, tmp_path / "settings.json")
    yield made
    await made.close()
    await db.of(DOMAIN).close()
    settings._current = before
    await admin.close()
    await owner.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await owner.close()
