"""The books: each movement is booked once, every transaction balances, and the database refuses anything else."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest

from doorbuster import invariants
from doorbuster.domains.commerce import ledger
from doorbuster.domains.commerce.ledger import consumers, store
from doorbuster.domains.commerce.payment import MoneyMoved
from doorbuster.engines.event_log import Event
from doorbuster.platform.calls import SYSTEM

pytestmark = pytest.mark.usefixtures("sound_books")
NOW = datetime(2026, 3, 4, 5, tzinfo=UTC)


def moved(amount_minor: int, reason: str = "paid", provider_id: str = "", **change: object) -> MoneyMoved:
    told = MoneyMoved(
        uuid4(), uuid4(), uuid4(), f"books{uuid4().hex[:8]}", provider_id or f"ch_{uuid4().hex}", "", "", amount_minor,
        "USD", reason,
    )  # fmt: skip
    return msgspec.structs.replace(told, reference=f"{told.payment_id}.1", **change)


def back(first: MoneyMoved, amount_minor: int, reason: str = "changed my mind") -> MoneyMoved:
    return msgspec.structs.replace(
        first, movement_id=uuid4(), amount_minor=-amount_minor, reason=reason, transaction_id=f"re_{uuid4().hex}"
    )


async def hear(*told: MoneyMoved) -> None:
    events = [
        Event(n, 0, str(one.order_id), uuid4(), "MoneyMoved", 1, 1, NOW, msgspec.json.encode(one))
        for n, one in enumerate(told)
    ]
    async with store.DB.transaction() as conn:
        await consumers.on_money_moved(conn, events)


async def entries(movement_id: UUID) -> dict[str, int]:
    rows = await store.DB.fetch(
        "SELECT account, amount_minor FROM entries JOIN journal j ON j.id = journal_id WHERE source_id = $1",
        movement_id,
    )
    return {row["account"]: row["amount_minor"] for row in rows}


async def count(table: str) -> int:
    return (await store.DB.fetch(f"SELECT count(*) FROM {table}"))[0][0]  # type: ignore[no-any-return]


async def test_money_in_is_owed_by_the_provider_to_us_and_by_us_to_the_order() -> None:
    one = moved(700)
    await hear(one, back(one, 200))
    assert await entries(one.movement_id) == {f"provider:{one.provider}:USD": 700, "customer_orders:USD": -700}
    (there,) = [b for b in await ledger.balances(SYSTEM) if b.account == f"provider:{one.provider}:USD"]
    assert (there.balance_minor, there.debit_minor, there.credit_minor, there.entries) == (500, 700, 200, 2)


async def test_late_money_goes_back_from_where_it_came_in_whatever_the_reason_says() -> None:
    late, paid = moved(700, "late_success"), moved(300)
    went = back(late, 700, "no longer wanted")
    await hear(late)
    await hear(went)
    # A buyer may write anything into the reason of a cancellation.
    tricky = back(paid, 300, "late_success")
    await hear(paid, tricky)
    assert "late_money:USD" in await entries(late.movement_id) and "late_money:USD" in await entries(went.movement_id)
    assert await entries(tricky.movement_id) == {f"provider:{paid.provider}:USD": -300, "customer_orders:USD": 300}


async def test_what_is_told_again_changes_nothing() -> None:
    one = moved(700)
    went = back(one, 700)
    await hear(one, one, went)
    before = [await count(table) for table in ("movements", "journal", "entries", "balances")]
    balances = await ledger.balances(SYSTEM)
    for again in ((went,), (one, went), (went, one, one)):
        await hear(*again)
    assert [await count(table) for table in ("movements", "journal", "entries", "balances")] == before
    assert await ledger.balances(SYSTEM) == balances


async def test_the_books_of_each_currency_sum_to_nothing() -> None:
    await hear(moved(700), moved(5, currency="KRW"), moved(9, "late_success", currency="KRW"))
    sums: dict[str, int] = {}
    for one in await ledger.balances(SYSTEM):
        sums[one.currency] = sums.get(one.currency, 0) + one.balance_minor
    assert {"USD", "KRW"} <= set(sums) and set(sums.values()) == {0}


JOURNAL = "INSERT INTO journal (id, kind, source_id, happened_at) VALUES ($1, 'movement', $1, now())"
ENTRY = "INSERT INTO entries (journal_id, line, account, currency, amount_minor) VALUES ($1, $2, $3, $4, $5)"
ENTRIES = (
    "INSERT INTO entries (journal_id, line, account, currency, amount_minor)"
    " SELECT $1, l.line, l.account, l.currency, l.amount FROM unnest($2::text[], $3::text[], $4::bigint[])"
    " WITH ORDINALITY AS l(account, currency, amount, line)"
)


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([("a:USD", "USD", 5), ("b:USD", "USD", -4)], "does not balance"),
        ([("a:USD", "USD", 5), ("b:KRW", "KRW", -5)], "does not balance"),
        ([("a:USD", "USD", 5)], "does not balance"),
        ([], "fewer than two"),
    ],
)
async def test_the_database_refuses_a_transaction_that_does_not_balance(
    lines: Sequence[tuple[str, str, int]], why: str
) -> None:
    planted = uuid4()
    with pytest.raises(asyncpg.CheckViolationError, match=why):
        async with store.DB.transaction() as conn:
            await conn.execute(JOURNAL, planted)
            await conn.execute(ENTRIES, planted, *([line[n] for line in lines] for n in range(3)))
    assert await store.DB.fetch("SELECT FROM journal WHERE id = $1", planted) == []


async def test_entries_checked_early_do_not_open_a_way_for_later_ones() -> None:
    planted = uuid4()
    with pytest.raises(asyncpg.CheckViolationError, match="does not balance"):
        async with store.DB.transaction() as conn:
            await conn.execute(JOURNAL, planted)
            await conn.execute(ENTRIES, planted, ["a:USD", "b:USD"], ["USD", "USD"], [5, -5])
            await conn.execute("SET CONSTRAINTS ALL IMMEDIATE")
            await conn.execute(ENTRY, planted, 3, "b:USD", "USD", -1)


async def test_a_transaction_of_the_books_that_was_closed_takes_no_more_entries() -> None:
    one = moved(700)
    await hear(one)
    journal_id = (await store.DB.fetch("SELECT id FROM journal WHERE source_id = $1", one.movement_id))[0][0]
    with pytest.raises(asyncpg.CheckViolationError, match="is closed"):
        async with store.DB.transaction() as conn:
            await conn.execute(
                "INSERT INTO entries (journal_id, line, account, currency, amount_minor)"
                " VALUES ($1, 3, 'a:USD', 'USD', 5), ($1, 4, 'b:USD', 'USD', -5)",
                journal_id,
            )


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET amount_minor = amount_minor + 1", "DELETE FROM entries", "TRUNCATE entries",
        "UPDATE journal SET kind = 'fee'", "DELETE FROM journal", "TRUNCATE journal CASCADE",
    ],
)  # fmt: skip
async def test_what_is_booked_is_never_changed(statement: str) -> None:
    await hear(moved(700))
    with pytest.raises(asyncpg.RestrictViolationError, match="only added to"):
        await store.DB.write(statement)


async def test_an_entry_belongs_to_an_account_of_its_currency() -> None:
    planted = uuid4()
    with pytest.raises(asyncpg.CheckViolationError):
        async with store.DB.transaction() as conn:
            await conn.execute(JOURNAL, planted)
            await conn.execute(ENTRY, planted, 1, "a:USD", "KRW", 5)


async def test_the_invariants_of_the_books_hold(dsn: str) -> None:
    await hear(moved(700), moved(1, "late_success"))
    assert (await invariants.check(dsn))[1] == []
