"""Claims of the drill's part two: a stormy rush holds every mark, and each planted fault fails the mark made for it."""

import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import msgspec
import pytest
import typer
from typer.testing import CliRunner

from doorbuster.drills.temporary_shop import DrilledShop, temporary_shop
from doorbuster.drills.timedeal import answers as told
from doorbuster.drills.timedeal import audit as books
from doorbuster.drills.timedeal import crowd_plan, report
from doorbuster.drills.timedeal.audit import OrderFact
from doorbuster.drills.timedeal.crowd_plan import Sale, draw_crowd
from doorbuster.drills.timedeal.hot_item import Provider
from doorbuster.drills.timedeal.shop import OVERRIDES, Evidence, Tellers, Wanted, judge, rush
from doorbuster.drills.timedeal.shop_findings import KillReport, ShopReport
from doorbuster.drills.timedeal.shop_marks import shop_marks
from doorbuster.surfaces.cli import drill_output, drills

SMALL = Wanted(seed=4, shoppers=120, orders=1_600, options=4, chaos=True)


@pytest.fixture(scope="module")
def shop() -> Iterator[DrilledShop]:
    with temporary_shop(workers=2, overrides=OVERRIDES) as running:
        yield running
    assert not running.data.parent.exists(), "the temporary shop must be gone"


@pytest.fixture(scope="module")
async def evidence(shop: DrilledShop) -> Evidence:
    return await rush(shop, SMALL, Tellers())


@pytest.fixture(scope="module")
async def calm_report(shop: DrilledShop, evidence: Evidence) -> ShopReport:
    return await judge(shop, evidence)


async def missed(shop: DrilledShop, evidence: Evidence) -> set[str]:
    return {mark.name for mark in (await judge(shop, evidence)).marks if not mark.passed}


@asynccontextmanager
async def superuser(shop: DrilledShop) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(shop.dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def test_a_stormy_rush_holds_every_mark(calm_report: ShopReport) -> None:
    assert [mark for mark in calm_report.marks if not mark.passed] == []
    assert calm_report.passed
    assert calm_report.orders_sent == SMALL.orders
    assert {kill.what for kill in calm_report.kills} == {"worker", "backend", "postmaster"}
    assert all(kill.in_flight > 0 for kill in calm_report.kills)
    assert calm_report.acknowledged_found == calm_report.acknowledged > 0


async def test_the_page_shows_every_mark_and_loads_nothing(calm_report: ShopReport) -> None:
    page = report.shop_page(calm_report)
    assert all(mark.name in page for mark in calm_report.marks)
    assert page.count("<svg") == 3
    assert not any(word in page for word in ("http://", "https://", "src=", "@import", "url("))


async def test_one_doctored_stock_row_is_found(shop: DrilledShop, evidence: Evidence) -> None:
    change = "UPDATE stock.option_stock SET sold = sold + $2 WHERE option_id = $1"
    async with superuser(shop) as connection:
        await connection.execute(change, evidence.sale.option_ids[0], 1)
        try:
            found = await missed(shop, evidence)
        finally:
            await connection.execute(change, evidence.sale.option_ids[0], -1)
    assert "sold_reserved_left_is_initial" in found


async def test_money_without_a_paid_order_is_found(shop: DrilledShop, evidence: Evidence) -> None:
    provider, payment = Provider(shop), uuid4()
    await provider.behave({})
    body = {"reference": f"{payment}.1", "amount_minor": 500, "currency": "USD", "instrument": "tok_visa"}
    charge = await provider.call("POST", "/v1/charges", body, {"idempotency-key": secrets.token_hex(8)})
    try:
        assert "paid_orders_are_captured_payments" in await missed(shop, evidence)
    finally:
        refund = {"charge_id": charge["id"], "amount_minor": 500, "reference": str(payment)}
        await provider.call("POST", "/v1/refunds", refund, {"idempotency-key": secrets.token_hex(8)})
    assert await missed(shop, evidence) == set(), "what was given back is settled"


async def test_a_lost_acknowledged_order_is_found(shop: DrilledShop, evidence: Evidence) -> None:
    lost = next(row.id for row in evidence.result.rows if row.status == 201)
    async with superuser(shop) as connection:
        await connection.execute('CREATE TABLE public.kept AS SELECT * FROM "order".orders WHERE id = $1::uuid', lost)
        await connection.execute('DELETE FROM "order".orders WHERE id = $1', lost)
        try:
            found = await missed(shop, evidence)
        finally:
            await connection.execute('INSERT INTO "order".orders SELECT * FROM public.kept')
            await connection.execute("DROP TABLE public.kept")
    assert "acknowledged_orders_exist" in found
    assert "sold_reserved_left_is_initial" in found, "its units are held by no order"


async def test_a_kill_without_traffic_fails_its_mark(shop: DrilledShop, evidence: Evidence) -> None:
    calm = KillReport("worker", "worker-1", 1, 0.5, 10, 0, 5, 5, 1.0)
    found = await books.audit(
        shop.dsn_of,
        evidence.sale,
        told.read_answers(evidence.crowd, evidence.result),
        [],
        shop.paths.logs / "postgres.log",
    )
    answers = told.read_answers(evidence.crowd, evidence.result)
    marks = {
        mark.name: mark.passed
        for mark in shop_marks(answers, found, evidence.probes, [calm], chaos=True, contested=False)
    }
    assert marks["survived_kill_of_worker"] is False, "it hit nothing"
    assert marks["survived_kill_of_backend"] is False, "it never happened"
    assert marks["paid_orders_are_captured_payments"] is False, "with an empty ledger nobody has paid"


def test_the_same_seed_draws_the_same_crowd() -> None:
    one, again, other = (draw_crowd(seed, shoppers=50, orders=300, options=5, stock_share=0.5) for seed in (7, 7, 8))
    assert one == again
    assert one != other
    assert {len(wish.lines) for wish in one.wishes} == {1, 2, 3}
    assert any(wish.lines != tuple(sorted(wish.lines)) for wish in one.wishes), "options come in any order"
    assert len({wish.key for wish in one.wishes}) < len(one.wishes), "some requests are sent twice at once"


def sale(limit: int = 2) -> Sale:
    return Sale("item", ("a", "b"), "deal", (10, 10), (3, 3), limit)


def order(units: dict[str, int], state: str = "paid", customer: str = "c") -> OrderFact:
    return OrderFact(str(uuid4()), customer, state, "deal", 100, "USD", units)


def test_a_limit_counts_across_orders() -> None:
    two = [order({"a": 1}), order({"b": 2}, "awaiting_payment")]
    assert books.judge_limits(sale(3), two, {"c": 3}).breaches == ()
    assert "limited to 2" in books.judge_limits(sale(2), two, {"c": 3}).breaches[0]
    assert "by the counter" in books.judge_limits(sale(3), two, {"c": 2}).breaches[0]
    over = [order({"a": 2}, customer=name) for name in "xy"]
    assert "allotment of 3" in books.judge_limits(sale(), over, {"x": 2, "y": 2}).breaches[0]


def test_a_payment_captured_twice_is_a_breach() -> None:
    paid = order({"a": 1})
    payment = str(uuid4())
    charge = {"id": "ch_1", "reference": f"{payment}.1", "amount_minor": 100, "currency": "USD"}
    known = {payment: (paid.id, "succeeded", "paid")}
    assert books.judge_money([paid], known, [charge], whole_shop=True).breaches == ()
    twice = books.judge_money([paid], known, [charge, charge | {"id": "ch_2"}], whole_shop=True)
    assert any("captured 2 times" in breach for breach in twice.breaches)
    unpaid = books.judge_money([paid], {}, [], whole_shop=True)
    assert len(unpaid.breaches) == 1


def test_deadlocks_are_counted_in_the_log_from_where_the_drill_began(tmp_path: Path) -> None:
    log = tmp_path / "postgres.log"
    log.write_text("ERROR:  deadlock detected\n")
    start = log.stat().st_size
    with log.open("a") as file:
        file.write("LOG:  all well\nERROR:  deadlock detected\n")
    assert books.deadlocks_in_log(log) == 2
    assert books.deadlocks_in_log(log, start) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--target", "https://localhost:1", "--chaos"], "--chaos kills processes"),
        (["--target", "https://localhost:1", "--data", "/nonexistent"], "No shop runs on"),
    ],
)
def test_what_can_not_run_says_so_in_one_line(arguments: list[str], said: str) -> None:
    app = typer.Typer()
    app.command("other")(lambda: None)
    drills.register(app)
    result = CliRunner().invoke(app, ["timedeal", *arguments])
    assert result.exit_code == drill_output.CANNOT_RUN
    assert said in result.stderr


def test_a_crowd_that_proves_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="options"):
        draw_crowd(1, shoppers=10, orders=100, options=3, stock_share=0.5)
    with pytest.raises(ValueError, match="shoppers"):
        draw_crowd(1, shoppers=0, orders=100, options=4, stock_share=0.5)


def test_an_order_names_its_lines_in_the_order_of_the_wish() -> None:
    crowd = draw_crowd(3, shoppers=5, orders=50, options=4, stock_share=1.0)
    goods = Sale("item", ("o0", "o1", "o2", "o3"), "deal", crowd.stock, crowd.allotment, 5)
    for wish in crowd.wishes:
        body = msgspec.json.decode(crowd_plan.body_of(wish, goods))
        assert [line["option_id"] for line in body["lines"]] == [f"o{option}" for option, _ in wish.lines]
        assert body.get("deal_id") == ("deal" if wish.in_deal else None)
