"""Turns the evidence of a run into its report: figures, slices for the charts, marks."""

from __future__ import annotations

import os
import platform
from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec

from doorbuster.drills.psp import judge
from doorbuster.drills.psp.accounts import Account
from doorbuster.drills.psp.before import BeforeReport, before_marks, read_outage
from doorbuster.drills.psp.evidence import Evidence, Payment
from doorbuster.drills.psp.findings import ProviderReport, Report, Slice
from doorbuster.drills.psp.judge import Success
from doorbuster.drills.psp.marks import router_marks
from doorbuster.drills.psp.naive import NaiveReport
from doorbuster.drills.psp.plan import BEFORE, TIMEOUT_S, Phases, Wanted, episodes
from doorbuster.drills.timedeal.findings import Mark

MAX_SLICES = 240
NEVER_STARTED = "never_started"
"""The shop's code for a payment whose worker died between the order and the first attempt: nobody was asked."""
_SLICE_S = 0.5


def assess(wanted: Wanted, phases: Phases, accounts: Sequence[Account], seen: Evidence) -> Report:
    """Figures and marks of a run of the router's part."""
    order_of = {one.id: one.order_id for one in seen.payments}
    twice = judge.captured_twice(seen.charges, order_of)
    early = judge.calls_while_unknown(seen.attempts, seen.changes, seen.charges)
    differ = judge.book_differences(seen.attempts, seen.charges)
    shift_s = judge.seconds_to_shift(seen.attempts, seen.faulty, seen.fault_s, seen.heal_s)
    weight = _weight_of(accounts, seen.faulty)
    back = judge.way_back(seen.circuits, seen.attempts, seen.faulty, weight, phases.end_s)
    after = success_after(seen, wanted, shift_s)
    waited = sorted(one.waited_ms for one in seen.told.served)
    report = Report(
        passed=False,
        fault=wanted.fault,
        seed=wanted.seed,
        kill=wanted.kill,
        plant=wanted.plant,
        lost=wanted.lost,
        providers=tuple(_provider(account, seen) for account in accounts),
        faulty=seen.faulty,
        workers=wanted.workers,
        payment_timeout_s=TIMEOUT_S,
        seconds=round(phases.end_s, 2),
        payments_per_s=round(phases.per_s, 2),
        fault_s=seen.fault_s,
        heal_s=seen.heal_s,
        episodes=tuple(f"{act.at_s:.1f} s: {act.words}" for act in episodes(wanted.fault, phases, wanted.seed)),
        payments=len(seen.payments),
        captured=sum(one.captured for one in seen.charges),
        orders_captured_twice=len(twice),
        second_provider_calls_while_unknown=len(early),
        book_differences=len(differ),
        unknown_left=judge.left_open(seen.attempts),
        cases=seen.cases,
        seconds_to_shift=shift_s,
        seconds_to_return=judge.seconds_to_return(back, seen.heal_s),
        success_after_shift=round(after.share, 6),
        payments_after_shift=after.payments,
        success=round(judge.success_of(seen.payments, lambda one: True).share, 6),
        paid_at_once=_paid_at_once(seen),
        payments_ended=dict(Counter(f"{one.state} {one.code}".strip() for one in seen.payments).most_common()),
        failed_after_shift=after.others,
        never_started=sum(one.code == NEVER_STARTED for one in seen.payments),
        most_probes=judge.most_probes(seen.attempts, seen.changes, TIMEOUT_S),
        most_permits=seen.most_permits,
        probes=sum(one.is_probe for one in seen.attempts),
        outcomes_unknown=len({(one.payment_id, one.number) for one in seen.changes if one.state == "unknown"}),
        way_back=back,
        settled_after_s=seen.settled_after_s,
        p50_ms=_quantile(waited, 0.5),
        p99_ms=_quantile(waited, 0.99),
        kills=seen.kills,
        marks=(),
        slices=slices_of(seen, phases.end_s),
        machine=machine(),
        at=now(),
    )
    marks = router_marks(report, seen, tuple(twice), tuple(early), tuple(differ))
    return _with_marks(report, marks)


def assess_before(seed: int, seen: Evidence, naive: NaiveReport) -> BeforeReport:
    """Part one's report."""
    outage = read_outage(seen, BEFORE.end_s)
    marks = before_marks(outage, naive)
    passed = all(mark.passed for mark in marks)
    return BeforeReport(passed=passed, seed=seed, outage=outage, naive=naive, marks=marks, machine=machine(), at=now())


def machine() -> str:
    """What figures are worth depends on this."""
    return f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}"


def now() -> str:
    """The date of a report."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def success_after(seen: Evidence, wanted: Wanted, shift_s: float | None) -> Success:
    """Of the payments that began after the shift, how many succeeded. Without a shift: of those after the fault.

    Left out are payments that a killed worker was sending or about to begin; and, where the fault is `mixed`, those
    that were at the failing provider while it failed, as probes or on a way back too early: of these it lost some for
    good, with a 5xx that took nothing, and only a shopper can decide to pay again.
    """
    since = seen.fault_s + (shift_s or 0.0)
    cut: set[str] = set()
    for kill in seen.kills:
        cut |= judge.left_by_the_dead(seen.attempts, seen.changes, kill.at, TIMEOUT_S)
    if wanted.fault == "mixed":
        cut |= {
            one.payment_id
            for one in seen.attempts
            if one.provider == seen.faulty and seen.fault_s <= one.at < seen.heal_s
        }

    def counts(one: Payment) -> bool:
        return one.at > since and one.id not in cut and not (seen.kills and one.code == NEVER_STARTED)

    return judge.success_of(seen.payments, counts)


def slices_of(seen: Evidence, end_s: float) -> tuple[Slice, ...]:
    """The run in slices of half a second (longer when it was long), by the time a payment began."""
    width = max(_SLICE_S, end_s / MAX_SLICES)
    payments: defaultdict[int, list[Payment]] = defaultdict(list)
    for one in seen.payments:
        payments[int(one.at / width)].append(one)
    waited: defaultdict[int, list[float]] = defaultdict(list)
    told: Counter[int] = Counter()
    for served in seen.told.served:
        waited[int(served.due / width)].append(served.waited_ms)
        told[int(served.due / width)] += served.state == "paid"
    first: defaultdict[int, Counter[str]] = defaultdict(Counter)
    open_: Counter[int] = Counter()
    captured: defaultdict[int, dict[str, int]] = defaultdict(dict)
    for sample in seen.samples:
        captured[int(sample.at / width)] |= sample.captured
        open_[int(sample.at / width)] = max(open_[int(sample.at / width)], sum(sample.open.values()))
    probes: Counter[int] = Counter()
    for attempt in seen.attempts:
        if attempt.is_probe:
            probes[int(attempt.at / width)] += 1
        elif attempt.number == 1:
            first[int(attempt.at / width)][attempt.provider] += 1
    return tuple(
        Slice(
            from_s=round(n * width, 3),
            payments=len(payments[n]),
            succeeded=sum(one.state == "succeeded" for one in payments[n]),
            due=len(waited[n]),
            paid_at_once=told[n],
            first_at=dict(first[n]),
            probes=probes[n],
            open=open_[n],
            captured_by=captured[n],
            p50_ms=_quantile(sorted(waited[n]), 0.5),
            p99_ms=_quantile(sorted(waited[n]), 0.99),
        )
        for n in range(int(end_s / width) + 1)
    )


def _with_marks(report: Report, marks: tuple[Mark, ...]) -> Report:
    return msgspec.structs.replace(report, marks=marks, passed=all(mark.passed for mark in marks))


def _weight_of(accounts: Sequence[Account], name: str) -> float:
    return next(one.weight for one in accounts if one.name == name) / sum(one.weight for one in accounts)


def _provider(account: Account, seen: Evidence) -> ProviderReport:
    attempts = [one for one in seen.attempts if one.provider == account.name]
    charges = [one for one in seen.charges if one.account == account.name]
    return ProviderReport(
        account.name,
        account.kind,
        account.weight,
        len(attempts),
        sum(one.is_probe for one in attempts),
        sum(one.captured for one in charges),
        sum(not one.captured for one in charges),
        sum(one.refunded_minor > 0 for one in charges),
    )


def _paid_at_once(seen: Evidence) -> float:
    served = seen.told.served
    return round(sum(one.state == "paid" for one in served) / len(served), 6) if served else 0.0


def _quantile(ordered: Sequence[float], share: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2) if ordered else 0.0
