"""A log in another cluster (a restored dump): its transaction ids are rewritten there, and all cursors with them.

Snapshots taken on one server are nested: a later one sees all that an earlier one saw. So it is enough to know, for
each row, the first of the cursors' snapshots that sees it. Row and snapshot get small numbers that say just that,
smaller than any transaction id a cluster hands out: every row is visible at once, each cursor stands where it stood.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import asyncpg
import msgspec
import structlog

from doorbuster.engines.event_log import retention

_LOG = structlog.get_logger("event_log")
_FIRST = 3
_MOST = 600
"""Smaller than the first id that a cluster gives to a user's transaction, so that it is visible to everybody."""

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:
    # The class is generic for type checkers only.
    Connection = asyncpg.Connection


class Listener(msgspec.Struct, frozen=True):
    """Where the cursors of one consumer are: a superuser's way to its database, and its schema."""

    dsn: str
    schema: str


async def is_at_home(dsn: str, schema: str) -> bool:
    """Whether the log in a schema belongs to the cluster it stands in."""
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        return bool(await connection.fetchval(retention.AT_HOME.format(schema=schema)))
    finally:
        await connection.close()


async def rehome(dsn: str, schema: str, source: str, listeners: Sequence[Listener]) -> int:
    """Make a restored log this cluster's own; returns how many rows it has. The shop must be stopped.

    Killed at any point, it is run again: the first step writes down what the second does, and the third ends it.
    """
    connections = [await asyncpg.connect(listener.dsn, timeout=10) for listener in listeners]
    publisher = await asyncpg.connect(dsn, timeout=10)
    try:
        if not await publisher.fetchval("SELECT to_regclass($1)", f'"{schema}".outbox_rehome'):
            await _rewrite_log(publisher, schema, source, list(zip(connections, listeners, strict=True)))
        known = await publisher.fetch(f'SELECT was, is_now FROM "{schema}".outbox_rehome')
        names = {row[0]: row[1] for row in known}
        for connection, listener in zip(connections, listeners, strict=True):
            await _rename(connection, f'"{listener.schema}".event_cursor', names, source)
        rows = await publisher.fetchval(f'SELECT count(*) FROM "{schema}".outbox')
        async with publisher.transaction():
            await publisher.execute(f'DROP TABLE "{schema}".outbox_rehome')
            await publisher.execute(
                f'UPDATE "{schema}".outbox_home SET made_by = pg_current_xact_id(),'
                " system_identifier = (SELECT system_identifier FROM pg_control_system())"
            )
    finally:
        for connection in (*connections, publisher):
            await connection.close()
    _LOG.info("log_rehomed", source=source, rows=rows)
    return int(rows)


async def _rewrite_log(
    publisher: Connection, schema: str, source: str, listeners: Sequence[tuple[Connection, Listener]]
) -> None:
    """One transaction: the map from old to new snapshots, the rows, and what listeners had reported."""
    found: set[str] = set()
    for connection, listener in listeners:
        rows = await connection.fetch(
            f'SELECT snapshot::text, upto::text FROM "{listener.schema}".event_cursor WHERE source = $1', source
        )
        found |= {text for row in rows for text in row if text is not None}
    reported = await publisher.fetch(f'SELECT snapshot::text, upto::text FROM "{schema}".outbox_reader')
    found |= {text for row in reported for text in row if text is not None}
    ordered = [
        row[0]
        for row in await publisher.fetch(
            # A later snapshot's xmax is not smaller; with the same xmax, the one with fewer still in progress is later.
            "SELECT s FROM unnest($1::text[]) s ORDER BY pg_snapshot_xmax(s::pg_snapshot),"
            " (SELECT count(*) FROM pg_snapshot_xip(s::pg_snapshot)) DESC, pg_snapshot_xmin(s::pg_snapshot)",
            list(found),
        )
    ]
    if len(ordered) > _MOST:
        raise ValueError(f"{len(ordered)} different cursors are more than {_MOST}: let the consumers catch up first")
    names = {text: f"{_FIRST + index + 1}:{_FIRST + index + 1}:" for index, text in enumerate(ordered)}
    async with publisher.transaction():
        await publisher.execute(f'CREATE TABLE "{schema}".outbox_rehome (was text PRIMARY KEY, is_now text NOT NULL)')
        await publisher.executemany(f'INSERT INTO "{schema}".outbox_rehome VALUES ($1, $2)', list(names.items()))
        await publisher.execute(
            f'UPDATE "{schema}".outbox o SET txid = ($2::int + coalesce((SELECT min(n) FROM'
            " unnest($1::text[]::pg_snapshot[]) WITH ORDINALITY AS s(snapshot, n)"
            " WHERE pg_visible_in_snapshot(o.txid, s.snapshot)), $3::int) - 1)::text::xid8",
            ordered,
            _FIRST,
            len(ordered) + 1,
            timeout=3_600,
        )
        await _rename(publisher, f'"{schema}".outbox_reader', names, None)


async def _rename(connection: Connection, table: str, names: dict[str, str], source: str | None) -> None:
    """Give snapshots their new names; those that have them already, or see nothing, stay."""
    where = " AND c.source = $3" if source is not None else ""
    for column in ("snapshot", "upto"):
        await connection.execute(
            f"UPDATE {table} c SET {column} = n.is_now::pg_snapshot FROM unnest($1::text[], $2::text[])"
            f" AS n(was, is_now) WHERE c.{column}::text = n.was{where}",
            list(names),
            list(names.values()),
            *([source] if source is not None else []),
        )
