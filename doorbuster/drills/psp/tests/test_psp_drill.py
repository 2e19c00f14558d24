"""The drill itself, small: a provider that fails in every way holds every mark, and each plant misses its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from doorbuster.drills.psp.accounts import accounts, running_simulators
from doorbuster.drills.psp.assess import assess
from doorbuster.drills.psp.findings import Report
from doorbuster.drills.psp.naive import run_naive
from doorbuster.drills.psp.plan import Phases, Wanted
from doorbuster.drills.psp.run import Tellers, rush
from doorbuster.drills.psp.stage import running_stage
from doorbuster.platform import settings

SHORT = Phases(fault_s=2.0, heal_s=8.0, end_s=9.0, per_s=25.0)
"""No time for a way back: a plant must be found whatever else is missed."""


async def planted(wanted: Wanted) -> Report:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settings, "_current", settings._current)  # the drill uses its own shop's; put ours back
        mine = accounts(wanted.providers, wanted.kinds)
        with running_stage(mine, workers=2) as stage:
            seen = await rush(stage, wanted, SHORT, Tellers())
            return assess(wanted, SHORT, mine, seen)


def test_a_provider_that_fails_in_every_way_holds_every_mark(tmp_path: Path) -> None:
    page = tmp_path / "psp.html"
    command = [
        sys.executable,
        "-m",
        "doorbuster.surfaces.cli.main",
        "drill",
        "psp",
        "--fault",
        "mixed",
        "--payments",
        "400",
    ]
    ran = subprocess.run(
        [*command, "--json", "--report", str(page)], capture_output=True, text=True, timeout=170, check=False
    )  # fmt: skip
    assert ran.returncode in (0, 1), ran.stderr
    found = json.loads(ran.stdout)
    assert [mark for mark in found["marks"] if not mark["passed"]] == []
    assert ran.returncode == 0 and found["passed"]
    assert found["payments"] == 400 >= found["captured"] >= 380
    assert found["orders_captured_twice"] == found["second_provider_calls_while_unknown"] == found["unknown_left"] == 0
    assert found["outcomes_unknown"] >= 3
    assert page.exists() and json.loads(page.with_suffix(".json").read_text())["seed"] == found["seed"]


async def test_a_hand_that_charges_elsewhere_at_once_is_found() -> None:
    wanted = Wanted("capture-then-timeout", payments=225, plant="naive")
    found = await planted(wanted)
    missed = {mark.name for mark in found.marks if not mark.passed}
    assert {"no_order_captured_twice", "nobody_else_asked_while_unknown", "books_agree_with_ledgers"} <= missed
    assert found.orders_captured_twice >= 3 and found.second_provider_calls_while_unknown >= 3
    assert not found.passed


async def test_real_kinds_of_provider_are_judged_by_the_same_marks_against_their_own_ledgers() -> None:
    found = await planted(Wanted("capture-then-timeout", 225, 3, kinds=("toss", "stripe", "nicepay"), lost=0.1))
    assert [mark for mark in found.marks if not mark.passed and mark.name != "returns_in_steps"] == []
    assert (
        [one.name for one in found.providers] == [one.kind for one in found.providers] == ["toss", "stripe", "nicepay"]
    )
    assert min(one.captured for one in found.providers) > 0 and found.faulty == "toss"
    assert found.payments == found.captured == 225 and found.outcomes_unknown >= 3 and found.unknown_left == 0


async def test_an_operator_who_holds_the_circuit_closed_is_found() -> None:
    found = await planted(Wanted("capture-then-timeout", payments=225, plant="stubborn"))
    assert "payments_shifted" in {mark.name for mark in found.marks if not mark.passed}
    assert found.orders_captured_twice == 0, "slow to notice is not wrong about money"


async def test_failover_as_it_is_usually_written_charges_twice() -> None:
    with running_simulators(accounts(2)) as simulators:
        found = await run_naive(simulators, 120, seed=1)
    assert found.payments == 120 and found.told_paid == 120
    assert found.orders_captured_twice >= 5
    assert found.captured == 120 + found.orders_captured_twice
    assert found.second_provider_calls_while_unknown >= found.orders_captured_twice


@pytest.mark.parametrize(
    "wrong",
    [
        ["--fault", "odd"],
        ["--payments", "3"],
        ["--plant", "tree"],
        ["--payments", "300", "--kill"],
        ["--kinds", "toss,visa"],
        ["--kinds", "toss", "--plant", "naive"],
        ["--kinds", "toss", "--before"],
    ],
)
def test_what_cannot_be_drilled_is_refused_before_anything_starts(wrong: list[str]) -> None:
    command = [sys.executable, "-m", "doorbuster.surfaces.cli.main", "drill", "psp", *wrong]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 2 and "✗" in ran.stderr and "Traceback" not in ran.stderr
