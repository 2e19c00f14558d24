"""Paying in a provider's window: open it, take the money with what the buyer brings back, or close it.

Nothing is taken in a window without our confirm. So a window that was not confirmed can always be given up for certain,
and of all who bring the buyer's token, the one who makes the confirm durable sends it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from uuid import UUID

import asyncpg
import msgspec
import structlog

from doorbuster.domains.commerce.payment import errors, rules, settling, store, store_sessions
from doorbuster.domains.commerce.payment.models import Payment, Session, SessionWish
from doorbuster.domains.commerce.payment.settling import Known
from doorbuster.domains.commerce.payment.store_sessions import Seat
from doorbuster.engines import payment_router
from doorbuster.engines.payment_router import WAITING_FOR_DEPOSIT, ChargeOrder, Chosen, Outcome, PaymentFacts, Result
from doorbuster.engines.payment_router.provider import Flow, Forged, Prepared, ReturnUrls
from doorbuster.platform import ids, settings
from doorbuster.platform.errors import IdempotencyKeyReused, NotFound, Unavailable

_LOG = structlog.get_logger("payment")
_MOST_ATTEMPTS = 4
_POLL_S = 0.05
SHARED = payment_router.SharedDatabase(store.DB)


async def open_session(wish: SessionWish) -> tuple[Payment, Session | None]:
    """Let a provider open a window, once per payment id; another one is asked while none could. The same again answers
    with the same window, or None once the payment is not in it any more.

    Raises PaymentInProgress and IdempotencyKeyReused.
    """
    facts = PaymentFacts(wish.payment_id, wish.method, wish.currency, wish.amount_minor)
    chosen = await _choose(facts, await store_sessions.read_failed(wish.order_id))
    mark = ids.uuid7()
    begun = await store_sessions.begin(
        wish, mark, chosen.decision, settling.first_look_s(), settings.current().payment_session_s
    )
    if begun is None or begun[1] != mark or not chosen.provider:
        await payment_router.give_up(chosen)
        return await _as_it_stands(wish, begun)
    payment, tried = begun[0], list[str]()
    for number in range(1, _MOST_ATTEMPTS + 1):
        prepared = await _prepare(_order_of(wish, chosen.provider, number), wish.return_url, chosen)
        if isinstance(prepared, Prepared):
            client = None if payment_router.can_be_prepared_again(chosen.provider) else prepared.client
            await store_sessions.lock_and_open(wish.payment_id, number, prepared.provider_id, client)
            return await _session_of(wish.payment_id, prepared)
        tried.append(chosen.provider)
        then = await payment_router.choose(facts, SHARED, tried) if number < _MOST_ATTEMPTS else None
        # Nobody was sent to that window, so whatever came back, nothing can have been taken.
        known = Known(wish.payment_id, number, Result(Outcome.NOT_EXECUTED, code=prepared.code))
        if then is not None and then.provider:
            known = Known(wish.payment_id, number, known.result, then.decision)
        payment, goes_on = await settling.settler().submit(known)
        if then is None or not goes_on:
            await payment_router.give_up(then)
            break
        chosen = then
    return payment, None


async def _choose(facts: PaymentFacts, failed: Collection[str]) -> Chosen:
    """Rather another account than one that has just failed this order; that one before nobody."""
    chosen = await payment_router.choose(facts, SHARED, failed)
    return chosen if chosen.provider or not failed else await payment_router.choose(facts, SHARED)


async def _as_it_stands(wish: SessionWish, begun: tuple[Payment, UUID | None] | None) -> tuple[Payment, Session | None]:
    if begun is None:
        live = (await store.read_live([wish.order_id])).get(wish.order_id)
        detail = "Wait for it, or ask for the order; it says how the payment ended"
        raise errors.PaymentInProgress(detail, payment_id=live.payment_id if live else None)
    if begun[0].request_hash not in (wish.request_hash, rules.ABANDONED):
        raise IdempotencyKeyReused()
    return (begun[0], None) if begun[0].is_settled else await _session_of(wish.payment_id)


async def _prepare(order: ChargeOrder, return_url: str, chosen: Chosen) -> Prepared | Result:
    result = Result(Outcome.UNKNOWN, code="cut_short")
    try:
        found = await payment_router.prepare(order, ReturnUrls(return_url, return_url, return_url))
        result = Result(Outcome.SUCCEEDED) if isinstance(found, Prepared) else found
    finally:
        if payment_router.is_prepared_by_a_call(chosen.provider):
            await payment_router.note(chosen, result)
        else:
            await payment_router.give_up(chosen)
    return found


async def read_session(payment_id: UUID) -> Session | None:
    """The open window of a payment; None when it is not in one (any more)."""
    return (await _session_of(payment_id))[1]


async def _session_of(payment_id: UUID, prepared: Prepared | None = None) -> tuple[Payment, Session | None]:
    seat = await store_sessions.read_seat(payment_id)
    if seat is None:
        raise NotFound("There is no such payment in a window")
    account = seat.attempt["provider"]
    if seat.attempt["state"] != "window" or seat.is_expired:
        return seat.payment, None
    client = prepared.client if prepared is not None else seat.client
    if client is None:
        again = await payment_router.prepare(_order_in(seat), ReturnUrls(*[seat.return_url] * 3))
        if isinstance(again, Result):
            raise Unavailable("The provider does not answer; the window is still open", retry_after_s=2)
        client = again.client
    kind = payment_router.capability_of(account).name
    return seat.payment, Session(payment_id, account, kind, seat.attempt["method"], client, seat.expires_at)


async def confirm(payment_id: UUID, customer_id: UUID | None, form: Mapping[str, str], key: str) -> Payment:
    """Take the money with what the window sent the buyer back with; of all who ask, one asks the provider.

    Answers with the payment as it stands then: still `waiting` when the buyer came back without having paid. Raises
    NotFound, NotInWindow, WindowReturnRefused, IdempotencyKeyReused, and ReselectPsp when this provider surely took
    nothing and another one may.
    """
    seat = await store_sessions.read_seat(payment_id)
    if seat is None or customer_id not in (None, seat.customer_id):
        raise NotFound("There is no such payment of yours")
    form_hash = ids.request_hash(repr(sorted(form.items())).encode()).hex()
    if seat.confirm_key == key and seat.confirm_hash != form_hash:
        raise IdempotencyKeyReused()
    number = seat.attempt["number"]
    order = _order_in(seat)
    if seat.attempt["state"] == "window" and not seat.is_expired:
        returned = payment_router.read_return(order, form)
        if isinstance(returned, Forged):
            _LOG.warning("window_return_refused", payment_id=str(payment_id), why=returned.why)
            raise errors.WindowReturnRefused(returned.why)
        if not returned.token:
            await store_sessions.note_return(payment_id, returned.code)
            return seat.payment
        look = settling.first_look_s()
        if await store_sessions.lock_and_take(payment_id, number, returned.token, key, form_hash, look):
            return await _confirm(seat, _with_token(order, returned.token))
    elif not seat.confirm_key:
        raise errors.NotInWindow(f"It is {seat.payment.state}; pay again", state=seat.payment.state)
    return await _answer_of_another(payment_id, number)


async def _confirm(seat: Seat, order: ChargeOrder) -> Payment:
    """Send a confirm that is ours to send, and write what is known of it."""
    payment_id, number = seat.payment.payment_id, seat.attempt["number"]
    result = await take_money(order)
    payment, _ = await settling.settler().submit(Known(payment_id, number, result))
    if result.outcome in (Outcome.NOT_SENT, Outcome.NOT_EXECUTED):
        raise errors.ReselectPsp(
            "Nothing was taken. The order can be paid anew, with a new Idempotency-Key: another provider is chosen",
            payment_id=payment_id, order_id=payment.order_id, account=order.provider,
        )  # fmt: skip
    return payment


async def take_money(order: ChargeOrder) -> Result:
    """Confirm a window whose confirm is durable; what then stands open at a provider that can end it is ended."""
    result = await payment_router.confirm(order)
    payment_router.note_later(order.provider, _facts(order), result)
    took_nothing = result.outcome in (Outcome.NOT_SENT, Outcome.NOT_EXECUTED, Outcome.DECLINED)
    if not took_nothing or Flow.VOID not in payment_router.capability_of(order.provider).flows:
        return result
    # The buyer's bank may hold the money for a session that nobody will confirm any more.
    ended = await payment_router.end_session(order)
    return result if ended.outcome is Outcome.NOT_EXECUTED else Result(Outcome.UNKNOWN, code=result.code)


async def _answer_of_another(payment_id: UUID, number: int) -> Payment:
    """What the confirm of another request came to, waited for as long as it can take."""
    left_s = settings.current().payment_timeout_s
    while True:
        seat = await store_sessions.read_seat(payment_id)
        assert seat is not None, "a session that was read is there"
        if seat.attempt["state"] != "sending" or seat.attempt["number"] != number or left_s <= 0:
            return seat.payment
        left_s -= _POLL_S
        await asyncio.sleep(_POLL_S)


async def leave(payment_id: UUID) -> None:
    """Give a payment up that waits in a window or for a transfer. One that is being confirmed is left alone."""
    seat = await store_sessions.read_seat(payment_id)
    if seat is None:
        return
    awaits = seat.attempt["state"] == "pending" and seat.attempt["code"] == WAITING_FOR_DEPOSIT
    # An account is closed by its provider or not at all: whoever pays into it meanwhile has paid.
    if awaits or await store_sessions.lock_and_close(payment_id, seat.attempt["number"]):
        await end(seat.attempt, "left")


async def resolve(row: asyncpg.Record) -> Result | None:
    """The next step of an attempt in a window whose time has come: it expired, or nobody was sent to it, or the
    provider did not say that it is closed. None: it was confirmed meanwhile."""
    if not await store_sessions.lock_and_close(row["payment_id"], row["number"]):
        return None
    return await end(row, "never_opened" if row["state"] == "opening" else "expired")


async def end(row: asyncpg.Record, code: str) -> Result:
    """End it at its provider, too. What the provider does not say is ended is tried, or asked about, again."""
    order = ChargeOrder(
        row["provider"], row["reference"], row["idempotency_key"], row["amount_minor"], row["currency"],
        method=row["method"], provider_id=row["provider_id"],
    )  # fmt: skip
    result = await payment_router.end_session(order)
    if result.outcome is Outcome.NOT_EXECUTED:
        result = Result(Outcome.NOT_EXECUTED, result.provider_id, code)
        await settling.settler().submit(Known(row["payment_id"], row["number"], result))
    return result


def _order_of(wish: SessionWish, account: str, number: int) -> ChargeOrder:
    reference = f"{wish.payment_id}.{number}"
    return ChargeOrder(
        account, reference, reference, wish.amount_minor, wish.currency,
        method=wish.method, customer=str(wish.customer_id), title=wish.title,
    )  # fmt: skip


def _order_in(seat: Seat) -> ChargeOrder:
    row = seat.attempt
    return ChargeOrder(
        row["provider"], row["reference"], row["idempotency_key"], row["amount_minor"], row["currency"],
        method=row["method"], customer=str(seat.customer_id), title=seat.title, token=seat.token,
        provider_id=row["provider_id"], began_at=row["created_at"],
    )  # fmt: skip


async def order_to_confirm(payment_id: UUID) -> ChargeOrder | None:
    """What confirms a window again whose confirm was lost; None: it never was, or its time is over."""
    seat = await store_sessions.read_seat(payment_id)
    return None if seat is None or not seat.token or seat.is_expired else _order_in(seat)


def _with_token(order: ChargeOrder, token: str) -> ChargeOrder:
    return msgspec.structs.replace(order, token=token)


def _facts(order: ChargeOrder) -> PaymentFacts:
    return PaymentFacts(UUID(order.reference.partition(".")[0]), order.method, order.currency, order.amount_minor)
