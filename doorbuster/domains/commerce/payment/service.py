"""Public verbs of payment: charge once, find, give back, resolve what is open."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID

import asyncpg
import msgspec
import structlog
from prometheus_client import Counter

from doorbuster.domains.commerce.payment import errors, events, rules, store
from doorbuster.domains.commerce.payment.models import Charge, Payment
from doorbuster.engines import event_log, payment_router
from doorbuster.engines.payment_router import ChargeOrder, Outcome, RefundOrder, Result
from doorbuster.platform import ids, settings
from doorbuster.platform.batching import Batcher
from doorbuster.platform.calls import Ctx, command, query
from doorbuster.platform.errors import IdempotencyKeyReused, NotFound, Refusal

_LOG = structlog.get_logger("payment")
_AT_ONCE = 16
_REFUSED_PAUSE_S = 3_600.0
REFUSED = Counter("doorbuster_refunds_refused_total", "Refunds a provider refused: a person should look", ["provider"])


class _Known(msgspec.Struct, frozen=True):
    """What has become known of a payment's attempt."""

    payment_id: UUID
    result: Result


class _Begin(msgspec.Struct, frozen=True):
    """A request to begin a payment. Of all that name the same payment, only the one whose mark it got may send."""

    wish: Charge
    mark: UUID


@command
async def charge(ctx: Ctx, wish: Charge) -> Payment:
    """Take the money, once per payment id, and answer with what is known: never "failed" for a time-out.

    The attempt is committed before the provider is called. The same id again answers with what stands and calls
    nobody. Refuses with PaymentInProgress (naming the live payment) and IdempotencyKeyReused.
    """
    payment, fresh = await _starter().submit(_Begin(wish, ids.uuid7()))
    if not fresh:
        return payment
    order = ChargeOrder(
        provider=payment_router.choose(),
        reference=f"{wish.payment_id}.1",
        idempotency_key=f"{wish.payment_id}.1",
        amount_minor=wish.amount_minor,
        currency=wish.currency,
        instrument=wish.instrument,
    )
    result = await payment_router.charge(order)
    return await _settler().submit(_Known(wish.payment_id, result))


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
    """Refund a captured payment in full, exactly once however often this is called.

    Answers `refunded`, or `refunding` while the provider has not confirmed: the refund is durable and is repeated
    under the same key until it does. A payment that took nothing is answered as it stands. Refuses with NotFound.
    """
    async with store.DB.transaction() as conn:
        payment, attempt = (await store.lock_payments(conn, [payment_id])).get(payment_id, (None, None))
        if payment is None:
            raise NotFound(f"There is no payment {payment_id}")
        if payment.state == "succeeded":
            assert attempt is not None, "a payment succeeded without an attempt"
            refund_id = ids.derived_id("refund", str(payment_id), attempt["provider_id"])
            await store.insert_refund(conn, refund_id, attempt, attempt["provider_id"], reason)
            await store.write_settled(conn, [], [_changed(payment, "refunding", "")])
        elif payment.state != "refunding":
            return payment
    for row in await store.take_refunds_to_send(1, payment_id):
        await _send_refund(row)
    found = await find(ctx, payment_id)
    assert found is not None
    return found


@command
async def resolve(ctx: Ctx, limit: int) -> int:
    """Ask providers about open attempts and repeat unconfirmed refunds; returns how many were taken up."""
    attempts = await store.take_attempts_to_resolve(limit)
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(row: asyncpg.Record) -> None:
        async with gate:
            order = ChargeOrder(
                row["provider"], row["reference"], row["idempotency_key"], row["amount_minor"], row["currency"]
            )
            result = await payment_router.inquire(order, age_s=row["age_s"])
            await _settler().submit(_Known(row["payment_id"], result))

    async def give(row: asyncpg.Record) -> None:
        async with gate:
            await _send_refund(row)

    refunds = await store.take_refunds_to_send(limit)
    # One that fails must not keep the others, or the refunds, from their turn; it is taken up again by its own time.
    work = [one(row) for row in attempts] + [give(row) for row in refunds]
    failed = [error for error in await asyncio.gather(*work, return_exceptions=True) if error is not None]
    if failed:
        raise failed[0]
    return len(attempts) + len(refunds)


async def _send_refund(row: asyncpg.Record) -> None:
    order = RefundOrder(
        provider=row["provider"],
        reference=str(row["payment_id"]),
        # After a refusal a new key: the old one would replay the refusal for ever.
        idempotency_key=str(row["id"]) if row["refusals"] == 0 else f"{row['id']}.{row['refusals']}",
        provider_charge_id=row["provider_id"],
        amount_minor=row["amount_minor"],
        currency=row["currency"],
    )
    result = await payment_router.refund(order)
    if result.outcome is Outcome.SUCCEEDED:
        await _settle_refund(row)
    elif result.outcome is Outcome.NOT_EXECUTED:
        REFUSED.labels(row["provider"]).inc()
        _LOG.error(
            "refund_refused", payment_id=str(row["payment_id"]), refund_id=str(row["id"]), code=result.code,
            what_to_do="look at the charge at the provider; it is asked again every hour until it pays",
        )  # fmt: skip
        await store.refuse_refund(row["id"], row["refusals"], result.code, _REFUSED_PAUSE_S)
    else:
        await store.retry_refund_at_once(row["id"], 2.0)


async def _settle_refund(row: asyncpg.Record) -> None:
    async with store.DB.transaction() as conn:
        payment, _ = (await store.lock_payments(conn, [row["payment_id"]]))[row["payment_id"]]
        await store.settle_refund(conn, row["id"])
        if payment.state == "refunding":
            await store.write_settled(conn, [], [_changed(payment, "refunded", "")], [_fact(payment, "refunded", "")])


_STARTER: Batcher[_Begin, tuple[Payment, bool]] | None = None
_SETTLER: Batcher[_Known, Payment] | None = None


def _starter() -> Batcher[_Begin, tuple[Payment, bool]]:
    global _STARTER
    if _STARTER is None:
        now = settings.current()
        _STARTER = Batcher("payment.start", _start, limit=now.batch_limit, writers=now.batch_writers)
    return _STARTER


def _settler() -> Batcher[_Known, Payment]:
    global _SETTLER
    if _SETTLER is None:
        now = settings.current()
        _SETTLER = Batcher("payment.settle", _settle, limit=now.batch_limit, writers=now.batch_writers)
    return _SETTLER


async def _start(requests: Sequence[_Begin]) -> Sequence[tuple[Payment, bool] | Refusal]:
    """One batch: payment and attempt rows for all that collide with nothing, then an answer for each."""
    first_look_s = settings.current().payment_timeout_s + 2
    # The first of several for the same payment is the one whose mark it gets.
    unique = {request.wish.payment_id: (request.wish, request.mark) for request in reversed(requests)}
    known = await store.start(list(unique.values()), payment_router.choose(), first_look_s)
    live: dict[UUID, Payment] = {}
    if missing := [wish for wish, _ in unique.values() if wish.payment_id not in known]:
        # Stopped by what another transaction committed meanwhile: the same payment, or another of the same order.
        known |= await store.read_started([wish.payment_id for wish in missing])
        live = await store.read_live([wish.order_id for wish in missing])
    return [_begun(request, known.get(request.wish.payment_id), live) for request in requests]


def _begun(
    request: _Begin, found: tuple[Payment, UUID | None] | None, live: dict[UUID, Payment]
) -> tuple[Payment, bool] | Refusal:
    if found is None:
        other = live.get(request.wish.order_id)
        detail = "Wait for it, or ask for the order; it says how the payment ended"
        return errors.PaymentInProgress(detail, payment_id=other.payment_id if other else None)
    payment, mark = found
    if payment.request_hash not in (request.wish.request_hash, rules.ABANDONED):
        return IdempotencyKeyReused()
    return payment, mark == request.mark


async def _settle(known: Sequence[_Known]) -> Sequence[Payment | Refusal]:
    """One batch: what became known, by the tables in rules; facts for payments that are settled by it."""
    payment_ids = list({one.payment_id for one in known})
    async with store.DB.transaction() as conn:
        locked = await store.lock_payments(conn, payment_ids)
        payments = {key: payment for key, (payment, _) in locked.items()}
        attempts = {key: attempt for key, (_, attempt) in locked.items() if attempt is not None}
        states = {key: row["state"] for key, row in attempts.items()}
        attempt_rows: dict[UUID, dict[str, object]] = {}
        payment_rows: dict[UUID, dict[str, object]] = {}
        facts: list[event_log.Fact] = []
        for one in known:
            row, payment = attempts[one.payment_id], payments[one.payment_id]
            state = rules.ATTEMPT_NEXT.get((states[one.payment_id], one.result.outcome))
            if state is None or state == states[one.payment_id]:
                continue
            states[one.payment_id] = state
            attempt_rows[one.payment_id] = {
                "payment_id": one.payment_id, "number": row["number"], "state": state,
                "provider_id": one.result.provider_id, "code": one.result.code,
            }  # fmt: skip
            if state == "late_success":
                refund_id = ids.derived_id("refund", str(one.payment_id), one.result.provider_id)
                await store.insert_refund(conn, refund_id, row, one.result.provider_id, "late_success")
                continue
            after = rules.PAYMENT_AFTER[state]
            if after != payment.state:
                changed = msgspec.structs.replace(
                    payment, state=after, code=one.result.code, version=payment.version + 1
                )
                payments[one.payment_id] = changed
                payment_rows[one.payment_id] = {
                    "id": changed.payment_id, "state": after, "code": changed.code, "version": changed.version,
                }  # fmt: skip
                if changed.is_settled:
                    facts.append(_fact(changed, after, changed.code))
        if attempt_rows:
            await store.write_settled(conn, list(attempt_rows.values()), list(payment_rows.values()), facts)
    return [payments[one.payment_id] for one in known]


def _changed(payment: Payment, state: str, code: str) -> dict[str, object]:
    return {"id": payment.payment_id, "state": state, "code": code, "version": payment.version + 1}


def _fact(payment: Payment, state: str, code: str) -> event_log.Fact:
    settled = events.PaymentSettled(
        payment_id=payment.payment_id,
        order_id=payment.order_id,
        state=state,  # type: ignore[arg-type]  # the tables' values are states
        amount_minor=payment.amount_minor,
        currency=payment.currency,
        code=code,
    )
    return events.payment_settled(settled, payment.version)
