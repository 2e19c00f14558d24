"""From the map to databases: which schema, role and migrations each built domain gets, and how workers log in."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

import asyncpg

from doorbuster import map as shop_map
from doorbuster.engines import event_log, payment_router, schedule
from doorbuster.engines.embedded import PostgresServer
from doorbuster.engines.event_log import rehome, retention
from doorbuster.engines.event_log.kafka import LISTENER
from doorbuster.platform.migrations import DomainSchema, Reader, migrate, migration_files
from doorbuster.platform.settings import DatabaseLogin

_DOMAINS = Path(__file__).parent / "domains"
_OWN_ENGINES = {"commerce.payment": payment_router.SCHEMA_FILES}
DATABASE = "doorbuster"
"""The one database of a shop that runs as one program."""


def databases(*, apart: bool) -> dict[str, str]:
    """By domain, the database its schema is in: one for all, or one for each group."""
    return {domain.id: f"{DATABASE}_{domain.group}" if apart else DATABASE for domain in shop_map.BUILT}


def passwords(keys_dir: Path) -> dict[str, str]:
    """One password per domain, one per group for reading its outboxes (`log.{group}`), one for Kafka Connect (`cdc`).

    Made once and kept 0600.
    """
    kept = {}
    for name in (*(domain.id for domain in shop_map.BUILT), *(f"log.{group}" for group in _groups()), "cdc"):
        file = keys_dir / f"db-{name}"
        if not file.exists():
            part = keys_dir / f"db-{name}.part"
            part.touch(mode=0o600)
            part.write_text(secrets.token_urlsafe(24))
            part.replace(file)
        kept[name] = file.read_text()
    return kept


def _groups() -> list[str]:
    return list(dict.fromkeys(domain.group for domain in shop_map.BUILT))


def schemas(domains: Sequence[shop_map.Domain], by_domain: dict[str, str]) -> list[DomainSchema]:
    """What to make for domains that share a database; `by_domain` are the passwords."""
    made = []
    for domain in domains:
        folder = _DOMAINS / domain.group / domain.name / "migrations"
        made.append(
            DomainSchema(
                schema=domain.name,
                role=role_of(domain.id),
                password=by_domain[domain.id],
                files=(
                    *event_log.SCHEMA_FILES,
                    *schedule.SCHEMA_FILES,
                    *_OWN_ENGINES.get(domain.id, ()),
                    *migration_files(folder),
                ),
            )
        )
    return made


def readers(domains: Sequence[shop_map.Domain], by_domain: dict[str, str]) -> list[Reader]:
    """Who may read the outboxes of domains that share a database: a role for each group, whoever listens."""
    return [
        Reader(
            role=f"door_log_{group}",
            password=by_domain[f"log.{group}"],
            schemas=tuple(domain.name for domain in domains if domain.group == group),
            grants=event_log.READER_GRANTS,
        )
        for group in dict.fromkeys(domain.group for domain in domains)
    ]


def outboxes(host: str, by_domain: dict[str, str], *, apart: bool = False) -> dict[str, DatabaseLogin]:
    """By group, how its outboxes are read."""
    where = databases(apart=apart)
    return {
        domain.group: DatabaseLogin(
            host=host,
            database=where[domain.id],
            user=f"door_log_{domain.group}",
            password=by_domain[f"log.{domain.group}"],
        )
        for domain in shop_map.BUILT
    }


def role_of(domain_id: str) -> str:
    """The database role of a domain; prefixed, because some domain names are reserved words of SQL."""
    return "door_" + domain_id.replace(".", "_")


def logins(host: str, by_domain: dict[str, str], *, apart: bool = False) -> dict[str, DatabaseLogin]:
    """How workers log in to each domain's schema."""
    return {
        domain: DatabaseLogin(host=host, database=database, user=role_of(domain), password=by_domain[domain])
        for domain, database in databases(apart=apart).items()
    }


async def migrate_shop(
    server: PostgresServer, by_domain: dict[str, str], *, apart: bool = False, events: str = "postgres"
) -> list[str]:
    """Create the shop's databases where they are not there and bring all schemas up to date; returns what was applied.

    `apart` gives each group a database of its own. With `events="kafka"` Kafka is the one listener of each log.
    """
    where = databases(apart=apart)
    applied = []
    for database in dict.fromkeys(where.values()):
        await _make_database(server, database)
        here = [domain for domain in shop_map.BUILT if where[domain.id] == database]
        connection = await asyncpg.connect(server.dsn(database=database), timeout=10)
        try:
            listening = readers(here, by_domain)
            applied += await migrate(connection, schemas(here, by_domain), listening)
            for role in (*(role_of(domain.id) for domain in here), *(reader.role for reader in listening)):
                await connection.execute(f'GRANT CONNECT ON DATABASE "{database}" TO "{role}"')
            await _prepare_logs(connection, here, on_kafka=events == "kafka")
        finally:
            await connection.close()
    return applied + await rehome_logs(server, apart=apart)


async def rehome_logs(server: PostgresServer, *, apart: bool = False) -> list[str]:
    """Make logs that came with a dump from another cluster this one's own; returns what was done.

    Nobody may write meanwhile: `migrate_shop` calls it before anything serves.
    """
    where = databases(apart=apart)
    done = []
    for domain in shop_map.BUILT:
        dsn = server.dsn(database=where[domain.id])
        if await rehome.is_at_home(dsn, domain.name):
            continue
        listeners = [
            rehome.Listener(server.dsn(database=where[other.id]), other.name)
            for other in shop_map.BUILT
            if shop_map.heard_from(other, domain.id)
        ]
        rows = await rehome.rehome(dsn, domain.name, domain.id, listeners)
        done.append(f"the log of {domain.id} came from another cluster: {rows} facts and their cursors rewritten")
    return done


async def _prepare_logs(
    connection: asyncpg.Connection[asyncpg.Record], domains: Sequence[shop_map.Domain], *, on_kafka: bool
) -> None:
    """Days ahead for each log, and the listeners of the map: one that never came is the slowest of all."""
    for domain in domains:
        async with connection.transaction():
            await connection.execute(f'SET LOCAL ROLE "{role_of(domain.id)}"')
            await connection.execute(f'SET LOCAL search_path = "{domain.name}"')
            heard = {other.id: shop_map.heard_from(other, domain.id) for other in shop_map.BUILT}
            if on_kafka:
                heard = {LISTENER: domain.publishes}
            await retention.prepare(connection, {hearer: types for hearer, types in heard.items() if types})


async def _make_database(server: PostgresServer, database: str) -> None:
    connection = await asyncpg.connect(server.dsn(), timeout=10)
    try:
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", database):
            await connection.execute(f'CREATE DATABASE "{database}"')
            await connection.execute(f'REVOKE ALL ON DATABASE "{database}" FROM PUBLIC')
    finally:
        await connection.close()
