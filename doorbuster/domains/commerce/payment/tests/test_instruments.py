"""A card that is kept with us goes to the accounts that know it, under the key that each knows it by."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest

from doorbuster.domains.commerce import payment
from doorbuster.domains.commerce.payment import errors
from doorbuster.domains.commerce.payment.models import Instrument, InstrumentWish, KeyAtAccount
from doorbuster.platform import ids
from doorbuster.platform.calls import SYSTEM, Ctx
from doorbuster.platform.errors import NotFound


@pytest.fixture(autouse=True)
async def _no_faults(sandbox: Any) -> None:
    await sandbox.faults()


def somebody(key: str = "") -> Ctx:
    return msgspec.structs.replace(
        SYSTEM, subject=ids.uuid7(), roles=frozenset({"shopper"}), idempotency_key=key or uuid4().hex
    )


async def kept(ctx: Ctx, key: str = "tok_visa") -> Instrument:
    return await payment.keep_instrument(ctx, InstrumentWish("my card", {"sandbox": KeyAtAccount(key)}))


def with_card(instrument: str, customer_id: UUID | None) -> payment.Charge:
    return payment.Charge(ids.uuid7(), ids.uuid7(), customer_id or ids.uuid7(), 700, "USD", instrument, "h")


async def test_a_kept_card_pays_under_the_key_that_its_account_knows(sandbox: Any) -> None:
    ctx = somebody()
    card = await kept(ctx)
    wish = with_card(str(card.id), ctx.subject)
    assert (await payment.charge(SYSTEM, wish)).state == "succeeded"
    (taken,) = await sandbox.charges(f"{wish.payment_id}.1")
    assert taken["amount_minor"] == 700
    assert "tok_visa" not in repr(card)


async def test_nobody_pays_with_anothers_card() -> None:
    card = await kept(somebody())
    wish = with_card(str(card.id), ids.uuid7())
    found = await payment.charge(SYSTEM, wish)
    assert (found.state, found.code) == ("failed", "unknown_instrument")


async def test_a_forgotten_card_pays_nothing_and_is_anothers_to_forget_never() -> None:
    ctx = somebody()
    card = await kept(ctx)
    with pytest.raises(NotFound):
        await payment.forget_instrument(somebody(), card.id)
    await payment.forget_instrument(ctx, card.id)
    assert await payment.list_instruments(ctx) == ()
    found = await payment.charge(SYSTEM, with_card(str(card.id), ctx.subject))
    assert (found.state, found.code) == ("failed", "unknown_instrument")


async def test_one_key_keeps_one_card_and_only_at_accounts_that_there_are() -> None:
    ctx = somebody()
    assert (await kept(ctx)).id == (await kept(ctx)).id
    assert len(await payment.list_instruments(ctx)) == 1
    with pytest.raises(errors.UnknownAccount):
        await payment.keep_instrument(ctx, InstrumentWish("my card", {"nobody": KeyAtAccount("tok_visa")}))


async def test_a_token_that_no_provider_would_know_is_sent_to_nobody(sandbox: Any) -> None:
    wish = with_card("seti_whatever", None)
    found = await payment.charge(SYSTEM, wish)
    assert (found.state, found.code) == ("failed", "unknown_instrument")
    assert await sandbox.charges(f"{wish.payment_id}.1") == []
