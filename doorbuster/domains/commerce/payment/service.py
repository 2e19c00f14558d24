"""Public verbs of payment: charge once, find, give back, and what operators see and decide."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec

from doorbuster.domains.commerce.payment import (
    errors,
    refunding,
    resolving,
    rules,
    sessions,
    settling,
    store,
    store_desk,
    store_refunds,
    store_sessions,
    store_webhooks,
    webhooks,
)
from doorbuster.domains.commerce.payment.models import (
    BankAccount,
    Charge,
    HandSettlement,
    Instrument,
    InstrumentWish,
    KeyAtAccount,
    Matter,
    Payment,
    PaymentDetail,
    PaymentFilter,
    PaymentLine,
    Refund,
    RefundWish,
    Returned,
    Session,
    SessionWish,
)
from doorbuster.domains.commerce.payment.sessions import SHARED
from doorbuster.domains.commerce.payment.settling import Begin, Known
from doorbuster.engines import payment_router
from doorbuster.engines.payment_router import ChargeOrder, Chosen, Outcome, PaymentFacts, Result
from doorbuster.engines.payment_router.routing import Decision
from doorbuster.platform import ids
from doorbuster.platform.calls import Ctx, command, query
from doorbuster.platform.errors import NotFound

_MOST_ATTEMPTS = 4


@command
async def charge(ctx: Ctx, wish: Charge) -> Payment:
    """Take the money, once per payment id, and answer with what is known: never "failed" for a time-out.

    Each attempt is committed before its provider is called; another provider is asked only after one that surely took
    nothing. The same id again answers with what stands and calls nobody. Refuses with PaymentInProgress (naming the
    live payment) and IdempotencyKeyReused.
    """
    facts = PaymentFacts(wish.payment_id, "card", wish.currency, wish.amount_minor)
    keys = await _keys_of(wish)
    chosen = await payment_router.choose(facts, SHARED, knows=keys)
    payment, fresh = await settling.starter().submit(Begin(wish, ids.uuid7(), chosen.decision, bool(keys)))
    if not fresh or not chosen.provider:
        await payment_router.give_up(chosen)
        return payment
    tried: list[str] = []
    for number in range(1, _MOST_ATTEMPTS + 1):
        result = await _attempt(wish, chosen, number, keys[chosen.provider])
        tried.append(chosen.provider)
        then: Chosen | None = None
        if number < _MOST_ATTEMPTS and payment_router.may_try_another(chosen.provider, result):
            then = await payment_router.choose(facts, SHARED, tried, keys)
        following = then.decision if then is not None and then.provider else None
        again = keys[chosen.provider] if payment_router.may_repeat_charge(chosen.provider, 0.0) else None
        known = Known(wish.payment_id, number, result, following, again)
        payment, goes_on = await settling.settler().submit(known)
        if then is None or not goes_on:
            await payment_router.give_up(then)
            break
        chosen = then
    return payment


async def _keys_of(wish: Charge) -> dict[str, KeyAtAccount]:
    """By which key each account knows the instrument: the keys that the customer keeps with us, or the one token that
    was given, at the accounts whose tokens look like it."""
    try:
        instrument_id = UUID(wish.instrument)
    except ValueError:
        keys = dict.fromkeys(payment_router.accounts_that_know(wish.instrument), KeyAtAccount(wish.instrument))
    else:
        keys = await store_desk.read_keys(instrument_id, wish.customer_id)
    return {account: KeyAtAccount(one.key, one.customer or str(wish.customer_id)) for account, one in keys.items()}


async def _attempt(wish: Charge, chosen: Chosen, number: int, known_by: KeyAtAccount) -> Result:
    """Send an attempt that stands in the database, and count its answer."""
    order = ChargeOrder(
        provider=chosen.provider,
        reference=f"{wish.payment_id}.{number}",
        idempotency_key=f"{wish.payment_id}.{number}",
        amount_minor=wish.amount_minor,
        currency=wish.currency,
        instrument=known_by.key,
        customer=known_by.customer,
    )
    result = Result(Outcome.UNKNOWN, code="cut_short")
    try:
        result = await payment_router.charge(order)
    finally:
        await payment_router.note(chosen, result)
    return result


@command
async def open_session(ctx: Ctx, wish: SessionWish) -> tuple[Payment, Session | None]:
    """Let the buyer pay in a provider's window, once per payment id: the payment, and what the browser needs.

    None: no provider could open one, or the payment is not in its window any more. The same id again answers with the
    same window. Refuses with PaymentInProgress (naming the live payment) and IdempotencyKeyReused.
    """
    return await sessions.open_session(wish)


@query
async def find_session(ctx: Ctx, payment_id: UUID) -> Session | None:
    """The open window of a payment."""
    return await sessions.read_session(payment_id)


@command
async def confirm(ctx: Ctx, payment_id: UUID, returned: Returned) -> PaymentDetail:
    """Take the money with what the window sent the caller back with; however many ask, the provider is asked once.

    Answers with the payment as it then stands. Refuses with NotFound, NotInWindow, WindowReturnRefused, ReselectPsp,
    and IdempotencyKeyReused for the same key with another content.
    """
    customer_id = None if ctx.roles & {"admin", "system"} else ctx.subject
    await sessions.confirm(payment_id, customer_id, returned.form, ctx.idempotency_key)
    return await get_payment(ctx, payment_id)


@command
async def leave(ctx: Ctx, payment_id: UUID) -> None:
    """Give up a payment that waits in a window or for a transfer; one that is being confirmed is left alone."""
    await sessions.leave(payment_id)


@command
async def name_refund_account(ctx: Ctx, payment_id: UUID, account: BankAccount) -> None:
    """Say where a payment by transfer goes back to, before or after it is owed; the last word counts. Refuses with
    NotFound for what is no payment by transfer of the caller's."""
    customer_id = None if ctx.roles & {"admin", "system"} else ctx.subject
    if not await store_sessions.keep_refund_account(payment_id, customer_id, account):
        raise NotFound("There is no such payment by transfer of yours")


@command
async def abandon(ctx: Ctx, wish: Charge) -> Payment:
    """Make sure that this payment is not begun any more if it was not: whoever comes late finds it failed.

    Answers with the payment as it stands, which is another state when it had begun. `wish.request_hash` is ignored.
    """
    wish = msgspec.structs.replace(wish, request_hash=rules.ABANDONED)
    async with store.DB.transaction() as conn:
        await store.insert_abandoned(conn, wish)
        known = await store.read_by_ids(conn, [wish.payment_id])
        # Absent although just inserted: another payment of this order is live, so this one can never begin.
        return known.get(wish.payment_id) or Payment(
            wish.payment_id, wish.order_id, wish.amount_minor, wish.currency, "failed", "superseded",
            wish.request_hash, 0,
        )  # fmt: skip


@query
async def find(ctx: Ctx, payment_id: UUID) -> Payment | None:
    """The payment with this id, or None when it never began."""
    async with store.DB.connection() as conn:
        return (await store.read_by_ids(conn, [payment_id])).get(payment_id)


@command
async def give_back(ctx: Ctx, payment_id: UUID, reason: str) -> Payment:
    """Refund all that is left of a captured payment, exactly once however often this is called.

    Answers `refunded`, or `refunding` while the provider has not confirmed: the refund is durable and is repeated
    until it does. A payment that took nothing is answered as it stands. Refuses with NotFound.
    """
    if await refunding.owe_all(payment_id, reason):
        await refunding.send_of(payment_id)
    found = await find(ctx, payment_id)
    assert found is not None
    return found


@command
async def refund(ctx: Ctx, payment_id: UUID, wish: RefundWish) -> Refund:
    """Give back a part of a payment, or all that is left, through the provider that took it: once per Idempotency-Key.

    All refunds together never exceed what was taken, whoever asks at once. Answers `sending` while the provider has not
    confirmed; it is repeated until it does. Refuses with NotFound, NotCaptured, RefundTooLarge, NoPartialRefund,
    IdempotencyKeyReused.
    """
    refund_id = ids.derived_id("refund", str(payment_id), "key", ctx.idempotency_key)
    await refunding.owe(payment_id, refund_id, wish.amount_minor, wish.reason)
    await refunding.send_of(payment_id)
    return await refunding.read(refund_id)


@command
async def resolve(ctx: Ctx, limit: int) -> int:
    """Ask providers about open attempts and repeat unconfirmed refunds; returns how many were taken up."""
    return await resolving.resolve(limit)


@command
async def forget_webhooks(ctx: Ctx) -> int:
    """Remove events that no provider sends again; returns how many, at most 5,000 at a time."""
    return await store_webhooks.forget_events(webhooks.KEPT_DAYS)


@query
async def get_payment(ctx: Ctx, payment_id: UUID) -> PaymentDetail:
    """A payment with its attempts and refunds, for its customer and for admins. Refuses with NotFound."""
    found = await store_desk.read_detail(payment_id, None if ctx.roles & {"admin", "system"} else ctx.subject)
    if found is None:
        raise NotFound("There is no such payment of yours")
    return msgspec.structs.replace(found, refunds=tuple(await store_refunds.read_refunds(payment_id)))


@query
async def list_payments(
    ctx: Ctx, which: PaymentFilter, before: tuple[datetime, UUID] | None, limit: int
) -> tuple[PaymentLine, ...]:
    """Payments of all customers, the newest first, after a position (created_at, id)."""
    return tuple(await store_desk.read_page(which, before, limit))


@query
async def decisions(ctx: Ctx, payment_id: UUID) -> tuple[Decision, ...]:
    """Why each attempt of a payment went where it went, in order. Refuses with NotFound."""
    found = await store_desk.read_decisions(payment_id)
    if not found:
        raise NotFound("There is no such payment")
    return tuple(found)


@query
async def list_matters(ctx: Ctx, is_open: bool, before: tuple[datetime, UUID] | None, limit: int) -> tuple[Matter, ...]:
    """What a person must look at (or looked at), the newest first, after a position (opened_at, id)."""
    return tuple(await store_refunds.read_matters(is_open, before, limit))


@command
async def settle_matter(ctx: Ctx, matter_id: UUID, seen: HandSettlement) -> Matter:
    """Settle what nothing else settles by what a person saw, or did, at the provider. Refuses with NotFound,
    MatterSettled, OutcomeDoesNotFit."""
    return await resolving.settle_by_hand(matter_id, seen, str(ctx.subject))


@command
async def keep_instrument(ctx: Ctx, wish: InstrumentWish) -> Instrument:
    """Keep a card for the caller, under a billing key at each account that knows it: once per Idempotency-Key, and
    another content under the same key replaces nothing. Refuses with UnknownAccount."""
    assert ctx.subject is not None
    unknown = sorted(set(wish.keys) - set(payment_router.accounts()))
    if unknown:
        raise errors.UnknownAccount(f"There is no account {unknown[0]}", account=unknown[0])
    instrument_id = ids.derived_id("instrument", str(ctx.subject), ctx.idempotency_key)
    await store_desk.insert_instrument(instrument_id, ctx.subject, wish)
    found = await store_desk.read_instruments(ctx.subject)
    return next(one for one in found if one.id == instrument_id)


@query
async def list_instruments(ctx: Ctx) -> tuple[Instrument, ...]:
    """The caller's cards, the newest first; never their keys."""
    assert ctx.subject is not None
    return tuple(await store_desk.read_instruments(ctx.subject))


@command
async def forget_instrument(ctx: Ctx, instrument_id: UUID) -> None:
    """Forget a card of the caller and its keys. Refuses with NotFound."""
    assert ctx.subject is not None
    if not await store_desk.delete_instrument(instrument_id, ctx.subject):
        raise NotFound("There is no such card of yours")
