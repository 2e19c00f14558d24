"""Every mark holds on a made-up run in which all is right; where one thing is wrong, exactly its mark misses."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec
import pytest

from doorbuster.drills.psp import report
from doorbuster.drills.psp.accounts import accounts
from doorbuster.drills.psp.assess import assess
from doorbuster.drills.psp.evidence import Attempt, Change, Charge, CircuitChange, Evidence, Kill, Payment, Served, Told
from doorbuster.drills.psp.findings import Report
from doorbuster.drills.psp.plan import FAULTS, Phases, Wanted, episodes, phases_of

TWO = accounts(2)
PHASES = Phases(fault_s=10.0, heal_s=20.0, end_s=70.0, per_s=40.0)
DOWN = Wanted("down", payments=2_800)
CIRCUITS = (
    ("open", 0, 11.0), ("probing", 0, 21.0), ("ramping", 0, 22.0), ("ramping", 1, 32.0), ("ramping", 2, 42.0),
    ("closed", 0, 52.0),
)  # fmt: skip
SHARES = ((11.0, 1.0), (22.0, 0.0), (32.0, 0.1), (42.0, 0.25), (52.0, 0.5), (70.0, 1.0))


def change(evidence: Evidence, **fields: object) -> Evidence:
    return msgspec.structs.replace(evidence, **fields)


def a_good_run(seed: int = 5) -> Evidence:
    """Down for ten seconds: the second that it takes to be noticed, then nothing, probes, and the way back."""
    dice = random.Random(seed)
    payments, attempts, changes, charges, served = [], [], [], [], []
    for n in range(2_800):
        at, key = n / 40, f"{n:08d}"
        share = next(share for until, share in SHARES if at < until)
        first = "psp-a" if dice.random() < share * 0.6 else "psp-b"
        is_probe = n in (842, 850, 858)
        asked = ["psp-a"] if is_probe else [first]
        if first == "psp-a" and 10.0 <= at < 11.0:
            asked.append("psp-b")
        for number, name in enumerate(asked, start=1):
            state = "succeeded" if number == len(asked) else "not_sent"
            begun = at + (number - 1) * 0.02
            charge_id = f"ch{key}{number}" if state == "succeeded" else ""
            attempts.append(
                Attempt(key, number, name, f"{key}.{number}", charge_id, 700, "USD", state, begun, is_probe=is_probe)
            )
            changes += [Change(key, number, "sending", begun), Change(key, number, state, begun + 0.015)]
            if charge_id:
                charges.append(Charge(name, charge_id, f"{key}.{number}", 700, "USD", begun + 0.01, True))
        payments.append(Payment(key, f"order {key}", "succeeded", "", at, "paid"))
        served.append(Served(at, 40.0, 201, "paid"))
    return Evidence(
        faulty="psp-a",
        fault_s=10.0,
        heal_s=20.0,
        payments=tuple(payments),
        attempts=tuple(attempts),
        changes=tuple(changes),
        charges=tuple(charges),
        circuits=tuple(CircuitChange("psp-a", *one) for one in CIRCUITS),
        most_permits=3,
        told=Told(tuple(served), 0, 0),
        invariants_checked=28,
        decisions=len(attempts),
    )


GOOD = a_good_run()


def missed(seen: Evidence, wanted: Wanted = DOWN) -> set[str]:
    return {mark.name for mark in assess(wanted, PHASES, TWO, seen).marks if not mark.passed}


def test_a_good_run_holds_every_mark() -> None:
    found = assess(DOWN, PHASES, TWO, GOOD)
    assert [mark for mark in found.marks if not mark.passed] == []
    assert found.passed and 0.5 < found.seconds_to_shift <= 1.0  # type: ignore[operator]
    assert (found.payments, found.captured, found.seconds_to_return) == (2_800, 2_800, 32.0)


def test_the_names_of_the_json_are_stable() -> None:
    told = msgspec.to_builtins(assess(DOWN, PHASES, TWO, GOOD))
    calls = "second_provider_calls_while_unknown"
    whole = ("payments", "captured", "orders_captured_twice", calls, "unknown_left", "cases")
    assert all(isinstance(told[name], int) for name in whole)
    assert all(
        isinstance(told[name], float) for name in ("seconds_to_shift", "seconds_to_return", "success_after_shift")
    )


def also_charged_elsewhere(seen: Evidence) -> Evidence:
    victim = next(one for one in seen.charges if one.account == "psp-a")
    again = Charge("psp-b", "chX", f"{victim.payment_id}.2", 700, "USD", victim.at + 0.5, True)
    return change(seen, charges=(*seen.charges, again))


def charged_before_it_was_known(seen: Evidence) -> Evidence:
    """The first attempt is found not to have been sent only after the second provider was charged."""
    second = next(one for one in seen.attempts if one.number == 2)
    late = [
        msgspec.structs.replace(one, at=second.at + 0.5)
        if (one.payment_id, one.number, one.state) == (second.payment_id, 1, "not_sent")
        else one
        for one in seen.changes
    ]
    return change(seen, changes=tuple(sorted(late, key=lambda one: one.at)))


def settled_wrongly(seen: Evidence) -> Evidence:
    last = msgspec.structs.replace(seen.attempts[-1], state="not_executed")
    return change(seen, attempts=(*seen.attempts[:-1], last))


def left_unknown(seen: Evidence) -> Evidence:
    state = "unknown"
    last = msgspec.structs.replace(seen.attempts[-1], state=state)
    charges = tuple(one for one in seen.charges if one.reference != last.reference)
    return change(seen, attempts=(*seen.attempts[:-1], last), charges=charges, unknown_without_case=1)


def noticed_late(seen: Evidence) -> Evidence:
    """Until 12.5 s a payment goes to psp-a now and then, and from there to psp-b."""
    extra = [one for one in seen.attempts if one.number == 1 and 11.0 <= one.at < 12.5 and one.provider == "psp-b"][::8]
    moved = {one.payment_id for one in extra}
    attempts = tuple(
        msgspec.structs.replace(one, provider="psp-a") if one.payment_id in moved else one for one in seen.attempts
    )
    charges = tuple(
        msgspec.structs.replace(one, account="psp-a") if one.payment_id in moved else one for one in seen.charges
    )
    circuits = tuple(CircuitChange("psp-a", *one) for one in (("open", 0, 12.6), *CIRCUITS[1:]))
    return change(seen, attempts=attempts, charges=charges, circuits=circuits)


def some_failed(seen: Evidence) -> Evidence:
    """One payment in 500 after the shift; its attempts are as they were, so no other mark has a word to say."""
    return change(
        seen,
        payments=tuple(
            msgspec.structs.replace(one, state="failed", code="unreachable", order_state="awaiting_payment")
            if one.at > 15 and n % 500 == 0
            else one
            for n, one in enumerate(seen.payments)
        ),
    )


def came_back_at_once(seen: Evidence) -> Evidence:
    circuits = tuple(CircuitChange("psp-a", *one) for one in (*CIRCUITS[:2], ("closed", 0, 22.0)))
    return change(seen, circuits=circuits)


def never_came_back(seen: Evidence) -> Evidence:
    return change(seen, circuits=seen.circuits[:-1])


def paid_for_nothing(seen: Evidence) -> Evidence:
    first = msgspec.structs.replace(seen.payments[0], order_state="awaiting_payment")
    return change(seen, payments=(first, *seen.payments[1:]))


BREACHES: list[tuple[Callable[[Evidence], Evidence], set[str]]] = [
    (
        also_charged_elsewhere,
        {"no_order_captured_twice", "nobody_else_asked_while_unknown", "books_agree_with_ledgers"},
    ),
    (charged_before_it_was_known, {"nobody_else_asked_while_unknown"}),
    (settled_wrongly, {"books_agree_with_ledgers"}),
    (paid_for_nothing, {"orders_agree_with_payments"}),
    (left_unknown, {"nothing_left_unknown"}),
    (lambda seen: change(seen, restless=("order x is paying",)), {"nothing_left_unknown"}),
    (noticed_late, {"payments_shifted"}),
    (some_failed, {"payments_after_the_shift_succeed"}),
    (lambda seen: change(seen, most_permits=4), {"few_probes_at_once"}),
    (came_back_at_once, {"returns_in_steps"}),
    (never_came_back, {"returns_in_steps"}),
    (lambda seen: change(seen, told=Told(seen.told.served, 1, 0)), {"everybody_was_answered"}),
    (lambda seen: change(seen, told=Told(seen.told.served, 0, 0, "cut short")), {"everybody_was_answered"}),
    (lambda seen: change(seen, invariant_breaches=("payment.x",)), {"invariants_hold"}),
    (lambda seen: change(seen, decisions_that_differ=("p",)), {"decisions_replay"}),
]


@pytest.mark.parametrize(("breach", "wanted"), BREACHES)
def test_each_planted_breach_misses_its_mark_and_no_other(
    breach: Callable[[Evidence], Evidence], wanted: set[str]
) -> None:
    assert missed(breach(GOOD)) == wanted


def test_a_fault_that_hit_nobody_proves_nothing() -> None:
    untouched = tuple(one for one in GOOD.changes if one.state != "not_sent")
    assert "the_fault_was_felt" in missed(change(GOOD, changes=untouched))
    assert missed(GOOD, msgspec.structs.replace(DOWN, lost=0.1)) == {"the_fault_was_felt"}, "nor answers that came"


def test_a_slow_provider_may_be_noticed_a_time_out_later_and_one_that_fails_at_random_within_the_fault() -> None:
    late = noticed_late(GOOD)
    assert "payments_shifted" not in missed(late, msgspec.structs.replace(DOWN, fault="slow"))
    assert "payments_shifted" not in missed(late, msgspec.structs.replace(DOWN, fault="mixed"))


def test_an_unknown_outcome_that_a_person_was_told_of_is_a_case() -> None:
    told = change(left_unknown(GOOD), unknown_without_case=0, cases=1)
    assert missed(told) == set()
    found = assess(DOWN, PHASES, TWO, told)
    assert (found.unknown_left, found.cases) == (1, 1)


def test_kills_must_hit_attempts_that_are_being_sent() -> None:
    killed = msgspec.structs.replace(DOWN, kill=True)
    struck = tuple(Kill(5.0 + n, "worker-1", 2, 1.5) for n in range(5))
    assert missed(change(GOOD, kills=struck), killed) == set()
    idle = tuple(msgspec.structs.replace(one, in_flight=0) for one in struck)
    assert missed(change(GOOD, kills=idle), killed) == {"survives_kill_of_workers"}
    gone = (*struck[:-1], msgspec.structs.replace(struck[-1], back_after_s=None))
    assert missed(change(GOOD, kills=gone), killed) == {"survives_kill_of_workers"}


def test_what_a_killed_worker_was_sending_does_not_count_against_the_shop_and_everything_else_does() -> None:
    kill = Kill(30.005, "worker-1", 1, 1.5)
    sent_then = [one.payment_id for one in GOOD.attempts if one.at <= kill.at < one.at + 0.015]
    assert sent_then
    lost = tuple(
        msgspec.structs.replace(one, state="failed", code="not_found", order_state="expired")
        if one.id in sent_then
        else one
        for one in GOOD.payments
    )
    wanted = msgspec.structs.replace(DOWN, kill=True)
    before = assess(wanted, PHASES, TWO, GOOD).payments_after_shift
    found = assess(wanted, PHASES, TWO, change(GOOD, payments=lost, kills=(kill,)))
    assert found.success_after_shift == 1.0 and found.payments_after_shift == before - len(sent_then)


def test_the_page_shows_every_mark_and_loads_nothing() -> None:
    found: Report = assess(DOWN, PHASES, TWO, GOOD)
    page = report.router_page(found)
    assert all(mark.name in page for mark in found.marks)
    assert page.count("<svg") == 5
    assert not any(word in page for word in ("http://", "https://", "src=", "@import", "url("))


def test_a_sparkline_has_one_character_for_each_value_and_shows_the_least_of_something() -> None:
    assert report.sparkline([0, 0.1, 4, 8]) == " ▁▄█"
    assert report.sparkline([0, 0]) == "  " and report.sparkline([]) == ""


@pytest.mark.parametrize("payments", [300, 599, 600, 10_000, 100_000])
def test_the_pace_stays_within_what_a_small_machine_can_serve_and_every_phase_has_its_time(payments: int) -> None:
    phases = phases_of(payments)
    assert phases.per_s <= 120.001 and phases.per_s * phases.end_s == pytest.approx(payments)
    assert 0 < phases.fault_s + 5 < phases.heal_s and phases.heal_s + 25 < phases.end_s


@pytest.mark.parametrize("fault", FAULTS)
def test_the_same_seed_draws_the_same_faults_and_the_last_act_is_the_recovery(fault: str) -> None:
    phases = phases_of(2_400)
    acts = episodes(fault, phases, 3)  # type: ignore[arg-type]
    assert acts == episodes(fault, phases, 3)  # type: ignore[arg-type]
    assert acts[0].at_s == phases.fault_s and acts[-1].at_s == phases.heal_s and acts[-1].words == "well again"
    assert [act.at_s for act in acts] == sorted(act.at_s for act in acts)
    if fault == "mixed":
        assert acts != episodes("mixed", phases, 4) and len(acts) > 3
