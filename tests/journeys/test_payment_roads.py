"""Everything that can become of a payment, against the provider's own ledger."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from doorbuster.domains.commerce import order, payment
from doorbuster.domains.commerce.order.tests import story
from doorbuster.domains.item import stock
from doorbuster.engines import payment_router
from doorbuster.platform.calls import SYSTEM, Ctx

CARD = order.Pay("card", "tok_visa")
LOST = order.Pay("card", "tok_timeout_after_capture")
PATIENCE_S = 0.3


@pytest.fixture(autouse=True)
async def faultless(sandbox: Any) -> None:
    """A provider without faults."""
    await sandbox.faults()


async def placed_unknown(here: story.Shelf, card: str = "tok_timeout_after_capture") -> tuple[Ctx, order.Order]:
    """An order whose payment's outcome nobody knows."""
    buyer = story.shopper()
    placed = await order.place(buyer, story.wish(here, 1, card=card))
    assert placed.state == "payment_unknown"
    assert placed.payment is not None and placed.payment.state == "unknown"
    return buyer, placed


async def lose_hold(dsn: str, placed: order.Order) -> None:
    """The hold's time passed although its payment was open."""
    await story.execute(
        dsn, "UPDATE stock.reservation SET expires_at = now() - interval '1 s' WHERE id = $1", placed.id
    )
    await stock.sweep(SYSTEM, 1_000)


async def test_a_timeout_after_capture_is_unknown_and_is_found_by_inquiry(sandbox: Any, dsn: str) -> None:
    here = await story.shelf(3)
    buyer, placed = await placed_unknown(here)
    again = await order.place(buyer, story.wish(here, 1, card="tok_timeout_after_capture"))
    assert again == placed, "the same answer, while it is unknown ..."
    paid = await story.settled(dsn, buyer, placed.id, "paid")
    assert paid.payment is not None and paid.payment.state == "succeeded"
    again = await order.place(buyer, story.wish(here, 1, card="tok_timeout_after_capture"))
    assert again == placed, "... and afterwards"
    assert await story.money(sandbox, dsn, placed.id) == (story.PRICE, 0)
    assert await story.counts(here) == [(2, 0, 1)]


@pytest.mark.parametrize("card", ["tok_error", "tok_reset_after_capture", "tok_malformed"])
async def test_an_unclear_answer_is_unknown_and_never_failed(sandbox: Any, dsn: str, card: str) -> None:
    here = await story.shelf(3)
    buyer, placed = await placed_unknown(here, card)
    end = await story.settled(dsn, buyer, placed.id, "paid", "awaiting_payment")
    captured = 0 if card == "tok_error" else story.PRICE
    assert end.state == ("paid" if captured else "awaiting_payment")
    assert await story.money(sandbox, dsn, placed.id) == (captured, 0)


async def test_a_declined_order_awaits_payment_and_another_card_pays_it(sandbox: Any, dsn: str) -> None:
    here, buyer = await story.shelf(3), story.shopper()
    placed = await order.place(buyer, story.wish(here, 1, card="tok_insufficient_funds"))
    assert placed.state == "awaiting_payment"
    assert placed.payment is not None
    assert (placed.payment.state, placed.payment.code) == ("declined", "insufficient_funds")
    declining = story.again(buyer)
    for _ in range(2):
        with pytest.raises(order.PaymentDeclined) as declined:
            await order.pay(declining, placed.id, order.Pay("card", "tok_declined"))
        assert declined.value.members["decline_code"] == "card_declined"
    paying = story.again(buyer)
    paid = await order.pay(paying, placed.id, CARD)
    assert paid.state == "paid"
    assert await order.pay(paying, placed.id, CARD) == paid
    with pytest.raises(order.NotPayable):
        await order.pay(story.again(buyer), placed.id, CARD)
    assert await order.place(buyer, story.wish(here, 1, card="tok_insufficient_funds")) == placed
    assert await story.money(sandbox, dsn, placed.id) == (story.PRICE, 0)


async def test_a_provider_that_is_down_leaves_an_order_that_can_be_paid_later(sandbox: Any, dsn: str) -> None:
    here, buyer = await story.shelf(3), story.shopper()
    sandbox.stop()
    try:
        placed = await order.place(buyer, story.wish(here, 1, card="tok_visa"))
        paying = story.again(buyer)
        with pytest.raises(order.PaymentUnavailable) as first:
            await order.pay(paying, placed.id, CARD)
    finally:
        sandbox.start()
    assert placed.state == "awaiting_payment"
    assert placed.payment is not None
    assert (placed.payment.state, placed.payment.code) == ("failed", "unreachable")
    assert (first.value.status, str(first.value.members["order_id"])) == (503, str(placed.id))
    with pytest.raises(order.PaymentUnavailable) as again:
        await order.pay(paying, placed.id, CARD)
    assert again.value.members == first.value.members, "the same key is answered alike, though the provider is back"
    assert (await order.pay(story.again(buyer), placed.id, CARD)).state == "paid"
    assert await story.money(sandbox, dsn, placed.id) == (story.PRICE, 0)


async def test_while_nobody_knows_a_second_payment_is_refused(sandbox: Any, dsn: str) -> None:
    here = await story.shelf(3)
    buyer, placed = await placed_unknown(here)
    with pytest.raises(payment.PaymentInProgress) as refused:
        await order.pay(story.again(buyer), placed.id, CARD)
    assert placed.payment is not None
    assert str(refused.value.members["payment_id"]) == str(placed.payment.payment_id)
    await story.settled(dsn, buyer, placed.id, "paid")
    assert await story.money(sandbox, dsn, placed.id) == (story.PRICE, 0)


async def test_money_that_comes_after_the_hold_was_lost_takes_free_units_again(sandbox: Any, dsn: str) -> None:
    here = await story.shelf(3, limit=1)
    buyer, placed = await placed_unknown(here)
    await lose_hold(dsn, placed)
    assert await story.counts(here) == [(3, 0, 0)]
    await story.settled(dsn, buyer, placed.id, "paid")
    assert await story.counts(here) == [(2, 0, 1)]
    with pytest.raises(stock.LimitExceeded):
        await order.place(story.again(buyer), story.wish(here, 1))
    assert await story.money(sandbox, dsn, placed.id) == (story.PRICE // 2, 0)


@pytest.mark.parametrize("why", ["sold_out", "limit", "closed"])
async def test_money_without_units_goes_back_exactly_once(sandbox: Any, dsn: str, why: str) -> None:
    here = await story.shelf(2 if why == "limit" else 1, limit=1, closes_in_s=2.0 if why == "closed" else 0.0)
    buyer, placed = await placed_unknown(here)
    await lose_hold(dsn, placed)
    if why == "sold_out":
        await order.place(story.shopper(), story.wish(here, 1))
    elif why == "limit":
        await order.place(story.again(buyer), story.wish(here, 1))
    else:
        await asyncio.sleep(2.0)
    before = await story.counts(here)
    refunded = await story.settled(dsn, buyer, placed.id, "refunded_no_stock")
    assert refunded.payment is not None and refunded.payment.state == "refunded"
    for _ in range(3):
        await story.time_passes(dsn, placed.id)
    price = story.PRICE // 2
    assert await story.money(sandbox, dsn, placed.id) == (price, price)
    if why != "closed":
        assert await story.counts(here) == before
    with pytest.raises(order.NotCancellable):
        await order.cancel(story.again(buyer), placed.id, order.Cancel())


@pytest.mark.one_process
async def test_units_taken_again_for_an_order_that_was_cancelled_meanwhile_go_back(
    sandbox: Any, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = await story.shelf(3, limit=1)
    buyer, placed = await placed_unknown(here)
    await lose_hold(dsn, placed)
    real, cancels = stock.reserve, [story.again(buyer)]

    async def reserve(ctx: Ctx, wish: stock.Reserve) -> stock.Reservation:
        if cancels:
            await order.cancel(cancels.pop(), placed.id, order.Cancel())
        return await real(ctx, wish)

    with monkeypatch.context() as patch:
        patch.setattr(stock, "reserve", reserve)
        await story.settled(dsn, buyer, placed.id, "cancelled")
    assert not cancels, "the cancel came between the capture and the new hold"
    assert await story.money(sandbox, dsn, placed.id) == (story.PRICE // 2, story.PRICE // 2)
    for _ in range(100):
        if await story.counts(here) == [(3, 0, 0)]:
            break
        await asyncio.sleep(0.02)
    assert await story.counts(here) == [(3, 0, 0)]


async def test_a_refund_whose_answer_was_lost_happens_once(sandbox: Any, dsn: str) -> None:
    here, buyer = await story.shelf(1), story.shopper()
    placed = await order.place(buyer, story.wish(here, 1, card="tok_visa"))
    await sandbox.faults(reset_after_refund_rate=1.0)
    cancelling = await order.cancel(story.again(buyer), placed.id, order.Cancel())
    assert cancelling.state == "cancelling", "not cancelled before the money is back"
    await sandbox.faults()
    await story.settled(dsn, buyer, placed.id, "cancelled")
    assert await story.money(sandbox, dsn, placed.id) == (story.PRICE, story.PRICE)


@pytest.mark.parametrize("card", ["tok_timeout_after_capture", "tok_error"])
async def test_a_cancel_while_unknown_settles_by_itself(sandbox: Any, dsn: str, card: str) -> None:
    here = await story.shelf(3, limit=1)
    buyer, placed = await placed_unknown(here, card)
    cancel = story.again(buyer)
    waiting = await order.cancel(cancel, placed.id, order.Cancel("changed my mind"))
    assert waiting.state == "cancel_pending"
    assert await order.cancel(cancel, placed.id, order.Cancel("changed my mind")) == waiting
    cancelled = await story.settled(dsn, buyer, placed.id, "cancelled")
    assert cancelled.payment is not None
    captured = story.PRICE // 2 if card == "tok_timeout_after_capture" else 0
    assert await story.money(sandbox, dsn, placed.id) == (captured, captured)
    assert await story.counts(here) == [(3, 0, 0)]
    assert (await order.place(story.again(buyer), story.wish(here, 1))).state == "awaiting_payment"


async def test_a_cancel_while_the_payment_is_being_made_is_answered_to_both(
    sandbox: Any, dsn: str, change: Any
) -> None:
    await change(payment_timeout_s=5.0)
    await sandbox.faults(latency_ms=600)
    here, buyer = await story.shelf(3), story.shopper()
    placing = asyncio.ensure_future(order.place(buyer, story.wish(here, 1, card="tok_visa")))
    for _ in range(100):
        if found := await order.list_orders(buyer, None, 1):
            break
        await asyncio.sleep(0.02)
    cancelled = await order.cancel(story.again(buyer), found[0].id, order.Cancel())
    assert cancelled.state == "cancel_pending"
    placed = await placing
    assert placed.state == "cancel_pending"
    assert await order.place(buyer, story.wish(here, 1, card="tok_visa")) == placed
    await story.settled(dsn, buyer, placed.id, "cancelled")
    assert await story.money(sandbox, dsn, placed.id) == (story.PRICE, story.PRICE)
    assert await story.counts(here) == [(3, 0, 0)]


async def test_a_paid_order_that_is_cancelled_gives_back_money_units_and_limit(sandbox: Any, dsn: str) -> None:
    here, buyer = await story.shelf(3, 3, limit=2), story.shopper()
    placed = await order.place(buyer, story.wish(here, 1, 1, card="tok_visa"))
    assert (placed.state, await story.counts(here)) == ("paid", [(2, 0, 1), (2, 0, 1)])
    answers = await asyncio.gather(*(order.cancel(story.again(buyer), placed.id, order.Cancel()) for _ in range(5)))
    assert {answer.state for answer in answers} <= {"cancelled", "cancelling"}
    await story.settled(dsn, buyer, placed.id, "cancelled")
    assert await story.money(sandbox, dsn, placed.id) == (story.PRICE, story.PRICE)
    assert await story.counts(here) == [(3, 0, 0), (3, 0, 0)]
    assert (await order.place(story.again(buyer), story.wish(here, 2))).state == "awaiting_payment"


async def test_an_order_that_is_not_paid_in_time_gives_everything_back(dsn: str, change: Any) -> None:
    await change(payment_window_s=1)
    here, buyer = await story.shelf(1, limit=1), story.shopper()
    placed = await order.place(buyer, story.wish(here, 1))
    with pytest.raises(stock.SoldOut):
        await order.place(story.shopper(), story.wish(here, 1))
    await asyncio.sleep(1.1)
    with pytest.raises(order.NotPayable):
        await order.pay(story.again(buyer), placed.id, CARD)
    await story.settled(dsn, buyer, placed.id, "expired")
    assert await story.counts(here) == [(1, 0, 0)]
    assert (await order.place(story.again(buyer), story.wish(here, 1))).state == "awaiting_payment"


@pytest.mark.one_process
async def test_a_request_that_slept_finds_its_payment_given_up_and_takes_no_money(
    sandbox: Any, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order was written, then its process stood still until the sweeper had given the payment up."""
    here, buyer = await story.shelf(1), story.shopper()
    real, awake = payment.charge, asyncio.Event()

    async def asleep(ctx: Ctx, wish: payment.Charge) -> payment.Payment:
        await awake.wait()
        return await real(ctx, wish)

    monkeypatch.setattr(payment, "charge", asleep)
    placing = asyncio.ensure_future(order.place(buyer, story.wish(here, 1, card="tok_visa")))
    for _ in range(100):
        if found := await order.list_orders(buyer, None, 1):
            break
        await asyncio.sleep(0.02)
    await story.settled(dsn, buyer, found[0].id, "awaiting_payment")
    awake.set()
    placed = await placing
    assert placed.state == "awaiting_payment"
    assert placed.payment is not None and placed.payment.state == "failed"
    assert await story.money(sandbox, dsn, placed.id) == (0, 0)


@pytest.mark.one_process
async def test_a_charge_that_arrives_after_it_was_given_up_goes_back(
    sandbox: Any, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attempt was durable, then the process stood still past the inquiry's horizon, and then it sent."""
    here, buyer = await story.shelf(1), story.shopper()
    real, awake = payment_router.charge, asyncio.Event()

    async def asleep(attempt: payment_router.ChargeOrder) -> payment_router.Result:
        await awake.wait()
        return await real(attempt)

    monkeypatch.setattr(payment_router, "charge", asleep)
    placing = asyncio.ensure_future(order.place(buyer, story.wish(here, 1, card="tok_visa")))
    for _ in range(100):
        if await story.execute(dsn, "SELECT 1 FROM payment.payment WHERE customer_id = $1", buyer.subject):
            break
        await asyncio.sleep(0.02)
    (found,) = await order.list_orders(buyer, None, 1)
    await story.settled(dsn, buyer, found.id, "awaiting_payment")
    awake.set()
    await placing
    monkeypatch.undo()
    assert (await order.pay(story.again(buyer), found.id, CARD)).state == "paid"
    await story.time_passes(dsn, found.id)
    assert await story.money(sandbox, dsn, found.id) == (2 * story.PRICE, story.PRICE)
