"""Judges a run from its evidence. Pure: what the books and ledgers say goes in, findings come out."""

from __future__ import annotations

import bisect
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from doorbuster.drills.psp.evidence import (
    OPEN,
    TOOK,
    TOOK_NOTHING,
    Attempt,
    Change,
    Charge,
    CircuitChange,
    Payment,
)  # fmt: skip

QUIET_S = 2.5
"""The traffic has shifted once nothing but probes goes to the provider for so long."""
_ELSEWHERE = 8
_CLOCK_S = 0.001
"""A ledger's time is cut to the millisecond, so a record may seem that much older than it is."""
_BOOKKEEPING_S = 0.25
"""An answered attempt stays `sending` in the table until its batch is committed."""
_COMMIT_S = 1.0
_HEARD_S = 0.3
"""A change is in force in the worker that makes it a moment before it is in the table, and in the others a quarter of a
second after that: so long before and after it nothing is measured."""
RAMP = (0.1, 0.25, 0.5)
"""The shares that the router promises on the way back (decision 0022)."""


def captured_twice(charges: Sequence[Charge], order_of: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Orders for which more than one charge was captured, at whichever providers; by order, those charges. What was
    given back later was captured all the same."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for charge in charges:
        if charge.captured:
            found[order_of.get(charge.payment_id, charge.payment_id)].append(f"{charge.account} {charge.id}")
    return {order: tuple(ids) for order, ids in found.items() if len(ids) > 1}


def calls_while_unknown(attempts: Sequence[Attempt], changes: Sequence[Change], charges: Sequence[Charge]) -> list[str]:
    """Each time another provider was asked while an earlier attempt was not known to have taken nothing.

    Two kinds of evidence, neither of which is the router's word: what stands in a provider's ledger against the history
    of every earlier attempt at that moment, and the history of the attempt before at the moment the next was begun.
    """
    history = _histories(changes)
    provider_of = {(one.payment_id, one.number): one.provider for one in attempts}
    numbers: defaultdict[str, list[int]] = defaultdict(list)
    for payment_id, number in provider_of:
        numbers[payment_id].append(number)
    found: dict[tuple[str, int], str] = {}
    for charge in charges:
        for earlier in (n for n in numbers[charge.payment_id] if n < charge.number):
            other = provider_of[charge.payment_id, earlier]
            state = _state_at(history[charge.payment_id, earlier], charge.at + _CLOCK_S)
            if other != charge.account and state not in TOOK_NOTHING:
                found[charge.payment_id, charge.number] = (
                    f"{charge.account} was charged {charge.reference} while attempt {earlier} at {other} was {state}"
                )
    for payment_id, number in provider_of:
        begun = history[payment_id, number]
        if number == 1 or not begun:
            continue
        state = _state_at(history[payment_id, number - 1], begun[0].at)
        if state not in TOOK_NOTHING:
            found.setdefault(
                (payment_id, number), f"attempt {number} of {payment_id} began while the one before was {state}"
            )
    return list(found.values())


def book_differences(attempts: Sequence[Attempt], charges: Sequence[Charge]) -> list[str]:
    """Every reference in which our books and a provider's ledger do not say the same."""
    ours = {(one.provider, one.reference): one for one in attempts}
    assert len(ours) == len(attempts), "a reference is used once"
    captures = {(one.account, one.reference, one.id): one for one in charges if one.captured}
    found = []
    for (account, reference, charge_id), charge in captures.items():
        attempt = ours.get((account, reference))
        if attempt is None:
            found.append(f"{account} captured {reference}, of which our books know nothing")
        elif attempt.state not in TOOK and not _was_taken_back(attempt, charge):
            found.append(f"{account} captured {reference}, which our books call {attempt.state}")
        elif (attempt.provider_id, attempt.amount_minor, attempt.currency) != (
            charge_id, charge.amount_minor, charge.currency,
        ):  # fmt: skip
            found.append(f"{account} captured {reference} as {charge_id} {charge.amount_minor} {charge.currency}")
        elif attempt.state == "late_success" and charge.refunded_minor != charge.amount_minor:
            found.append(f"{account} keeps {reference}, which came late and must go back")
    kept = {(account, reference) for account, reference, _ in captures}
    found += [
        f"our books say {one.provider} took {one.reference}, its ledger does not"
        for key, one in ours.items()
        if one.state in TOOK and key not in kept
    ]
    declined = {(one.account, one.reference) for one in charges if not one.captured}
    found += [
        f"our books say {one.provider} declined {one.reference}, its ledger does not"
        for key, one in ours.items()
        if one.state == "declined" and key not in declined
    ]
    return found


def _was_taken_back(attempt: Attempt, charge: Charge) -> bool:
    """Whether both say that it was captured and cancelled as a whole: a provider without idempotency keys (NICEPAY)
    demands that of whoever does not know the outcome."""
    voided = (attempt.state, attempt.code) == ("not_executed", "voided")
    return voided and charge.refunded_minor == charge.amount_minor


def orders_that_disagree(payments: Sequence[Payment]) -> list[str]:
    """Orders that are paid without a payment that succeeded, and payments that succeeded without a paid order."""
    return [
        f"payment {one.id} is {one.state}, its order {one.order_state}"
        for one in payments
        if (one.state == "succeeded") != (one.order_state == "paid")
    ]


def seconds_to_shift(attempts: Iterable[Attempt], account: str, fault_s: float, until_s: float) -> float | None:
    """From the fault until nothing but probes went to the account any more, for QUIET_S at least and while others were
    asked (a shop whose workers are all dead has shifted nothing); None: it went on."""
    sent = [one for one in attempts if not one.is_probe and fault_s <= one.at < until_s]
    there = [fault_s, *sorted(one.at for one in sent if one.provider == account), until_s]
    elsewhere = sorted(one.at for one in sent if one.provider != account)
    for last, following in itertools.pairwise(there):
        others = bisect.bisect_left(elsewhere, following) - bisect.bisect_right(elsewhere, last)
        if following - last >= QUIET_S and others >= _ELSEWHERE:
            return round(last - fault_s, 3)
    return None


class Step(msgspec.Struct, frozen=True):
    """A stretch of the way back: the share of its payments that the provider was to get, and what it got.

    `expected` is of all payments, by the provider's weight; `measured` is what was sent there first, probes aside.
    """

    state: str
    from_s: float
    to_s: float
    share: float
    payments: int
    expected: float
    measured: float

    @property
    def is_off(self) -> bool:
        """Whether what was measured is further from what was expected than chance explains (4 sigma)."""
        if not self.share:
            return self.measured > 0
        if self.payments < 30:
            return False
        sigma = math.sqrt(max(self.expected * (1 - self.expected), 1e-6) / self.payments)
        return abs(self.measured - self.expected) > 4 * sigma


def way_back(
    circuits: Sequence[CircuitChange], attempts: Sequence[Attempt], account: str, weight: float, end_s: float
) -> tuple[Step, ...]:
    """From the last time the circuit was open to the end of the load, stretch by stretch; empty: it never opened."""
    mine = sorted((one for one in circuits if one.provider == account), key=lambda one: one.at)
    opened = [n for n, one in enumerate(mine) if one.state == "open"]
    if not opened:
        return ()
    steps = []
    firsts = [one for one in attempts if one.number == 1]
    for now, then in zip(mine[opened[-1] :], [*mine[opened[-1] + 1 :], None], strict=True):
        to_s = max(now.at, end_s) if then is None else then.at
        share = {"closed": 1.0, "ramping": RAMP[min(now.step, len(RAMP) - 1)]}.get(now.state, 0.0)
        inside = [one for one in firsts if now.at + _HEARD_S <= one.at < to_s - _HEARD_S and not one.is_probe]
        here = sum(one.provider == account and not one.last_resort for one in inside)
        name = f"ramping, {share:.0%}" if now.state == "ramping" else now.state
        measured = here / len(inside) if inside else 0.0
        steps.append(
            Step(
                name, round(now.at, 3), round(to_s, 3), share, len(inside), round(share * weight, 4), round(measured, 4)
            )
        )
    return tuple(steps)


def seconds_to_return(steps: Sequence[Step], heal_s: float) -> float | None:
    """From the recovery until the provider got all its payments again; None: it did not come to that."""
    if not steps or steps[-1].state != "closed":
        return None
    return round(steps[-1].from_s - heal_s, 3)


def most_probes(attempts: Sequence[Attempt], changes: Sequence[Change], longest_s: float) -> int:
    """The most probes that were under way at once, by the attempts' own history. No call lasts longer than `longest_s`
    (a killed worker's attempt stays open for longer, but nobody is sending it any more)."""
    history = _histories(changes)
    edges: list[tuple[float, int]] = []
    for one in attempts:
        if not one.is_probe:
            continue
        ended = [change.at for change in history[one.payment_id, one.number] if change.state != "sending"]
        end = min([*ended, one.at + longest_s]) - _BOOKKEEPING_S
        if end > one.at:
            edges += [(one.at, 1), (end, -1)]
    now = most = 0
    for _, change in sorted(edges):
        now += change
        most = max(most, now)
    return most


def in_flight_at(attempts: Sequence[Attempt], changes: Sequence[Change], at: float) -> set[str]:
    """The payments that had an attempt being sent at that moment."""
    history = _histories(changes)
    return {
        one.payment_id
        for one in attempts
        if one.at <= at and _state_at(history[one.payment_id, one.number], at) == "sending"
    }


def left_by_the_dead(attempts: Sequence[Attempt], changes: Sequence[Change], at: float, longest_s: float) -> set[str]:
    """The payments that a worker killed at that moment was sending, or whose attempts were being committed for it.

    PostgreSQL finishes a COMMIT whose client has died. Of such an attempt nobody hears before the sweeper: it stays
    `sending` for longer than any call of a living worker, which lasts `longest_s` at most.
    """
    history = _histories(changes)
    orphans = {
        one.payment_id
        for one in attempts
        if at < one.at <= at + _COMMIT_S
        and not any(
            change.state != "sending" and change.at < one.at + longest_s + _COMMIT_S
            for change in history[one.payment_id, one.number]
        )
    }
    return in_flight_at(attempts, changes, at) | orphans


class Success(msgspec.Struct, frozen=True):
    """Of so many payments, how many succeeded in the end; what became of the others, by code."""

    payments: int
    succeeded: int
    others: dict[str, int]

    @property
    def share(self) -> float:
        """1.0 of none at all: nobody failed."""
        return self.succeeded / self.payments if self.payments else 1.0


def success_of(payments: Iterable[Payment], counts: Callable[[Payment], bool]) -> Success:
    """Of those payments that count."""
    chosen = [one for one in payments if counts(one)]
    others = Counter(f"{one.state} {one.code}".strip() for one in chosen if one.state != "succeeded")
    return Success(len(chosen), len(chosen) - others.total(), dict(others.most_common()))


def left_open(attempts: Sequence[Attempt]) -> int:
    """Attempts whose outcome is not known."""
    return sum(one.state in OPEN for one in attempts)


def _histories(changes: Sequence[Change]) -> defaultdict[tuple[str, int], list[Change]]:
    found: defaultdict[tuple[str, int], list[Change]] = defaultdict(list)
    for change in changes:  # in the order they were written
        found[change.payment_id, change.number].append(change)
    return found


def _state_at(history: Sequence[Change], at: float) -> str:
    """The state in force at a moment; "absent" before the first."""
    place = bisect.bisect_right([change.at for change in history], at)
    return history[place - 1].state if place else "absent"
