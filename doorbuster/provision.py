"""From the map to databases: which schema, role and migrations each built domain gets, and how workers log in."""

from __future__ import annotations

import secrets
from pathlib import Path

import asyncpg

from doorbuster import map as shop_map
from doorbuster.engines import event_log
from doorbuster.platform.migrations import DomainSchema, migrate, migration_files
from doorbuster.platform.settings import DatabaseLogin

_DOMAINS = Path(__file__).parent / "domains"
DATABASE = "doorbuster"


def passwords(keys_dir: Path) -> dict[str, str]:
    """One password per domain, made once and kept 0600."""
    kept = {}
    for domain in shop_map.BUILT:
        file = keys_dir / f"db-{domain.id}"
        if not file.exists():
            part = file.with_suffix(".part")
            part.touch(mode=0o600)
            part.write_text(secrets.token_urlsafe(24))
            part.replace(file)
        kept[domain.id] = file.read_text()
    return kept


def schemas(by_domain: dict[str, str]) -> list[DomainSchema]:
    """What to make for every built domain; `by_domain` are the passwords."""
    made = []
    for domain in shop_map.BUILT:
        folder = _DOMAINS / domain.group / domain.name / "migrations"
        made.append(
            DomainSchema(
                schema=domain.name,
                role=role_of(domain.id),
                password=by_domain[domain.id],
                files=(event_log.SCHEMA_FILE, *migration_files(folder)),
                hears_schemas=tuple(sorted({fact.split(".")[1] for fact in domain.hears})),
            )
        )
    return made


def role_of(domain_id: str) -> str:
    """The database role of a domain; prefixed, because some domain names are reserved words of SQL."""
    return "door_" + domain_id.replace(".", "_")


def logins(host: str, by_domain: dict[str, str], database: str = DATABASE) -> dict[str, DatabaseLogin]:
    """How workers log in to each domain's schema."""
    return {
        domain.id: DatabaseLogin(host=host, database=database, user=role_of(domain.id), password=by_domain[domain.id])
        for domain in shop_map.BUILT
    }


async def migrate_shop(superuser_dsn: str, shop_dsn: str, by_domain: dict[str, str]) -> list[str]:
    """Create the shop's database when it is not there and bring all schemas up to date; returns what was applied."""
    connection = await asyncpg.connect(superuser_dsn, timeout=10)
    try:
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
            await connection.execute(f'CREATE DATABASE "{DATABASE}"')
            await connection.execute(f'REVOKE ALL ON DATABASE "{DATABASE}" FROM PUBLIC')
    finally:
        await connection.close()
    connection = await asyncpg.connect(shop_dsn, timeout=10)
    try:
        applied = await migrate(connection, schemas(by_domain))
        for domain in shop_map.BUILT:
            await connection.execute(f'GRANT CONNECT ON DATABASE "{DATABASE}" TO "{role_of(domain.id)}"')
        return applied
    finally:
        await connection.close()
