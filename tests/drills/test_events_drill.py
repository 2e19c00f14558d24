"""Claims of the history checker: it holds on a sound log under kills, and finds each way to break one."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import psutil
import pytest
import typer
from typer.testing import CliRunner

from doorbuster.drills.events import kills, plants
from doorbuster.drills.events.findings import Evidence, Heard, Kill, Report, Wanted, kills_in, pauses_in
from doorbuster.drills.events.history import (
    CursorSample,
    Effect,
    Faults,
    Published,
    PublishFaults,
    delays_ms,
    epoch_fault,
    faults,
    publish_faults,
    quantile,
    went_back,
)
from doorbuster.drills.events.marks import marks
from doorbuster.drills.events.parts import Load
from doorbuster.drills.events.run import run
from doorbuster.drills.events.watch import Recorder
from doorbuster.drills.events.writer import draw
from doorbuster.surfaces.cli import drills

BOTH = frozenset({"Counted", "Noted"})
COUNTED = frozenset({"Counted"})


def fact(key: str, version: int, kind: str = "Counted", transaction: str = "t", of: int = 1) -> Published:
    return Published(f"{key}{version}", key, version, kind, transaction, of, 100.0)


def effect(key: str, version: int, worker: str = "w1", owner: str | None = "o1") -> Effect:
    return Effect(f"{key}{version}", 3, key, version, worker, owner, 100.25)


HISTORY = [fact("a", 1), fact("b", 1), fact("a", 2), fact("a", 3)]


def found(order: str, history: Sequence[Published] = HISTORY, types: frozenset[str] = COUNTED) -> Faults:
    """What the checker says of effects in this order, `a1 b1 a2`."""
    return faults(history, types, [effect(one[0], int(one[1:])) for one in order.split()])


def test_a_sound_history_has_no_fault() -> None:
    assert found("a1 b1 a2 a3") == Faults()
    assert found("a1 a2 a3 b1") == Faults()


def test_a_fact_without_an_effect_is_lost_and_what_follows_it_skips_it() -> None:
    assert found("a1 a2 b1") == Faults(lost=1)
    assert found("a1 b1 a3") == Faults(lost=1, gaps=1)


def test_a_second_effect_is_a_duplicate_and_no_inversion() -> None:
    assert found("a1 b1 a2 a3 a2 a3") == Faults(duplicated=2)


def test_a_later_fact_heard_first_is_an_inversion() -> None:
    assert found("a2 a1 b1 a3") == Faults(inversions=1, gaps=1)
    assert found("a3 a2 a1 b1") == Faults(inversions=2, gaps=2)


def test_facts_of_other_types_are_not_missed_and_not_wanted() -> None:
    history = [fact("a", 1), fact("a", 2, "Noted"), fact("a", 3)]
    assert found("a1 a3", history) == Faults()
    assert found("a1 a3", history, BOTH) == Faults(lost=1, gaps=1)
    assert found("a1 a2 a3", history) == Faults(invented=1)


def test_an_effect_of_nothing_is_invented() -> None:
    assert found("a1 b1 a2 a3 a4") == Faults(invented=1)


def test_an_effect_under_another_workers_name_is_unfenced() -> None:
    sound = [effect("a", 1, "w1", "o1"), effect("a", 2, "w2", "o2"), effect("b", 1, "w1", "o1")]
    assert faults(HISTORY[:3], COUNTED, sound).unfenced == 0
    woken = [effect("a", 1, "w1", "o1"), effect("a", 2, "w2", "o2"), effect("b", 1, "w1", "o2")]
    assert faults(HISTORY[:3], COUNTED, woken).unfenced == 1
    first_blow = [effect("a", 1, "w2", "o2"), effect("a", 2, "w1", "o2")]
    assert faults(HISTORY[:3], COUNTED, first_blow).unfenced == 1


def test_the_outbox_is_compared_with_changes_and_promises() -> None:
    history = [fact("a", 1, transaction="t1", of=2), fact("b", 1, transaction="t1", of=2), fact("a", 2)]
    assert publish_faults(history, {"a": 2, "b": 1}, {"t1": 2}, ["t9"]) == PublishFaults()
    assert publish_faults(history, {"a": 3, "b": 1}, {"t1": 2}, []) == PublishFaults(versions_wrong=1)
    assert publish_faults(history[1:], {"a": 2, "b": 1}, {"t1": 2}, []) == PublishFaults(
        versions_wrong=1, torn=1, promised_missing=1
    )
    assert publish_faults(history, {"a": 2, "b": 1}, {"t1": 2}, ["t"]) == PublishFaults(rolled_back_found=1)
    assert publish_faults([*history, fact("a", 2)], {"a": 2, "b": 1}, {}, []).versions_wrong == 1


def sample(snapshot: str, upto: str | None = None, last_seq: int = 0, owner: str = "o", epoch: int = 1) -> CursorSample:
    return CursorSample("drill.near", 0, owner, epoch, snapshot, upto, last_seq)


@pytest.mark.parametrize(
    ("before", "after", "back"),
    [
        (sample("1:1:"), sample("10:20:12"), False),
        (sample("10:20:12"), sample("10:20:"), False),
        (sample("10:20:12"), sample("10:25:12,22"), False),
        (sample("10:20:12"), sample("10:20:12,13"), True),
        (sample("10:20:12"), sample("10:19:12"), True),
        (sample("10:20:"), sample("10:30:15"), True),
        (sample("10:20:"), sample("10:20:", "10:30:", 5), False),
        (sample("10:20:", "10:30:", 5), sample("10:20:", "10:30:", 9), False),
        (sample("10:20:", "10:30:", 5), sample("10:20:", "10:30:", 4), True),
        (sample("10:20:", "10:30:", 5), sample("10:20:"), True),
        (sample("10:20:", "10:30:", 5), sample("10:30:"), False),
    ],
)
def test_a_cursor_that_sees_less_than_before_went_back(before: CursorSample, after: CursorSample, back: bool) -> None:
    assert went_back(before, after) is back


def test_a_partition_changes_hands_only_with_a_higher_epoch() -> None:
    mine = sample("1:1:", owner="a", epoch=4)
    assert not epoch_fault(mine, sample("1:1:", owner="b", epoch=5))
    assert not epoch_fault(mine, sample("1:1:", owner="", epoch=4))
    assert epoch_fault(mine, sample("1:1:", owner="b", epoch=4))
    assert epoch_fault(mine, sample("1:1:", owner="a", epoch=3))


def test_the_recorder_compares_each_cursor_with_itself() -> None:
    recorder = Recorder()
    for one in (sample("10:20:"), msgspec.structs.replace(sample("5:6:"), partition=1), sample("10:20:", owner="p")):
        recorder.note(one)
    assert (len(recorder.regressions), len(recorder.epoch_faults), recorder.samples) == (0, 1, 3)
    recorder.note(sample("10:19:", owner="p"))
    assert len(recorder.regressions) == 1
    assert recorder.owned_by("p") == 1


def test_delays_run_from_commit_to_the_first_effect() -> None:
    assert delays_ms(HISTORY, [effect("a", 1), effect("a", 1), effect("z", 1)]) == [250.0]
    assert [quantile([1.0, 2.0, 3.0, 4.0], share) for share in (0.0, 0.5, 0.99, 1.0)] == [1.0, 3.0, 4.0, 4.0]


def evidence(**changes: object) -> Evidence:
    heard = (Heard("drill.near", 4, 4, Faults(), 0, 0, 1.0, 2.0, 3.0),)
    sound = Evidence(Wanted(), 4, 3, PublishFaults(), heard, (), 0, (), 100, (), (), True, 0.1, 2.0)
    return msgspec.structs.replace(sound, **changes)


def missed(seen: Evidence) -> set[str]:
    return {mark.name for mark in marks(seen) if not mark.passed}


@pytest.mark.parametrize(
    ("changes", "mark"),
    [
        ({"publishing": PublishFaults(versions_wrong=1)}, "facts_are_changes"),
        ({"publishing": PublishFaults(torn=1)}, "facts_are_changes"),
        ({"publishing": PublishFaults(promised_missing=1)}, "commits_kept"),
        ({"publishing": PublishFaults(rolled_back_found=1)}, "commits_kept"),
        ({"cursor_samples": 0}, "cursors_never_go_back"),
        ({"regressions": ("back",)}, "cursors_never_go_back"),
        ({"epoch_faults": ("same epoch",)}, "epochs_rise"),
        ({"drained": False}, "drained"),
        ({"planned_kills": 1}, "every_blow_fell"),
        ({"kills": (Kill("writer_at_commit", "w", 1.0, False),), "planned_kills": 1}, "every_blow_fell"),
        ({"kills": (Kill("pause_anytime", "w", 1.0, True, None),), "planned_kills": 1}, "taken_over_in_time"),
        ({"kills": (Kill("pause_anytime", "w", 1.0, True, 99.0),), "planned_kills": 1}, "taken_over_in_time"),
        ({"crashes": ("near-1 ended with 1",)}, "nobody_else_died"),
    ],
)
def test_each_finding_misses_its_mark(changes: dict[str, object], mark: str) -> None:
    assert missed(evidence()) == set()
    assert missed(evidence(**changes)) == {mark}


@pytest.mark.parametrize(
    ("fault", "mark"),
    [
        (Faults(lost=1), "nothing_lost"),
        (Faults(duplicated=1), "nothing_twice"),
        (Faults(inversions=1), "order_kept"),
        (Faults(gaps=1), "nothing_skipped"),
        (Faults(invented=1), "nothing_invented"),
        (Faults(unfenced=1), "frozen_workers_commit_nothing"),
    ],
)
def test_each_fault_of_a_consumer_misses_its_mark(fault: Faults, mark: str) -> None:
    assert missed(evidence(heard=(Heard("drill.far", 4, 4, fault, 0, 0, 1.0, 2.0, 3.0),))) == {mark}


def test_sums_and_dead_letters_are_judged() -> None:
    assert missed(evidence(heard=(Heard("drill.far", 4, 4, Faults(), 1, 0, 1.0, 2.0, 3.0),))) == {"sums_agree"}
    assert missed(evidence(heard=(Heard("drill.far", 4, 4, Faults(), 0, 1, 1.0, 2.0, 3.0),))) == {"nothing_set_aside"}


def test_the_same_seed_plans_the_same_blows_and_twenty_seeds_plan_every_kind() -> None:
    assert kills.plan(Wanted(kills=10, seed=7)) == kills.plan(Wanted(kills=10, seed=7))
    assert kills.plan(Wanted(kills=10, seed=7)) != kills.plan(Wanted(kills=10, seed=8))
    planned = [blow.kind for seed in range(20) for blow in kills.plan(Wanted(kills=10, seed=seed))]
    assert set(planned) == {f"{whom}_{where}" for whom, places in kills.KINDS.items() for where in places}
    assert sum(not kind.startswith("pause") for kind in planned) == 200
    shares = [blow.share for blow in kills.plan(Wanted(kills=10, seed=7))]
    assert shares == sorted(shares)
    assert shares[-1] < 0.95


def test_four_kills_reach_a_writer_a_consumer_and_the_database_and_a_worker_is_frozen() -> None:
    whom = [blow.whom for blow in kills.plan(Wanted(kills=4))]
    assert sorted(whom) == ["consumer", "consumer", "database", "pause", "writer"]
    assert kills.plan(Wanted(kills=0)) == []


def test_the_dice_draw_what_makes_a_log_fail() -> None:
    dice = random.Random(1)
    load = Load("writer", 1, 1, 10_000)
    drawn = [draw(dice, load, f"t{n}", 1_000) for n in range(2_000)]
    assert 0.45 < sum(one.xid_first for one in drawn) / 2_000 < 0.55
    assert 0.03 < sum(one.fails for one in drawn) / 2_000 < 0.07
    assert any(one.savepoint for one in drawn)
    assert any(len(one.facts) > 2 for one in drawn)
    assert all(list(one.facts) == sorted(one.facts) and all(one.facts.values()) for one in drawn)
    assert max(one.size for one in drawn) == 32
    assert draw(dice, load, "last", 1).size == 1


@pytest.fixture
def nothing_left() -> object:
    """After the drill there is no process of it and no folder."""
    before = set(Path(tempfile.gettempdir()).glob("doorbuster-events-*"))
    yield
    left = [one.cmdline() for one in psutil.Process().children(recursive=True)]
    assert not [argv for argv in left if any("drills.events" in word for word in argv)]
    assert not set(Path(tempfile.gettempdir()).glob("doorbuster-events-*")) - before


@pytest.mark.timeout(180)
@pytest.mark.usefixtures("nothing_left")
def test_twenty_thousand_events_and_four_kills_lose_and_double_nothing() -> None:
    app = typer.Typer()
    drills.register(app)
    done = CliRunner().invoke(app, ["events", "--events", "20000", "--kills", "4", "--seed", "1", "--json"])
    assert done.exit_code == 0, done.output
    report = msgspec.json.decode(done.stdout, type=Report)
    assert report.passed
    assert all(mark.passed for mark in report.marks)
    assert report.events >= 20_000
    assert (report.lost, report.duplicated, report.inversions, report.cursor_regressions) == (0, 0, 0, 0)
    assert (kills_in(report.kills), pauses_in(report.kills)) == (4, 1)
    assert {one.consumer for one in report.consumers} == {"drill.near", "drill.far"}


@pytest.mark.parametrize(
    ("plant", "finding"),
    [
        (plants.SEQ_CURSOR, "nothing_lost"),
        (plants.XMIN_CURSOR, "order_kept"),
        (plants.NO_INBOX, "nothing_twice"),
        (plants.NO_EPOCH, "frozen_workers_commit_nothing"),
    ],
)
async def test_a_planted_fault_is_found(plant: str, finding: str) -> None:
    report = await run(Wanted(events=3_000, kills=0, seed=5, plant=plant))
    assert not report.passed
    assert finding in {mark.name for mark in report.marks if not mark.passed}
    assert {
        plants.SEQ_CURSOR: report.lost,
        plants.XMIN_CURSOR: report.inversions,
        plants.NO_INBOX: report.duplicated,
        plants.NO_EPOCH: report.duplicated + report.inversions,
    }[plant] > 0


def test_an_unknown_transport_or_plant_is_said_and_nothing_is_started() -> None:
    app = typer.Typer()
    drills.register(app)
    done = CliRunner().invoke(app, ["events", "--transport", "pigeon"])
    assert done.exit_code == 2
    assert "There is no transport 'pigeon'" in done.stderr
    done = CliRunner().invoke(app, ["events", "--plant", "rumour"])
    assert done.exit_code == 2
    assert "There is no plant 'rumour'" in done.stderr
