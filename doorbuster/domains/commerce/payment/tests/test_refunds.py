"""Money back in parts: never more than was taken, whoever asks at once, and through the provider that took it."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import asyncpg
import msgspec
import pytest

from doorbuster.domains.commerce import payment
from doorbuster.domains.commerce.payment import errors, refunding, store
from doorbuster.domains.commerce.payment.models import RefundWish
from doorbuster.platform import ids
from doorbuster.platform.calls import SYSTEM, Ctx
from doorbuster.platform.errors import IdempotencyKeyReused, NotFound, Refusal


@pytest.fixture(autouse=True)
async def _no_faults(sandbox: Any) -> None:
    await sandbox.faults()


async def paid(amount_minor: int = 700) -> payment.Charge:
    wish = payment.Charge(ids.uuid7(), ids.uuid7(), ids.uuid7(), amount_minor, "USD", "tok_visa", "h")
    assert (await payment.charge(SYSTEM, wish)).state == "succeeded"
    return wish


def keyed(key: str = "") -> Ctx:
    return msgspec.structs.replace(SYSTEM, idempotency_key=key or uuid4().hex)


async def given_back(sandbox: Any, wish: payment.Charge) -> int:
    (taken,) = await sandbox.charges(f"{wish.payment_id}.1")
    return int(taken["refunded_minor"])


async def until_all_is_sent(wish: payment.Charge) -> payment.Payment:
    async with asyncio.timeout(15):
        while True:
            found = await payment.find(SYSTEM, wish.payment_id)
            assert found is not None
            if found.returned_minor == found.returning_minor:
                return found
            await store.DB.write(
                "UPDATE refund SET next_try_at = now() WHERE payment_id = $1 AND state = 'sending' RETURNING id",
                wish.payment_id,
            )
            await payment.resolve(SYSTEM, 100)


async def test_parts_go_back_until_nothing_is_left(sandbox: Any) -> None:
    wish = await paid()
    first = await payment.refund(keyed(), wish.payment_id, RefundWish(200, "one was broken"))
    assert (first.state, first.amount_minor, first.reason) == ("succeeded", 200, "one was broken")
    found = await payment.find(SYSTEM, wish.payment_id)
    assert found is not None
    assert (found.state, found.returned_minor) == ("succeeded", 200)
    with pytest.raises(errors.RefundTooLarge) as refused:
        await payment.refund(keyed(), wish.payment_id, RefundWish(501))
    assert refused.value.members["left_minor"] == 500
    rest = await payment.refund(keyed(), wish.payment_id, RefundWish())
    assert (rest.state, rest.amount_minor) == ("succeeded", 500)
    found = await payment.find(SYSTEM, wish.payment_id)
    assert found is not None
    assert (found.state, found.returned_minor, await given_back(sandbox, wish)) == ("refunded", 700, 700)
    with pytest.raises(errors.RefundTooLarge):
        await payment.refund(keyed(), wish.payment_id, RefundWish(1))


async def test_a_hundred_at_once_never_exceed_what_was_taken_even_at_a_provider_that_would_pay(sandbox: Any) -> None:
    wish = await paid(1_000)
    asked = [payment.refund(keyed(), wish.payment_id, RefundWish(30)) for _ in range(100)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    granted = [one for one in answers if isinstance(one, payment.Refund)]
    refused = [one for one in answers if isinstance(one, errors.RefundTooLarge)]
    assert (len(granted), len(refused)) == (33, 67), [one for one in answers if not isinstance(one, Refusal)][:2]
    found = await until_all_is_sent(wish)
    assert (found.state, found.returned_minor, await given_back(sandbox, wish)) == ("succeeded", 990, 990)


async def test_the_table_itself_refuses_more_than_was_taken() -> None:
    wish = await paid()
    with pytest.raises(asyncpg.CheckViolationError, match="refunds_within_capture"):
        await store.DB.write("UPDATE payment SET returning_minor = 701 WHERE id = $1 RETURNING id", wish.payment_id)


async def test_one_key_gives_back_once_and_means_one_thing(sandbox: Any) -> None:
    wish, key = await paid(), uuid4().hex
    asked = [payment.refund(keyed(key), wish.payment_id, RefundWish(200, "twice")) for _ in range(20)]
    answers = await asyncio.gather(*asked)
    assert len({one.id for one in answers}) == 1
    await until_all_is_sent(wish)
    assert await given_back(sandbox, wish) == 200
    with pytest.raises(IdempotencyKeyReused):
        await payment.refund(keyed(key), wish.payment_id, RefundWish(300, "twice"))


async def test_what_was_not_taken_does_not_go_back() -> None:
    declined = payment.Charge(ids.uuid7(), ids.uuid7(), ids.uuid7(), 700, "USD", "tok_declined", "h")
    await payment.charge(SYSTEM, declined)
    with pytest.raises(payment.NotCaptured):
        await payment.refund(keyed(), declined.payment_id, RefundWish(1))
    with pytest.raises(NotFound):
        await payment.refund(keyed(), ids.uuid7(), RefundWish(1))


async def test_a_part_and_then_all_of_the_rest(sandbox: Any) -> None:
    wish = await paid()
    await payment.refund(keyed(), wish.payment_id, RefundWish(1))
    for _ in range(2):
        assert (await payment.give_back(SYSTEM, wish.payment_id, "cancelled")).state == "refunded"
    assert await given_back(sandbox, wish) == 700


async def test_who_asked_sends_before_the_sweeper_and_the_sweeper_sends_for_who_was_killed(sandbox: Any) -> None:
    asked, left = await paid(), await paid()
    for wish in (asked, left):
        assert await refunding.owe_all(wish.payment_id, "cancelled")
    await payment.resolve(SYSTEM, 100)
    assert await given_back(sandbox, asked) == 0, "whoever asked could not answer that it is done"
    await refunding.send_of(asked.payment_id)
    found = await payment.find(SYSTEM, asked.payment_id)
    assert found is not None and found.state == "refunded"

    async with asyncio.timeout(15):
        while await given_back(sandbox, left) == 0:
            await payment.resolve(SYSTEM, 100)
            await asyncio.sleep(0.1)


async def test_an_answer_that_was_lost_is_asked_for_again_and_pays_once(sandbox: Any) -> None:
    wish = await paid()
    await sandbox.faults(reset_after_refund_rate=1.0)
    lost = await payment.refund(keyed(), wish.payment_id, RefundWish(300))
    assert lost.state == "sending"
    await sandbox.faults()
    assert (await until_all_is_sent(wish)).returned_minor == 300
    assert await given_back(sandbox, wish) == 300
