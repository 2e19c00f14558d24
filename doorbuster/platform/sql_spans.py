"""A database connection whose statements are spans: what kind of statement on which table, never its values."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import asyncpg

from doorbuster.platform import tracing
from doorbuster.platform.tracing import Span

_WRITE = re.compile(r"\b(INSERT\s+INTO|UPDATE|DELETE\s+FROM)\s+((?:\"?\w+\"?\.)?\"?[a-z_]\w*\"?)", re.IGNORECASE)
_READ = re.compile(r"\b(SELECT)\b.*?\bFROM\s+((?:\"?\w+\"?\.)?\"?[a-z_]\w*\"?)", re.IGNORECASE | re.DOTALL)


if TYPE_CHECKING:
    _Connection = asyncpg.Connection[asyncpg.Record]
else:
    # The class is generic for type checkers only.
    _Connection = asyncpg.Connection


class TracedConnection(_Connection):
    """asyncpg's connection, each of whose statements is a span, if it is done for something that is traced."""

    domain = ""

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        with _statement(self, query):
            return await super().execute(query, *args, timeout=timeout)

    async def executemany(self, command: str, args: Iterable[Sequence[Any]], *, timeout: float | None = None) -> None:
        with _statement(self, command):
            return await super().executemany(command, args, timeout=timeout)

    async def fetch(self, query: str, *args: Any, **options: Any) -> Any:
        with _statement(self, query):
            return await super().fetch(query, *args, **options)

    async def fetchval(self, query: str, *args: Any, **options: Any) -> Any:
        with _statement(self, query):
            return await super().fetchval(query, *args, **options)

    async def fetchrow(self, query: str, *args: Any, **options: Any) -> Any:
        with _statement(self, query):
            return await super().fetchrow(query, *args, **options)


def connection_of(domain: str) -> type[_Connection]:
    """The class of the connections of a domain's pool: asyncpg's own while tracing is off."""
    if not tracing.is_on():
        return asyncpg.Connection
    return type("TracedConnection", (TracedConnection,), {"domain": domain})


@functools.lru_cache(maxsize=1_024)
def summary(query: str) -> str:
    """`INSERT orders` for a statement; the texts are constants of the stores, so that there are few."""
    # A statement of several parts is there for the first rows that it writes, if it writes any.
    found = _WRITE.search(query) or _READ.search(query)
    if found is None:
        return query.split(maxsplit=1)[0].upper()
    return f"{found[1].split()[0].upper()} {found[2]}".replace('"', "")


def _statement(connection: TracedConnection, query: str) -> Span:
    span = tracing.span(summary(query), tracing.CLIENT)
    if span is not tracing.NOTHING:
        span.set("db.system.name", "postgresql")
        span.set("db.query.summary", summary(query))
        span.set("db.namespace", connection.domain)
    return span
