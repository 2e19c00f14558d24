"""A circuit opens on technical failures only, lets few probes through, and comes back in steps."""

from __future__ import annotations

from collections import defaultdict

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from doorbuster.engines.payment_router import health
from doorbuster.engines.payment_router.health import Circuit, Counts, Limits
from doorbuster.engines.payment_router.outcome import Outcome

LIMITS = Limits()
T = 1_700_000_000.0


class Line:
    """One provider over time: answers come, the circuit follows."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.limits = limits
        self.now = T
        self.circuit = Circuit()
        self.heard: defaultdict[int, defaultdict[int, Counts]] = defaultdict(lambda: defaultdict(Counts))
        self.states: list[tuple[str, float]] = []

    def answer(self, *outcomes: Outcome) -> None:
        for outcome in outcomes:
            self.late(self.circuit.generation, outcome)

    def late(self, generation: int, outcome: Outcome) -> None:
        """An answer to what was sent in an earlier generation."""
        self.heard[generation][int(self.now)] += health.counted(outcome)
        self.look()

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.look()

    def look(self) -> None:
        self.circuit = health.advance(self.circuit, self.heard[self.circuit.generation], self.now, self.limits)
        self.states.append((self.circuit.state, self.share))

    @property
    def share(self) -> float:
        return health.standing_of(self.circuit, self.limits).share


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.mark.parametrize("failure", [Outcome.NOT_SENT, Outcome.UNKNOWN])
def test_failures_open_it_at_once_and_all_traffic_goes_elsewhere(line: Line, failure: Outcome) -> None:
    line.answer(*[failure] * (LIMITS.least_failures - 1))
    assert (line.circuit.state, line.share) == ("closed", 1.0)
    line.answer(failure)
    assert (line.circuit.state, line.share) == ("open", 0.0)


@pytest.mark.parametrize("harmless", [Outcome.DECLINED, Outcome.NOT_EXECUTED, Outcome.PENDING, Outcome.SUCCEEDED])
def test_what_is_not_the_providers_fault_never_opens_it(line: Line, harmless: Outcome) -> None:
    for _ in range(30):
        line.answer(*[harmless] * 50)
        line.wait(1)
    assert {state for state, _ in line.states} == {"closed"}


def test_few_failures_among_many_good_answers_do_not_open_it(line: Line) -> None:
    for _ in range(30):
        line.answer(*[Outcome.SUCCEEDED] * 20, *[Outcome.UNKNOWN] * 8)
        line.wait(1)
    assert line.circuit.state == "closed"


@pytest.mark.parametrize("per_s", [5, 10, 40, 400])
@pytest.mark.parametrize("offset_s", [0.0, 0.1, 0.3, 0.5, 0.7, 0.95])
@pytest.mark.parametrize("state", ["closed", "ramping"])
def test_an_outage_under_steady_load_opens_it_within_two_seconds(per_s: int, offset_s: float, state: str) -> None:
    # The good answers of the seconds before must not outvote it for as long as they are in the window.
    line = Line(msgspec.structs.replace(LIMITS, step_s=1e6))
    line.circuit = Circuit(state=state, since=T, step=2 if state == "ramping" else 0)  # type: ignore[arg-type]
    for _ in range(20 * per_s):
        line.answer(Outcome.SUCCEEDED)
        line.wait(1 / per_s)
    line.wait(offset_s)
    down_at = line.now
    while line.circuit.state == state and line.now < down_at + 30:
        line.answer(Outcome.NOT_SENT)
        line.wait(1 / per_s)
    assert line.circuit.state == "open"
    assert line.now - down_at <= 1.75, "and a quarter of a second more until all workers know"


def test_a_burst_of_failures_among_good_answers_does_not_open_it(line: Line) -> None:
    for n in range(1_200):
        line.answer(Outcome.UNKNOWN if n % 200 >= 190 else Outcome.SUCCEEDED)
        line.wait(0.05)
    assert {state for state, _ in line.states} == {"closed"}


def test_old_failures_are_forgotten_with_their_window(line: Line) -> None:
    line.answer(*[Outcome.UNKNOWN] * 4)
    line.wait(LIMITS.window_s)
    line.answer(*[Outcome.UNKNOWN] * 4)
    assert line.circuit.state == "closed"


def test_the_way_back_is_probes_then_each_step_and_then_everything(line: Line) -> None:
    line.answer(*[Outcome.UNKNOWN] * 5)
    line.wait(LIMITS.open_s - 0.1)
    assert line.circuit.state == "open"
    line.wait(0.1)
    assert (line.circuit.state, line.share) == ("probing", 0.0)
    line.now += 1
    line.answer(*[Outcome.SUCCEEDED] * LIMITS.probe_successes)
    seen = [line.share]
    for _ in range(len(LIMITS.steps)):
        line.now += LIMITS.step_s
        line.answer(*[Outcome.SUCCEEDED] * LIMITS.step_successes)
        seen.append(line.share)
    assert seen == [*LIMITS.steps, 1.0]
    assert (line.circuit.state, line.circuit.opened) == ("closed", 0)


def test_time_outs_of_requests_from_before_do_not_end_a_probe(line: Line) -> None:
    line.answer(*[Outcome.NOT_SENT] * 5)
    line.wait(LIMITS.open_s)
    for _ in range(20):
        line.late(0, Outcome.UNKNOWN)
    assert line.states[-1][0] == "probing"
    line.answer(*[Outcome.SUCCEEDED] * LIMITS.probe_successes)
    assert line.circuit.state == "ramping"


def test_a_step_is_not_left_before_enough_has_gone_well(line: Line) -> None:
    line.circuit = Circuit("ramping", T, opened=1)
    line.answer(*[Outcome.SUCCEEDED] * 100)
    assert line.circuit.step == 0, "not before its time"
    line.circuit = Circuit("ramping", T, opened=1, generation=1)
    line.wait(100)
    assert line.circuit.step == 0, "nobody has paid with it yet"


def test_a_failed_probe_opens_it_again_for_twice_as_long_up_to_a_limit(line: Line) -> None:
    line.answer(*[Outcome.UNKNOWN] * 5)
    pauses = []
    for _ in range(6):
        pauses.append(line.circuit.until - line.circuit.since)
        line.wait(pauses[-1])
        assert line.share == 0.0
        line.now += 1
        line.answer(Outcome.NOT_SENT)
    assert pauses == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0]


def test_failures_on_the_way_back_open_it_again(line: Line) -> None:
    line.circuit = Circuit("ramping", T, opened=1, step=1)
    line.answer(*[Outcome.SUCCEEDED] * 4, *[Outcome.UNKNOWN] * 5)
    assert line.circuit.state == "open"


@pytest.mark.parametrize(("forced", "share"), [("open", 0.0), ("closed", 1.0)])
@pytest.mark.parametrize("state", ["closed", "open", "probing", "ramping"])
def test_what_an_operator_says_holds_whatever_is_measured(line: Line, state: str, forced: str, share: float) -> None:
    line.circuit = msgspec.convert({"state": state, "since": T, "until": T + 9, "forced": forced}, Circuit)
    line.answer(*[Outcome.UNKNOWN] * 20)
    line.wait(1_000)
    line.answer(*[Outcome.SUCCEEDED] * 20)
    assert (line.share, line.circuit.forced) == (share, forced)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(list(Outcome)), st.sampled_from([0.0, 0.1, 1.0, 5.0, 70.0])), min_size=1, max_size=120
    )
)
def test_the_share_only_rises_by_one_step_at_a_time_and_only_after_success(
    history: list[tuple[Outcome, float]],
) -> None:
    line = Line()
    rungs = [0.0, *LIMITS.steps, 1.0]
    before, good = 1.0, 0
    for outcome, pause in history:
        good += outcome in (Outcome.SUCCEEDED, Outcome.DECLINED, Outcome.PENDING)
        line.answer(outcome)
        line.wait(pause)
        for _, share in line.states:
            if share > before:
                assert rungs.index(share) == rungs.index(before) + 1
                assert good > 0
                good = 0
            before = share
        line.states.clear()
