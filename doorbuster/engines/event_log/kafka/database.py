"""The publisher's side of the database: the role that replicates, the publication, the slot, and the marks.

A mark is a snapshot: all that it sees has surely reached Kafka. It is taken together with a position in the WAL and
counts from the moment the slot has confirmed that position. So when a slot is lost, what may be missing in the topics
is found as a consumer finds what is new: by the difference of two snapshots.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import asyncpg
import msgspec

from doorbuster.engines.event_log import retention
from doorbuster.engines.event_log.cursors import BEGINNING, Position
from doorbuster.engines.event_log.kafka.connector import Publisher
from doorbuster.engines.event_log.lag import outbox_of
from doorbuster.engines.event_log.partition import PARTITIONS
from doorbuster.platform.settings import DatabaseLogin

if TYPE_CHECKING:
    Admin = asyncpg.Connection[asyncpg.Record]
else:
    # The class is generic for type checkers only.
    Admin = asyncpg.Connection
SCHEMA = "door_cdc"
LISTENER = "kafka"
"""Who hears a log whose facts go to Kafka: the one listener its retention waits for (`retention.prepare`)."""
READER_GRANTS = (("SELECT", "outbox"), ("SELECT", "outbox_home"), ("SELECT, UPDATE", "outbox_reader"))
_TIMEOUT_S = 10.0
# Making a slot waits for the writing transactions under way in the whole server to end.
_SLOT_TIMEOUT_S = 120.0
_LOCK = 0x0D00_12B1
_WATCH_LOCK = 0x0D00_12B2


class Slot(msgspec.Struct, frozen=True):
    """A replication slot as the server sees it. `confirmed` is a position in the WAL, in bytes."""

    lost: bool
    active: bool
    confirmed: int
    kept_bytes: int


class Feed(msgspec.Struct, frozen=True):
    """What is known of a publisher: whether its connector streams, to which cluster, from which server."""

    streaming: bool
    cluster: str
    server: str
    generation: int


async def prepare_publisher(admin: Admin, publisher: Publisher) -> None:
    """Make the role, its rights and the publication, or bring them up to date; as superuser, in the publisher's
    database, after its migrations and before its first fact of a new outbox. Twice is once.

    The role may replicate and may read the outboxes, and has a small schema of its own for its marks.
    """
    login = publisher.login
    schemas = [source.split(".")[1] for source in publisher.sources]
    async with admin.transaction():
        await admin.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        await _make_role(admin, login)
        await admin.execute(f'GRANT CONNECT ON DATABASE "{login.database}" TO "{login.user}"')
        for schema in schemas:
            await admin.execute(f'GRANT USAGE ON SCHEMA "{schema}" TO "{login.user}"')
            for rights, table in READER_GRANTS:
                await admin.execute(f'GRANT {rights} ON "{schema}".{table} TO "{login.user}"')
        await admin.execute(f'CREATE SCHEMA IF NOT EXISTS "{SCHEMA}"')
        await admin.execute(f'GRANT USAGE ON SCHEMA "{SCHEMA}" TO "{login.user}"')
        await admin.execute(_TABLES)
        await admin.execute(
            f'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA "{SCHEMA}" TO "{login.user}"'
        )
        tables = ", ".join(outbox_of(source) for source in publisher.sources)
        if not await admin.fetchval("SELECT true FROM pg_publication WHERE pubname = $1", publisher.slot):
            await admin.execute(f'CREATE PUBLICATION "{publisher.slot}"')
        # Rows only ever come. Without the root, rows would be told under the names of the days they are kept in.
        await admin.execute(
            f"ALTER PUBLICATION \"{publisher.slot}\" SET (publish = 'insert', publish_via_partition_root = true)"
        )
        await admin.execute(f'ALTER PUBLICATION "{publisher.slot}" SET TABLE {tables}')


_TABLES = f"""
    CREATE TABLE IF NOT EXISTS "{SCHEMA}".feed (
        publisher  text PRIMARY KEY,
        streaming  boolean NOT NULL,          -- false: being repaired; what the marks do not see is to be replayed
        cluster    text NOT NULL,             -- the Kafka that the marks speak of
        server     text NOT NULL,             -- the PostgreSQL that their transaction ids belong to
        generation bigint NOT NULL
    );
    CREATE TABLE IF NOT EXISTS "{SCHEMA}".mark (
        publisher text NOT NULL,
        source    text NOT NULL,
        snapshot  pg_snapshot NOT NULL,       -- all that it sees is in the topic
        PRIMARY KEY (publisher, source)
    );
"""


async def _make_role(admin: Admin, login: DatabaseLogin) -> None:
    quoted = await admin.fetchval("SELECT quote_literal($1::text)", login.password)
    verb = "ALTER" if await admin.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", login.user) else "CREATE"
    # The password must never reach the server's log, not even when the statement is slow or fails.
    await admin.execute("SET LOCAL log_statement = 'none'; SET LOCAL log_min_error_statement = 'panic'")
    await admin.execute(f'{verb} ROLE "{login.user}" LOGIN REPLICATION PASSWORD {quoted}')


async def remove_publisher(admin: Admin, publisher: Publisher) -> None:
    """Remove slot, publication and marks; the connector must be gone."""
    await drop_slot(admin, publisher)
    await admin.execute(f'DROP PUBLICATION IF EXISTS "{publisher.slot}"')
    for table in ("feed", "mark"):
        await admin.execute(f'DELETE FROM "{SCHEMA}".{table} WHERE publisher = $1', publisher.name)


async def connect(login: DatabaseLogin) -> Admin:
    """A connection of the replicating role for ordinary statements."""
    return await asyncpg.connect(
        host=login.host, port=login.port, database=login.database, user=login.user, password=login.password,
        timeout=_TIMEOUT_S, command_timeout=_TIMEOUT_S, server_settings={"application_name": "doorbuster kafka watch"},
    )  # fmt: skip


async def is_only_watch(conn: Admin, publisher: Publisher) -> bool:
    """Whether this connection is the one that watches a publisher, from now until it ends."""
    return bool(await conn.fetchval("SELECT pg_try_advisory_lock($1, hashtext($2))", _WATCH_LOCK, publisher.name))


async def slot_of(conn: Admin, publisher: Publisher) -> Slot | None:
    """The slot as it is now; None when there is none."""
    row = await conn.fetchrow(
        "SELECT wal_status = 'lost' OR coalesce(invalidation_reason, '') <> '' AS lost, active,"
        " coalesce(confirmed_flush_lsn - '0/0', 0)::int8 AS confirmed,"
        " coalesce(pg_current_wal_lsn() - restart_lsn, 0)::int8 AS kept"
        " FROM pg_replication_slots WHERE slot_name = $1",
        publisher.slot,
    )
    return None if row is None else Slot(bool(row["lost"]), row["active"], row["confirmed"], max(0, row["kept"]))


async def make_slot(conn: Admin, publisher: Publisher) -> None:
    """Make the slot: whatever commits from now on is kept for it."""
    await conn.execute(
        "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", publisher.slot, timeout=_SLOT_TIMEOUT_S
    )


async def drop_slot(conn: Admin, publisher: Publisher) -> None:
    """Drop the slot if it is there, with whoever still reads from it: a connector that was told to stop."""
    await conn.execute(
        "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE slot_name = $1 AND active",
        publisher.slot,
    )
    await conn.execute(
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1", publisher.slot
    )


async def server_of(conn: Admin) -> str:
    """Which PostgreSQL this is: transaction ids mean nothing in another."""
    return str(await conn.fetchval("SELECT system_identifier FROM pg_control_system()"))


async def feed_of(conn: Admin, publisher: Publisher) -> Feed | None:
    """What is known of a publisher; None when it has never streamed."""
    row = await conn.fetchrow(
        f'SELECT streaming, cluster, server, generation FROM "{SCHEMA}".feed WHERE publisher = $1', publisher.name
    )
    return None if row is None else Feed(row["streaming"], row["cluster"], row["server"], row["generation"])


async def begin_repair(conn: Admin, publisher: Publisher, cluster: str, server: str, forget: Sequence[str]) -> None:
    """Write down that a repair goes on, and drop the marks that say nothing any more: all of them when Kafka or
    PostgreSQL is another, else those of `forget`."""
    async with conn.transaction():
        before = await feed_of(conn, publisher)
        if before is not None and (before.cluster, before.server) != (cluster, server):
            forget = publisher.sources
        # Before anything is replayed, so that the publisher keeps the days that are needed again.
        await _report(conn, publisher, forget, BEGINNING)
        await conn.execute(
            f'DELETE FROM "{SCHEMA}".mark WHERE publisher = $1 AND source = ANY($2)', publisher.name, list(forget)
        )
        await conn.execute(
            f'INSERT INTO "{SCHEMA}".feed (publisher, streaming, cluster, server, generation)'
            " VALUES ($1, false, $2, $3, 1) ON CONFLICT (publisher) DO UPDATE"
            " SET streaming = false, cluster = $2, server = $3, generation = feed.generation + 1",
            publisher.name,
            cluster,
            server,
        )


async def end_repair(conn: Admin, publisher: Publisher, snapshot: str) -> None:
    """Everything up to this snapshot is in the topics, and the slot has what comes after."""
    async with conn.transaction():
        await write_marks(conn, publisher, snapshot)
        await conn.execute(f'UPDATE "{SCHEMA}".feed SET streaming = true WHERE publisher = $1', publisher.name)


async def marks_of(conn: Admin, publisher: Publisher) -> dict[str, str]:
    """By domain, the snapshot up to which its facts are surely in the topic."""
    rows = await conn.fetch(f'SELECT source, snapshot::text FROM "{SCHEMA}".mark WHERE publisher = $1', publisher.name)
    return {row["source"]: row["snapshot"] for row in rows}


async def write_marks(conn: Admin, publisher: Publisher, snapshot: str) -> None:
    """Move the marks of all domains of a publisher, and tell each log how far it may forget."""
    async with conn.transaction():
        await conn.execute(
            f'INSERT INTO "{SCHEMA}".mark (publisher, source, snapshot)'
            " SELECT $1, s, $3::text::pg_snapshot FROM unnest($2::text[]) AS s"
            " ON CONFLICT (publisher, source) DO UPDATE SET snapshot = excluded.snapshot",
            publisher.name,
            list(publisher.sources),
            snapshot,
        )
        await _report(conn, publisher, publisher.sources, snapshot)


async def _report(conn: Admin, publisher: Publisher, sources: Sequence[str], snapshot: str) -> None:
    """Tell logs how far Kafka has them: a day goes when it is in the topics, whoever has heard it there."""
    places = dict.fromkeys(range(PARTITIONS), Position(snapshot))
    for source in sources:
        await retention.report(conn, source.split(".")[1], LISTENER, places)


async def snapshot_and_position(conn: Admin) -> tuple[str, int]:
    """A snapshot, and a position in the WAL that lies behind every commit that it sees."""
    snapshot = await conn.fetchval("SELECT pg_current_snapshot()::text")
    # A statement of its own, so that the position is surely the later of the two.
    return str(snapshot), int(await conn.fetchval("SELECT (pg_current_wal_insert_lsn() - '0/0')::int8"))
