"""What must hold in every domain's tables at any moment: the queries in invariants.sql must return no rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import asyncpg
import msgspec

from doorbuster import map, provision
from doorbuster.engines.embedded import PostgresServer

_DOMAINS = Path(__file__).parent / "domains"
_NAME = re.compile(r"^-- (\w+): (.+)$", re.MULTILINE)
_SHOWN = 5


class Breach(msgspec.Struct, frozen=True):
    """One invariant that does not hold, with the first rows that say so."""

    domain: str
    name: str
    promise: str
    rows: tuple[str, ...]


def queries(domain: map.Domain) -> list[tuple[str, str, str]]:
    """(name, promise, SQL) of one domain's invariants."""
    file = _DOMAINS / domain.group / domain.name / "invariants.sql"
    if not file.exists():
        return []
    text = file.read_text()
    marks = list(_NAME.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    return [(mark[1], mark[2], text[mark.end() : end].strip()) for mark, end in zip(marks, ends, strict=True)]


async def check_all(server: PostgresServer, *, apart: bool = False) -> tuple[int, list[Breach]]:
    """`check` on a shop in one database, or in one for each group."""
    where = provision.databases(apart=apart)
    return await check_by(lambda domain: server.dsn(database=where[domain]))


async def check_by(dsn_of: Callable[[str], str]) -> tuple[int, list[Breach]]:
    """`check` on a shop whose domains' tables are where `dsn_of` says."""
    checked = 0
    breaches: list[Breach] = []
    for dsn in dict.fromkeys(dsn_of(domain.id) for domain in map.BUILT):
        count, broken = await check(dsn, [domain for domain in map.BUILT if dsn_of(domain.id) == dsn])
        checked, breaches = checked + count, breaches + broken
    return checked, breaches


async def check(superuser_dsn: str, domains: Sequence[map.Domain] = map.BUILT) -> tuple[int, list[Breach]]:
    """Run every invariant of these domains, which share a database; returns how many there are and those broken."""
    connection = await asyncpg.connect(superuser_dsn, timeout=10)
    checked, breaches = 0, []
    try:
        for domain in domains:
            for name, promise, sql in queries(domain):
                async with connection.transaction(readonly=True):
                    await connection.execute(f'SET LOCAL search_path = "{domain.name}"')
                    rows = await connection.fetch(sql, timeout=120)
                checked += 1
                if rows:
                    breaches.append(Breach(domain.id, name, promise, tuple(repr(row) for row in rows[:_SHOWN])))
    finally:
        await connection.close()
    return checked, breaches
