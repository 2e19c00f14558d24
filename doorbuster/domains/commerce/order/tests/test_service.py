"""Order's verbs on real PostgreSQL: one key is one order, and whatever crashed is finished."""

from __future__ import annotations

import asyncio
import sys
from typing import Any
from uuid import UUID

import msgspec
import pytest

from doorbuster.domains.commerce import order
from doorbuster.domains.commerce.order import journal, store
from doorbuster.domains.commerce.order.journal import Advance, Placement
from doorbuster.domains.commerce.order.tests import story
from doorbuster.domains.commerce.order.tests.one_worker import Task, plant
from doorbuster.domains.item import price, stock
from doorbuster.platform import ids
from doorbuster.platform.calls import SYSTEM
from doorbuster.platform.errors import IdempotencyKeyReused, NotFound


async def workers(*tasks: Task) -> list[tuple[int, list[dict[str, Any]]]]:
    """(exit code, answers) of a worker process for each task; all begin at the same time."""
    running = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "doorbuster.domains.commerce.order.tests.one_worker",
            msgspec.json.encode(task).decode(), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )
        for task in tasks
    ]  # fmt: skip
    for process in running:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    outputs = await asyncio.gather(*(process.communicate(b"go\n") for process in running))
    return [
        (process.returncode or 0, msgspec.json.decode(output) if output else [])
        for process, (output, _) in zip(running, outputs, strict=True)
    ]


@pytest.mark.parametrize("card", [None, "tok_visa", "tok_declined"])
async def test_one_key_at_once_is_one_order_and_one_answer(card: str | None, sandbox: Any, dsn: str) -> None:
    here, buyer = await story.shelf(50), story.shopper()
    answers = await asyncio.gather(*(order.place(buyer, story.wish(here, 2, card=card)) for _ in range(20)))
    assert all(answer == answers[0] for answer in answers)
    assert len(await order.list_orders(buyer, None, 10)) == 1
    assert (await story.counts(here))[0][0] == 48
    captured, refunded = await story.money(sandbox, dsn, answers[0].id)
    assert (captured, refunded) == (2 * story.PRICE if card == "tok_visa" else 0, 0)


@pytest.mark.parametrize("card", [None, "tok_visa"])
async def test_one_key_on_two_processes_is_one_order_and_one_answer(card: str | None, sandbox: Any, dsn: str) -> None:
    here, buyer = await story.shelf(50), story.shopper()
    assert buyer.subject is not None
    task = Task(buyer.subject, buyer.idempotency_key, story.wish(here, 1, card=card), times=10)
    (code, answers), (other_code, others) = await workers(task, task)
    assert (code, other_code) == (0, 0)
    assert all(answer == answers[0] for answer in (*answers, *others))
    assert answers[0]["state"] == ("paid" if card else "awaiting_payment")
    captured, _ = await story.money(sandbox, dsn, UUID(answers[0]["id"]))
    assert captured == (story.PRICE if card else 0)
    assert (await story.counts(here))[0][0] == 49


async def test_another_body_under_the_same_key_is_refused_also_at_once() -> None:
    here, buyer = await story.shelf(50), story.shopper()
    answers = await asyncio.gather(
        *(order.place(buyer, story.wish(here, 1 + number % 2)) for number in range(10)), return_exceptions=True
    )
    kinds = [type(answer) for answer in answers]
    assert set(kinds) == {order.Order, IdempotencyKeyReused}
    assert len({kind for kind, number in zip(kinds, range(10), strict=True) if number % 2 == 0}) == 1
    with pytest.raises(IdempotencyKeyReused):
        await order.place(buyer, story.wish(here, 3))


async def test_a_refusal_before_any_effect_is_judged_again() -> None:
    here, buyer = await story.shelf(0), story.shopper()
    with pytest.raises(stock.SoldOut):
        await order.place(buyer, story.wish(here, 1))
    await stock.set_on_hand(SYSTEM, (stock.SetOnHand(ids.uuid7(), here.option_ids[0], here.item_id, 1),))
    assert (await order.place(buyer, story.wish(here, 1))).state == "awaiting_payment"


async def test_a_changed_price_is_refused_before_stock_is_touched() -> None:
    here, buyer = await story.shelf(5), story.shopper()
    seen = order.WishedLine(here.option_ids[0], 1, story.PRICE - 1)
    with pytest.raises(order.PriceChanged):
        await order.place(buyer, order.Place((seen,)))
    (level,) = await stock.levels(SYSTEM, here.option_ids)
    assert (level.reserved, level.version) == (0, 2)


async def test_a_repeat_is_answered_as_the_first_time_after_everything_moved_on(dsn: str) -> None:
    """Price changed, sold out, hold ended, order expired: the placing request's answer stays what it was."""
    here, buyer = await story.shelf(1), story.shopper()
    wish = story.wish(here, 1)
    first = await order.place(buyer, wish)
    await story.execute(
        dsn,
        "UPDATE \"order\".orders SET pay_by = now() - interval '1 s', step_deadline = now() WHERE id = $1",
        first.id,
    )
    expired = await story.settled(dsn, buyer, first.id, "expired")
    assert expired.version > first.version
    await order.place(story.shopper(), wish)
    await price.set_list_price(SYSTEM, here.option_ids[0], price.ListPriceDraft("USD", 9_999))
    again = await order.place(buyer, wish)
    assert (again.id, again.state, again.version) == (first.id, "awaiting_payment", first.version)
    assert await story.counts(here) == [(0, 1, 0)]


async def test_a_repeat_is_answered_although_the_hold_ended_and_others_took_the_units(dsn: str) -> None:
    here, buyer = await story.shelf(1), story.shopper()
    wish = story.wish(here, 1)
    first = await order.place(buyer, wish)
    await stock.abandon(SYSTEM, first.id)
    await order.place(story.shopper(), wish)
    assert await order.place(buyer, wish) == first


async def test_a_crashed_request_is_taken_up_by_the_same_key_at_once_and_much_later(dsn: str) -> None:
    """The hold was made and the order not: within 20 s the repeat goes on from it, later it makes a new one."""
    for age_s in (0, 25):
        here, buyer = await story.shelf(1), story.shopper()
        with pytest.MonkeyPatch.context() as patch:
            plant(patch.setattr, 1, before=False, crash=_crash)
            with pytest.raises(Crash):
                await order.place(buyer, story.wish(here, 1))
        assert await story.counts(here) == [(0, 1, 0)]
        await story.execute(
            dsn, "UPDATE stock.reservation SET created_at = created_at - make_interval(secs => $2)"
            " WHERE customer_id = $1", buyer.subject, age_s,
        )  # fmt: skip
        answers = await asyncio.gather(*(order.place(buyer, story.wish(here, 1)) for _ in range(5)))
        assert {answer.state for answer in answers} == {"awaiting_payment"}
        assert await story.counts(here) == [(0, 1, 0)]


async def test_an_orphaned_hold_is_released_by_the_scan_and_the_key_works_again(dsn: str) -> None:
    here, buyer = await story.shelf(1), story.shopper()
    with pytest.MonkeyPatch.context() as patch:
        plant(patch.setattr, 1, before=False, crash=_crash)
        with pytest.raises(Crash):
            await order.place(buyer, story.wish(here, 1))
    kept = await order.place(story.shopper(), story.wish(await story.shelf(1), 1))
    await story.execute(
        dsn, "UPDATE stock.reservation SET created_at = created_at - interval '40 s' WHERE customer_id = $1 OR id = $2",
        buyer.subject, kept.id,
    )  # fmt: skip
    await story.execute(dsn, 'DELETE FROM "order".scan')
    await order.release_orphans(SYSTEM)
    assert await story.counts(here) == [(1, 0, 0)]
    states = await story.execute(dsn, "SELECT state FROM stock.reservation WHERE id = $1", kept.id)
    assert states[0]["state"] == "held", "an order stands behind it"
    assert (await order.place(buyer, story.wish(here, 1))).state == "awaiting_payment"


class Crash(Exception):
    """Stands for the end of the process."""


def _crash() -> None:
    raise Crash


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("nth", [1, 2, 3, 4, 5, 6])
async def test_a_crash_at_any_step_of_placing_is_finished(sandbox: Any, dsn: str, nth: int, before: bool) -> None:
    """reserve, write the order, charge, write captured, claim, write paid: before and after each."""
    here, buyer = await story.shelf(3), story.shopper()
    wish = story.wish(here, 1, card="tok_visa")
    with pytest.MonkeyPatch.context() as patch:
        plant(patch.setattr, nth, before=before, crash=_crash)
        with pytest.raises(Crash):
            await order.place(buyer, wish)
    for placed in await order.list_orders(buyer, None, 10):
        await story.settled(dsn, buyer, placed.id, "paid", "awaiting_payment")
    answer = await order.place(buyer, wish)
    assert await order.place(buyer, wish) == answer
    never_sent = (nth, before) in ((2, False), (3, True))
    assert answer.state == ("awaiting_payment" if never_sent else "paid")
    assert await story.money(sandbox, dsn, answer.id) == (0 if never_sent else story.PRICE, 0)
    assert await story.counts(here) == [(2, 1, 0) if never_sent else (2, 0, 1)]


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("nth", [1, 2, 3, 4])
async def test_a_crash_at_any_step_of_cancelling_is_finished(sandbox: Any, dsn: str, nth: int, before: bool) -> None:
    """write cancelling, release, give back, write cancelled."""
    here, buyer = await story.shelf(3), story.shopper()
    placed = await order.place(buyer, story.wish(here, 1, card="tok_visa"))
    with pytest.MonkeyPatch.context() as patch:
        plant(patch.setattr, nth, before=before, crash=_crash)
        with pytest.raises(Crash):
            await order.cancel(buyer, placed.id, order.Cancel())
    if (nth, before) == (1, True):
        assert (await order.get_order(buyer, placed.id)).state == "paid"
        await order.cancel(buyer, placed.id, order.Cancel())
    await story.settled(dsn, buyer, placed.id, "cancelled")
    assert await story.money(sandbox, dsn, placed.id) == (story.PRICE, story.PRICE)
    assert await story.counts(here) == [(3, 0, 0)]


async def test_a_worker_killed_at_any_step_leaves_nothing_unfinished(sandbox: Any, dsn: str) -> None:
    """Real processes and SIGKILL, all at the same time: six steps of placing, four of cancelling."""
    here = await story.shelf(20)
    buyers = [story.shopper() for _ in range(10)]
    tasks = [
        Task(
            buyer.subject or ids.uuid7(), buyer.idempotency_key, story.wish(here, 1, card="tok_visa"),
            cancel=number >= 6, die_at=number + 1, die_before=False,
        )
        for number, buyer in enumerate(buyers)
    ]  # fmt: skip
    ends: list[tuple[int, list[dict[str, Any]]]] = []
    for half in (tasks[:5], tasks[5:]):
        ends += await workers(*half)
    codes = [code for code, _ in ends]
    # The sweepers of this process may send the last one's refund before it does, and then it has one step less.
    assert codes[:9] == [-9] * 9 and codes[9] in (-9, 0)
    for number, (buyer, task) in enumerate(zip(buyers, tasks, strict=True)):
        if not number:
            assert await order.list_orders(buyer, None, 10) == ()
            continue
        (placed,) = await order.list_orders(buyer, None, 10)
        ended = await story.settled(dsn, buyer, placed.id, "paid", "awaiting_payment", "cancelled")
        assert ended.state == ("cancelled" if task.cancel else "awaiting_payment" if number == 1 else "paid")
        captured, refunded = await story.money(sandbox, dsn, placed.id)
        assert (captured, refunded) == {
            "paid": (story.PRICE, 0), "awaiting_payment": (0, 0), "cancelled": (story.PRICE, story.PRICE),
        }[ended.state]  # fmt: skip
    # One orphaned hold, one unpaid order; four were paid.
    assert await story.counts(here) == [(14, 2, 4)]


async def test_a_step_and_a_repeat_of_the_placement_may_share_a_batch(dsn: str) -> None:
    here, buyer = await story.shelf(3), story.shopper()
    placed = await order.place(buyer, story.wish(here, 1))
    row = (await store.read_orders([placed.id]))[placed.id]
    repeat = Placement(
        row.id, row.customer_id, row.request_hash, row.currency, row.total_minor, row.lines,
        row.created_at + story.HOUR,
    )  # fmt: skip
    cancelling, repeated, twice = await asyncio.gather(
        journal.write(Advance(row.id, "cancel")), journal.write(repeat), journal.write(Advance(row.id, "cancel"))
    )
    assert (cancelling.moved, repeated.moved, twice.moved) == (True, False, False)
    assert repeated.row.state == "cancelling"
    await story.settled(dsn, buyer, placed.id, "cancelled")
    facts = await story.execute(dsn, 'SELECT type FROM "order".outbox WHERE key = $1 ORDER BY seq', str(row.id))
    assert [fact["type"] for fact in facts] == ["OrderPlaced", "OrderCancelled"]


async def test_two_payments_at_once_are_one_and_the_other_is_told(sandbox: Any, dsn: str) -> None:
    here, buyer = await story.shelf(3), story.shopper()
    placed = await order.place(buyer, story.wish(here, 1))
    card = order.Pay("card", "tok_visa")
    answers = await asyncio.gather(
        *(order.pay(story.again(buyer), placed.id, card) for _ in range(5)), return_exceptions=True
    )
    paid = [answer for answer in answers if isinstance(answer, order.Order)]
    assert [answer.state for answer in paid] == ["paid"]
    assert {getattr(answer, "code", "") for answer in answers if answer not in paid} <= {
        "payment_in_progress", "order_not_payable",
    }  # fmt: skip
    assert await story.money(sandbox, dsn, placed.id) == (story.PRICE, 0)


async def test_one_key_of_a_payment_is_one_payment_and_another_body_is_refused(sandbox: Any, dsn: str) -> None:
    here, buyer = await story.shelf(3), story.shopper()
    placed = await order.place(buyer, story.wish(here, 1))
    paying = story.again(buyer)
    answers = await asyncio.gather(*(order.pay(paying, placed.id, order.Pay("card", "tok_visa")) for _ in range(10)))
    assert all(answer == answers[0] for answer in answers)
    with pytest.raises(IdempotencyKeyReused):
        await order.pay(paying, placed.id, order.Pay("card", "tok_other"))
    assert await story.money(sandbox, dsn, placed.id) == (story.PRICE, 0)


async def test_nobody_reads_pays_or_cancels_anothers_order() -> None:
    here, buyer, stranger = await story.shelf(3), story.shopper(), story.shopper()
    placed = await order.place(buyer, story.wish(here, 1))
    for attempt in (
        order.get_order(stranger, placed.id),
        order.timeline(stranger, placed.id),
        order.pay(stranger, placed.id, order.Pay("card", "tok_visa")),
        order.cancel(stranger, placed.id, order.Cancel()),
    ):
        with pytest.raises(NotFound):
            await attempt
    assert await order.list_orders(stranger, None, 10) == ()
    assert (await order.get_order(buyer, placed.id)) == placed


async def test_one_key_of_two_shoppers_is_two_orders() -> None:
    here = await story.shelf(3)
    one, two = story.shopper(key="same"), story.shopper(key="same")
    assert (await order.place(one, story.wish(here, 1))).id != (await order.place(two, story.wish(here, 1))).id
