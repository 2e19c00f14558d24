"""Money back at Toss, NICEPAY and Stripe: each refund exactly once, and never more than was taken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import msgspec
import pytest

from doorbuster.domains.commerce import payment
from doorbuster.domains.commerce.payment import errors, store
from doorbuster.domains.commerce.payment.models import RefundWish
from doorbuster.domains.commerce.payment.tests import psps, times
from doorbuster.domains.commerce.payment.tests.psps import AMOUNT, KINDS, Accounts, Psp
from doorbuster.engines import payment_router
from doorbuster.platform.calls import SYSTEM, Ctx
from doorbuster.platform.settings import Settings


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Psp]]:
    with psps.running(KINDS, tmp_path_factory.mktemp("psps")) as found:
        yield found


@pytest.fixture(params=KINDS)
async def accounts(request: pytest.FixtureRequest, shop: Settings, processes: list[Psp]) -> AsyncIterator[Accounts]:
    """The shop with all three, each asked first in its turn."""
    async with psps.shop_with(shop, psps.renamed(processes, request.param)) as found:
        yield found


def keyed() -> Ctx:
    return msgspec.structs.replace(SYSTEM, idempotency_key=uuid4().hex)


async def paid(accounts: Accounts) -> tuple[payment.Charge, str]:
    """A payment at the first account, and its id there."""
    wish = await accounts.wish()
    assert (await payment.charge(SYSTEM, wish)).state == "succeeded"
    return wish, await psps.provider_id_of(wish)


async def transaction_ids(wish: payment.Charge) -> list[tuple[str, int]]:
    """By what we know what has gone back, in order; it is what a settlement row names."""
    rows = await store.DB.fetch(
        "SELECT transaction_id, amount_minor FROM refund WHERE payment_id = $1 AND state = 'succeeded'"
        " ORDER BY settled_at", wish.payment_id,
    )  # fmt: skip
    return [(row[0], row[1]) for row in rows]


async def is_open(wish: payment.Charge) -> bool:
    """Whether a try of its only refund may have reached the provider."""
    row = await store.DB.fetchrow("SELECT is_open FROM refund WHERE payment_id = $1", wish.payment_id)
    assert row is not None
    return bool(row[0])


async def test_all_of_it_goes_back_and_is_known_by_the_providers_own_id(accounts: Accounts) -> None:
    wish, provider_id = await paid(accounts)
    assert (await payment.give_back(SYSTEM, wish.payment_id, "it rained")).state == "refunded"
    assert (await payment.give_back(SYSTEM, wish.payment_id, "it rained")).state == "refunded"
    (taken,) = await accounts.all[0].taken(wish.payment_id)
    assert taken.refunded_minor == AMOUNT
    listed = await accounts.all[0].gone_back(provider_id)
    assert [amount for _, amount in listed] == [AMOUNT]
    assert await transaction_ids(wish) == listed


async def test_parts_go_back_until_nothing_is_left(accounts: Accounts) -> None:
    wish, provider_id = await paid(accounts)
    for amount in (3_000, 2_000):
        assert (await payment.refund(keyed(), wish.payment_id, RefundWish(amount, "a part"))).state == "succeeded"
    with pytest.raises(errors.RefundTooLarge):
        await payment.refund(keyed(), wish.payment_id, RefundWish(5_001))
    assert (await payment.refund(keyed(), wish.payment_id, RefundWish())).amount_minor == 5_000
    assert ((await psps.found(wish)).state, (await psps.found(wish)).returned_minor) == ("refunded", AMOUNT)
    listed = await accounts.all[0].gone_back(provider_id)
    assert [amount for _, amount in listed] == [3_000, 2_000, 5_000]
    assert await transaction_ids(wish) == listed


@pytest.mark.parametrize(
    ("fault", "amount"),
    [
        ({"reset_after_refund_rate": 1.0}, 3_000),
        ({"reset_after_refund_rate": 1.0}, AMOUNT),
        ({"latency_ms": 1_500}, 3_000),
    ],
    ids=["reset-part", "reset-all", "time-out"],
)
async def test_a_refund_whose_answer_is_lost_is_asked_about_and_given_once(
    accounts: Accounts, fault: dict[str, object], amount: int
) -> None:
    wish, provider_id = await paid(accounts)
    await accounts.all[0].faults(**fault)
    asked = await payment.refund(keyed(), wish.payment_id, RefundWish(amount, "lost"))
    assert asked.state == "sending"
    await accounts.all[0].faults()
    stands = await psps.until_returned(wish)
    assert (stands.state, stands.returned_minor) == ("refunded" if amount == AMOUNT else "succeeded", amount)
    listed = await accounts.all[0].gone_back(provider_id)
    assert [gone for _, gone in listed] == [amount], "once"
    assert await transaction_ids(wish) == listed


async def test_a_refund_that_died_on_its_way_is_sent_again_and_given_once(accounts: Accounts) -> None:
    wish, provider_id = await paid(accounts)
    await accounts.all[0].faults(reset_before_rate=1.0, times=1)
    assert (await payment.refund(keyed(), wish.payment_id, RefundWish(3_000))).state == "sending"
    if accounts.all[0].kind == "nicepay":
        # It knows no idempotency key: nothing is sent anew before "not there" is certain.
        await psps.ask_now(wish)
        assert await accounts.all[0].gone_back(provider_id) == []
        await times.let_hours_pass(wish)
    assert (await psps.until_returned(wish)).returned_minor == 3_000
    assert [gone for _, gone in await accounts.all[0].gone_back(provider_id)] == [3_000]


async def test_a_refund_that_could_not_be_sent_for_hours_and_then_is_slow_is_given_once(accounts: Accounts) -> None:
    """How long it is owed says nothing of how long it has been on its way."""
    wish, provider_id = await paid(accounts)
    first = accounts.all[0]
    await payment_router.close()  # and with it the lines that are kept to it
    await first.admin("POST", "refuse", {"ms": 700})
    await asyncio.sleep(0.1)
    assert (await payment.refund(keyed(), wish.payment_id, RefundWish(3_000))).state == "sending"
    await store.DB.write(
        "UPDATE refund SET created_at = now() - interval '3 hours' WHERE payment_id = $1 RETURNING 1", wish.payment_id
    )
    assert not await is_open(wish), "nothing of it has left"
    await asyncio.sleep(0.8)
    await first.faults(latency_ms=1_600)
    await psps.ask_now(wish)
    await first.faults()
    for _ in range(3):
        await psps.ask_now(wish)
    assert await first.gone_back(provider_id) == [], "it is still on its way"
    assert (await psps.until_returned(wish)).returned_minor == 3_000
    await asyncio.sleep(0.5)
    assert [gone for _, gone in await first.gone_back(provider_id)] == [3_000]


async def test_whoever_dies_while_a_refund_is_sent_leaves_it_open(accounts: Accounts) -> None:
    wish, provider_id = await paid(accounts)
    first = accounts.all[0]
    await first.faults(latency_ms=700)
    sending = asyncio.ensure_future(payment.refund(keyed(), wish.payment_id, RefundWish(3_000)))
    await asyncio.sleep(0.3)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert await is_open(wish)
    await first.faults()
    assert (await psps.until_returned(wish)).returned_minor == 3_000
    await asyncio.sleep(0.5)
    assert [gone for _, gone in await first.gone_back(provider_id)] == [3_000]


async def test_a_key_that_has_kept_an_error_is_left_for_another_once_it_is_certain(
    shop: Settings, processes: list[Psp]
) -> None:
    (stripe,) = [one for one in psps.renamed(processes, "stripe") if one.kind == "stripe"]
    async with psps.shop_with(shop, [stripe]):
        wish = await psps.charge_with({stripe.name: await stripe.card()})
        assert (await payment.charge(SYSTEM, wish)).state == "succeeded"
        await stripe.rules(failing=1)
        assert (await payment.refund(keyed(), wish.payment_id, RefundWish(3_000))).state == "sending"
        for _ in range(3):
            await psps.ask_now(wish)
        assert (await psps.found(wish)).returned_minor == 0, "the key says the same again"
        await times.let_hours_pass(wish)
        assert (await psps.until_returned(wish)).returned_minor == 3_000
        assert [gone for _, gone in await stripe.gone_back(await psps.provider_id_of(wish))] == [3_000]


async def test_a_refund_that_was_refused_is_told_to_a_person_and_is_given_when_it_can_be(accounts: Accounts) -> None:
    wish, provider_id = await paid(accounts)
    first = accounts.all[0]
    await first.give_back_elsewhere(provider_id, 9_000)
    assert (await payment.refund(keyed(), wish.payment_id, RefundWish(3_000))).state == "sending"
    assert "refund_refused" in await psps.open_cases(wish)
    await first.rules(over_refund=True)
    assert (await psps.until_returned(wish)).returned_minor == 3_000
    assert [gone for _, gone in await first.gone_back(provider_id)] == [9_000, 3_000]
    await payment.resolve(SYSTEM, 1)
    assert "refund_refused" not in await psps.open_cases(wish)


async def test_a_refund_that_takes_its_time_is_asked_about_until_it_is_given(
    shop: Settings, processes: list[Psp]
) -> None:
    (stripe,) = [one for one in psps.renamed(processes, "stripe") if one.kind == "stripe"]
    async with psps.shop_with(shop, [stripe]):
        wish = await psps.charge_with({stripe.name: await stripe.card("refunds_slowly")})
        assert (await payment.charge(SYSTEM, wish)).state == "succeeded"
        assert (await payment.refund(keyed(), wish.payment_id, RefundWish(3_000))).state == "sending"
        ((refund_id, amount),) = await stripe.gone_back(await psps.provider_id_of(wish))
        assert amount == 3_000
        await psps.ask_now(wish)
        assert (await psps.found(wish)).returned_minor == 0, "it is pending there"
        await stripe.admin("POST", "refund", {"refund": refund_id})
        await psps.ask_now(wish)
        assert (await psps.found(wish)).returned_minor == 3_000
        assert await transaction_ids(wish) == [(refund_id, 3_000)]


async def test_a_hundred_at_once_never_exceed_what_was_taken_even_where_more_would_be_paid(accounts: Accounts) -> None:
    wish, provider_id = await paid(accounts)
    first = accounts.all[0]
    await first.rules(over_refund=True)
    asked = [payment.refund(keyed(), wish.payment_id, RefundWish(300)) for _ in range(100)]
    answers = await asyncio.gather(*asked, return_exceptions=True)
    granted = [one for one in answers if isinstance(one, payment.Refund)]
    refused = [one for one in answers if isinstance(one, errors.RefundTooLarge)]
    assert (len(granted), len(refused)) == (33, 67), [one for one in answers if one not in (*granted, *refused)][:2]
    assert (await psps.until_returned(wish)).returned_minor == 9_900
    assert [gone for _, gone in await first.gone_back(provider_id)] == [300] * 33
    assert await transaction_ids(wish) == await first.gone_back(provider_id)
    await first.give_back_elsewhere(provider_id, AMOUNT)
    (taken,) = await first.taken(wish.payment_id)
    assert taken.refunded_minor == 9_900 + AMOUNT, "it would have paid: the limit is ours"
