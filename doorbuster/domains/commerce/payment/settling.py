"""How payments begin and what becomes of their attempts: batches, each one transaction.

A payment and its first attempt stand before anything is sent; what is known of an attempt, the next one and the facts
are one commit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

import asyncpg
import msgspec

from doorbuster.domains.commerce.payment import errors, events, rules, store, store_refunds, store_sessions
from doorbuster.domains.commerce.payment.models import Charge, KeyAtAccount, Payment
from doorbuster.engines import event_log
from doorbuster.engines.payment_router import WAITING_FOR_DEPOSIT, Deposit, Outcome, Result
from doorbuster.engines.payment_router.routing import Decision
from doorbuster.platform import db, ids, settings
from doorbuster.platform.batching import Batcher, cause_of
from doorbuster.platform.errors import IdempotencyKeyReused, Refusal


class Known(msgspec.Struct, frozen=True):
    """What has become known of an attempt of a payment, and where it is tried next if that took nothing for certain."""

    payment_id: UUID
    number: int
    result: Result
    then: Decision | None = None
    repeat_with: KeyAtAccount | None = None
    """With what the same charge may be sent again if its outcome is unknown."""


class Begin(msgspec.Struct, frozen=True):
    """A request to begin a payment. Of all that name the same payment, only the one whose mark it got may send."""

    wish: Charge
    mark: UUID
    decision: Decision
    is_known: bool = True
    """Whether any account knows the instrument at all."""


_STARTER: Batcher[Begin, tuple[Payment, bool]] | None = None
_SETTLER: Batcher[Known, tuple[Payment, bool]] | None = None


def starter() -> Batcher[Begin, tuple[Payment, bool]]:
    global _STARTER
    if _STARTER is None:
        now = settings.current()
        _STARTER = Batcher("payment.start", _start, limit=now.batch_limit, writers=now.batch_writers)
    return _STARTER


def settler() -> Batcher[Known, tuple[Payment, bool]]:
    global _SETTLER
    if _SETTLER is None:
        now = settings.current()
        _SETTLER = Batcher("payment.settle", _settle, limit=now.batch_limit, writers=now.batch_writers)
    return _SETTLER


async def _start(requests: Sequence[Begin]) -> Sequence[tuple[Payment, bool] | Refusal]:
    """One batch: payment and attempt rows for all that collide with nothing, then an answer for each."""
    # The first of several for the same payment is the one whose mark it gets.
    unique = {
        request.wish.payment_id: (request.wish, request.mark, request.decision, request.is_known)
        for request in reversed(requests)
    }
    known = await store.start(list(unique.values()), first_look_s())
    live: dict[UUID, Payment] = {}
    if missing := [wish for wish, *_ in unique.values() if wish.payment_id not in known]:
        # Stopped by what another transaction committed meanwhile: the same payment, or another of the same order.
        known |= await store.read_started([wish.payment_id for wish in missing])
        live = await store.read_live([wish.order_id for wish in missing])
    return [_begun(request, known.get(request.wish.payment_id), live) for request in requests]


def _begun(
    request: Begin, found: tuple[Payment, UUID | None] | None, live: dict[UUID, Payment]
) -> tuple[Payment, bool] | Refusal:
    if found is None:
        other = live.get(request.wish.order_id)
        detail = "Wait for it, or ask for the order; it says how the payment ended"
        return errors.PaymentInProgress(detail, payment_id=other.payment_id if other else None)
    payment, mark = found
    if payment.request_hash not in (request.wish.request_hash, rules.ABANDONED):
        return IdempotencyKeyReused()
    return payment, mark == request.mark


def first_look_s() -> float:
    """When the sweeper first asks about an attempt: after its own request must have given up."""
    return settings.current().payment_timeout_s + 2


class _Batch:
    """Guards what one batch of news changes, while its payments are locked."""

    def __init__(self, locked: Mapping[UUID, tuple[Payment, asyncpg.Record | None]]) -> None:
        self.payments = {key: payment for key, (payment, _) in locked.items()}
        self.attempts = {key: attempt for key, (_, attempt) in locked.items() if attempt is not None}
        self.attempt_rows: dict[UUID, dict[str, object]] = {}
        self.payment_rows: dict[UUID, dict[str, object]] = {}
        self.begun: dict[UUID, dict[str, object]] = {}
        self.deposits: dict[UUID, Deposit] = {}
        self.facts: list[event_log.Fact] = []
        self.moved: list[event_log.Fact] = []
        self._states = {key: row["state"] for key, row in self.attempts.items()}

    def learn(self, one: Known) -> bool:
        """Take in what is known of a payment's last attempt, by the tables in rules. True: it was given up, and took
        money after all."""
        key, row, payment = one.payment_id, self.attempts[one.payment_id], self.payments[one.payment_id]
        state = rules.ATTEMPT_NEXT.get((self._states[key], one.result.outcome))
        if state is None and self._went_back(one, row, payment):
            state = "pending"
            self.moved.append(_money_back(payment, row, one))
        if state is None or state == self._states[key]:
            return False
        self._states[key] = state
        self.attempt_rows[key] = _attempt_row(one, state)
        if state in ("succeeded", "late_success"):
            self.moved.append(_money_in(payment, row, one, "paid" if state == "succeeded" else state))
        if one.result.deposit is not None:
            self.deposits[key] = one.result.deposit
        if state == "late_success":
            return True
        if one.then is not None and payment.state in ("processing", "waiting") and state in rules.TOOK_NOTHING:
            # In one commit with the end of this attempt: a payment without an attempt under way would be nobody's.
            self.begun[key] = {
                "payment_id": key, "number": row["number"] + 1, "provider": one.then.chosen,
                "amount_minor": payment.amount_minor, "currency": payment.currency, "decision": one.then,
                "method": row["method"],
            }  # fmt: skip
            return False
        after = rules.payment_after(state, one.result.code)
        if after != payment.state:
            changed = msgspec.structs.replace(payment, state=after, code=one.result.code, version=payment.version + 1)
            self.payments[key] = changed
            self.payment_rows[key] = {
                "id": key, "state": after, "code": changed.code, "version": changed.version,
            }  # fmt: skip
            if payment.is_settled:
                reopened = events.PaymentReopened(key, payment.order_id)
                self.facts.append(events.payment_reopened(reopened, changed.version, cause_of(one)))
            elif changed.is_settled:
                self.facts.append(fact_of(changed, after, changed.code, cause_of(one)))
        return False

    def _went_back(self, one: Known, row: asyncpg.Record, payment: Payment) -> bool:
        """Whether the bank took a transfer back: it is awaited again. What we are giving back is another matter."""
        back = one.result.outcome is Outcome.PENDING and one.result.code == WAITING_FOR_DEPOSIT
        paid = self._states[one.payment_id] == "succeeded" and payment.state == "succeeded"
        return back and paid and payment.returning_minor == 0 and row["method"] == "virtual_account"


def _attempt_row(one: Known, state: str) -> dict[str, object]:
    return {
        "payment_id": one.payment_id, "number": one.number, "state": state,
        "provider_id": one.result.provider_id, "code": one.result.code,
        "repeat_with": one.repeat_with if state == "unknown" else None,
    }  # fmt: skip


async def _settle(known: Sequence[Known]) -> Sequence[tuple[Payment, bool] | Refusal]:
    """One batch: what became known, and facts for payments that are settled by it. Answers with each payment, and
    whether its next attempt stands and is to be sent."""
    payment_ids = list({one.payment_id for one in known})
    async with store.DB.transaction() as conn:
        batch = _Batch(await store.lock_payments(conn, payment_ids))
        for one in known:
            row = batch.attempts[one.payment_id]
            if one.number < row["number"]:
                await _settle_earlier(conn, batch.payments[one.payment_id], one)
            elif batch.learn(one):
                await _owe_late_success(conn, one, row)
        if batch.attempt_rows:
            attempts, payments = list(batch.attempt_rows.values()), list(batch.payment_rows.values())
            await store.write_settled(conn, attempts, payments, batch.facts + batch.moved)
        if batch.deposits:
            await store_sessions.keep_deposits(conn, batch.deposits)
        if batch.begun:
            await store.insert_attempts(conn, list(batch.begun.values()), first_look_s())
    return [
        (batch.payments[one.payment_id], _goes_on(one, batch.attempts[one.payment_id], batch.begun)) for one in known
    ]


async def _owe_late_success(conn: db.Conn, one: Known, row: asyncpg.Record) -> None:
    refund_id = ids.derived_id("refund", str(one.payment_id), one.result.provider_id)
    await store_refunds.insert_refund(
        conn, refund_id, row, one.result.provider_id, row["amount_minor"], "late_success", is_late=True
    )


def _goes_on(one: Known, row: asyncpg.Record, begun: Mapping[UUID, object]) -> bool:
    """Whether the attempt after this one stands: begun just now, or before, in a commit whose answer was lost."""
    if one.then is None:
        return False
    found = row["number"] == one.number + 1 and row["provider"] == one.then.chosen and row["state"] == "sending"
    return one.payment_id in begun or bool(found)


async def _settle_earlier(conn: db.Conn, payment: Payment, one: Known) -> None:
    """News of an attempt that was left for another one: it can only be money that came after all, and goes back."""
    if one.result.outcome is not Outcome.SUCCEEDED:
        return
    row = await store.read_attempt(conn, one.payment_id, one.number)
    if rules.ATTEMPT_NEXT.get((row["state"], one.result.outcome)) == "late_success":
        await store.write_settled(
            conn, [_attempt_row(one, "late_success")], [], [_money_in(payment, row, one, "late_success")]
        )
        await _owe_late_success(conn, one, row)


def _money_in(payment: Payment, attempt: asyncpg.Record, one: Known, reason: str) -> event_log.Fact:
    """The fact that an attempt took money."""
    # The bank may take a transfer back, and the buyer make it anew: then the same attempt takes money twice.
    again = [str(payment.version)] if attempt["method"] == "virtual_account" else []
    moved = events.MoneyMoved(
        ids.derived_id("capture", attempt["reference"], one.result.provider_id, *again), payment.payment_id,
        payment.order_id, attempt["provider"], one.result.provider_id, "", attempt["reference"], payment.amount_minor,
        payment.currency, reason,
    )  # fmt: skip
    return events.money_moved(moved, payment.version, cause_of(one))


def _money_back(payment: Payment, attempt: asyncpg.Record, one: Known) -> event_log.Fact:
    """The fact that the bank took back what an attempt had taken."""
    moved = events.MoneyMoved(
        ids.derived_id("went_back", attempt["reference"], str(payment.version)), payment.payment_id, payment.order_id,
        attempt["provider"], attempt["provider_id"], "", attempt["reference"], -payment.amount_minor, payment.currency,
        "went_back",
    )  # fmt: skip
    return events.money_moved(moved, payment.version, cause_of(one))


def fact_of(payment: Payment, state: str, code: str, traceparent: str) -> event_log.Fact:
    settled = events.PaymentSettled(
        payment_id=payment.payment_id,
        order_id=payment.order_id,
        state=state,  # type: ignore[arg-type]  # the tables' values are states
        amount_minor=payment.amount_minor,
        currency=payment.currency,
        code=code,
    )
    return events.payment_settled(settled, payment.version, traceparent)
