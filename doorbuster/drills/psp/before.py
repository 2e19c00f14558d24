"""Part one: a shop with one provider that goes down, and a program that fails over as it is usually written."""

from __future__ import annotations

from collections import Counter

import msgspec

from doorbuster.drills.psp.evidence import Evidence
from doorbuster.drills.psp.naive import NaiveReport
from doorbuster.drills.timedeal.crowd_plan import CURRENCY, LIST_PRICE_MINOR
from doorbuster.drills.timedeal.findings import Mark

_FELT_WITHIN_S = 0.5
"""Orders that fall due in the first moments of the outage may have been sent before it."""


class OutageReport(msgspec.Struct, frozen=True):
    """The shop with one provider: orders due before the outage and in it, of them those that were paid. `sales_lost` is
    in minor units: what the orders that could not be paid come to."""

    fault_s: float
    seconds: float
    orders_before: int
    paid_before: int
    orders_after: int
    paid_after: int
    answers_after: dict[str, int]
    sales_lost: int
    currency: str
    per_second: tuple[tuple[int, int], ...]
    """(orders due, of them paid) in each second."""


class BeforeReport(msgspec.Struct, frozen=True, kw_only=True):
    """Part one of the drill."""

    drill: str = "psp"
    part: str = "before"
    passed: bool
    seed: int
    outage: OutageReport
    naive: NaiveReport
    marks: tuple[Mark, ...]
    machine: str
    at: str


def read_outage(seen: Evidence, end_s: float) -> OutageReport:
    """What became of the orders of a shop whose only provider went down."""
    before = [one for one in seen.told.served if one.due < seen.fault_s]
    after = [one for one in seen.told.served if one.due >= seen.fault_s + _FELT_WITHIN_S]
    unpaid = [one for one in after if one.state != "paid"]
    due = Counter(int(one.due) for one in seen.told.served)
    paid = Counter(int(one.due) for one in seen.told.served if one.state == "paid")
    return OutageReport(
        fault_s=seen.fault_s,
        seconds=end_s,
        orders_before=len(before),
        paid_before=sum(one.state == "paid" for one in before),
        orders_after=len(after),
        paid_after=len(after) - len(unpaid),
        answers_after=dict(Counter(f"{one.status} {one.state}".strip() for one in after).most_common()),
        sales_lost=len(unpaid) * LIST_PRICE_MINOR,
        currency=CURRENCY,
        per_second=tuple((due[second], paid[second]) for second in range(int(end_s))),
    )


def before_marks(outage: OutageReport, naive: NaiveReport) -> tuple[Mark, ...]:
    """What the incident must show: if it does not, the cures are judged against nothing."""
    well = outage.paid_before / max(1, outage.orders_before)
    return (
        Mark("all_was_well_before", well >= 0.99, f"{outage.paid_before} of {outage.orders_before} orders were paid"),
        Mark(
            "with_one_provider_every_order_fails",
            outage.orders_after > 0 and outage.paid_after == 0,
            f"{outage.paid_after} of {outage.orders_after} orders were paid after it went down",
        ),
        Mark(
            "naive_failover_charges_twice",
            naive.orders_captured_twice > 0,
            f"{naive.orders_captured_twice} of {naive.payments} orders were captured twice, for"
            f" {naive.answers_lost} answers lost",
        ),
        Mark(
            "naive_failover_asks_while_unknown",
            naive.second_provider_calls_while_unknown >= naive.orders_captured_twice,
            f"{naive.second_provider_calls_while_unknown} times another provider was asked while it was unknown",
        ),
    )
