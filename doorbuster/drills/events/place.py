"""The databases of one run: a publisher and a consumer in one, a consumer in another, and a neighbour of both."""

from __future__ import annotations

import secrets
from pathlib import Path

import asyncpg
import msgspec

from doorbuster.drills.events.history import CursorSample, Effect, Published
from doorbuster.drills.events.parts import FAR, KEYS, NEAR, PUBLISHER
from doorbuster.drills.events.server import KillableServer
from doorbuster.engines import event_log
from doorbuster.engines.embedded import PostgresServer, ensure_database
from doorbuster.platform import settings
from doorbuster.platform.migrations import DomainSchema, Reader, migrate
from doorbuster.platform.settings import DatabaseLogin, Settings

NEIGHBOUR = "neighbour"
DATABASE_OF = {PUBLISHER: "drill", NEAR: "drill", FAR: "drill_far"}
CALL_TIMEOUT_S = 20.0
_READER = "drill_log"

_AGGREGATES = (
    "CREATE TABLE aggregate (key text PRIMARY KEY, version bigint NOT NULL) WITH (fillfactor = 50);"
    " INSERT INTO aggregate SELECT 'key-' || n, 0 FROM generate_series(0, {keys} - 1) AS n"
)
_EFFECTS = (
    "CREATE TABLE effect (n bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY, event_id uuid NOT NULL,"
    " partition int NOT NULL, key text NOT NULL, version bigint NOT NULL, worker text NOT NULL, owner text,"
    " at timestamptz NOT NULL);"
    " CREATE TABLE state (key text PRIMARY KEY, version bigint NOT NULL, events bigint NOT NULL)"
)


class Place(msgspec.Struct, frozen=True):
    """Where one run happens: its server, the folder of its logs and notes, and how its processes log in."""

    server: KillableServer
    folder: Path
    settings: Settings

    @property
    def settings_file(self) -> Path:
        return self.folder / "settings.json"

    async def superuser(self, domain: str) -> asyncpg.Connection[asyncpg.Record]:
        """A connection to the schema of a domain that may look at everything."""
        return await connect(self.server.postgres, DATABASE_OF[domain], schema_of(domain))


def schema_of(domain: str) -> str:
    """The schema of a domain by its name, `drill.pub`."""
    return domain.split(".")[1]


async def connect(server: PostgresServer, database: str, schema: str = "public") -> asyncpg.Connection[asyncpg.Record]:
    """The superuser, in one schema; each statement has a deadline."""
    return await asyncpg.connect(
        server.dsn(database=database), timeout=CALL_TIMEOUT_S, command_timeout=CALL_TIMEOUT_S,
        server_settings={"search_path": schema, "application_name": "drill of events"},
    )  # fmt: skip


async def furnish(server: KillableServer, folder: Path, keys: int = KEYS) -> Place:
    """Make databases, schemas, logins and the settings file of a fresh server."""
    password = secrets.token_urlsafe(16)
    for database in (*sorted(set(DATABASE_OF.values())), NEIGHBOUR):
        await ensure_database(server.postgres, database)
    await _schema(server.postgres, PUBLISHER, password, _AGGREGATES.format(keys=keys))
    for consumer in (NEAR, FAR):
        await _schema(server.postgres, consumer, password, _EFFECTS)
    host = str(server.postgres.socket_dir)
    logins = {
        domain: DatabaseLogin(host, database, _role(domain), password) for domain, database in DATABASE_OF.items()
    }
    outboxes = {PUBLISHER.split(".")[0]: DatabaseLogin(host, DATABASE_OF[PUBLISHER], _READER, password)}
    told = Settings(databases=logins, outboxes=outboxes, log_level="warning", service="drill")
    place = Place(server, folder, told)
    settings.write(place.settings, place.settings_file)
    return place


def _role(domain: str) -> str:
    return domain.replace(".", "_")


async def _schema(server: PostgresServer, domain: str, password: str, tables: str) -> None:
    database = DATABASE_OF[domain]
    admin = await connect(server, database)
    try:
        own = DomainSchema(schema_of(domain), _role(domain), password, event_log.SCHEMA_FILES)
        readers = (
            [Reader(_READER, password, (schema_of(PUBLISHER),), event_log.READER_GRANTS)] if domain == PUBLISHER else []
        )
        await migrate(admin, [own], readers)
        if readers:
            await admin.execute(f'GRANT CONNECT ON DATABASE "{database}" TO "{_READER}"')
        await admin.execute(f'GRANT CONNECT ON DATABASE "{database}" TO "{_role(domain)}"')
        await admin.execute(f"SET ROLE {_role(domain)}; SET search_path = {schema_of(domain)}; {tables}")
    finally:
        await admin.close(timeout=CALL_TIMEOUT_S)


async def published(place: Place) -> list[Published]:
    """The whole outbox, in the order of its numbers. Needs `track_commit_timestamp`."""
    admin = await place.superuser(PUBLISHER)
    try:
        rows = await admin.fetch(
            "SELECT id::text, key, aggregate_version, type, payload->>'tx' AS tx, (payload->>'of')::int AS of,"
            " extract(epoch FROM pg_xact_commit_timestamp(txid::xid))::float8 AS at FROM outbox ORDER BY seq"
        )
        return [Published(*row.values()) for row in rows]
    finally:
        await admin.close(timeout=CALL_TIMEOUT_S)


async def versions(place: Place) -> dict[str, int]:
    """How far each aggregate has come."""
    admin = await place.superuser(PUBLISHER)
    try:
        return {row[0]: row[1] for row in await admin.fetch("SELECT key, version FROM aggregate")}
    finally:
        await admin.close(timeout=CALL_TIMEOUT_S)


async def effects(place: Place, consumer: str) -> tuple[list[Effect], dict[str, tuple[int, int]], int]:
    """A consumer's effects in their order, its sums by key as (last version, events), and what it has set aside."""
    admin = await place.superuser(consumer)
    try:
        rows = await admin.fetch(
            "SELECT event_id::text, partition, key, version, worker, owner, extract(epoch FROM at)::float8"
            " FROM effect ORDER BY n"
        )
        sums = {row[0]: (row[1], row[2]) for row in await admin.fetch("SELECT key, version, events FROM state")}
        aside = int(await admin.fetchval("SELECT count(*) FROM dead_letter"))
        return [Effect(*row.values()) for row in rows], sums, aside
    finally:
        await admin.close(timeout=CALL_TIMEOUT_S)


async def cursors(admin: asyncpg.Connection[asyncpg.Record], consumer: str) -> list[CursorSample]:
    """Where a consumer's cursors stand now."""
    rows = await admin.fetch(
        "SELECT partition, owner, epoch, snapshot::text, upto::text, last_seq FROM event_cursor WHERE source = $1",
        PUBLISHER,
    )
    return [CursorSample(consumer, *row.values()) for row in rows]


async def missing(place: Place, consumer: str, types: frozenset[str]) -> int:
    """How many facts of these types are in the outbox and not among a consumer's effects, by their numbers alone."""
    publisher, hearer = await place.superuser(PUBLISHER), await place.superuser(consumer)
    try:
        due = await publisher.fetchval("SELECT count(*) FROM outbox WHERE type = ANY($1)", list(types))
        return max(0, int(due) - int(await hearer.fetchval("SELECT count(DISTINCT event_id) FROM effect")))
    finally:
        publisher.terminate()
        hearer.terminate()
