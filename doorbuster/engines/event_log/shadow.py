"""Hearing everything again beside the shop: a consumer's handlers run into empty copies of its tables, to be compared.

The copies are in a schema of their own, `<domain>_<name>`, with cursors of their own. Handlers are the real ones; only
the search path of their connection is another. Nobody waits for a shadow, no metric counts it, and what it publishes
stays in its own copy of the outbox.
"""

from __future__ import annotations

import asyncio
import re
import time
from datetime import datetime

import asyncpg
import msgspec

from doorbuster.engines.event_log import cursors
from doorbuster.engines.event_log.consume import EventLog
from doorbuster.engines.event_log.cursors import BEGINNING, Position
from doorbuster.engines.event_log.fact import Subscription
from doorbuster.engines.event_log.lag import outbox_of
from doorbuster.engines.event_log.partition import PARTITIONS
from doorbuster.platform import db
from doorbuster.platform.errors import Refusal

_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")
_LOG_TABLES = "^(outbox.*|event_(cursor|member|audit|owner)|inbox.*|batch_.*|sweep.*|migration)$"
_LEASE_S = 1.0

_TABLES = """
SELECT c.relname FROM pg_class c
WHERE c.relnamespace = $1::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1
"""
_DRAWN_NUMBERS = """
SELECT c.relname, a.attname FROM pg_attrdef d JOIN pg_class c ON c.oid = d.adrelid
JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
WHERE c.relnamespace = $1::regnamespace AND pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%'
"""


class NoShadow(Refusal):
    code, status, title = "no_shadow", 409, "This shadow cannot be made or used"


class Compared(msgspec.Struct, frozen=True):
    """One table of the consumer and its copy."""

    table: str
    rows: int
    shadow_rows: int
    is_equal: bool


class Shadow(msgspec.Struct, frozen=True):
    """What a shadow came to: its schema, how long it took, what its handlers refused, and how its tables compare."""

    schema: str
    seconds: float
    set_aside: int
    tables: tuple[Compared, ...]


def shadow_schema(consumer: str, name: str) -> str:
    """The schema of a consumer's shadow. Refuses with `NoShadow` what is no plain name."""
    if not _NAME.fullmatch(name):
        raise NoShadow(f"{name!r} is no name for a shadow: take small letters, digits and _, at most 31")
    return f"{consumer.split('.')[1]}_{name}"


async def run_shadow(
    owner: asyncpg.Connection[asyncpg.Record],
    subscription: Subscription,
    name: str,
    since: datetime | None = None,
    within_s: float = 600.0,
) -> Shadow:
    """Make a shadow, let it hear what its source published since then until it has caught up with now, and compare.

    `owner` is a connection to the consumer's database that may make schemas. Refuses with `NoShadow` when there is one
    of this name, or when it has not caught up in time; it stays, to be looked at, until `drop_shadow`.
    """
    schema = shadow_schema(subscription.consumer, name)
    await _clone(owner, subscription.consumer, schema)
    began = time.monotonic()
    target = await _begin(subscription, schema, since)
    log = EventLog(lease_s=_LEASE_S, shadow=schema)
    await log.start([subscription])
    try:
        while not await _is_past(subscription, schema, target):
            if time.monotonic() > began + within_s:
                raise NoShadow(f"{schema} has not caught up within {within_s:.0f} s. Look at it, or drop it.")
            await asyncio.sleep(_LEASE_S / 5)
    finally:
        await log.stop()
        await _beside(subscription, schema).close()
    set_aside = await owner.fetchval(f'SELECT count(*) FROM "{schema}".dead_letter')
    seconds = time.monotonic() - began
    return Shadow(schema, seconds, set_aside, await _compare(owner, subscription.consumer, schema))


async def drop_shadow(owner: asyncpg.Connection[asyncpg.Record], consumer: str, name: str) -> None:
    """Remove a shadow with all it holds. Refuses with `NoShadow` when it is none."""
    schema = shadow_schema(consumer, name)
    if not await owner.fetchval("SELECT to_regclass($1) IS NOT NULL", f'"{schema}".event_cursor'):
        raise NoShadow(f"There is no shadow {schema}")
    await owner.execute(f'DROP SCHEMA "{schema}" CASCADE', timeout=60)


async def _clone(owner: asyncpg.Connection[asyncpg.Record], consumer: str, schema: str) -> None:
    """Empty copies of all tables of a consumer, owned by the role that owns these."""
    live = consumer.split(".")[1]
    if await owner.fetchval("SELECT to_regnamespace($1) IS NOT NULL", f'"{schema}"'):
        raise NoShadow(f"There is a shadow {schema} already: drop it first, or take another name")
    role = await owner.fetchval("SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = $1", live)
    async with owner.transaction():
        await owner.execute(f'CREATE SCHEMA "{schema}" AUTHORIZATION {role}')
        await owner.execute(f"SET LOCAL ROLE {role}")
        for row in await owner.fetch(_TABLES, f'"{live}"'):
            if row["relname"] != "migration":
                copy = f'CREATE TABLE "{schema}"."{row["relname"]}" (LIKE "{live}"."{row["relname"]}" INCLUDING ALL)'
                await owner.execute(copy)
        # A copied default would draw from the sequence of the real table.
        for number, row in enumerate(await owner.fetch(_DRAWN_NUMBERS, f'"{schema}"')):
            sequence = f'"{schema}".drawn_{number}'
            await owner.execute(f"CREATE SEQUENCE {sequence} CACHE 1")
            await owner.execute(
                f'ALTER TABLE "{schema}"."{row["relname"]}" ALTER "{row["attname"]}"'
                f" SET DEFAULT nextval('{sequence}')"
            )


async def _begin(subscription: Subscription, schema: str, since: datetime | None) -> str:
    """Set the shadow's cursors; returns the snapshot that it has to come to."""
    source = subscription.source
    async with db.log_of(source).connection() as reader:
        now = str(await reader.fetchval("SELECT pg_current_snapshot()::text"))
        first = None
        if since is not None:
            first = await reader.fetchval(f"SELECT min(seq) FROM {outbox_of(source)} WHERE occurred_at >= $1", since)
    start = Position(BEGINNING)
    if since is not None:
        start = Position(now) if first is None else Position(BEGINNING, now, first - 1)
    async with _beside(subscription, schema).transaction() as conn:
        await cursors.join(conn, source)
        await cursors.lock_and_move(conn, source, dict.fromkeys(range(PARTITIONS), start))
    return now


async def _is_past(subscription: Subscription, schema: str, target: str) -> bool:
    """Whether all that the snapshot sees is handled or set aside."""
    async with _beside(subscription, schema).connection() as conn:
        where, _ = await cursors.read_positions(conn, subscription.source)
        tried = await conn.fetchval("SELECT count(*) FROM dead_letter WHERE retry_at IS NOT NULL")
    wanted = int(target.split(":")[1])
    return not tried and all(one.upto is None and int(one.old.split(":")[1]) >= wanted for one in where.values())


async def _compare(owner: asyncpg.Connection[asyncpg.Record], consumer: str, schema: str) -> tuple[Compared, ...]:
    """Every table that is not the log's own, at one moment."""
    live = consumer.split(".")[1]
    found = []
    async with owner.transaction(isolation="repeatable_read", readonly=True):
        for row in await owner.fetch(_TABLES, f'"{live}"'):
            name = row["relname"]
            if not re.match(_LOG_TABLES, name):
                one, other = await _sum(owner, live, name), await _sum(owner, schema, name)
                found.append(Compared(name, one[0], other[0], one == other))
    return tuple(found)


async def _sum(owner: asyncpg.Connection[asyncpg.Record], schema: str, table: str) -> tuple[int, object]:
    row = await owner.fetchrow(
        f'SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) FROM "{schema}"."{table}" t',
        timeout=300,
    )
    assert row is not None, "an aggregate has a row"
    return row[0], row[1]


def _beside(subscription: Subscription, schema: str) -> db.Database:
    return db.beside(subscription.consumer, schema)
