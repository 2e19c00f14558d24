"""Cards at Toss, NICEPAY and Stripe, each its own simulator process: whatever goes wrong, one order is charged once."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from doorbuster.domains.commerce import payment
from doorbuster.domains.commerce.payment import store
from doorbuster.domains.commerce.payment.tests import psps, times
from doorbuster.domains.commerce.payment.tests.psps import AMOUNT, KINDS, Accounts, Psp
from doorbuster.platform.calls import SYSTEM
from doorbuster.platform.settings import Settings

TAKEN_THEN = (
    "timeout_after_capture_rate", "reset_after_capture_rate", "error_after_capture_rate", "malformed_rate",
    "wrong_amount_rate", "reset_mid_answer_rate", "slow_drip_rate",
)  # fmt: skip
NOTHING_TAKEN = ("reset_before_rate", "error_rate", "rate_limit_rate")
First = Callable[[str], AbstractAsyncContextManager[Accounts]]


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Psp]]:
    with psps.running(KINDS, tmp_path_factory.mktemp("psps")) as found:
        yield found


@pytest.fixture
async def first(shop: Settings, processes: list[Psp]) -> AsyncIterator[First]:
    """The shop with all three, where one kind is asked first; a person is told of what is unknown at once."""
    yield lambda kind: psps.shop_with(shop, psps.renamed(processes, kind), case_after_s=0.0)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_kept_card_pays_and_the_ledger_says_the_same(first: First, kind: str) -> None:
    async with first(kind) as accounts:
        wish = await accounts.wish()
        assert (await payment.charge(SYSTEM, wish)).state == "succeeded"
        assert await psps.attempts_of(wish) == [(kind, "succeeded")]
        ((where, (taken,)),) = (await accounts.taken(wish)).items()
        assert (where, taken.reference, taken.amount_minor) == (kind, f"{wish.payment_id}.1", AMOUNT)
        assert taken.provider_id == await psps.provider_id_of(wish)
        assert await payment.charge(SYSTEM, wish) == await psps.found(wish), "again it asks nobody"
        assert len((await accounts.taken(wish))[kind]) == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_a_decline_goes_elsewhere_only_if_somebody_else_could_say_otherwise(first: First, kind: str) -> None:
    async with first(kind) as accounts:
        wish = await accounts.wish(**{kind: "elsewhere"})
        assert (await payment.charge(SYSTEM, wish)).state == "succeeded"
        (one, then) = await psps.attempts_of(wish)
        assert (one, then[1]) == ((kind, "declined"), "succeeded")
        assert list(await accounts.taken(wish)) == [then[0]] != [kind]
        wish = await accounts.wish(**{kind: "final"})
        assert (await payment.charge(SYSTEM, wish)).state == "declined"
        assert await psps.attempts_of(wish) == [(kind, "declined")]
        assert await accounts.taken(wish) == {}


@pytest.mark.parametrize("fault", TAKEN_THEN)
@pytest.mark.parametrize("kind", KINDS)
async def test_money_taken_without_a_clear_answer_is_unknown_and_found_by_asking_the_same_provider(
    first: First, kind: str, fault: str
) -> None:
    async with first(kind) as accounts:
        wish = await accounts.wish()
        await accounts[kind].faults(**{fault: 1.0, "hold_ms": 2_000})
        assert (await payment.charge(SYSTEM, wish)).state == "unknown"
        assert await psps.attempts_of(wish) == [(kind, "unknown")]
        await psps.ask_now(wish)
        assert (await psps.found(wish)).state == "succeeded"
        assert await psps.attempts_of(wish) == [(kind, "succeeded")]
        taken = await accounts.taken(wish)
        assert {kind: [AMOUNT]} == {where: [one.amount_minor for one in rows] for where, rows in taken.items()}
        assert taken[kind][0].provider_id == await psps.provider_id_of(wish)


async def died(accounts: Accounts, kind: str, fault: str) -> payment.Charge | None:
    """A charge that its provider never had in hands; None where the answer says so, and another one was asked."""
    wish = await accounts.wish()
    await accounts[kind].faults(**{fault: 1.0, "times": 1})
    charged = await payment.charge(SYSTEM, wish)
    if (kind, fault) == ("stripe", "rate_limit_rate"):
        # The one 429 of which the vendor says that nothing was done before it.
        assert charged.state == "succeeded"
        assert (await psps.attempts_of(wish))[0] == ("stripe", "not_executed")
        return None
    assert charged.state == "unknown"
    return wish


@pytest.mark.parametrize("fault", NOTHING_TAKEN)
@pytest.mark.parametrize("kind", ["toss", "stripe"])
async def test_a_request_that_died_is_sent_again_under_its_key_while_the_buyer_waits(
    first: First, kind: str, fault: str
) -> None:
    async with first(kind) as accounts:
        if (wish := await died(accounts, kind, fault)) is None:
            return
        await psps.ask_now(wish)
        assert (await psps.found(wish)).state == "succeeded"
        assert await psps.attempts_of(wish) == [(kind, "succeeded")]
        ((where, (taken,)),) = (await accounts.taken(wish)).items()
        assert (where, taken.reference) == (kind, f"{wish.payment_id}.1")
        assert await kept_to_repeat(wish) == [None]


async def kept_to_repeat(wish: payment.Charge) -> list[str | None]:
    rows = await store.DB.fetch("SELECT repeat_with::text FROM attempt WHERE payment_id = $1", wish.payment_id)
    return [row[0] for row in rows]


async def test_a_charge_that_is_wanted_back_is_not_sent_again(first: First) -> None:
    async with first("toss") as accounts:
        wish = await died(accounts, "toss", "reset_before_rate")
        assert wish is not None
        assert "key" in (await kept_to_repeat(wish))[0]  # type: ignore[operator]
        assert (await payment.give_back(SYSTEM, wish.payment_id, "cancelled")).state == "unknown"
        assert await kept_to_repeat(wish) == [None]
        await psps.ask_now(wish)
        assert (await psps.found(wish)).state == "unknown"
        assert await accounts.taken(wish) == {}


async def test_a_refusal_of_the_second_sending_says_nothing_of_the_first(first: First) -> None:
    async with first("stripe") as accounts:
        await accounts["stripe"].rules(search_delay_ms=60_000)
        await accounts["stripe"].faults(reset_after_capture_rate=1.0)
        wish = await accounts.wish()
        assert (await payment.charge(SYSTEM, wish)).state == "unknown"
        await accounts["stripe"].faults(rate_limit_rate=1.0)
        await psps.ask_now(wish)
        assert await psps.attempts_of(wish) == [("stripe", "unknown")]
        await accounts["stripe"].faults()
        await psps.ask_now(wish)
        assert (await psps.found(wish)).state == "succeeded"
        ((taken,),) = (await accounts.taken(wish)).values()
        assert taken.provider_id == await psps.provider_id_of(wish)


@pytest.mark.parametrize("fault", NOTHING_TAKEN)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_request_that_died_a_while_ago_is_unknown_until_the_horizon_and_a_person_knows_it(
    first: First, kind: str, fault: str
) -> None:
    async with first(kind) as accounts:
        if (wish := await died(accounts, kind, fault)) is None:
            return
        assert (await kept_to_repeat(wish) == [None]) == (kind == "nicepay"), "who keeps no keys is sent nothing twice"
        await times.let_minutes_pass(wish)
        await psps.ask_now(wish)
        assert await psps.attempts_of(wish) == [(kind, "unknown")], "not found is no answer yet"
        assert await psps.open_cases(wish) == ["unknown_outcome"]
        await times.let_hours_pass(wish)
        await psps.ask_now(wish)
        ended = await psps.found(wish)
        assert (ended.state, ended.code) == ("failed", "not_found")
        assert await accounts.taken(wish) == {}
        assert await psps.open_cases(wish) == [], "it closes by itself"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_charge_that_is_still_on_its_way_when_it_is_asked_about_is_not_given_up(
    first: First, kind: str
) -> None:
    async with first(kind) as accounts:
        wish = await accounts.wish()
        await accounts[kind].faults(latency_ms=1_800)
        assert (await payment.charge(SYSTEM, wish)).state == "unknown"
        await accounts[kind].faults()
        await psps.ask_now(wish)
        assert (await psps.found(wish)).state == "unknown", "there is nothing yet, and a net-cancel finds nothing"
        stands = await psps.until_known(wish)
        ((where, (taken,)),) = (await accounts.taken(wish)).items()
        # Where a net-cancel is demanded, it may be what finds the money first: then that has gone back.
        kept = taken.amount_minor - taken.refunded_minor
        assert (stands.state, kept) == ("succeeded", AMOUNT) or (kind, stands.state, kept) == ("nicepay", "failed", 0)
        assert where == kind


async def test_nicepay_takes_back_what_cannot_be_asked_about(first: First) -> None:
    async with first("nicepay") as accounts:
        await accounts["nicepay"].faults(reset_after_capture_rate=1.0, inquiry_down=True)
        wish = await accounts.wish()
        assert (await payment.charge(SYSTEM, wish)).state == "unknown"
        await psps.ask_now(wish)
        ended = await psps.found(wish)
        assert (ended.state, ended.code) == ("failed", "voided")
        assert await psps.attempts_of(wish) == [("nicepay", "not_executed")]
        ((taken,),) = (await accounts.taken(wish)).values()
        assert (taken.amount_minor, taken.refunded_minor) == (AMOUNT, AMOUNT)


async def test_a_net_cancel_whose_answer_is_lost_is_found_by_asking(first: First) -> None:
    async with first("nicepay") as accounts:
        faults: dict[str, object] = {"reset_after_refund_rate": 1.0, "inquiry_down": True}
        await accounts["nicepay"].faults(reset_after_capture_rate=1.0, **faults)
        wish = await accounts.wish()
        assert (await payment.charge(SYSTEM, wish)).state == "unknown"
        await psps.ask_now(wish)
        assert (await psps.found(wish)).state == "unknown"
        await accounts["nicepay"].faults()
        await psps.ask_now(wish)
        assert ((await psps.found(wish)).state, (await psps.found(wish)).code) == ("failed", "voided")


async def test_a_net_cancel_that_crosses_a_webhook_is_told_to_a_person(first: First) -> None:
    """Who cannot ask cancels; while the cancel is on its way, somebody else is told that it was paid."""
    async with first("nicepay") as accounts:
        nicepay = accounts["nicepay"]
        wish = await accounts.wish()
        await nicepay.faults(reset_after_capture_rate=1.0)
        assert (await payment.charge(SYSTEM, wish)).state == "unknown"
        await nicepay.faults(inquiry_down=True, latency_ms=700)
        cancelling = asyncio.create_task(psps.ask_now(wish))
        await asyncio.sleep(0.3)
        await nicepay.faults()
        look = "UPDATE attempt SET look_at = now() WHERE payment_id = $1 RETURNING 1"
        await store.DB.write(look, wish.payment_id)
        await payment.resolve(SYSTEM, 100)
        assert (await psps.found(wish)).state == "succeeded"
        await cancelling
        ((taken,),) = (await accounts.taken(wish)).values()
        assert taken.refunded_minor == AMOUNT, "the cancel came after"
        assert await psps.open_cases(wish) == ["provider_differs"]


async def test_a_search_that_lags_behind_proves_nothing(first: First) -> None:
    async with first("stripe") as accounts:
        await accounts["stripe"].rules(search_delay_ms=60_000)
        await accounts["stripe"].faults(reset_after_capture_rate=1.0)
        wish = await accounts.wish()
        assert (await payment.charge(SYSTEM, wish)).state == "unknown"
        await times.let_minutes_pass(wish)
        await psps.ask_now(wish)
        assert await psps.attempts_of(wish) == [("stripe", "unknown")]
        await accounts["stripe"].rules()
        await psps.ask_now(wish)
        assert (await psps.found(wish)).state == "succeeded"


async def test_nicepay_is_asked_for_the_korean_day_on_which_the_attempt_began(shop: Settings, tmp_path: Path) -> None:
    """Half past three in the afternoon, UTC, is half past midnight there: the next day."""
    now = dt.datetime.now(dt.UTC)
    then = now.replace(hour=15, minute=30, second=0, microsecond=0)
    then += dt.timedelta(days=1 if then <= now else 0)
    with psps.running(["nicepay"], tmp_path) as (nicepay,):
        nicepay.name = f"nicepay-{tmp_path.name[-8:].strip('-_')}"
        async with psps.shop_with(shop, [nicepay]) as accounts:
            wish = await accounts.wish()
            await nicepay.admin("POST", "clock", {"advance_ms": int((then - now).total_seconds() * 1_000)})
            await nicepay.faults(reset_after_capture_rate=1.0)
            assert (await payment.charge(SYSTEM, wish)).state == "unknown"
            # As if the shop's clock had been moved with the provider's.
            began = "UPDATE attempt SET created_at = $2 WHERE payment_id = $1 RETURNING 1"
            await store.DB.write(began, wish.payment_id, then)
            await psps.ask_now(wish)
            assert (await psps.found(wish)).state == "succeeded"


@pytest.mark.parametrize("seed", [1, 2])
async def test_in_a_storm_at_all_three_no_order_is_charged_twice_and_nobody_is_told_a_lie(
    first: First, seed: int
) -> None:
    storm = dict.fromkeys((*TAKEN_THEN[1:6], *NOTHING_TAKEN), 0.07)
    async with first(random.Random(seed).choice(KINDS)) as accounts:
        cards = {one.name: await one.card() for one in accounts.all}
        wishes = [await psps.charge_with(cards) for _ in range(60)]
        for number, one in enumerate(accounts.all):
            await one.faults(**storm, decline_rate=0.15, seed=seed * 10 + number)
        await asyncio.gather(*(payment.charge(SYSTEM, wish) for wish in wishes))
        for one in accounts.all:
            await one.faults()
        states = {wish.payment_id: (await psps.found(wish)).state for wish in wishes}
        assert len(set(states.values())) > 1, "the storm was felt"
        await psps.ask_now(*wishes)
        for wish in wishes:
            if not (await psps.found(wish)).is_settled:
                assert await psps.open_cases(wish) == ["unknown_outcome"]
                await times.let_hours_pass(wish)
        await psps.ask_now(*wishes)
        ledgers = [taken for one in accounts.all for taken in await one.taken()]
        for wish in wishes:
            ended = await psps.found(wish)
            taken = [one for one in ledgers if one.reference.startswith(f"{wish.payment_id}.")]
            kept = [one.provider_id for one in taken if one.refunded_minor == 0]
            assert ended.is_settled
            assert len(taken) <= 1, (ended, taken)
            assert kept == ([await psps.provider_id_of(wish)] if ended.state == "succeeded" else [])
