"""Schemas, roles and migrations: plain SQL, forward only, checksummed, applied under an advisory lock.

Each domain has a schema of its own name and a login role that reaches only that schema. A role of its own per group
may read the outboxes of the groups it is allowed to hear, and nothing else.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import asyncpg
import msgspec

_LOCK_KEY = 0x0D00_12B0
_NAME = re.compile(r"^(\d{4})_[a-z0-9_]+\.sql$")


class MigrationRefused(Exception):
    """The database does not fit this program; the message says which file and what to do."""


class DomainSchema(msgspec.Struct, frozen=True):
    """What to make for one domain: its schema, the role that owns it, its migration files."""

    schema: str
    role: str
    password: str
    files: tuple[Path, ...]


class Reader(msgspec.Struct, frozen=True):
    """A role that listens: what it may do, as `privileges ON table` of these schemas, and nothing else."""

    role: str
    password: str
    schemas: tuple[str, ...]
    grants: tuple[tuple[str, str], ...]


def migration_files(folder: Path) -> tuple[Path, ...]:
    """The numbered files of one folder in order; a gap or a stray name is an error."""
    files = sorted(folder.glob("*.sql"))
    for number, file in enumerate(files, start=1):
        match = _NAME.match(file.name)
        if match is None or int(match.group(1)) != number:
            raise MigrationRefused(f"{file} should be number {number:04d}_name.sql: migrations have no gaps")
    return tuple(files)


async def migrate(
    connection: asyncpg.Connection[asyncpg.Record], schemas: Sequence[DomainSchema], readers: Sequence[Reader] = ()
) -> list[str]:
    """Bring every schema up to date, and who may read; returns what was applied. Safe in several processes at once."""
    applied: list[str] = []
    await connection.execute("SELECT pg_advisory_lock($1)", _LOCK_KEY)
    try:
        for schema in schemas:
            await _make_schema(connection, schema)
            applied += await _apply(connection, schema)
        for reader in readers:
            await _make_role(connection, reader.role, reader.password)
            for name in reader.schemas:
                await connection.execute(f'GRANT USAGE ON SCHEMA "{name}" TO "{reader.role}"')
                for privileges, table in reader.grants:
                    await connection.execute(f'GRANT {privileges} ON "{name}".{table} TO "{reader.role}"')
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK_KEY)
    return applied


async def _make_role(connection: asyncpg.Connection[asyncpg.Record], role: str, password: str) -> None:
    exists = await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role)
    verb = "ALTER" if exists else "CREATE"
    quoted = await connection.fetchval("SELECT quote_literal($1::text)", password)
    async with connection.transaction():
        # The password must never reach the server's log, not even when the statement is slow or fails.
        await connection.execute("SET LOCAL log_statement = 'none'; SET LOCAL log_min_error_statement = 'panic'")
        await connection.execute(f'{verb} ROLE "{role}" LOGIN PASSWORD {quoted}')


async def _make_schema(connection: asyncpg.Connection[asyncpg.Record], schema: DomainSchema) -> None:
    await _make_role(connection, schema.role, schema.password)
    async with connection.transaction():
        await connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema.schema}" AUTHORIZATION "{schema.role}"')
        await connection.execute(f'ALTER ROLE "{schema.role}" SET search_path = "{schema.schema}"')
        await connection.execute("REVOKE ALL ON SCHEMA public FROM PUBLIC")
    await connection.execute(
        f'CREATE TABLE IF NOT EXISTS "{schema.schema}".migration'
        " (name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
    )


async def _apply(connection: asyncpg.Connection[asyncpg.Record], schema: DomainSchema) -> list[str]:
    rows = await connection.fetch(f'SELECT name, checksum FROM "{schema.schema}".migration')  # noqa: S608
    done: Mapping[str, str] = {row["name"]: row["checksum"] for row in rows}
    known = {_label(file) for file in schema.files}
    if missing := sorted(set(done) - known):
        raise MigrationRefused(
            f"The database has migration {missing[0]} of {schema.schema}, which this version of Doorbuster does not"
            " know: it was used by a newer version. Start that version, or restore a backup."
        )
    applied = []
    for file in schema.files:
        text = file.read_text()
        checksum = hashlib.sha256(text.encode()).hexdigest()[:16]
        before = done.get(_label(file))
        if before is not None and before != checksum:
            raise MigrationRefused(f"{file.name} of {schema.schema} was changed after it was applied; add a new file")
        if before is None:
            async with connection.transaction():
                await connection.execute(f'SET LOCAL ROLE "{schema.role}"')
                await connection.execute(f'SET LOCAL search_path = "{schema.schema}"')
                await connection.execute(text)
                await connection.execute("RESET ROLE")
                await connection.execute(
                    f'INSERT INTO "{schema.schema}".migration (name, checksum) VALUES ($1, $2)',  # noqa: S608
                    _label(file),
                    checksum,
                )
            applied.append(f"{schema.schema}/{_label(file)}")
    return applied


def _label(file: Path) -> str:
    """Engine templates and a domain's own files may share a number, so the folder tells them apart."""
    return file.name if file.parent.name == "migrations" else f"{file.parent.name}/{file.name}"
