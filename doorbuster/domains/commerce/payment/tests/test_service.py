"""Payment's verbs against the real provider: the money moves once."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import msgspec
import pytest

from doorbuster.domains.commerce import payment
from doorbuster.domains.commerce.payment import refunding, settling, store
from doorbuster.engines import payment_router
from doorbuster.engines.embedded import PostgresServer
from doorbuster.engines.payment_router import Outcome, PaymentFacts, Result
from doorbuster.engines.payment_router.routing import Decision
from doorbuster.platform import ids
from doorbuster.platform.calls import SYSTEM
from doorbuster.platform.errors import IdempotencyKeyReused, NotFound, Unavailable


@pytest.fixture(autouse=True)
async def _no_faults(sandbox: Any) -> None:
    await sandbox.faults()


def charge(card: str = "tok_visa") -> payment.Charge:
    return payment.Charge(ids.uuid7(), ids.uuid7(), ids.uuid7(), 700, "USD", card, "h")


async def test_one_id_at_once_is_charged_once(sandbox: Any) -> None:
    wish = charge()
    answers = await asyncio.gather(*(payment.charge(SYSTEM, wish) for _ in range(10)))
    assert {answer.state for answer in answers} <= {"succeeded", "processing"}
    assert (await payment.charge(SYSTEM, wish)).state == "succeeded"
    assert len(await sandbox.charges(f"{wish.payment_id}.1")) == 1


async def test_another_content_under_one_id_is_refused_and_its_neighbour_goes_on(sandbox: Any) -> None:
    wish = charge()
    answers = await asyncio.gather(
        payment.charge(SYSTEM, wish), payment.charge(SYSTEM, msgspec.structs.replace(wish, request_hash="other")),
        payment.charge(SYSTEM, charge()), return_exceptions=True,
    )  # fmt: skip
    assert [type(answer) for answer in answers] == [payment.Payment, IdempotencyKeyReused, payment.Payment]
    (taken,) = await sandbox.charges(f"{wish.payment_id}.1")
    assert taken["status"] == "captured"


async def test_an_order_has_one_live_payment(sandbox: Any) -> None:
    first = charge()
    second = msgspec.structs.replace(first, payment_id=ids.uuid7())
    answers = await asyncio.gather(
        payment.charge(SYSTEM, first), payment.charge(SYSTEM, second), return_exceptions=True
    )
    refused = [answer for answer in answers if isinstance(answer, payment.PaymentInProgress)]
    assert len(refused) == 1
    assert refused[0].members["payment_id"] in (first.payment_id, second.payment_id)
    declined = charge("tok_declined")
    assert (await payment.charge(SYSTEM, declined)).state == "declined"
    another = msgspec.structs.replace(declined, payment_id=ids.uuid7(), instrument="tok_visa")
    assert (await payment.charge(SYSTEM, another)).state == "succeeded"


async def test_an_abandoned_payment_takes_no_money_whoever_comes_late(sandbox: Any) -> None:
    wish = charge()
    assert (await payment.abandon(SYSTEM, wish)).state == "failed"
    late = await payment.charge(SYSTEM, wish)
    assert (late.state, late.code) == ("failed", "never_started")
    assert await sandbox.charges(f"{wish.payment_id}.1") == []
    begun = charge()
    await payment.charge(SYSTEM, begun)
    assert (await payment.abandon(SYSTEM, begun)).state == "succeeded"


async def test_money_goes_back_once_however_often_it_is_asked(sandbox: Any) -> None:
    wish = charge()
    await payment.charge(SYSTEM, wish)
    answers = await asyncio.gather(*(payment.give_back(SYSTEM, wish.payment_id, "test") for _ in range(5)))
    assert {answer.state for answer in answers} <= {"refunding", "refunded"}
    assert (await payment.give_back(SYSTEM, wish.payment_id, "test")).state == "refunded"
    (taken,) = await sandbox.charges(f"{wish.payment_id}.1")
    assert taken["refunded_minor"] == 700
    with pytest.raises(NotFound):
        await payment.give_back(SYSTEM, ids.uuid7(), "test")


async def test_what_took_nothing_has_nothing_to_give_back() -> None:
    wish = charge("tok_declined")
    await payment.charge(SYSTEM, wish)
    assert (await payment.give_back(SYSTEM, wish.payment_id, "test")).state == "declined"


async def test_a_late_success_of_a_payment_that_failed_is_refunded(sandbox: Any, postgres: PostgresServer) -> None:
    wish = charge("tok_timeout_after_capture")
    assert (await payment.charge(SYSTEM, wish)).state == "unknown"
    (taken,) = await sandbox.charges(f"{wish.payment_id}.1")
    settler = settling.settler()
    failed, _ = await settler.submit(settling.Known(wish.payment_id, 1, Result(Outcome.NOT_EXECUTED, code="not_found")))
    assert failed.state == "failed"
    for _ in range(2):
        await settler.submit(settling.Known(wish.payment_id, 1, Result(Outcome.SUCCEEDED, taken["id"])))
    for _ in range(3):
        await payment.resolve(SYSTEM, 100)
    (taken,) = await sandbox.charges(f"{wish.payment_id}.1")
    assert taken["refunded_minor"] == 700
    found = await payment.find(SYSTEM, wish.payment_id)
    assert found is not None and found.state == "failed"


async def test_one_attempt_that_can_not_be_asked_about_does_not_keep_refunds_back(
    sandbox: Any, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown, cancelled = charge("tok_timeout_after_capture"), charge()
    await asyncio.gather(payment.charge(SYSTEM, unknown), payment.charge(SYSTEM, cancelled))
    await sandbox.faults(reset_after_refund_rate=1.0)
    assert (await payment.give_back(SYSTEM, cancelled.payment_id, "test")).state == "refunding"
    await sandbox.faults()
    connection = await asyncpg.connect(postgres.dsn(database="doorbuster"))
    await connection.execute(
        "UPDATE payment.attempt SET next_inquiry_at = now() WHERE payment_id = $1", unknown.payment_id
    )
    await connection.execute(
        "UPDATE payment.refund SET next_try_at = now() WHERE payment_id = $1", cancelled.payment_id
    )
    await connection.close()

    async def broken(*_: Any, **__: Any) -> Result:
        raise Unavailable("somewhere")

    with monkeypatch.context() as patch:
        patch.setattr(payment_router, "inquire", broken)
        with pytest.raises(Unavailable):
            await payment.resolve(SYSTEM, 1_000)
    found = await payment.find(SYSTEM, cancelled.payment_id)
    assert found is not None and found.state == "refunded"


async def test_a_payment_that_never_began_is_not_found() -> None:
    assert await payment.find(SYSTEM, ids.uuid7()) is None


async def test_a_refund_that_the_provider_refuses_is_asked_for_again_under_a_new_key(sandbox: Any) -> None:
    wish = charge()
    await payment.charge(SYSTEM, wish)
    (taken,) = await sandbox.charges(f"{wish.payment_id}.1")
    headers = {"authorization": f"Bearer {sandbox.secret}", "idempotency-key": "by-hand"}
    body = {"charge_id": taken["id"], "amount_minor": 700, "reference": "by-hand"}
    async with httpx.AsyncClient() as client:
        assert (await client.post(f"{sandbox.url}/v1/refunds", json=body, headers=headers)).status_code == 200
    refused = refunding.REFUSED.labels("sandbox")._value.get()
    for tries in (1, 2):
        assert (await payment.give_back(SYSTEM, wish.payment_id, "test")).state == "refunding"
        assert refunding.REFUSED.labels("sandbox")._value.get() == refused + tries
        row = await store.DB.fetchrow(
            "SELECT state, refusals, code, next_try_at > now() + interval '55 minutes' FROM refund"
            " WHERE payment_id = $1",
            wish.payment_id,
        )
        assert row is not None
        assert tuple(row) == ("sending", tries, "refund_exceeds_capture", True)
        await store.DB.write("UPDATE refund SET next_try_at = now() WHERE payment_id = $1", wish.payment_id)
    await store.DB.write("UPDATE refund SET next_try_at = 'infinity' WHERE payment_id = $1", wish.payment_id)


async def test_payments_of_the_same_orders_begun_crosswise_at_once_do_not_deadlock(sandbox: Any) -> None:
    for _ in range(30):
        orders = sorted(ids.uuid7() for _ in range(8))
        rising, falling = (sorted(ids.uuid7() for _ in orders) for _ in range(2))

        def wishes(payments: list[UUID], of: list[UUID]) -> list[tuple[payment.Charge, UUID, Decision, bool]]:
            one = charge()
            decision = Decision(PaymentFacts(one.payment_id, "card", "USD", 700), 0, "otherwise", (), {}, "sandbox")
            return [
                (msgspec.structs.replace(one, payment_id=key, order_id=order_id), ids.uuid7(), decision, True)
                for key, order_id in zip(payments, of, strict=True)
            ]

        first, second = await asyncio.gather(
            store.start(wishes(rising, orders), 60),
            store.start(wishes(falling, orders[::-1]), 60),
        )
        assert len(first) + len(second) == len(orders), "each order has one live payment"
