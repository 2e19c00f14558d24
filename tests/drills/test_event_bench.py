"""The benches of the event log measure what they say, in small."""

from __future__ import annotations

import msgspec
import pytest

from doorbuster.drills.bench import disturbed, events
from doorbuster.drills.bench.disturbed import Compared, SwitchedOff
from doorbuster.drills.bench.events import EventFigures, InsertCost
from doorbuster.drills.bench.events_place import Delivery, bench_place

FAST = Delivery(1_000, 1_000.0, 8.0, 30.0)
GOOD = EventFigures(
    FAST, 40_000.0, 20_000.0, InsertCost((100.0, 100.0), (75.0, 80.0)), 60.0, Compared((FAST,), (FAST,)),
    Compared((FAST,), (FAST,)),
    SwitchedOff(60.0, 60_000, 12.0, {"calm": 5.0, "off": 5.0, "back": 9.0}, Compared((FAST,), (FAST,))),
)  # fmt: skip


def slower(by: float) -> Compared:
    return Compared((FAST, FAST), (FAST, msgspec.structs.replace(FAST, p99_ms=FAST.p99_ms + 2 * by)))


@pytest.mark.parametrize(
    ("worse", "mark"),
    [
        ({"delivery": msgspec.structs.replace(FAST, p50_ms=15.1)}, "events_delivered_in_time"),
        ({"delivery": msgspec.structs.replace(FAST, p99_ms=60.1)}, "events_delivered_in_time"),
        ({"drain_with_effects_per_s": 14_999.0}, "events_drained_fast"),
        ({"insert": InsertCost((100.0, 100.0, 90.0), (60.0, 69.0, 90.0))}, "events_cost_little"),
        ({"held": slower(20.0)}, "events_not_stalled_next_door"),
        ({"poison": slower(3.1)}, "events_poison_stays_alone"),
        ({"off": msgspec.structs.replace(GOOD.off, caught_up_s=60.1)}, "events_missed_are_caught_up"),
        (
            {"off": msgspec.structs.replace(GOOD.off, write_p99_ms={"calm": 5.0, "off": 7.6, "back": 5.0})},
            "events_missed_are_caught_up",
        ),
    ],
)
def test_each_figure_has_a_mark_that_it_can_miss(worse: dict[str, object], mark: str) -> None:
    assert [one.name for one in events.marks(GOOD) if not one.passed] == []
    worse_figures = msgspec.structs.replace(GOOD, **worse)
    assert [one.name for one in events.marks(worse_figures) if not one.passed] == [mark]


async def test_delivery_is_measured_from_commit_to_handler_at_the_rate_asked_for() -> None:
    async with bench_place() as place:
        found = await events.delivery(place, 1.0, rate=200.0)
    assert found.events == 200
    assert 100.0 < found.per_s < 400.0
    assert 0.0 < found.p50_ms < found.p99_ms < 5_000.0


async def test_a_backlog_is_drained_and_counted_to_the_last_fact() -> None:
    async with bench_place() as place:
        assert await events.drain(place, backlog=10_000) > 500.0
        assert await events.drain(place, effects=True, backlog=10_000) > 500.0
        admin = await place.superuser("drill.far")
        assert await admin.fetchval("SELECT count(*) FROM effect") == 10_000
        admin.terminate()


async def test_the_cost_of_a_fact_is_a_ratio_of_neighbouring_rounds() -> None:
    async with bench_place() as place:
        found = await events.insert_cost(place, 3.0, rounds=1)
        admin = await place.superuser("drill.pub")
        facts = await admin.fetchval("SELECT count(*) FROM outbox")
        changes = await admin.fetchval("SELECT sum(version) FROM aggregate")
        admin.terminate()
    assert 0 < facts < changes
    assert len(found.without) == len(found.with_fact) == 1
    assert found.share == 1 - found.with_fact[0] / found.without[0]


async def test_a_held_transaction_and_a_poison_key_are_compared_with_calm_windows() -> None:
    async with bench_place() as place:
        held = await disturbed.long_transaction(place, 1.0, rate=200.0)
    assert (len(held.calm), len(held.disturbed)) == (1, 1)
    for refusing in ("drill.far", "drill.near"):
        async with bench_place() as place:
            poison = await disturbed.poison_key(place, 0.4, rate=200.0, refusing=refusing)
        assert (len(poison.calm), len(poison.disturbed)) == (6, 6)
        assert all(one.events for one in (*poison.calm, *poison.disturbed))


async def test_a_consumer_that_was_off_has_handled_everything_at_the_end() -> None:
    async with bench_place() as place:
        found = await disturbed.switched_off(place, 2.0, rate=200.0)
    assert found.missed == 400
    assert 0.0 < found.caught_up_s < 30.0
    assert set(found.write_p99_ms) == {"calm", "off", "back"}
    assert all(0.0 < p99 < 5_000.0 for p99 in found.write_p99_ms.values())
