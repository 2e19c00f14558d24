"""Public verbs of order: place, pay, cancel, read; and what the workers' sweepers run."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from doorbuster.domains.commerce import payment
from doorbuster.domains.commerce.order import errors, journal, process, rules, store
from doorbuster.domains.commerce.order.journal import Advance, Placement
from doorbuster.domains.commerce.order.models import Cancel, Order, OrderRow, Pay, Place, Step
from doorbuster.domains.item import price, stock
from doorbuster.platform import ids
from doorbuster.platform.calls import Ctx, command, query
from doorbuster.platform.errors import IdempotencyKeyReused, InvalidRequest, NotFound, Refusal, Unavailable

_ENCODER = msgspec.json.Encoder()
_WAIT_S = 15.0
_POLL_S = 0.05
_RETRY_AFTER_S = 5
_OLD = timedelta(seconds=journal.PLACE_WITHIN_S)


@command
async def place(ctx: Ctx, wish: Place) -> Order:
    """Buy: price, reserve, write the order and, with an instrument, pay; all or nothing up to the order's row.

    The order's id is derived from (customer, Idempotency-Key): the same key and body give the same order and the same
    answer, in any process and after any crash. A refusal before the order exists leaves nothing behind.
    Refuses with PriceChanged, what price and stock refuse, and IdempotencyKeyReused.
    """
    customer_id = _customer(ctx)
    order_id = ids.derived_id("order", str(customer_id), ctx.idempotency_key)
    request_hash = ids.request_hash(_ENCODER.encode(wish)).hex()
    if wish.payment is not None:
        _must_be_complete(wish.payment)
        if wish.payment.method != "card":
            raise InvalidRequest("Place the order without a payment, then pay it in a window")
    if len({line.option_id for line in wish.lines}) != len(wish.lines):
        raise InvalidRequest("Each option may be named once; add up its quantity")
    try:
        quote = await price.quote(
            ctx, price.Ask(tuple(line.option_id for line in wish.lines), wish.deal_id, wish.currency)
        )
        lines = rules.price_lines(wish.lines, quote)
        total_minor = rules.total(lines)
        reservation = await _reserve(ctx, wish, order_id, customer_id, request_hash)
    except Refusal:
        # A repeat is answered as the first time, even though prices, windows or stock have moved on since.
        known = (await store.read_orders([order_id])).get(order_id)
        if known is None:
            raise
        return await _answer_again(known, request_hash)
    if not reservation.fresh:
        known = (await store.read_orders([order_id])).get(order_id)
        if known is not None:
            return await _answer_again(known, request_hash)
    pays = wish.payment is not None
    placement = Placement(
        id=order_id,
        customer_id=customer_id,
        request_hash=request_hash,
        currency=quote.currency,
        total_minor=total_minor,
        lines=lines,
        place_by=reservation.created_at + _OLD,
        deal_id=wish.deal_id,
        ship_to=wish.ship_to,
        payment_id=process.payment_id_of_placing(order_id) if pays else None,
    )
    return await _write_and_pay(ctx, placement, reservation, wish.payment)


async def _reserve(ctx: Ctx, wish: Place, order_id: UUID, customer_id: UUID, request_hash: str) -> stock.Reservation:
    reserve = stock.Reserve(
        reservation_id=order_id,
        customer_id=customer_id,
        lines=tuple(stock.Line(line.option_id, line.quantity) for line in wish.lines),
        hold_s=process.hold_s(pays=wish.payment is not None),
        deal_id=wish.deal_id,
        request_hash=request_hash,
    )
    reservation = await stock.reserve(ctx, reserve)
    if reservation.fresh or reservation.state != "held":
        return reservation
    if await store.existing_ids([order_id]):
        return reservation
    age = datetime.now(reservation.created_at.tzinfo) - reservation.created_at
    if age < _OLD:
        return reservation
    # Too late to write its order: whoever made this hold is gone. Give it up and hold anew.
    await stock.abandon(ctx, order_id, reservation.created_at)
    return await stock.reserve(ctx, reserve)


async def _write_and_pay(ctx: Ctx, placement: Placement, reservation: stock.Reservation, pay_with: Pay | None) -> Order:
    try:
        written = await journal.write(placement)
    except errors.PlacedTooLate:
        await stock.abandon(ctx, placement.id, reservation.created_at)
        raise Unavailable("The shop was too slow to write this order; nothing was bought") from None
    row = written.row
    if not written.moved:
        if reservation.fresh and row.state not in rules.HOLDS_UNITS:
            # Held anew for an order that has already given its units back: nobody would do so again.
            await stock.abandon(ctx, row.id, reservation.created_at)
        return await _answer_again(row, placement.request_hash)
    if pay_with is None:
        return _render(row)
    paid = await payment.charge(ctx, process.charge_of(row, pay_with.instrument, placement.request_hash))
    return await _answer_again(await process.settle(ctx, row, paid), placement.request_hash)


@command
async def pay(ctx: Ctx, order_id: UUID, wish: Pay) -> Order:
    """Pay an order that awaits payment. The same key answers with the same payment's outcome.

    Refuses with NotPayable, PaymentInProgress (naming the live payment), PaymentDeclined or PaymentUnavailable (the
    order still awaits payment and may be paid with another key), IdempotencyKeyReused, NotFound.
    """
    _must_be_complete(wish)
    row = await _own(ctx, order_id)
    payment_id = ids.derived_id("payment", str(order_id), "key", ctx.idempotency_key)
    request_hash = ids.request_hash(_ENCODER.encode(wish)).hex()
    if await store.read_step_of_payment(order_id, payment_id):
        return await _payment_answer(ctx, order_id, payment_id, request_hash)
    if row.state in ("paying", "payment_waiting", "payment_unknown", "cancel_pending", "captured"):
        raise payment.PaymentInProgress(
            "Wait for it, or ask for the order; it says how the payment ended", payment_id=row.payment_id
        )
    if row.state != "awaiting_payment":
        raise errors.NotPayable(f"It is {row.state}", state=row.state)
    try:
        await stock.extend(ctx, order_id, process.hold_s(pays=True))
    except stock.HoldLost:
        raise errors.NotPayable("Its units are no longer held; order again", state=row.state) from None
    written = await journal.write(Advance(order_id, "pay", payment_id=payment_id))
    if not written.moved:
        if written.row.payment_id == payment_id:
            return await _payment_answer(ctx, order_id, payment_id, request_hash)
        raise errors.NotPayable(f"It is {written.row.state}", state=written.row.state)
    session = None
    if wish.method == "card":
        paid = await payment.charge(ctx, process.charge_of(written.row, wish.instrument, request_hash))
    else:
        paid, session = await payment.open_session(ctx, _window_of(written.row, wish, request_hash))
    row = await process.settle(ctx, written.row, paid)
    if row.payment_id == payment_id and row.event in ("declined", "failed"):
        raise _not_paid(row)
    return msgspec.structs.replace(_render(row), session=session if row.state == "payment_waiting" else None)


def _must_be_complete(wish: Pay) -> None:
    if wish.method == "card" and not wish.instrument:
        raise InvalidRequest("Name the instrument that pays")
    if wish.method != "card" and not wish.return_url:
        raise InvalidRequest("Say with return_url where the window sends the buyer back to")


def _window_of(row: OrderRow, wish: Pay, request_hash: str) -> payment.SessionWish:
    assert row.payment_id is not None
    title = f"Order {str(row.id)[:8]}"
    return payment.SessionWish(
        row.payment_id, row.id, row.customer_id, row.total_minor, row.currency, wish.method, title, wish.return_url,
        request_hash,
    )  # fmt: skip


@command
async def cancel(ctx: Ctx, order_id: UUID, wish: Cancel) -> Order:
    """Cancel before shipping: units, limit and money go back. While a payment's outcome is unknown the order waits in
    `cancel_pending` and settles by itself. Refuses with NotCancellable, IdempotencyKeyReused, NotFound."""
    row = await _own(ctx, order_id)
    cancel_hash = ids.request_hash(_ENCODER.encode(wish)).hex()
    if row.cancel_key == ctx.idempotency_key and row.cancel_hash != cancel_hash:
        raise IdempotencyKeyReused()
    if row.state in ("cancelled", "cancel_pending"):
        return _render(row)
    if row.state != "cancelling":
        written = await journal.write(
            Advance(order_id, "cancel", code=wish.reason, cancel_key=ctx.idempotency_key, cancel_hash=cancel_hash)
        )
        row = written.row
        if not written.moved and row.state not in ("cancelling", "cancel_pending", "cancelled"):
            raise errors.NotCancellable(f"It is {row.state}", state=row.state)
    return _render(await process.drive(ctx, row) if row.state == "cancelling" else row)


@query
async def get_order(ctx: Ctx, order_id: UUID) -> Order:
    """One order of the caller. Another's is refused with NotFound, as if it did not exist."""
    return _render(await _own(ctx, order_id))


@query
async def timeline(ctx: Ctx, order_id: UUID) -> tuple[Step, ...]:
    """Everything that happened to one order of the caller, oldest first."""
    await _own(ctx, order_id)
    return tuple(await store.read_steps(order_id))


@query
async def list_orders(ctx: Ctx, before: tuple[datetime, UUID] | None, limit: int) -> tuple[Order, ...]:
    """The caller's orders, newest first, `limit` at a time, after a position (created_at, id)."""
    return tuple(_render(row) for row in await store.read_page(_customer(ctx), before, limit))


@command
async def sweep(ctx: Ctx, limit: int) -> int:
    """Finish what crashes and time-outs left behind; returns how many orders and holds were taken up."""
    return await process.sweep(ctx, limit)


@command
async def release_orphans(ctx: Ctx) -> int:
    """Give up holds whose order never came to be; returns how many."""
    return await process.release_orphans(ctx)


def _customer(ctx: Ctx) -> UUID:
    assert ctx.subject is not None, "an order verb was called for nobody"
    return ctx.subject


async def _own(ctx: Ctx, order_id: UUID) -> OrderRow:
    row = (await store.read_orders([order_id])).get(order_id)
    if row is None or (row.customer_id != ctx.subject and not ctx.roles & {"admin", "system"}):
        raise NotFound("There is no such order of yours")
    return row


async def _answer_again(row: OrderRow, request_hash: str) -> Order:
    """The answer that the placing request got, or will get once whoever is at work on it is done."""
    if row.request_hash != request_hash:
        raise IdempotencyKeyReused()
    waited = 0.0
    while row.answer_version is None:
        if waited >= _WAIT_S:
            raise Unavailable("This order's payment is still being settled", retry_after_s=2)
        await asyncio.sleep(_POLL_S)
        waited += _POLL_S
        row = (await store.read_orders([row.id]))[row.id]
    if row.answer_version == row.version:
        return _render(row)
    steps = await store.read_steps(row.id)
    return _render_at(row, steps[row.answer_version - 1])


async def _payment_answer(ctx: Ctx, order_id: UUID, payment_id: UUID, request_hash: str) -> Order:
    """What a pay request got, or will get: the first answerable state its payment led to."""
    waited = 0.0
    while True:
        known = await payment.find(ctx, payment_id)
        if known is not None and known.request_hash not in (request_hash, payment.ABANDONED):
            raise IdempotencyKeyReused()
        steps = await store.read_step_of_payment(order_id, payment_id)
        for step in steps:
            if step.event != "pay" and step.state in rules.ANSWERS:
                row = (await store.read_orders([order_id]))[order_id]
                if step.event in ("declined", "failed"):
                    raise _not_paid(_row_at(row, step))
                answer = _render_at(row, step)
                if step.state != "payment_waiting" or row.version != step.version:
                    return answer
                return msgspec.structs.replace(answer, session=await payment.find_session(ctx, payment_id))
        if waited >= _WAIT_S:
            raise Unavailable("This payment is still being settled", retry_after_s=2)
        await asyncio.sleep(_POLL_S)
        waited += _POLL_S


def _not_paid(row: OrderRow) -> Refusal:
    """Why the order's last payment came to nothing: the card, or nobody could be asked."""
    if row.event == "failed" and row.code in payment.NOT_THE_CARD:
        return errors.PaymentUnavailable(
            "The order still awaits payment: try again shortly with a new Idempotency-Key",
            order_id=row.id,
            payment_id=row.payment_id,
            retry_after_s=_RETRY_AFTER_S,
        )
    return errors.PaymentDeclined(
        "The order still awaits payment: try another card with a new Idempotency-Key",
        decline_code=row.code,
        order_id=row.id,
        payment_id=row.payment_id,
    )


def _row_at(row: OrderRow, step: Step) -> OrderRow:
    return msgspec.structs.replace(
        row, state=step.state, version=step.version, event=step.event, code=step.code, payment_id=step.payment_id,
        updated_at=step.at,
    )  # fmt: skip


def _render_at(row: OrderRow, step: Step) -> Order:
    return _render(_row_at(row, step))


def _render(row: OrderRow) -> Order:
    return Order(
        id=row.id,
        state=row.state,
        version=row.version,
        currency=row.currency,
        total_minor=row.total_minor,
        lines=row.lines,
        created_at=row.created_at,
        updated_at=row.updated_at,
        pay_by=row.pay_by,
        deal_id=row.deal_id,
        ship_to=row.ship_to,
        payment=rules.payment_summary(row),
    )
