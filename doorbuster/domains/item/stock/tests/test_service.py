"""Stock's verbs on real PostgreSQL: many buyers at once, in one process and in two."""

from __future__ import annotations

import asyncio
import collections
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest

from doorbuster import invariants
from doorbuster.domains.item import stock
from doorbuster.domains.item.stock import store
from doorbuster.domains.item.stock.tests.crowd import Plan, Tally, buy
from doorbuster.engines.embedded import PostgresServer
from doorbuster.platform import ids
from doorbuster.platform import settings as shop_settings
from doorbuster.platform.calls import SYSTEM
from doorbuster.platform.errors import IdempotencyKeyReused, InvalidRequest, PreconditionFailed, Refusal
from doorbuster.platform.settings import Settings

HOUR = timedelta(hours=1)


@pytest.fixture(scope="module", autouse=True)
async def books_are_sound(postgres: PostgresServer, shop: Settings) -> AsyncIterator[None]:
    """After all tests of this file every invariant holds and PostgreSQL has seen no deadlock."""
    before = await deadlocks(postgres)
    yield
    checked, breaches = await invariants.check(postgres.dsn(database="doorbuster"))
    assert checked >= 8
    assert breaches == []
    assert await deadlocks(postgres) == before


async def deadlocks(postgres: PostgresServer) -> int:
    connection = await asyncpg.connect(postgres.dsn(database="doorbuster"))
    try:
        return int(await connection.fetchval("SELECT sum(deadlocks) FROM pg_stat_database"))
    finally:
        await connection.close()


async def stocked(*quantities: int) -> tuple[UUID, ...]:
    """Options of one new item with so many units each."""
    item_id = ids.uuid7()
    option_ids = tuple(ids.uuid7() for _ in quantities)
    await stock.set_on_hand(
        SYSTEM,
        tuple(
            stock.SetOnHand(ids.uuid7(), option, item_id, n) for option, n in zip(option_ids, quantities, strict=True)
        ),
    )
    return option_ids


def wish(
    *pairs: tuple[UUID, int], deal: UUID | None = None, customer: UUID | None = None, hold: int = 60
) -> stock.Reserve:
    lines = tuple(stock.Line(option, quantity) for option, quantity in pairs)
    return stock.Reserve(ids.uuid7(), customer or ids.uuid7(), lines, hold, deal, "h")


async def deal_of(
    *pairs: tuple[UUID, int], limit: int | None = None, opens: datetime | None = None, closes: datetime | None = None
) -> UUID:
    now = datetime.now(UTC)
    deal_id = ids.uuid7()
    lines = tuple(stock.Line(option, quantity) for option, quantity in pairs)
    await stock.open_allotment(
        SYSTEM, stock.OpenAllotment(deal_id, lines, opens or now - HOUR, closes or now + HOUR, limit)
    )
    return deal_id


async def processes(plans: list[Plan], settings_file: Path) -> list[Tally]:
    """Each plan in a worker process of its own, all at the same time."""
    running = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "doorbuster.domains.item.stock.tests.crowd", msgspec.json.encode(plan).decode(),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            env={"DOORBUSTER_SETTINGS": str(settings_file), "PATH": "/usr/bin:/bin"},
        )
        for plan in plans
    ]  # fmt: skip
    for process in running:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    outputs = await asyncio.gather(*(process.communicate(b"go\n") for process in running))
    assert [process.returncode for process in running] == [0] * len(plans)
    return [msgspec.json.decode(output, type=Tally) for output, _ in outputs]


@pytest.fixture
def contended(shop: Settings, tmp_path: Path) -> Path:
    """Settings of workers with tiny batches and several writers: as many transactions on the same rows as can be."""
    file = tmp_path / "settings.json"
    shop_settings.write(msgspec.structs.replace(shop, batch_limit=4, batch_writers=4), file)
    return file


async def test_two_processes_sell_exactly_what_there_is(contended: Path) -> None:
    # Of each option a process wants about 280 units: neither can have all 330, and both want more than there are.
    options = await stocked(340, 340, 340)
    # Existing reservations, and what they hold must not be sold again.
    await stock.reserve(SYSTEM, wish(*((option, 10) for option in options), hold=600))
    plans = [Plan(list(options), [ids.uuid7() for _ in range(280)], seed, most_per_line=2) for seed in (1, 2)]
    tallies = await processes(plans, contended)
    sold: collections.Counter[str] = collections.Counter()
    for tally in tallies:
        assert tally.answers["held"] > 0
        sold.update(tally.units)
    assert {kind for tally in tallies for kind in tally.answers} == {"held", "sold_out"}
    for level in await stock.levels(SYSTEM, options):
        assert level.reserved == sold[str(level.option_id)] + 10
        assert level.available <= 1, "units were left although somebody wanted them"


async def test_limits_hold_across_orders_and_processes(contended: Path) -> None:
    options = await stocked(400, 400)
    deal = await deal_of(*((option, 300) for option in options), limit=3)
    shoppers = [ids.uuid7() for _ in range(20)]
    plans = [Plan(list(options), shoppers * 10, seed, deal) for seed in (3, 4)]
    tallies = await processes(plans, contended)
    together: collections.Counter[str] = collections.Counter()
    for tally in tallies:
        together.update(tally.by_customer)
    assert {kind for tally in tallies for kind in tally.answers} == {"held", "limit_exceeded"}
    assert set(together.values()) == {3}, "everybody came often enough to get the limit, and nobody got more"


async def test_two_processes_mix_every_operation_without_a_deadlock(contended: Path) -> None:
    options = await stocked(100, 100, 100, 100)
    deal = await deal_of(*((option, 80) for option in options), limit=50)
    shoppers = [ids.uuid7() for _ in range(15)]
    plans = [Plan(list(options), shoppers * 8, seed, deal if seed % 2 else None, 2, "mix") for seed in (5, 6, 7)]
    tallies = await processes(plans, contended)
    kept: collections.Counter[str] = collections.Counter()
    for tally in tallies:
        kept.update(tally.units)
    for level in await stock.levels(SYSTEM, options):
        assert level.reserved + level.sold == kept[str(level.option_id)]
        assert level.on_hand + level.sold == 100


async def test_one_process_sells_every_unit_once_whatever_the_order_of_options() -> None:
    options = await stocked(30, 30, 30)
    tally = await buy(Plan(list(options), [ids.uuid7() for _ in range(150)], 8, then="mix"))
    for level in await stock.levels(SYSTEM, options):
        assert level.reserved + level.sold == tally.units[str(level.option_id)] <= 30


async def test_the_database_judges_the_window_and_its_end_is_exclusive() -> None:
    (option,) = await stocked(1_000)
    opens = datetime.now(UTC) + timedelta(seconds=0.3)
    closes = opens + timedelta(seconds=0.4)
    deal = await deal_of((option, 1_000), opens=opens, closes=closes)
    kinds: list[str] = []
    while "deal_closed" not in kinds[-3:]:
        try:
            held = await stock.reserve(SYSTEM, wish((option, 1), deal=deal))
            assert opens <= held.created_at < closes
            kinds.append("held")
        except Refusal as refusal:
            kinds.append(refusal.code)
        await asyncio.sleep(0.01)
        assert len(kinds) < 500
    assert sorted(set(kinds), key=kinds.index) == ["deal_not_open", "held", "deal_closed"]
    assert kinds == sorted(kinds, key=["deal_not_open", "held", "deal_closed"].index)


async def test_after_the_close_everything_unsold_is_free_again() -> None:
    (option,) = await stocked(10)
    closes = datetime.now(UTC) + timedelta(seconds=0.5)
    deal = await deal_of((option, 10), closes=closes)
    held, sold = wish((option, 2), deal=deal), wish((option, 3), deal=deal)
    await asyncio.gather(stock.reserve(SYSTEM, held), stock.reserve(SYSTEM, sold))
    await stock.claim(SYSTEM, sold.reservation_id)
    with pytest.raises(stock.SoldOut):
        await stock.reserve(SYSTEM, wish((option, 1)))
    await asyncio.sleep(0.6)
    await stock.release(SYSTEM, held.reservation_id)
    await stock.sweep(SYSTEM, 100)
    await stock.release(SYSTEM, sold.reservation_id)
    level = await stock.level(SYSTEM, option)
    assert (level.available, level.allotted, level.reserved, level.sold) == (10, 0, 0, 0)


async def test_a_hold_ends_by_itself_and_its_id_may_hold_again() -> None:
    (option,) = await stocked(1)
    first = wish((option, 1), hold=1)
    await stock.reserve(SYSTEM, first)
    with pytest.raises(stock.SoldOut):
        await stock.reserve(SYSTEM, wish((option, 1)))
    await asyncio.sleep(1.1)
    await stock.sweep(SYSTEM, 100)
    assert (await stock.level(SYSTEM, option)).available == 1
    with pytest.raises(stock.HoldLost):
        await stock.claim(SYSTEM, first.reservation_id)
    again = await stock.reserve(SYSTEM, first)
    assert (again.state, again.fresh) == ("held", True)


async def test_extending_keeps_a_hold_alive() -> None:
    (option,) = await stocked(1)
    first = wish((option, 1), hold=1)
    await stock.reserve(SYSTEM, first)
    await stock.extend(SYSTEM, first.reservation_id, 60)
    await asyncio.sleep(1.1)
    await stock.sweep(SYSTEM, 100)
    assert (await stock.claim(SYSTEM, first.reservation_id)).state == "claimed"
    for seconds in (0, -1, 10**12):
        with pytest.raises(InvalidRequest):
            await stock.extend(SYSTEM, first.reservation_id, seconds)


async def test_the_same_id_at_once_holds_once_and_another_body_is_refused() -> None:
    one, other = await stocked(10, 10)
    first = wish((one, 2))
    answers = await asyncio.gather(*(stock.reserve(SYSTEM, first) for _ in range(20)))
    assert sum(answer.fresh for answer in answers) == 1
    assert (await stock.level(SYSTEM, one)).reserved == 2
    for changed in (
        msgspec.structs.replace(first, request_hash="other"),
        msgspec.structs.replace(first, lines=(stock.Line(other, 2),)),
        msgspec.structs.replace(first, customer_id=ids.uuid7()),
    ):
        with pytest.raises(IdempotencyKeyReused):
            await stock.reserve(SYSTEM, changed)


async def test_an_abandoned_id_reserves_anew_and_a_late_abandon_spares_the_new_hold() -> None:
    (option,) = await stocked(1)
    first = wish((option, 1))
    old = await stock.reserve(SYSTEM, first)
    await stock.abandon(SYSTEM, first.reservation_id, old.created_at)
    new = await stock.reserve(SYSTEM, first)
    assert new.fresh
    await stock.abandon(SYSTEM, first.reservation_id, old.created_at)
    assert (await stock.level(SYSTEM, option)).reserved == 1


async def test_of_two_writes_with_one_version_in_one_batch_one_is_refused() -> None:
    (option,) = await stocked(5)
    level = await stock.level(SYSTEM, option)
    wishes = [
        stock.SetOnHand(ids.uuid7(), option, level.item_id, on_hand, if_version=level.version) for on_hand in (7, 9)
    ]
    answers = await asyncio.gather(*(stock.set_on_hand(SYSTEM, (one,)) for one in wishes), return_exceptions=True)
    assert [type(answer) for answer in answers] == [tuple, PreconditionFailed]
    assert (await stock.level(SYSTEM, option)).on_hand == 7


async def test_an_import_is_all_or_nothing_and_may_run_twice() -> None:
    one, other = await stocked(5, 5)
    item_id = (await stock.level(SYSTEM, one)).item_id
    await stock.reserve(SYSTEM, wish((other, 4)))
    import_ = tuple(stock.SetOnHand(ids.uuid7(), option, item_id, n) for option, n in ((one, 50), (other, 3)))
    with pytest.raises(stock.BelowReserved):
        await stock.set_on_hand(SYSTEM, import_)
    assert (await stock.level(SYSTEM, one)).on_hand == 5
    fine = (import_[0], msgspec.structs.replace(import_[1], on_hand=30))
    assert [level.on_hand for level in await stock.set_on_hand(SYSTEM, fine)] == [50, 30]
    await stock.claim(SYSTEM, (await stock.reserve(SYSTEM, wish((one, 5)))).reservation_id)
    assert [level.on_hand for level in await stock.set_on_hand(SYSTEM, fine)] == [45, 30]


async def test_a_batch_answers_each_request_by_itself() -> None:
    (option,) = await stocked(3)
    answers = await asyncio.gather(
        stock.reserve(SYSTEM, wish((option, 2))),
        stock.reserve(SYSTEM, wish((ids.uuid7(), 1))),
        stock.reserve(SYSTEM, wish((option, 2))),
        stock.claim(SYSTEM, ids.uuid7()),
        stock.reserve(SYSTEM, wish((option, 1), deal=ids.uuid7())),
        stock.reserve(SYSTEM, wish((option, 1))),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [
        stock.Reservation, stock.UnknownOption, stock.SoldOut, stock.HoldLost, stock.NotInDeal, stock.Reservation,
    ]  # fmt: skip


async def test_what_was_reserved_after_the_first_look_does_not_break_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reservation that another process commits between the look at its lines and the locks is not there yet."""
    option, mine = await stocked(5, 5)
    theirs = await stock.reserve(SYSTEM, wish((option, 1)))
    real = store.lock_books

    async def blind(conn: Any, **asked: Any) -> Any:
        books = await real(conn, **asked | {"known_ids": [], "new_ids": [theirs.reservation_id]})
        books.options = {key: count for key, count in books.options.items() if key == mine}
        return books

    monkeypatch.setattr(store, "lock_books", blind)
    answers = await asyncio.gather(
        stock.claim(SYSTEM, theirs.reservation_id), stock.reserve(SYSTEM, wish((mine, 1))), return_exceptions=True
    )
    assert [type(answer) for answer in answers] == [stock.HoldLost, stock.Reservation]


async def test_a_deal_opens_once_and_never_with_another_content() -> None:
    (option,) = await stocked(5)
    now = datetime.now(UTC)
    deal = stock.OpenAllotment(ids.uuid7(), (stock.Line(option, 3),), now - HOUR, now + HOUR, 2)
    await asyncio.gather(*(stock.open_allotment(SYSTEM, deal) for _ in range(5)))
    assert (await stock.level(SYSTEM, option)).allotted == 3
    for changed in (
        msgspec.structs.replace(deal, lines=(stock.Line(option, 2),)),
        msgspec.structs.replace(deal, per_customer_limit=None),
        msgspec.structs.replace(deal, closes_at=now + 2 * HOUR),
    ):
        with pytest.raises(stock.DealChanged):
            await stock.open_allotment(SYSTEM, changed)
    with pytest.raises(stock.SoldOut):
        await deal_of((option, 3))
    with pytest.raises(stock.UnknownOption):
        await deal_of((ids.uuid7(), 3))
