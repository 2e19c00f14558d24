"""Each movement of money is told once, with what a provider's settlement rows are matched by."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
import pytest

from doorbuster.domains.commerce import payment
from doorbuster.domains.commerce.payment import settling, store
from doorbuster.engines.payment_router import Outcome, Result
from doorbuster.platform import ids
from doorbuster.platform.calls import SYSTEM


@pytest.fixture(autouse=True)
async def _no_faults(sandbox: Any) -> None:
    await sandbox.faults()


async def told(order_id: UUID) -> list[payment.MoneyMoved]:
    query = "SELECT payload FROM outbox WHERE key = $1 AND type = 'MoneyMoved' ORDER BY seq"
    rows = await store.DB.fetch(query, str(order_id))
    return [msgspec.json.decode(row["payload"], type=payment.MoneyMoved) for row in rows]


def charge(card: str = "tok_visa") -> payment.Charge:
    return payment.Charge(ids.uuid7(), ids.uuid7(), ids.uuid7(), 700, "USD", card, "h")


async def test_what_came_in_and_went_back_adds_up_to_nothing(sandbox: Any) -> None:
    wish = charge()
    await payment.charge(SYSTEM, wish)
    for _ in range(3):
        await payment.give_back(SYSTEM, wish.payment_id, "changed my mind")
    (taken,) = await sandbox.charges(f"{wish.payment_id}.1")
    came, went = await told(wish.order_id)
    assert (came.amount_minor, came.reason, came.reference) == (700, "paid", f"{wish.payment_id}.1")
    assert (went.amount_minor, went.reason) == (-700, "changed my mind")
    assert came.provider_id == went.provider_id == taken["id"]
    assert {came.provider, went.provider} == {"sandbox"}
    assert went.transaction_id.startswith("re_")


async def test_a_decline_moves_nothing() -> None:
    wish = charge("tok_declined")
    await payment.charge(SYSTEM, wish)
    assert await told(wish.order_id) == []


async def test_money_that_came_late_is_told_and_so_is_its_way_back() -> None:
    wish = charge("tok_declined")
    await payment.charge(SYSTEM, wish)
    late = settling.Known(wish.payment_id, 1, Result(Outcome.SUCCEEDED, "ch_late"))
    for _ in range(2):
        await settling.settler().submit(late)
    (came,) = await told(wish.order_id)
    assert (came.amount_minor, came.reason, came.provider_id) == (700, "late_success", "ch_late")
