"""What nothing settles is told to a person once, and is settled by hand or by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from doorbuster.domains.commerce import payment
from doorbuster.domains.commerce.payment import errors, store, store_refunds
from doorbuster.domains.commerce.payment.models import HandSettlement, Matter
from doorbuster.platform import ids
from doorbuster.platform.calls import SYSTEM
from doorbuster.platform.errors import NotFound


@pytest.fixture(autouse=True)
async def _no_faults(sandbox: Any) -> AsyncIterator[None]:
    await sandbox.faults()
    yield
    await sandbox.faults()


async def unknown(sandbox: Any) -> tuple[payment.Charge, str]:
    """A payment whose provider took the money, did not answer, and does not answer questions either; and its charge."""
    wish = payment.Charge(ids.uuid7(), ids.uuid7(), ids.uuid7(), 700, "USD", "tok_timeout_after_capture", "h")
    assert (await payment.charge(SYSTEM, wish)).state == "unknown"
    (taken,) = await sandbox.charges(f"{wish.payment_id}.1")
    await sandbox.faults(inquiry_down=True)
    return wish, taken["id"]


async def asked(wish: payment.Charge, age_s: float = 1_000) -> list[Matter]:
    """The open matters of a payment after the provider was asked about an attempt of this age."""
    await store.DB.write(
        "UPDATE attempt SET next_inquiry_at = now(), created_at = now() - make_interval(secs => $2)"
        " WHERE payment_id = $1 RETURNING number",
        wish.payment_id,
        age_s,
    )
    await payment.resolve(SYSTEM, 100)
    return await of(wish)


async def of(wish: payment.Charge, *, is_open: bool = True) -> list[Matter]:
    found = await payment.list_matters(SYSTEM, is_open, None, 100)
    return [one for one in found if one.payment_id == wish.payment_id]


async def test_a_person_is_told_once_and_the_answer_that_comes_after_all_closes_it(
    sandbox: Any,
) -> None:
    wish, _ = await unknown(sandbox)
    assert await asked(wish, age_s=1) == []
    (first,) = await asked(wish)
    (again,) = await asked(wish)
    assert first.id == again.id
    assert (first.kind, first.number, first.provider, first.code) == ("unknown_outcome", 1, "sandbox", "inquiry_503")
    await sandbox.faults()
    assert await asked(wish) == []
    (closed,) = await of(wish, is_open=False)
    assert closed.closed_by == "the provider's answer"
    found = await payment.find(SYSTEM, wish.payment_id)
    assert found is not None
    assert found.state == "succeeded"


async def test_what_a_person_saw_settles_it_and_money_that_was_taken_after_all_goes_back(
    sandbox: Any,
) -> None:
    wish, _ = await unknown(sandbox)
    (matter,) = await asked(wish)
    seen = HandSettlement("not_executed", "nothing under this reference in their back office")
    closed = await payment.settle_matter(SYSTEM, matter.id, seen)
    assert (closed.closed_at is not None, closed.note) == (True, seen.note)
    found = await payment.find(SYSTEM, wish.payment_id)
    assert found is not None
    assert (found.state, found.code) == ("failed", "settled_by_hand")
    with pytest.raises(errors.MatterSettled):
        await payment.settle_matter(SYSTEM, matter.id, seen)
    with pytest.raises(NotFound):
        await payment.settle_matter(SYSTEM, ids.uuid7(), seen)


async def test_a_charge_that_a_person_has_found_pays_the_order(sandbox: Any) -> None:
    wish, charge_id = await unknown(sandbox)
    (matter,) = await asked(wish)
    await payment.settle_matter(SYSTEM, matter.id, HandSettlement("succeeded", "seen there", charge_id))
    await sandbox.faults()
    found = await payment.give_back(SYSTEM, wish.payment_id, "cancelled")
    assert found.state == "refunded"
    (taken,) = await sandbox.charges(f"{wish.payment_id}.1")
    assert taken["refunded_minor"] == 700


async def refused(sandbox: Any) -> tuple[payment.Charge, Matter]:
    """A payment whose refund the provider refuses, because somebody gave it back there already; and its case."""
    wish = payment.Charge(ids.uuid7(), ids.uuid7(), ids.uuid7(), 700, "USD", "tok_visa", "h")
    await payment.charge(SYSTEM, wish)
    (taken,) = await sandbox.charges(f"{wish.payment_id}.1")
    body = {"charge_id": taken["id"], "amount_minor": 700, "reference": "by-hand"}
    await sandbox.post("/v1/refunds", "by-hand-" + str(wish.payment_id), body)
    assert (await payment.give_back(SYSTEM, wish.payment_id, "cancelled")).state == "refunding"
    (matter,) = await of(wish)
    assert matter.kind == "refund_refused"
    return wish, matter


async def test_a_refund_that_a_person_has_seen_go_back_is_settled_once(sandbox: Any) -> None:
    wish, matter = await refused(sandbox)
    for outcome in ("not_executed", "noted"):
        with pytest.raises(errors.OutcomeDoesNotFit):
            await payment.settle_matter(SYSTEM, matter.id, HandSettlement(outcome, "seen there"))
    closed = await payment.settle_matter(SYSTEM, matter.id, HandSettlement("succeeded", "given back there", "re_1"))
    assert closed.closed_at is not None
    found = await payment.find(SYSTEM, wish.payment_id)
    assert found is not None
    assert (found.state, found.returned_minor) == ("refunded", 700)
    with pytest.raises(errors.MatterSettled):
        await payment.settle_matter(SYSTEM, matter.id, HandSettlement("succeeded", "given back there", "re_1"))
    rows = await store.DB.fetch(
        "SELECT 1 FROM outbox WHERE type = 'MoneyMoved' AND key = $1 AND payload->>'amount_minor' = '-700'",
        str(wish.order_id),
    )
    assert len(rows) == 1


async def sent_again(wish: payment.Charge, age_s: float) -> list[Matter]:
    """The open matters of a payment after its refund, that is so old, was tried again."""
    await store.DB.write(
        "UPDATE refund SET next_try_at = now(), created_at = now() - make_interval(secs => $2)"
        " WHERE payment_id = $1 RETURNING id",
        wish.payment_id,
        age_s,
    )
    await payment.resolve(SYSTEM, 100)
    return await of(wish)


async def test_a_refund_that_nobody_can_say_anything_of_is_told_once_and_closed_by_the_answer(sandbox: Any) -> None:
    wish = payment.Charge(ids.uuid7(), ids.uuid7(), ids.uuid7(), 700, "USD", "tok_visa", "h")
    await payment.charge(SYSTEM, wish)
    await sandbox.faults(reset_after_refund_rate=1.0)
    assert (await payment.give_back(SYSTEM, wish.payment_id, "cancelled")).state == "refunding"
    await sandbox.faults(down=True)
    assert await sent_again(wish, age_s=800) == []
    (first,) = await sent_again(wish, age_s=1_000)
    (again,) = await sent_again(wish, age_s=1_000)
    assert (first.id, first.kind, first.number) == (again.id, "unknown_refund", None)
    with pytest.raises(errors.OutcomeDoesNotFit):
        await payment.settle_matter(SYSTEM, first.id, HandSettlement("not_executed", "not there"))
    await sandbox.faults()
    assert await sent_again(wish, age_s=1_000) == []
    (closed,) = await of(wish, is_open=False)
    assert closed.closed_by == "the provider's answer"
    (taken,) = await sandbox.charges(f"{wish.payment_id}.1")
    assert taken["refunded_minor"] == 700


async def test_what_a_provider_did_by_itself_is_noted_with_what_was_done_about_it() -> None:
    wish = payment.Charge(ids.uuid7(), ids.uuid7(), ids.uuid7(), 700, "USD", "tok_visa", "h")
    await payment.charge(SYSTEM, wish)
    await store_refunds.open_matter(ids.uuid7(), "provider_differs", wish.payment_id, "sandbox", "voided", 1, None)
    (matter,) = await of(wish)
    with pytest.raises(errors.OutcomeDoesNotFit):
        await payment.settle_matter(SYSTEM, matter.id, HandSettlement("succeeded", "no"))
    closed = await payment.settle_matter(SYSTEM, matter.id, HandSettlement("noted", "they undid it: order cancelled"))
    assert (closed.closed_by, closed.note) == ("None", "they undid it: order cancelled")
    assert await of(wish) == []
