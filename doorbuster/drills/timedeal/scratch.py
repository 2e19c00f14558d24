"""The scratch schema of the drill: made under a random name, refilled for each stage, audited, and always dropped."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from doorbuster.drills.timedeal.demand import ITEM_ID
from doorbuster.drills.timedeal.findings import Ledger, LedgerLine

CALL_TIMEOUT_S = 60.0
DEADLOCK_TIMEOUT = "200ms"

# CHECK (left_units >= 0) is what an ORM's positive integer column makes. `version` serves one stage only.
TABLES = """
CREATE TABLE item (
    id int PRIMARY KEY, initial int NOT NULL, left_units int NOT NULL CHECK (left_units >= 0), version int NOT NULL
);
CREATE TABLE item_option (
    id int PRIMARY KEY, item_id int NOT NULL, initial int NOT NULL,
    left_units int NOT NULL CHECK (left_units >= 0), version int NOT NULL
);
CREATE TABLE sale (
    order_no int NOT NULL, option_id int NOT NULL, quantity int NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (order_no, option_id)
);
"""


class DrillCannotRun(Exception):
    """The drill cannot start; the message says what the person running it should change."""


class Scratch:
    """An open scratch schema: how to connect to it, and the connection that made it."""

    def __init__(self, dsn: str, schema: str, control: asyncpg.Connection[asyncpg.Record], settings: dict[str, str]):
        self.schema = schema
        self.control = control
        self._dsn = dsn
        self._settings = settings

    async def connect(self) -> asyncpg.Connection[asyncpg.Record]:
        """A new connection whose tables are those of the scratch schema."""
        return await _connect(self._dsn, self.schema, self._settings)


async def _connect(dsn: str, schema: str, settings: dict[str, str]) -> asyncpg.Connection[asyncpg.Record]:
    return await asyncpg.connect(
        dsn,
        timeout=CALL_TIMEOUT_S,
        command_timeout=CALL_TIMEOUT_S,
        # One application name per run lets the clean-up find every session of this run, and no other.
        server_settings={"search_path": schema, "application_name": schema, **settings},
    )


@asynccontextmanager
async def scratch_schema(dsn: str) -> AsyncIterator[Scratch]:
    """A schema with the drill's three tables, dropped at the end also on failure and cancellation.

    Raises DrillCannotRun when the server cannot be reached or the role may not create a schema.
    """
    schema = f"timedeal_before_{secrets.token_hex(6)}"
    try:
        control = await _connect(dsn, schema, {})
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as problem:
        raise DrillCannotRun(f"cannot connect to PostgreSQL for the drill: {problem}") from problem
    try:
        try:
            await control.execute(f"CREATE SCHEMA {schema}; {TABLES}")
        except asyncpg.InsufficientPrivilegeError as problem:
            raise DrillCannotRun(
                f"the role of the DSN may not create a schema ({problem}); use the database's owner"
            ) from problem
        yield Scratch(dsn, schema, control, await _deadlock_setting(control))
    finally:
        control.terminate()
        try:
            await _finish(_drop(dsn, schema))
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as problem:
            raise DrillCannotRun(
                f"PostgreSQL did not let the drill clean up ({problem}); when it answers: DROP SCHEMA {schema} CASCADE"
            ) from problem


async def _deadlock_setting(control: asyncpg.Connection[asyncpg.Record]) -> dict[str, str]:
    """Only a superuser may shorten deadlock_timeout; anyone else runs with the server's own, which the report names."""
    try:
        await control.execute(f"SET deadlock_timeout = '{DEADLOCK_TIMEOUT}'")
    except asyncpg.InsufficientPrivilegeError:
        return {}
    return {"deadlock_timeout": DEADLOCK_TIMEOUT}


async def _drop(dsn: str, schema: str) -> None:
    janitor = await _connect(dsn, "pg_catalog", {})
    try:
        # A session that waits for a row lock does not notice that its client is gone; DROP would wait for it.
        await janitor.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1 AND usename = user",
            schema,
        )
        await janitor.execute(f"SET lock_timeout = '10s'; DROP SCHEMA IF EXISTS {schema} CASCADE")
    finally:
        await janitor.close(timeout=CALL_TIMEOUT_S)


async def _finish(cleanup: Coroutine[Any, Any, None]) -> None:
    """Runs the clean-up to its end (bounded by its own timeouts) even when cancelled meanwhile."""
    task = asyncio.create_task(cleanup)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


async def refill(scratch: Scratch, stock: dict[int, int]) -> None:
    """Empties the tables and puts the full stock back: fresh pages, so that no stage inherits another's dead rows."""
    async with scratch.control.transaction():
        await scratch.control.execute("TRUNCATE sale, item_option, item")
        total = sum(stock.values())
        await scratch.control.execute("INSERT INTO item VALUES ($1, $2, $2, 1)", ITEM_ID, total)
        await scratch.control.executemany(
            "INSERT INTO item_option VALUES ($1, $2, $3, $3, 1)",
            [(option, ITEM_ID, units) for option, units in sorted(stock.items())],
        )


async def audit(scratch: Scratch, accepted: int, unanswered: int) -> Ledger:
    """Reads the books from the tables: sold + left = initial per option and item, and an order for each acceptance.

    An order whose buyer got no answer may stand in the tables or not; every other one must match what was answered.
    """
    rows = await scratch.control.fetch(
        "SELECT o.id, o.initial, o.left_units, coalesce(sum(s.quantity), 0)::int AS sold"
        " FROM item_option o LEFT JOIN sale s ON s.option_id = o.id GROUP BY o.id ORDER BY o.id"
    )
    item = await scratch.control.fetchrow(
        "SELECT initial, left_units, (SELECT coalesce(sum(quantity), 0)::int FROM sale) AS sold,"
        " (SELECT count(DISTINCT order_no)::int FROM sale) AS orders FROM item WHERE id = $1",
        ITEM_ID,
    )
    assert item is not None, "the item row is made by refill and never deleted"
    options = tuple(LedgerLine(f"option {row['id']}", row["initial"], row["sold"], row["left_units"]) for row in rows)
    whole = LedgerLine(f"item {ITEM_ID}", item["initial"], item["sold"], item["left_units"])
    breaches = [
        f"{line.row}: sold {line.sold} + left {line.left} = {line.sold + line.left}, but there were {line.initial}"
        for line in (*options, whole)
        if line.sold + line.left != line.initial or line.left < 0
    ]
    left_in_options = sum(line.left for line in options)
    if left_in_options != whole.left:
        breaches.append(f"the options have {left_in_options} left together, the item says {whole.left}")
    if not accepted <= item["orders"] <= accepted + unanswered:
        breaches.append(f"{accepted} orders were accepted ({unanswered} unanswered), the tables hold {item['orders']}")
    return Ledger((*options, whole), item["orders"], sum(line.oversold for line in options), tuple(breaches))
