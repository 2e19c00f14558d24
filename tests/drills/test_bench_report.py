"""The report of the bench: each figure has its row, a missed mark is shown as missed; the router measured in small."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from doorbuster.drills.bench import report, router
from doorbuster.drills.bench.measure import LoadFigures
from doorbuster.drills.bench.report import Figures
from doorbuster.drills.bench.router import Load, RouterFigures, Window
from doorbuster.engines import payment_router
from doorbuster.engines.payment_router import Chosen, Outcome, PaymentFacts, lines, routing
from doorbuster.engines.payment_router.routing import Decision
from doorbuster.platform import settings
from doorbuster.platform.settings import Settings
from doorbuster.surfaces.cli.main import app

MEGABYTE = 2**20
P50, P99 = "a routing decision at 500/s, p50", "a routing decision at 500/s, p99"


def load(per_s: float, p99_ms: float = 100.0) -> LoadFigures:
    return LoadFigures(per_s, 50.0, p99_ms, {"201": 1_000}, 0.14)


def decided(*p99_ms: float) -> RouterFigures:
    return RouterFigures(500.0, tuple(Window(4_000, 0.25, one) for one in p99_ms))


GOOD = Figures(
    machine="2 cores", at="2026-11-23 12:00 UTC", durability={"fsync": "on"}, start_s=8.0, pgbench=[2_000.0] * 3,
    placements=[load(2_400.0)] * 3, paid=[load(900.0)] * 3, open_loop_rate=1_440.0, open_loop=load(1_440.0),
    one_by_one=load(300.0), reserve_alone=10_000.0, memory_idle={"all": 450 * MEGABYTE},
    memory_loaded={"all": 700 * MEGABYTE}, router=decided(1.1, 1.3, 1.2),
)  # fmt: skip


@pytest.mark.parametrize(
    ("worse", "row"),
    [
        ({"router": decided(1.0, 2.01, 3.0)}, P99),
        ({"placements": [load(1_999.0)] * 3}, "placements (awaiting payment)"),
        ({"paid": [load(799.0)] * 3}, "paid orders"),
        ({"one_by_one": load(601.0)}, "placements, one transaction each"),
        ({"open_loop": load(1_440.0, p99_ms=500.0)}, "open loop at 1,440/s: p99"),
        ({"start_s": 10.0}, "start, command to ready"),
        ({"memory_idle": {"all": 700 * MEGABYTE}}, "memory idle, all processes (PSS)"),
    ],
)
def test_each_mark_can_be_missed_and_is_shown_as_missed(worse: dict[str, object], row: str, tmp_path: Path) -> None:
    assert report.held(GOOD)
    found = msgspec.structs.replace(GOOD, **worse)
    assert not report.held(found)
    assert [one[0] for one in report.rows(found) if one[3].startswith("✗")] == [row]
    report.write_markdown(found, tmp_path / "B.md")
    (line,) = [line for line in (tmp_path / "B.md").read_text().splitlines() if line.startswith(f"| {row} |")]
    assert "✗" in line and "✓" not in line


def test_the_routers_figure_is_the_median_window_and_two_milliseconds_are_still_good(tmp_path: Path) -> None:
    found = msgspec.structs.replace(GOOD, router=decided(9.0, 2.0, 0.5))
    assert report.held(found)
    rows = {row[0]: row[1:] for row in report.rows(found)}
    assert rows[P99] == ("2.00 ms", "", "✓ ≤ 2 ms")
    assert rows[P50] == ("0.25 ms", "", "")
    report.write_markdown(found, tmp_path / "B.md")
    words = (tmp_path / "B.md").read_text()
    assert "medians of 3 windows (p50 / p99 in ms: 0.25 / 9.00, 0.25 / 2.00, 0.25 / 0.50)" in words
    assert msgspec.json.decode(msgspec.json.encode(found))["router"] == {
        "rate": 500.0, "windows": [{"decisions": 4_000, "p50_ms": 0.25, "p99_ms": p99} for p99 in (9.0, 2.0, 0.5)],
    }  # fmt: skip


def test_the_command_fails_when_the_router_is_too_slow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    slow = msgspec.structs.replace(GOOD, router=decided(2.1, 2.2, 2.3))
    for figures, code in ((GOOD, 0), (slow, 1)):
        monkeypatch.setattr(report, "run", lambda figures=figures, **_: figures)
        done = CliRunner().invoke(app, ["bench", "--out", str(tmp_path / "B.md")])
        assert done.exit_code == code, done.output
        assert ("✗ ≤ 2 ms" in (tmp_path / "B.md").read_text()) is (code == 1)


async def slow_choice(facts: PaymentFacts, *_: object) -> Chosen:
    time.sleep(0.01)  # noqa: ASYNC251  (it must hold the loop)
    return Chosen(Decision(facts, router.RULES.version, "otherwise", (), {}, "toss"), {})


async def noted(*_: object) -> None:
    """Counts nothing."""


async def test_the_router_is_measured_by_real_decisions_that_the_database_hears_of() -> None:
    found = await router.measure(Load(rate=200.0, seconds=1.0, repeats=2, warmup_s=0.5))
    assert [one.decisions for one in found.windows] == [200, 200]
    assert all(0.0 < one.p50_ms <= one.p99_ms < 5_000.0 for one in found.windows)


async def test_what_is_late_counts_from_when_it_was_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each decision takes 10 ms of the process: at 200 a second they queue, and the queue is in the figure."""
    monkeypatch.setattr(payment_router, "choose", slow_choice)
    monkeypatch.setattr(payment_router, "note", noted)
    took_ms = await router.decide(Load(rate=200.0), 0.5, "late")
    assert len(took_ms) == 100
    assert took_ms[0] >= 10.0
    assert took_ms[-1] >= 100 * 10.0 - 500.0, "the last one waited for all that were due before it"


def test_the_load_takes_every_branch_and_leaves_no_attempt_without_an_account(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "_current", Settings(providers=router.ACCOUNTS))
    assert routing.problems_of(router.RULES, lines.accounts()) == []
    made = router.attempts(2_000, "all branches")
    found = [payment_router.try_choice(one.facts, router.RULES) for one in made]
    assert {one.rule for one in found} == {"otherwise", *(rule.name for rule in router.RULES.rules)}
    assert {one.chosen for one in found} == set(router.ACCOUNTS)
    assert {one.result.outcome for one in made} == {Outcome.SUCCEEDED, Outcome.DECLINED, Outcome.UNKNOWN}
    assert any(one.tried for one in made)
