"""The judge on made-up evidence: what is right passes, and every breach that is planted is found."""

from __future__ import annotations

import random
from typing import Any

import pytest

from doorbuster.drills.psp import judge
from doorbuster.drills.psp.evidence import Attempt, Change, Charge, CircuitChange, Payment

P, ORDER = "11111111-1111-4111-8111-111111111111", "o"


def attempt(number: int = 1, provider: str = "psp-a", state: str = "succeeded", **more: Any) -> Attempt:
    fields: dict[str, Any] = {"provider_id": f"ch{number}", "amount_minor": 700, "currency": "USD", "at": 0.0} | more
    return Attempt(
        payment_id=P, number=number, provider=provider, reference=f"{P}.{number}", state=state, **fields
    )  # fmt: skip


def charge(number: int = 1, account: str = "psp-a", at: float = 0.1, captured: bool = True, **more: Any) -> Charge:
    fields: dict[str, Any] = {"amount_minor": 700, "currency": "USD"} | more
    return Charge(account=account, id=f"ch{number}", reference=f"{P}.{number}", at=at, captured=captured, **fields)


def changes(number: int, *steps: tuple[str, float]) -> list[Change]:
    return [Change(P, number, state, at) for state, at in steps]


def test_a_reference_names_its_payment_and_its_attempt() -> None:
    assert (charge(2).payment_id, charge(2).number) == (P, 2)
    assert (Charge("a", "c", "odd", 1, "USD", 0.0, True).payment_id, charge(2, captured=False).number) == ("odd", 2)


def test_one_capture_for_each_order_is_right_and_a_second_at_another_provider_is_found() -> None:
    right = [charge(1, "psp-a", captured=False), charge(2, "psp-b")]
    assert judge.captured_twice(right, {P: ORDER}) == {}
    assert list(judge.captured_twice([charge(1, "psp-a"), charge(2, "psp-b")], {P: ORDER})) == [ORDER]
    assert list(judge.captured_twice([charge(1), charge(2)], {})) == [P], (
        "also for a payment that our books do not have"
    )


def test_a_capture_that_went_back_was_captured_all_the_same() -> None:
    given_back = charge(1, "psp-a", refunded_minor=700)
    assert judge.captured_twice([given_back, charge(2, "psp-b")], {P: ORDER})


def test_another_provider_after_certainty_is_right() -> None:
    attempts = [attempt(1, "psp-a", "not_sent"), attempt(2, "psp-b")]
    history = [*changes(1, ("sending", 0.0), ("not_sent", 1.0)), *changes(2, ("sending", 1.0005), ("succeeded", 1.2))]
    assert judge.calls_while_unknown(attempts, history, [charge(2, "psp-b", at=1.1)]) == []


@pytest.mark.parametrize("state", ["sending", "unknown", "pending"])
def test_a_charge_elsewhere_while_the_first_is_open_is_found_though_our_books_know_nothing_of_it(state: str) -> None:
    history = changes(1, ("sending", 0.0), (state, 0.5), ("succeeded", 3.0))
    found = judge.calls_while_unknown([attempt(1)], history, [charge(1), charge(2, "psp-b", at=1.0)])
    assert len(found) == 1 and state in found[0]


def test_a_charge_elsewhere_after_the_first_has_succeeded_is_found() -> None:
    history = changes(1, ("sending", 0.0), ("succeeded", 0.5))
    assert judge.calls_while_unknown([attempt(1)], history, [charge(2, "psp-b", at=1.0)])


def test_a_next_attempt_that_was_begun_too_early_is_found_though_it_never_reached_a_ledger() -> None:
    attempts = [attempt(1, "psp-a", "not_executed"), attempt(2, "psp-b", "not_sent")]
    history = [
        *changes(1, ("sending", 0.0), ("unknown", 1.0)),
        *changes(2, ("sending", 1.5), ("not_sent", 1.6)),
        *changes(1, ("not_executed", 20.0)),
    ]
    assert judge.calls_while_unknown(attempts, history, [])


def test_a_ledgers_clock_that_is_cut_to_the_millisecond_accuses_nobody() -> None:
    attempts = [attempt(1, "psp-a", "declined"), attempt(2, "psp-b")]
    history = [*changes(1, ("sending", 0.0), ("declined", 1.0004)), *changes(2, ("sending", 1.0004))]
    assert judge.calls_while_unknown(attempts, history, [charge(2, "psp-b", at=1.0)]) == []


def test_a_capture_that_was_cancelled_whole_by_reference_agrees_with_an_attempt_that_is_called_voided() -> None:
    voided, back = attempt(1, state="not_executed", code="voided"), charge(1, refunded_minor=700)
    assert judge.book_differences([voided], [back]) == []
    assert judge.book_differences([voided], [charge(1, refunded_minor=699)])
    assert judge.book_differences([voided], [charge(1)])
    assert judge.book_differences([attempt(1, state="not_executed", code="not_found")], [back])
    assert judge.book_differences([attempt(1, state="unknown", code="voided")], [back])


def test_books_that_agree_have_no_difference() -> None:
    attempts = [attempt(1, "psp-a", "declined", provider_id="x"), attempt(2, "psp-b")]
    assert judge.book_differences(attempts, [charge(1, captured=False), charge(2, "psp-b")]) == []


@pytest.mark.parametrize(
    ("attempts", "charges"),
    [
        ([], [charge()]),
        ([attempt(state="unknown")], [charge()]),
        ([attempt(state="not_executed")], [charge()]),
        ([attempt()], []),
        ([attempt()], [charge(captured=False)]),
        ([attempt()], [charge(account="psp-b")]),
        ([attempt()], [charge(amount_minor=699)]),
        ([attempt()], [charge(currency="KRW")]),
        ([attempt(provider_id="ch9")], [charge()]),
        ([attempt(state="late_success")], [charge(refunded_minor=0)]),
        ([attempt(state="declined")], []),
    ],
)
def test_each_planted_difference_between_books_and_ledger_is_found(
    attempts: list[Attempt], charges: list[Charge]
) -> None:
    assert judge.book_differences(attempts, charges)


def traffic(*spans: tuple[float, float], provider: str = "psp-a", is_probe: bool = False) -> list[Attempt]:
    """Ten attempts a second during each span."""
    return [
        Attempt(f"p{a}{n}", 1, provider, f"r{a}{n}{provider}", "", 1, "USD", "succeeded", a + n / 10, is_probe)
        for a, b in spans
        for n in range(int((b - a) * 10))
    ]


ELSEWHERE = traffic((0, 30), provider="psp-b")


def test_the_shift_is_the_last_payment_that_went_there_probes_aside() -> None:
    seen = traffic((0, 11.3), (20, 30)) + traffic((13, 19), is_probe=True) + ELSEWHERE
    assert judge.seconds_to_shift(seen, "psp-a", 10.0, 20.0) == pytest.approx(1.2)


def test_traffic_that_never_left_has_not_shifted() -> None:
    assert judge.seconds_to_shift(traffic((0, 30)) + ELSEWHERE, "psp-a", 10.0, 20.0) is None
    short = traffic((0, 18.5), (20, 30)) + ELSEWHERE
    assert judge.seconds_to_shift(short, "psp-a", 10.0, 20.0) is None, "too short to say"


def test_traffic_that_comes_back_too_early_does_not_undo_the_shift() -> None:
    early = traffic((0, 11.0), (16, 20)) + ELSEWHERE
    assert judge.seconds_to_shift(early, "psp-a", 10.0, 20.0) == pytest.approx(0.9)


def test_a_shop_that_sends_nobody_anything_has_shifted_nothing() -> None:
    dead = traffic((0, 10.5), (14, 16)) + traffic((0, 10.5), (14, 20), provider="psp-b")
    assert judge.seconds_to_shift(dead, "psp-a", 10.0, 20.0) == pytest.approx(5.9)


STEPS = [
    ("open", 0, 11.0),
    ("probing", 0, 21.0),
    ("ramping", 0, 22.0),
    ("ramping", 1, 32.0),
    ("ramping", 2, 42.0),
    ("closed", 0, 52.0),
]


def circuits(*steps: tuple[str, int, float]) -> list[CircuitChange]:
    return [CircuitChange("psp-a", state, step, at) for state, step, at in steps]


def shares(weight: float, *spans: tuple[float, float, float], per_s: int = 40) -> list[Attempt]:
    """Payments at an even pace; in each span psp-a gets its share of what its weight would give it."""
    dice, found = random.Random(3), []
    for a, b, share in spans:
        for n in range(int((b - a) * per_s)):
            name = "psp-a" if dice.random() < share * weight else "psp-b"
            found.append(Attempt(f"p{a}{n}", 1, name, f"r{a}{n}", "", 1, "USD", "succeeded", a + n / per_s))
    return found


WELL = ((11, 22, 0.0), (22, 32, 0.1), (32, 42, 0.25), (42, 52, 0.5), (52, 70, 1.0))


def test_the_way_back_is_read_step_by_step_with_the_share_of_each() -> None:
    steps = judge.way_back(circuits(("closed", 0, 0.0), *STEPS), shares(0.6, *WELL), "psp-a", 0.6, 70.0)
    assert [step.share for step in steps] == [0.0, 0.0, 0.1, 0.25, 0.5, 1.0]
    assert not any(step.is_off for step in steps)
    assert judge.seconds_to_return(steps, 20.0) == 32.0


def test_a_provider_that_gets_everything_at_once_is_off_its_step() -> None:
    at_once = shares(0.6, (11, 22, 0.0), (22, 70, 1.0))
    steps = judge.way_back(circuits(*STEPS), at_once, "psp-a", 0.6, 70.0)
    assert [step.share for step in steps if step.is_off] == [0.1, 0.25, 0.5]


def test_payments_that_go_to_an_open_circuit_are_off_too() -> None:
    steps = judge.way_back(circuits(*STEPS), shares(0.6, (11, 22, 0.3), *WELL[1:]), "psp-a", 0.6, 70.0)
    assert steps[0].is_off and steps[1].is_off


def test_a_circuit_that_is_still_on_its_way_has_not_returned() -> None:
    steps = judge.way_back(circuits(*STEPS[:-1]), shares(0.6, *WELL), "psp-a", 0.6, 70.0)
    assert judge.seconds_to_return(steps, 20.0) is None
    assert judge.seconds_to_return((), 20.0) is None


def test_only_the_last_way_back_counts() -> None:
    twice = circuits(("open", 0, 1.0), ("probing", 0, 3.0), ("ramping", 0, 5.0), *STEPS)
    assert judge.way_back(twice, [], "psp-a", 0.6, 70.0)[0].from_s == 11.0


def test_probes_that_overlap_are_counted_together_and_those_of_the_dead_end_with_the_time_out() -> None:
    def probe(n: int, at: float) -> Attempt:
        return Attempt(f"p{n}", 1, "psp-a", f"r{n}", "", 1, "USD", "unknown", at, is_probe=True)

    probes = [probe(1, 0.0), probe(2, 0.5), probe(3, 1.0), probe(4, 1.6)]
    history = [Change(f"p{n}", 1, "sending", at) for n, at in ((1, 0.0), (2, 0.5), (3, 1.0), (4, 1.6))]
    assert judge.most_probes(probes, [*history, Change("p1", 1, "unknown", 1.5)], 1.5) == 3
    assert judge.most_probes(probes, history, 60.0) == 4
    assert judge.most_probes(traffic((0, 5)), [], 1.5) == 0


def test_success_counts_the_payments_that_are_asked_for() -> None:
    payments = [
        Payment("1", "o1", "succeeded", "", 1.0, "paid"),
        Payment("2", "o2", "failed", "not_found", 2.0, "awaiting_payment"),
        Payment("3", "o3", "succeeded", "", 3.0, "paid"),
    ]
    found = judge.success_of(payments, lambda one: one.at > 1.5)
    assert (found.payments, found.succeeded, found.share, found.others) == (2, 1, 0.5, {"failed not_found": 1})
    assert judge.success_of([], lambda one: True).share == 1.0


def test_who_was_being_sent_at_a_moment_is_known_from_the_history() -> None:
    attempts = [attempt(1, at=1.0)]
    history = changes(1, ("sending", 1.0), ("succeeded", 2.0))
    assert judge.in_flight_at(attempts, history, 1.5) == {P}
    assert judge.in_flight_at(attempts, history, 0.5) == judge.in_flight_at(attempts, history, 2.5) == set()


def test_what_was_committed_for_a_dead_worker_is_its_own_and_what_a_living_one_began_then_is_not() -> None:
    attempts = [attempt(1, at=1.2, state="not_executed")]
    orphan = changes(1, ("sending", 1.2), ("unknown", 5.0), ("not_executed", 25.0))
    living = changes(1, ("sending", 1.2), ("unknown", 2.9), ("not_executed", 25.0))
    assert judge.left_by_the_dead(attempts, orphan, 1.0, 1.5) == {P}
    assert judge.left_by_the_dead(attempts, living, 1.0, 1.5) == set()
    assert judge.left_by_the_dead(attempts, orphan, 0.1, 1.5) == set(), "begun by another, after the kill"
    assert judge.left_by_the_dead(attempts, living, 1.3, 1.5) == {P}, "being sent at the moment"
