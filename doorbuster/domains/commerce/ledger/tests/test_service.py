"""Reconciliation on the real database, with a provider that is a process and settles wrongly on demand."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from doorbuster.domains.commerce import ledger
from doorbuster.domains.commerce.ledger import store
from doorbuster.domains.commerce.ledger.tests.till import TERMS, Till, hear
from doorbuster.platform import settings
from doorbuster.platform.calls import SYSTEM, Ctx
from doorbuster.platform.errors import NotFound, Unavailable
from doorbuster.platform.settings import FeeTerms

pytestmark = pytest.mark.usefixtures("sound_books")
WRONG = {"missing": 3, "twice": 3, "made_up": 3, "amount": 3, "fee": 3, "currency": 3}


async def test_an_honest_day_matches_whole_and_the_provider_owes_nothing_more(till: Till) -> None:
    await till.trade(12, 4)
    assert await till.balance() == sum(range(1_000, 1_012)) - 4 * 300
    done = await till.reconcile()
    assert (done.rows, done.new, done.matched, done.opened) == (16, 16, 16, 0)
    assert await till.cases() == () and await till.balance() == 0
    found = {one.kind: one for day in till.days() for one in (await ledger.report(SYSTEM, till.account, day)).figures}
    assert set(found) == {"matched"}
    assert (found["matched"].currency, found["matched"].sum_minor) == ("USD", sum(range(1_000, 1_012)) - 1_200)


async def test_rows_come_over_several_pages(till: Till) -> None:
    await till.trade(230)
    done = await till.reconcile()
    assert (done.rows, done.matched, done.opened) == (230, 230, 0)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_every_seeded_fault_is_found_and_nothing_else(till: Till, seed: int) -> None:
    await till.trade(40, 15)
    await till.sandbox.settle_wrongly(seed=seed, **WRONG)
    await till.reconcile()
    seeded, told = await till.seeded(), await till.told()
    made_up = 3 * (len(till.days()))
    assert seeded.total() == 15 + made_up and told == seeded
    again = await till.reconcile()
    assert (again.new, again.matched, again.opened, again.closed) == (0, 0, 0, 0)
    assert await till.told() == seeded


async def test_cases_close_themselves_when_the_provider_corrects_itself(till: Till) -> None:
    await till.trade(20, 5)
    await till.sandbox.settle_wrongly(seed=5, missing=3, amount=3, currency=3)
    await till.reconcile()
    assert (await till.told()).total() == 9 and await till.balance() != 0
    await till.sandbox.settle_wrongly()
    done = await till.reconcile()
    assert (done.new, done.matched, done.closed) == (3, 9, 9)
    assert await till.cases() == () and await till.balance() == 0
    closed = await till.cases("closed")
    assert len(closed) == 9 and {one.closed_by for one in closed} == {"ledger"}
    # What the provider had said before is kept beside what it says now.
    earlier = await store.DB.fetch(
        "SELECT count(*) FROM settlement_rows WHERE provider = $1 AND jsonb_array_length(earlier) = 1", till.account
    )
    assert earlier[0][0] == 6


async def test_a_charge_that_we_learn_of_later_explains_itself(till: Till) -> None:
    late = await till.take(700)
    await till.reconcile()
    (case,) = await till.cases()
    assert (case.kind, case.amount_minor, case.ours) == ("missing_ours", 700, ())
    assert "refund it there" in case.next_step
    await hear(late)
    done = await till.reconcile()
    assert (done.matched, done.closed) == (1, 1) and await till.cases() == ()


async def test_a_payment_that_was_captured_again_there_is_a_duplicate_capture(till: Till) -> None:
    first = await till.take(700)
    await hear(first)
    await till.take(700, reference=first.reference)
    await till.reconcile()
    (case,) = await till.cases()
    assert (case.kind, case.amount_minor) == ("duplicate_capture", 700)
    assert [one.provider_id for one in case.ours] == [first.provider_id]
    assert case.theirs[0].provider_id != first.provider_id


async def test_an_order_with_two_captures_of_ours_is_a_case_until_one_goes_back(till: Till) -> None:
    first = await till.take(700)
    second = await till.take(700, order_id=first.order_id)
    await hear(first)
    await hear(second)
    await till.reconcile()
    (case,) = await till.cases()
    assert (case.kind, {one.provider_id for one in case.ours}) == (
        "duplicate_capture", {first.provider_id, second.provider_id},
    )  # fmt: skip
    await hear(await till.give(second, 700))
    assert (await till.reconcile()).closed == 1
    assert await till.cases() == ()


async def test_a_movement_is_missed_only_after_its_grace(till: Till) -> None:
    patient = msgspec.structs.replace(TERMS, grace_days=1)
    settings.use(msgspec.structs.replace(settings.current(), providers={till.account: till.login(patient)}))
    ours = await till.take(700)
    await hear(ours)
    await till.sandbox.settle_wrongly(missing=1)
    await till.reconcile()
    assert await till.cases() == ()
    waiting = [one for day in till.days() for one in (await ledger.report(SYSTEM, till.account, day)).figures]
    assert [(one.kind, one.sum_minor) for one in waiting] == [("waiting", 700)]
    await ledger.reconcile(SYSTEM, till.account, till.days()[-1] + dt.timedelta(days=1))
    (case,) = await till.cases()
    assert (case.kind, case.amount_minor) == ("missing_theirs", -700)


async def test_a_matched_row_that_comes_again_with_another_fee_is_a_case(till: Till) -> None:
    await till.trade(3)
    await till.reconcile()
    await till.sandbox.settle_wrongly(fee=1)
    assert (await till.reconcile()).opened == 1
    (case,) = await till.cases()
    assert case.kind == "fee" and len(case.theirs) == 2 and case.amount_minor > 0
    assert (await till.reconcile()).opened == 0


async def test_fees_are_held_against_the_accounts_terms(till: Till) -> None:
    other = msgspec.structs.replace(TERMS, fees={"USD": FeeTerms(29_000, fixed_minor=40, returned=True)})
    settings.use(msgspec.structs.replace(settings.current(), providers={till.account: till.login(other)}))
    await till.trade(2)
    await till.reconcile()
    assert [(one.kind, one.amount_minor) for one in await till.cases()] == [("fee", -40)] * 2
    assert await till.balance() == 0, "a fee that is wrong was still kept"


async def test_a_case_that_a_person_has_closed_stays_closed(till: Till) -> None:
    await till.trade(10)
    await till.sandbox.settle_wrongly(missing=1, made_up=1, amount=1)
    await till.reconcile()
    cases, anna = await till.cases(), Ctx(subject=uuid4())
    for case in cases:
        for _ in range(2):
            closed = await ledger.close_case(anna, case.id, ledger.Close("asked the provider"))
            assert (closed.state, closed.closed_by, closed.note) == ("closed", str(anna.subject), "asked the provider")
    with pytest.raises(ledger.CaseClosed):
        await ledger.close_case(Ctx(subject=uuid4()), cases[0].id, ledger.Close("no"))
    with pytest.raises(NotFound):
        await ledger.close_case(anna, uuid4(), ledger.Close("no"))
    assert (await till.reconcile()).opened == 0 and await till.cases() == ()
    # Should the other side come after all, it is matched all the same.
    await till.sandbox.settle_wrongly(made_up=1)
    done = await till.reconcile()
    assert done.matched == 2 and await till.cases() == ()


async def test_several_at_once_do_what_one_does(till: Till) -> None:
    await till.trade(230, 10)
    await till.sandbox.settle_wrongly(seed=4, **WRONG)
    done = await asyncio.gather(*(till.reconcile() for _ in range(4)))
    assert sum(one.matched for one in done) == 240 - 9
    assert sum(one.new for one in done) == 240 + 3 * len(till.days())
    assert await till.told() == await till.seeded()
    assert sum(one.opened for one in done) == (await till.seeded()).total()


async def test_rows_that_arrive_while_facts_are_heard_lose_nothing(till: Till) -> None:
    told = await asyncio.gather(*(till.take(500 + n) for n in range(40)))

    async def hear_all() -> None:
        for one in told:
            await hear(one)

    await asyncio.gather(hear_all(), till.reconcile(), till.reconcile())
    await till.reconcile()
    assert await till.cases() == () and await till.balance() == 0


@pytest.mark.parametrize("faults", [{"down": True}, {"error_rate": 1.0}, {"reset_before_rate": 1.0}])
async def test_a_provider_that_does_not_answer_changes_nothing(till: Till, faults: dict[str, Any]) -> None:
    await till.trade(2)
    await till.sandbox.faults(**faults)
    with pytest.raises(Unavailable):
        await ledger.reconcile(SYSTEM, till.account, till.began)
    assert await till.cases() == ()
    assert (await ledger.report(SYSTEM, till.account, till.began)).rows is None
    await till.sandbox.faults()
    assert (await till.reconcile()).matched == 2


async def test_accounts_that_cannot_be_read_are_refused(till: Till) -> None:
    with pytest.raises(ledger.UnknownProvider):
        await ledger.reconcile(SYSTEM, "nobody", till.began)
    with pytest.raises(ledger.UnknownProvider):
        await ledger.report(SYSTEM, "nobody", till.began)
    with pytest.raises(ledger.NoSettlements):
        await ledger.take_file(SYSTEM, till.account, till.began, b"")
    no_rows = msgspec.structs.replace(till.login(), kind="nicepay")
    settings.use(msgspec.structs.replace(settings.current(), providers={till.account: no_rows}))
    with pytest.raises(ledger.NoSettlements):
        await ledger.reconcile(SYSTEM, till.account, till.began)
