"""An order that is paid in a provider's window or by a transfer: it waits, keeps its units, and follows its payment."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

import msgspec
import pytest

from doorbuster.domains.commerce import order, payment
from doorbuster.domains.commerce.order import consumers, errors
from doorbuster.domains.commerce.order.tests import story
from doorbuster.domains.commerce.payment.tests import buyers, psps
from doorbuster.domains.commerce.payment.tests.psps import Psp
from doorbuster.domains.item import price
from doorbuster.engines.event_log import Event
from doorbuster.platform import db
from doorbuster.platform.calls import SYSTEM, Ctx
from doorbuster.platform.errors import InvalidRequest
from doorbuster.platform.settings import Settings

WINDOW = order.Pay("window", return_url=buyers.RETURN_URL)
TRANSFER = order.Pay("virtual_account", return_url=buyers.RETURN_URL)


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Psp]]:
    with psps.running(("toss",), tmp_path_factory.mktemp("psps")) as found:
        yield found


@pytest.fixture
async def toss(shop: Settings, processes: list[Psp]) -> AsyncIterator[Psp]:
    async with psps.shop_with(shop, psps.renamed(processes, "toss")) as accounts:
        yield accounts["toss"]


async def placed(buyer: Ctx) -> tuple[story.Shelf, order.Order]:
    """An order in won, which Toss takes."""
    here = await story.shelf(5)
    prices = tuple(price.ImportPrice(option_id, here.item_id, "KRW", 12_000) for option_id in here.option_ids)
    await price.import_prices(SYSTEM, prices)
    return here, await order.place(buyer, story.wish(here, 2))


async def hear(dsn: str, order_id: UUID) -> None:
    """The facts of an order's payments come to its consumer."""
    rows = await story.execute(
        dsn,
        "SELECT seq, partition, key, id, type, version, aggregate_version, occurred_at, payload::text AS payload"
        " FROM payment.outbox WHERE key = $1 AND type <> 'MoneyMoved' ORDER BY seq",
        str(order_id),
    )
    async with db.of("commerce.order").transaction() as conn:
        told = [Event(**dict(row) | {"payload": row["payload"].encode()}) for row in rows]
        await consumers.on_payment_news(conn, told)


async def came_back(buyer: Ctx, session: payment.Session, form: dict[str, str]) -> Any:
    return await payment.confirm(story.again(buyer), session.payment_id, payment.Returned(form))


async def test_an_order_waits_while_its_buyer_is_in_the_window_and_is_paid_by_the_confirm(toss: Psp, dsn: str) -> None:
    buyer = story.shopper()
    here, awaiting = await placed(buyer)
    paying = story.again(buyer)
    waits = await order.pay(paying, awaiting.id, WINDOW)
    assert (waits.state, waits.payment and waits.payment.state) == ("payment_waiting", "waiting")
    assert waits.session is not None and waits.session.provider == "toss"
    assert await order.pay(paying, awaiting.id, WINDOW) == waits, "the same key gets the same window"
    with pytest.raises(payment.PaymentInProgress):
        await order.pay(story.again(buyer), awaiting.id, WINDOW)
    paid = await came_back(buyer, waits.session, await buyers.pays(toss, waits.session))
    assert paid.state == "succeeded"
    done = await story.settled(dsn, buyer, awaiting.id, "paid")
    assert done.session is None
    assert await story.counts(here) == [(3, 0, 2)]
    (taken,) = await toss.taken(waits.session.payment_id)
    assert taken.amount_minor == awaiting.total_minor


async def test_an_order_that_is_cancelled_leaves_the_window_and_takes_nothing(toss: Psp, dsn: str) -> None:
    buyer = story.shopper()
    here, awaiting = await placed(buyer)
    waits = await order.pay(story.again(buyer), awaiting.id, WINDOW)
    assert waits.session is not None
    form = await buyers.pays(toss, waits.session)
    cancelled = await order.cancel(story.again(buyer), awaiting.id, order.Cancel("no more"))
    assert cancelled.state in ("cancel_pending", "cancelling", "cancelled")
    assert (await story.settled(dsn, buyer, awaiting.id, "cancelled")).state == "cancelled"
    assert await story.counts(here) == [(5, 0, 0)]
    with pytest.raises(payment.NotInWindow):
        await came_back(buyer, waits.session, form)
    assert await toss.taken(waits.session.payment_id) == []


async def test_after_a_decline_in_the_window_the_order_can_be_paid_another_way(toss: Psp, dsn: str) -> None:
    buyer = story.shopper()
    _, awaiting = await placed(buyer)
    waits = await order.pay(story.again(buyer), awaiting.id, WINDOW)
    assert waits.session is not None
    declined = await came_back(buyer, waits.session, await buyers.pays(toss, waits.session, declined=True))
    assert declined.state == "declined"
    await story.settled(dsn, buyer, awaiting.id, "awaiting_payment")
    again = await order.pay(story.again(buyer), awaiting.id, WINDOW)
    assert again.session is not None and again.session.payment_id != waits.session.payment_id
    await came_back(buyer, again.session, await buyers.pays(toss, again.session))
    await story.settled(dsn, buyer, awaiting.id, "paid")


async def test_an_order_keeps_its_units_until_the_transfer_comes_and_again_when_the_bank_takes_it_back(
    toss: Psp, dsn: str
) -> None:
    buyer = story.shopper()
    here, awaiting = await placed(buyer)
    waits = await order.pay(story.again(buyer), awaiting.id, TRANSFER)
    assert waits.session is not None
    told = await came_back(buyer, waits.session, await buyers.pays(toss, waits.session))
    assert told.state == "waiting" and told.deposit is not None
    await story.time_passes(dsn, awaiting.id)
    assert (await order.get_order(buyer, awaiting.id)).state == "payment_waiting"
    assert await story.counts(here) == [(3, 2, 0)]
    await buyers.pays_into(toss, waits.session)
    await story.settled(dsn, buyer, awaiting.id, "paid")
    assert await story.counts(here) == [(3, 0, 2)]
    await buyers.pays_into(toss, waits.session, back=True)
    await story.execute(dsn, "UPDATE payment.attempt SET look_at = now() WHERE payment_id = $1", told.id)
    await payment.resolve(SYSTEM, 100)
    await hear(dsn, awaiting.id)
    await story.settled(dsn, buyer, awaiting.id, "payment_waiting")
    assert await story.counts(here) == [(3, 0, 2)], "they stay sold to this order"
    await buyers.pays_into(toss, waits.session)
    await story.settled(dsn, buyer, awaiting.id, "paid")
    assert await story.counts(here) == [(3, 0, 2)]


async def test_a_wish_to_pay_in_a_window_must_be_whole_and_cannot_be_part_of_placing(toss: Psp) -> None:
    buyer = story.shopper()
    here, awaiting = await placed(buyer)
    for bad in (order.Pay("window"), order.Pay("card")):
        with pytest.raises(InvalidRequest):
            await order.pay(story.again(buyer), awaiting.id, bad)
    with pytest.raises(InvalidRequest):
        await order.place(story.again(buyer), msgspec.structs.replace(story.wish(here, 1), payment=WINDOW))
    for url in ("javascript:alert(1)", "http://shop.test/", "https://shop.test/a b", "//shop.test"):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"method": "window", "return_url": url}, order.Pay)


async def test_when_no_provider_has_a_window_the_order_still_awaits_payment(shop: Settings) -> None:
    buyer = story.shopper()
    awaiting = await order.place(buyer, story.wish(await story.shelf(5), 1))
    with pytest.raises(errors.PaymentUnavailable):
        await order.pay(story.again(buyer), awaiting.id, WINDOW)
    assert (await order.get_order(buyer, awaiting.id)).state == "awaiting_payment"
