"""Several providers: another one is asked after one that surely took nothing, and never while that is not sure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from doorbuster.domains.commerce import payment
from doorbuster.domains.commerce.payment import store
from doorbuster.engines import payment_router
from doorbuster.engines.payment_router import routing
from doorbuster.engines.payment_router.health import Circuit, Counts, Key
from doorbuster.engines.payment_router.routing import Decision, Priority, RoutingRules
from doorbuster.platform import ids, settings
from doorbuster.platform.calls import SYSTEM
from doorbuster.platform.settings import ProviderLogin, Settings
from doorbuster.platform.tests.commit_cutter import Cut, cutter

SHARED = payment_router.SharedDatabase(store.DB)


class Two:
    """Guards two accounts at providers of their own, the first of which is asked first."""

    def __init__(self, first: Any, second: Any) -> None:
        # Accounts have new names each time: circuits and logins are kept by name.
        self.mark = uuid4().hex[:8]
        self.names = (f"first-{self.mark}", f"second-{self.mark}")
        self.processes = dict(zip(self.names, (first, second), strict=True))

    async def charged(self, payment_id: object) -> dict[str, int]:
        """How much each has captured for a payment, over all attempts, less what went back."""
        found = {}
        for which, name in zip(("first", "second"), self.names, strict=True):
            charges = [c for n in (1, 2, 3) for c in await self.processes[name].charges(f"{payment_id}.{n}")]
            found[which] = sum(c["amount_minor"] - c["refunded_minor"] for c in charges if c["status"] == "captured")
        return found


@pytest.fixture(scope="module")
def processes(sandbox: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any]]:
    both = tuple(type(sandbox)(tmp_path_factory.mktemp(name)) for name in ("first", "second"))
    yield both
    for one in both:
        one.stop()


@pytest.fixture
async def two(shop: Settings, processes: tuple[Any, Any]) -> AsyncIterator[Two]:
    await payment_router.close()
    here = Two(*processes)
    logins = {
        name: ProviderLogin(one.url, str(one.folder / "psp-secret"), kind="sandbox")
        for name, one in here.processes.items()
    }
    settings.use(msgspec.structs.replace(shop, providers=logins))
    newest = await SHARED.read_rules()
    rules = RoutingRules(1 if newest is None else newest.version + 1, Priority(here.names))
    assert await SHARED.write_rules(rules, "test", "the first is asked first")
    yield here
    for one in here.processes.values():
        if one.process.poll() is not None:
            one.start()
        await one.faults()
    await payment_router.close()
    settings.use(shop)
    await store.DB.write("DELETE FROM routing_rules RETURNING 1")


def charge(instrument: str = "tok_visa") -> payment.Charge:
    return payment.Charge(ids.uuid7(), ids.uuid7(), ids.uuid7(), 700, "USD", instrument, "h")


async def attempts(wish: payment.Charge) -> list[tuple[str, str]]:
    rows = await store.DB.fetch(
        "SELECT provider, state FROM attempt WHERE payment_id = $1 ORDER BY number", wish.payment_id
    )
    return [(row[0].split("-")[0], row[1]) for row in rows]


async def decisions(wish: payment.Charge) -> list[Decision]:
    query = "SELECT document::text FROM decision WHERE payment_id = $1 ORDER BY number"
    rows = await store.DB.fetch(query, wish.payment_id)
    return [msgspec.json.decode(row[0], type=Decision) for row in rows]


async def test_the_first_is_asked_and_nobody_else(two: Two) -> None:
    wish = charge()
    assert (await payment.charge(SYSTEM, wish)).state == "succeeded"
    assert await attempts(wish) == [("first", "succeeded")]
    assert await two.charged(wish.payment_id) == {"first": 700, "second": 0}


async def test_a_provider_that_cannot_be_reached_is_left_for_the_next_and_both_decisions_replay(two: Two) -> None:
    two.processes[two.names[0]].stop()
    wish = charge()
    assert (await payment.charge(SYSTEM, wish)).state == "succeeded"
    assert await attempts(wish) == [("first", "not_sent"), ("second", "succeeded")]
    kept = await decisions(wish)
    assert [one.chosen for one in kept] == list(two.names)
    assert kept[1].candidates[0].dropped == "tried before"
    rules = await SHARED.read_rules(kept[0].rules_version)
    assert rules is not None
    assert [routing.replay(one, rules) for one in kept] == kept


async def test_while_an_outcome_is_unknown_nobody_else_is_asked(two: Two) -> None:
    wish = charge("tok_timeout_after_capture")
    assert (await payment.charge(SYSTEM, wish)).state == "unknown"
    assert await attempts(wish) == [("first", "unknown")]
    ask_now = "UPDATE attempt SET next_inquiry_at = now() WHERE payment_id = $1 RETURNING 1"
    await store.DB.write(ask_now, wish.payment_id)
    await payment.resolve(SYSTEM, 100)
    found = await payment.find(SYSTEM, wish.payment_id)
    assert found is not None and found.state == "succeeded"
    assert await two.charged(wish.payment_id) == {"first": 700, "second": 0}


@pytest.mark.parametrize(
    ("instrument", "asked"),
    [("tok_insufficient_funds", ["first"]), ("tok_expired", ["first"]), ("tok_declined", ["first", "second"])],
)
async def test_a_decline_is_tried_elsewhere_only_if_another_provider_could_say_otherwise(
    two: Two, instrument: str, asked: list[str]
) -> None:
    wish = charge(instrument)
    assert (await payment.charge(SYSTEM, wish)).state == "declined"
    assert await attempts(wish) == [(name, "declined") for name in asked]


async def test_when_all_are_away_the_payment_has_failed_and_nothing_was_taken(two: Two) -> None:
    for one in two.processes.values():
        one.stop()
    wish = charge()
    failed = await payment.charge(SYSTEM, wish)
    assert (failed.state, failed.code) == ("failed", "unreachable")
    assert await attempts(wish) == [("first", "not_sent"), ("second", "not_sent")]
    again = await payment.charge(SYSTEM, wish)
    assert again == failed


async def test_when_all_circuits_are_open_nobody_is_asked_and_it_says_so(two: Two) -> None:
    for name in two.names:
        await SHARED.force(Key(name, "card"), "open")
    wish = charge()
    failed = await payment.charge(SYSTEM, wish)
    assert (failed.state, failed.code) == ("failed", "no_provider")
    assert await attempts(wish) == []
    (kept,) = await decisions(wish)
    assert {candidate.dropped for candidate in kept.candidates} == {"forced open"}


async def test_a_provider_that_is_away_gets_no_payments_soon_and_comes_back_in_steps(two: Two) -> None:
    first = two.processes[two.names[0]]
    first.stop()
    for _ in range(8):
        assert (await payment.charge(SYSTEM, charge())).state == "succeeded"
    late = charge()
    assert (await payment.charge(SYSTEM, late)).state == "succeeded"
    assert await attempts(late) == [("second", "succeeded")], "the circuit is open: the first is not even tried"
    key = Key(two.names[0], "card")
    snapshot = await SHARED.exchange({}, 10)
    assert snapshot.circuits[key].state == "open", "every worker knows it"
    first.start()
    await store.DB.write("UPDATE provider_circuit SET until = 0 WHERE provider = $1 RETURNING 1", key.provider)
    await asyncio.sleep(0.6)
    went = []
    for _ in range(12):
        wish = charge()
        assert (await payment.charge(SYSTEM, wish)).state == "succeeded"
        went += await attempts(wish)
    assert went[:3] == [("first", "succeeded")] * 3, "probes"
    assert went.count(("second", "succeeded")) >= 5, "and then a tenth of all"


@pytest.mark.parametrize("cut", ["before", "after"])
@pytest.mark.parametrize("nth", [1, 2, 3])
async def test_a_commit_that_was_cut_between_two_attempts_charges_once(
    two: Two, shop: Settings, cut: Cut, nth: int
) -> None:
    """Cut at: both rows of the first attempt; its end with the second attempt; the end of the second."""
    two.processes[two.names[0]].stop()
    wish = charge()
    await payment_router.close()
    async with cutter(shop, "commerce.payment") as proxy:
        await payment.find(SYSTEM, wish.payment_id)
        proxy.cut_at(nth, cut)
        paid = await payment.charge(SYSTEM, wish)
        await payment_router.close()
    assert paid.state == "succeeded"
    assert await attempts(wish) == [("first", "not_sent"), ("second", "succeeded")]
    two.processes[two.names[0]].start()
    assert await two.charged(wish.payment_id) == {"first": 0, "second": 700}


async def test_counts_of_all_workers_add_up_and_a_change_is_made_by_one_of_them() -> None:
    key = Key(uuid4().hex, "card")
    now = int((await SHARED.exchange({}, 10)).now)
    await asyncio.gather(*(SHARED.exchange({(key, 0, now): Counts(1, 2)}, 10) for _ in range(8)))
    assert (await SHARED.exchange({}, 10)).counts[key] == {now: Counts(8, 16)}
    after = Circuit("open", 1.0, 2.0, opened=1, generation=1)
    made = await asyncio.gather(*(SHARED.change(key, Circuit(), after) for _ in range(8)))
    assert made.count(True) == 1
    found = await SHARED.exchange({}, 10)
    assert found.circuits[key] == after
    assert key not in found.counts, "what was counted before says nothing of the circuit as it is now"


async def test_counts_of_long_ago_are_removed() -> None:
    key = Key(uuid4().hex, "card")
    now = int((await SHARED.exchange({}, 10)).now)
    await SHARED.exchange({(key, 0, now): Counts(1), (key, 0, now - 1_000): Counts(1)}, 10)
    assert await SHARED.forget() >= 1
    rows = await store.DB.fetch("SELECT second FROM provider_answers WHERE provider = $1", key.provider)
    assert [row[0] for row in rows] == [now]


async def test_never_more_probes_than_there_are_permits() -> None:
    key = Key(uuid4().hex, "card")
    given = await asyncio.gather(*(SHARED.take_probe(key, 3, 60) for _ in range(40)))
    assert given.count(True) == 3
    await SHARED.lock_and_end_probe(key)
    assert [await SHARED.take_probe(key, 3, 0.05) for _ in range(2)] == [True, False]
    await asyncio.sleep(0.1)
    assert await SHARED.take_probe(key, 3, 60), "a permit of somebody who was killed ends by itself"
