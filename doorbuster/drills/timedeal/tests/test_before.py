"""Claims of the drill's part one, on a real PostgreSQL: deadlocks are real, cures cure, the audit finds faults."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import msgspec
import pytest

from doorbuster.drills.timedeal import crowd, locks
from doorbuster.drills.timedeal.before import DrillCannotRun, marks, run_before, run_stage
from doorbuster.drills.timedeal.cycle import describe_cycle
from doorbuster.drills.timedeal.demand import ITEM_ID, SCARCE_OPTION, Demand, Line, Order, demand
from doorbuster.drills.timedeal.findings import BeforeReport, StageReport
from doorbuster.drills.timedeal.marks import books_balance
from doorbuster.drills.timedeal.scratch import scratch_schema
from doorbuster.drills.timedeal.sessions import (
    Session,
    Statement,
    TakeStock,
    Trace,
    one_transaction_per_order,
)
from doorbuster.drills.timedeal.stages import RECORD_SALE, Stage

SHOPPERS = 24


@pytest.fixture(scope="module")
async def report(postgres_dsn: str) -> BeforeReport:
    return await run_before(postgres_dsn, seed=7, shoppers=SHOPPERS, seconds=0.4, on_progress=None)


@pytest.fixture
async def visitor(postgres_dsn: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(postgres_dsn)
    yield connection
    await connection.close()


async def leftovers(visitor: Any) -> tuple[int, int]:
    """Scratch schemas and drill sessions that are still there."""
    return (
        await visitor.fetchval("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'timedeal_before_%'"),
        await visitor.fetchval("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'timedeal_before_%'"),
    )


def stage_of(take_stock: TakeStock) -> Stage:
    return Stage("planted", "", "", "", "", one_transaction_per_order(take_stock))


async def sell(dsn: str, take_stock: TakeStock, orders: Demand, shoppers: int = 8, seconds: float = 1.0) -> StageReport:
    async with scratch_schema(dsn) as scratch:
        found, _ = await run_stage(
            scratch, stage_of(take_stock), orders, shoppers=shoppers, connections=shoppers, seconds=seconds
        )
    return found


class TestIncident:
    def test_original_order_of_statements_deadlocks(self, report: BeforeReport) -> None:
        assert report.deadlocks >= 1
        assert report.deadlocks == report.stage("original").deadlocks == report.stage("original").refused["deadlock"]

    def test_server_counted_the_same_deadlocks(self, report: BeforeReport) -> None:
        for stage in report.stages:
            unheard = stage.deadlocks_counted_by_server - stage.deadlocks
            assert 0 <= unheard <= stage.unanswered, stage.name

    def test_example_cycle_is_the_servers_own_words_with_rows_and_statements(self, report: BeforeReport) -> None:
        cycle = report.cycle
        assert cycle is not None
        assert cycle.sqlstate == "40P01"
        assert cycle.explained
        assert {process.blocked_by for process in cycle.processes} == {process.pid for process in cycle.processes}
        assert cycle.victim_pid in {process.pid for process in cycle.processes}
        for line in cycle.detail.splitlines():
            assert line in report.example_cycle
        for process in cycle.processes:
            assert process.statement in report.example_cycle
            assert process.waits_for_row not in process.changed_rows

    def test_item_last_still_deadlocks_on_reversed_options(self, report: BeforeReport) -> None:
        assert report.stage("item_last").deadlocks >= 1

    def test_stop_gap_refuses_every_order_of_more_than_one_piece(self, report: BeforeReport) -> None:
        stage = report.stage("one_per_customer")
        assert stage.deadlocks == 0
        assert stage.accepted == stage.accepted_units
        assert stage.refused["one_per_customer"] >= 0.4 * stage.attempted
        assert stage.refused_units["one_per_customer"] >= 2 * stage.refused["one_per_customer"]


class TestCures:
    @pytest.mark.parametrize("name", ["fixed_order", "group_commit"])
    def test_one_order_for_everybody_never_deadlocks(self, report: BeforeReport, name: str) -> None:
        stage = report.stage(name)
        assert stage.deadlocks == 0
        assert stage.accepted > 0

    def test_group_commit_shares_its_commits(self, report: BeforeReport) -> None:
        stage = report.stage("group_commit")
        assert stage.commits * 4 < stage.accepted

    def test_version_column_meets_a_storm_of_conflicts(self, report: BeforeReport) -> None:
        stage = report.stage("version_column")
        assert stage.version_conflicts > stage.accepted

    def test_every_mark_is_met(self, report: BeforeReport) -> None:
        assert [mark for mark in marks(report) if not mark.passed] == []

    def test_every_answer_is_counted_once(self, report: BeforeReport) -> None:
        for stage in report.stages:
            assert stage.attempted == stage.accepted + sum(stage.refused.values()) + stage.unanswered, stage.name
            assert 0 <= stage.ledger.orders - stage.accepted <= stage.unanswered, stage.name

    def test_report_survives_json(self, report: BeforeReport) -> None:
        text = msgspec.json.encode(report)
        plain = msgspec.json.decode(text)
        assert plain["deadlocks"] == report.deadlocks
        assert plain["seed"] == 7
        assert plain["stages"][0]["name"] == "original"
        assert msgspec.json.decode(text, type=BeforeReport) == report


class TestMarks:
    @pytest.mark.parametrize(
        ("stage", "fault", "missed"),
        [
            ("original", {"deadlocks": 0}, "original_deadlocks"),
            ("item_last", {"deadlocks": 0}, "item_last_deadlocks"),
            ("fixed_order", {"deadlocks": 1}, "fixed_order_never_deadlocks"),
            ("group_commit", {"deadlocks": 1}, "group_commit_never_deadlocks"),
            ("group_commit", {"oversold_units": 1}, "group_commit_books_balance"),
            ("group_commit", {"orders_per_s": 0.0}, "shared_commits_sell_faster"),
        ],
    )
    def test_a_planted_fault_misses_its_mark(
        self, report: BeforeReport, stage: str, fault: dict[str, Any], missed: str
    ) -> None:
        stages = tuple(msgspec.structs.replace(s, **fault) if s.name == stage else s for s in report.stages)
        found = marks(msgspec.structs.replace(report, stages=stages))
        assert missed in [mark.name for mark in found if not mark.passed]

    def test_a_missing_cycle_misses_its_mark(self, report: BeforeReport) -> None:
        found = marks(msgspec.structs.replace(report, cycle=None))
        assert [mark.name for mark in found if not mark.passed] == ["one_cycle_explained"]


class TestLocks:
    def test_row_lock_is_taken_at_update_and_others_wait_for_the_transaction(self, report: BeforeReport) -> None:
        steps = [seen.step for seen in report.lock_observations]
        assert steps == ["begin", "update", "another_row", "second_waits", "third_waits", "holder_commits"]
        assert [seen.step for seen in report.lock_observations if not seen.confirmed] == []

    def test_an_answer_is_not_confirmed_by_rows_that_say_otherwise(self, report: BeforeReport) -> None:
        begun, updated, *_, queueing, _ = (seen.rows for seen in report.lock_observations)
        assert not locks._begin_locks_no_row(updated, "0").confirmed
        assert not locks._begin_locks_no_row(begun, "771").confirmed
        assert not locks._update_locks_the_row(begun, "0").confirmed
        assert not locks._second_waits_for_the_transaction(begun).confirmed
        assert not locks._third_waits_for_the_tuple(updated).confirmed
        assert not locks._the_next_holds_it_until_commit(queueing).confirmed


async def read_then_write(session: Session, order: Order) -> None:
    """The fault to be found: in fixed order, but what was read is written back as if nobody else had sold."""
    await session.run(
        "", RECORD_SALE, order.number, [line.option_id for line in order.lines], [line.quantity for line in order.lines]
    )
    for line in sorted(order.lines, key=lambda line: line.option_id):
        [row] = await session.run("", "SELECT left_units FROM item_option WHERE id = $1", line.option_id)
        left = row["left_units"] - line.quantity
        await session.run("", "UPDATE item_option SET left_units = $2 WHERE id = $1", line.option_id, left)
    await session.run("", "UPDATE item SET left_units = left_units - $2 WHERE id = $1", ITEM_ID, order.units)


async def sell_nothing(session: Session, order: Order) -> None:
    """The fault to be found: the buyer hears yes, the tables never hear of it."""


class TestAudit:
    async def test_read_then_write_is_found_to_oversell(self, postgres_dsn: str) -> None:
        found = await sell(postgres_dsn, read_then_write, demand(3, 400))
        assert found.accepted > 0
        assert found.oversold_units > 0
        assert not books_balance(found).passed
        assert any("option" in breach for breach in found.ledger.breaches)

    async def test_an_accepted_order_without_a_row_is_found(self, postgres_dsn: str) -> None:
        found = await sell(postgres_dsn, sell_nothing, demand(3, 20))
        assert found.accepted == 20
        assert not books_balance(found).passed

    async def test_a_buyer_without_an_answer_is_cut_off_and_counted(
        self, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def never_ends(session: Session, order: Order) -> None:
            await session.run("", "SELECT pg_sleep(60)")

        monkeypatch.setattr(crowd, "DRAIN_S", 0.2)
        found = await sell(postgres_dsn, never_ends, demand(3, 20), shoppers=3, seconds=0.2)
        assert (found.attempted, found.unanswered, found.accepted) == (3, 3, 0)
        assert books_balance(found).passed


class TestScratchSchema:
    async def test_nothing_is_left_after_a_run(self, report: BeforeReport, visitor: Any) -> None:
        assert report.stages
        assert await leftovers(visitor) == (0, 0)

    async def test_nothing_is_left_after_a_failure(self, postgres_dsn: str, visitor: Any) -> None:
        async def broken(session: Session, order: Order) -> None:
            await session.run("", "SELECT 1 FROM no_such_table")

        with pytest.raises(asyncpg.UndefinedTableError):
            await sell(postgres_dsn, broken, demand(3, 20))
        assert await leftovers(visitor) == (0, 0)

    @pytest.mark.timeout(150)
    async def test_nothing_is_left_after_a_cancellation_amid_deadlocks(
        self, postgres_dsn: str, visitor: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # A disk that others keep busy may take its time with a commit; that is not what is looked at here.
        monkeypatch.setattr("doorbuster.drills.timedeal.scratch.CALL_TIMEOUT_S", 60.0)
        selling = asyncio.Event()

        def on_progress(what: str, share: float) -> None:
            if share > 0.02:
                selling.set()

        run = asyncio.create_task(
            run_before(postgres_dsn, seed=1, shoppers=SHOPPERS, seconds=5.0, on_progress=on_progress)
        )
        begun = asyncio.create_task(selling.wait())
        await asyncio.wait({run, begun}, timeout=90, return_when=asyncio.FIRST_COMPLETED)
        if run.done():
            run.result()  # with its own traceback
        assert begun.done(), f"the drill did not get to sell: {run}"
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert await leftovers(visitor) == (0, 0)

    async def test_a_role_that_may_not_create_a_schema_gets_one_clear_line(
        self, postgres_dsn: str, visitor: Any
    ) -> None:
        await visitor.execute("CREATE ROLE reader LOGIN")
        with pytest.raises(DrillCannotRun, match="may not create a schema"):
            await run_before(postgres_dsn.replace("postgres@", "reader@"), seed=1, shoppers=2, seconds=1)
        assert await leftovers(visitor) == (0, 0)

    async def test_a_plain_owner_keeps_the_servers_deadlock_timeout(self, postgres_dsn: str, visitor: Any) -> None:
        await visitor.execute("CREATE ROLE owner LOGIN; GRANT CREATE ON DATABASE postgres TO owner")
        async with scratch_schema(postgres_dsn.replace("postgres@", "owner@")) as scratch:
            connection = await scratch.connect()
            assert await connection.fetchval("SHOW deadlock_timeout") == "1s"
        assert await leftovers(visitor) == (0, 0)

    async def test_an_unreachable_server_gets_one_clear_line(self) -> None:
        with pytest.raises(DrillCannotRun, match="cannot connect"):
            await run_before("postgresql://nobody@/none?host=/nonexistent", seed=1, shoppers=2, seconds=1)

    @pytest.mark.parametrize(("shoppers", "seconds"), [(1, 1.0), (5000, 1.0), (8, 0.0), (8, 1e9)])
    async def test_numbers_out_of_range_are_refused(self, shoppers: int, seconds: float) -> None:
        with pytest.raises(ValueError, match="must lie between"):
            await run_before("postgresql://unused", seed=1, shoppers=shoppers, seconds=seconds)


class TestDemand:
    def test_same_seed_same_orders(self) -> None:
        assert demand(5, 500) == demand(5, 500)
        assert demand(5, 500).orders != demand(6, 500).orders

    def test_orders_hold_one_to_three_different_options_in_any_order(self) -> None:
        orders = demand(5, 2000).orders
        options = [[line.option_id for line in order.lines] for order in orders]
        assert {len(chosen) for chosen in options} == {1, 2, 3}
        assert all(len(set(chosen)) == len(chosen) for chosen in options)
        assert [230, 240] in options
        assert [240, 230] in options

    def test_stock_is_short_of_demand(self) -> None:
        wanted = demand(5, 2000)
        assert sum(wanted.stock.values()) < sum(order.units for order in wanted.orders)
        assert wanted.stock[SCARCE_OPTION] == 20


def test_a_survivor_that_moved_on_at_once_is_still_shown_waiting() -> None:
    error = asyncpg.DeadlockDetectedError("deadlock detected")
    error.detail = "Process 1 waits for ShareLock on transaction 8; blocked by process 1."
    done = Trace(Order(1, (Line(230, 1),)), [Statement("option 230", "a", True), Statement("item 1", "b", True)])
    [process] = describe_cycle(1, error, {1: done}, {}).processes
    assert (process.changed_rows, process.waits_for_row) == (("option 230",), "item 1")


def test_a_cycle_that_the_record_does_not_support_is_not_called_explained() -> None:
    error = asyncpg.DeadlockDetectedError("deadlock detected")
    error.detail = (
        "Process 1 waits for ShareLock on transaction 8; blocked by process 2.\n"
        "Process 2 waits for ShareLock on transaction 7; blocked by process 1."
    )
    one = Trace(
        Order(1, (Line(230, 1), Line(240, 1))), [Statement("option 230", "a", True), Statement("option 240", "b")]
    )
    two = Trace(
        Order(2, (Line(240, 1), Line(230, 1))), [Statement("option 240", "c", True), Statement("option 230", "d")]
    )
    stranger = Trace(Order(3, (Line(250, 1),)), [Statement("option 250", "e", True), Statement("item 1", "f")])
    assert describe_cycle(1, error, {1: one, 2: two}, {}).explained
    assert not describe_cycle(1, error, {1: one, 2: stranger}, {}).explained
    assert not describe_cycle(1, error, {1: one}, {}).explained
