"""The pass marks of the router's part: what must hold whatever a provider does, each with its bound and its figure."""

from __future__ import annotations

from collections.abc import Sequence

from doorbuster.drills.psp import judge
from doorbuster.drills.psp.evidence import Evidence
from doorbuster.drills.psp.findings import Report
from doorbuster.drills.timedeal.findings import Mark

SHIFT_WITHIN_S = 2.0
"""From a provider that cannot be reached. One that is silent is noticed when its first answers are overdue, so the
payment's time-out is added there."""
SUCCESS_AFTER_SHIFT = 0.999
MOST_PROBES = 3
"""K of the router's health (`Limits.probes`), said here again on purpose."""
STEPS = (0.0, 0.1, 0.25, 0.5, 1.0)
FELT = 5
MIN_KILLS = 3


def router_marks(
    found: Report, seen: Evidence, twice: Sequence[str], early: Sequence[str], differ: Sequence[str]
) -> tuple[Mark, ...]:
    """Every mark; the drill passes when all of them do."""
    marks = [
        _mark("no_order_captured_twice", [f"order {one} was captured twice" for one in twice],
              f"0 of {found.payments:,} orders, {found.captured:,} captures at the providers' ledgers"),
        _mark("nobody_else_asked_while_unknown", early,
              f"0 calls; {found.outcomes_unknown:,} attempts were unknown for a while"),
        _mark("books_agree_with_ledgers", differ,
              f"{found.captured:,} captures and {len(seen.attempts):,} attempts, compared by reference"),
        _mark("orders_agree_with_payments", judge.orders_that_disagree(seen.payments),
              f"{found.payments:,} payments, each order paid if and only if its payment succeeded"),
        _nothing_left(found, seen),
        _shifted(found),
        _success(found),
        _probes(found),
        _returned(found),
        _mark("everybody_was_answered", _unanswered(seen), f"{len(seen.told.served):,} orders, each with an answer"),
        _mark("invariants_hold", seen.invariant_breaches, f"{seen.invariants_checked} queries found nothing"),
        _mark("decisions_replay", [f"payment {one} replays to another choice" for one in seen.decisions_that_differ],
              f"{seen.decisions:,} decisions, made again from what they kept"),
        _felt(found, seen),
    ]  # fmt: skip
    return (*marks, _kills(found)) if found.kill else tuple(marks)


def _mark(name: str, faults: Sequence[str], detail: str) -> Mark:
    """Passed without faults; else their number and the first few of them."""
    more = f" … {len(faults)} in all" if len(faults) > 3 else ""
    return Mark(name, not faults, "; ".join(faults[:3]) + more if faults else detail)


def _nothing_left(found: Report, seen: Evidence) -> Mark:
    faults = list(seen.restless)
    if seen.unknown_without_case:
        faults.insert(
            0, f"{found.unknown_left} outcomes are unknown, {seen.unknown_without_case} of them without a case"
        )
    detail = f"{found.unknown_left} unknown, {found.cases} cases, {found.settled_after_s:g} s after the last order"
    return _mark("nothing_left_unknown", faults, detail)


def shift_bound_s(found: Report) -> float | None:
    """So soon new payments must go elsewhere; None: when it fails now and then there is no moment to be bound."""
    if found.fault == "down":
        return SHIFT_WITHIN_S
    return None if found.fault == "mixed" else SHIFT_WITHIN_S + found.payment_timeout_s


def _shifted(found: Report) -> Mark:
    bound, took = shift_bound_s(found), found.seconds_to_shift
    words = "while it failed" if bound is None else f"bound {bound:g} s"
    if took is None:
        return Mark("payments_shifted", False, f"new payments went on to {found.faulty}, {words}")
    return Mark("payments_shifted", bound is None or took <= bound, f"{took:.2f} s after the fault, {words}")


def _success(found: Report) -> Mark:
    detail = f"{found.success_after_shift:.3%} of {found.payments_after_shift:,}, bound {SUCCESS_AFTER_SHIFT:.1%}"
    if found.failed_after_shift:
        detail += "; " + ", ".join(f"{count} {what}" for what, count in found.failed_after_shift.items())
    enough = found.payments_after_shift > 0
    return Mark("payments_after_the_shift_succeed", enough and found.success_after_shift >= SUCCESS_AFTER_SHIFT, detail)


def _probes(found: Report) -> Mark:
    most = max(found.most_probes, found.most_permits)
    detail = f"{found.most_probes} attempts, {found.most_permits} permits at once, bound {MOST_PROBES}"
    return Mark("few_probes_at_once", most <= MOST_PROBES, detail + f"; {found.probes} in all")


def _returned(found: Report) -> Mark:
    """Step by step, none left out, and in each about the share that it stands for."""
    took = found.seconds_to_return
    shares = tuple(dict.fromkeys(step.share for step in found.way_back))
    faults = [] if took is not None else [f"{found.faulty} had not all of its payments back when the load ended"]
    if took is not None and shares != STEPS:
        faults.append(f"the way back went through {', '.join(f'{share:.0%}' for share in shares)}")
    faults += [
        f"{step.state}: {step.measured:.1%} of {step.payments} payments instead of {step.expected:.1%}"
        for step in found.way_back
        if step.is_off
    ]
    steps = " → ".join(f"{share:.0%}" for share in shares)
    return _mark("returns_in_steps", faults, f"{took or 0:.1f} s after it was well again: {steps}")


def _unanswered(seen: Evidence) -> list[str]:
    told = seen.told
    faults = [f"{told.unanswered} shoppers had no answer in the end"] if told.unanswered else []
    faults += [f"{told.not_issued} orders were not sent"] if told.not_issued else []
    return faults + ([told.error] if told.error else [])


def _felt(found: Report, seen: Evidence) -> Mark:
    """Not a promise of the shop but of the drill: a fault that hit nobody proves nothing."""
    states = {(one.payment_id, one.number) for one in seen.changes if one.state in ("unknown", "not_sent")}
    hit = sum(one.provider == found.faulty and (one.payment_id, one.number) in states for one in seen.attempts)
    detail = f"{hit} attempts at {found.faulty} were not answered, at least {FELT}"
    if not found.lost:
        return Mark("the_fault_was_felt", hit >= FELT, detail)
    others = len(states) - hit
    least = max(FELT, round(found.payments * found.lost / 10))
    return Mark(
        "the_fault_was_felt", hit >= FELT and others >= least, f"{detail}; {others} elsewhere, at least {least}"
    )


def _kills(found: Report) -> Mark:
    struck = [kill for kill in found.kills if kill.in_flight]
    faults = [f"{kill.victim} did not come back" for kill in found.kills if kill.back_after_s is None]
    if len(struck) < MIN_KILLS:
        faults.append(f"{len(struck)} kills hit attempts being sent, at least {MIN_KILLS}: send more payments")
    flying = "/".join(str(kill.in_flight) for kill in found.kills)
    return _mark("survives_kill_of_workers", faults, f"{len(found.kills)} kills with {flying} attempts being sent")
