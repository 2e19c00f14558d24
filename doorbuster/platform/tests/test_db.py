"""Transactions that tell a lost COMMIT from a refused one, and leave nothing open behind them."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from doorbuster.platform import db
from doorbuster.platform.errors import OutcomeUnknown, Unavailable
from doorbuster.platform.settings import Settings
from doorbuster.platform.tests.commit_cutter import Cut, cutter

DOMAIN = "commerce.order"


@pytest.fixture(autouse=True)
def _on_the_shop(shop: Settings) -> None:
    assert DOMAIN in shop.databases


async def marks(name: str) -> int:
    rows = await db.of(DOMAIN).fetch("SELECT count(*) FROM scan WHERE name = $1", name)
    return int(rows[0][0])


async def mark(conn: db.Conn, name: str) -> None:
    await conn.execute("INSERT INTO scan (name, upto) VALUES ($1, now())", name)


async def test_what_a_transaction_wrote_is_there_and_what_it_failed_to_write_is_not() -> None:
    async with db.of(DOMAIN).transaction() as conn:
        await mark(conn, "db-written")
    with pytest.raises(ZeroDivisionError):
        async with db.of(DOMAIN).transaction() as conn:
            await mark(conn, "db-failed")
            raise ZeroDivisionError
    assert (await marks("db-written"), await marks("db-failed")) == (1, 0)
    await db.of(DOMAIN).fetch("DELETE FROM scan WHERE name LIKE 'db-%' RETURNING 1")


@pytest.mark.parametrize(("cut", "there"), [("before", 0), ("after", 1)])
async def test_a_connection_cut_at_commit_is_an_unknown_outcome(shop: Settings, cut: Cut, there: int) -> None:
    name = f"db-cut-{cut}"
    async with cutter(shop, DOMAIN) as proxy:
        proxy.cut = cut
        with pytest.raises(OutcomeUnknown):
            async with db.of(DOMAIN).transaction() as conn:
                await mark(conn, name)
        assert proxy.cuts == 1
        assert await marks(name) == there, "the next use has a fresh connection and finds the truth"
    await db.of(DOMAIN).fetch("DELETE FROM scan WHERE name = $1 RETURNING 1", name)


@pytest.mark.parametrize(("cut", "there"), [("before", 0), ("after", 1)])
async def test_a_single_write_that_was_cut_is_an_unknown_outcome(shop: Settings, cut: Cut, there: int) -> None:
    name = f"db-write-{cut}"
    async with cutter(shop, DOMAIN) as proxy:
        proxy.cut = cut
        with pytest.raises(OutcomeUnknown):
            await db.of(DOMAIN).write("INSERT INTO scan (name, upto) VALUES ($1, now()) RETURNING 1", name)
        assert proxy.cuts == 1
        assert await marks(name) == there, "the next use has a fresh connection and finds the truth"
    await db.of(DOMAIN).fetch("DELETE FROM scan WHERE name = $1 RETURNING 1", name)


async def test_a_connection_cut_earlier_is_unavailable_and_nothing_was_written(shop: Settings) -> None:
    async with cutter(shop, DOMAIN) as proxy:
        with pytest.raises(Unavailable) as failure:
            async with db.of(DOMAIN).transaction() as conn:
                await mark(conn, "db-earlier")
                await proxy.close()
                await conn.execute("SELECT 1")
        assert not isinstance(failure.value, OutcomeUnknown)
        with pytest.raises(Unavailable):
            await marks("db-earlier")
        await proxy.open()
        assert await marks("db-earlier") == 0


async def test_a_transaction_that_could_not_be_rolled_back_is_not_handed_on() -> None:
    """Its task is cancelled twice: in a statement, and again in the ROLLBACK."""

    async def interrupted() -> None:
        async with db.of(DOMAIN).transaction() as conn:
            await mark(conn, "db-cancelled")
            await conn.execute("SELECT pg_sleep(5)")

    task = asyncio.create_task(interrupted())
    await asyncio.sleep(0.3)
    for _ in range(5):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    for _ in range(8):
        async with db.of(DOMAIN).connection() as conn:
            assert not conn.is_in_transaction()
    assert await marks("db-cancelled") == 0


async def test_a_failed_statement_that_was_overlooked_is_loud() -> None:
    """PostgreSQL answers COMMIT with ROLLBACK then, and no error: everything written would silently be gone."""
    with pytest.raises(AssertionError, match="overlooked"):
        async with db.of(DOMAIN).transaction() as conn:
            await mark(conn, "db-overlooked")
            with pytest.raises(asyncpg.DivisionByZeroError):
                await conn.execute("SELECT 1 / 0")
    assert await marks("db-overlooked") == 0


async def test_a_transaction_inside_a_transaction_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="opens a transaction inside"):
        async with db.of(DOMAIN).transaction(), db.of("item.stock").transaction():
            pass


async def test_no_domain_reads_a_neighbours_tables() -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await db.of(DOMAIN).fetch("SELECT * FROM stock.option_stock")
