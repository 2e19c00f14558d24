"""The pass marks of part two: what must hold in the real shop after the rush, whatever was killed meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

from doorbuster.drills.timedeal.chaos import KILLS
from doorbuster.drills.timedeal.findings import Mark
from doorbuster.drills.timedeal.shop_findings import Answers, Audit, KillReport, Probes

# With fewer orders the dice may leave every shopper served, and nothing would be proven or disproven.
ENOUGH_TO_CONTEST = 200


def shop_marks(
    answers: Answers, audit: Audit, probes: Probes, kills: Sequence[KillReport], *, chaos: bool, contested: bool
) -> tuple[Mark, ...]:
    """Every mark; the drill passes when all of them do. `contested`: the stock is for less than the crowd wants."""
    found = [
        _stock_adds_up(audit),
        _money_adds_up(audit),
        _limits_kept(audit),
        _no_deadlock(audit),
        _acknowledged_exist(answers, audit),
        _one_key_one_order(answers),
        _nothing_behind_a_refusal(answers, audit),
        _everything_rests(audit),
        _everybody_answered(answers),
        _answers_can_be_acted_on(answers, probes),
        _invariants_hold(audit),
    ]
    if contested and answers.sent >= ENOUGH_TO_CONTEST:
        found.append(_was_contested(answers))
    if chaos:
        found += [_kill_hit(what, kills) for what in KILLS]
    return tuple(found)


def _mark(name: str, faults: Sequence[str], detail: str) -> Mark:
    """Passed without faults; else the first few of them."""
    more = f" … and {len(faults) - 3} more" if len(faults) > 3 else ""
    return Mark(name, not faults, "; ".join(faults[:3]) + more if faults else detail)


def _stock_adds_up(audit: Audit) -> Mark:
    faults = [
        f"{line.row}: {line.sold} sold + {line.reserved} reserved + {line.left} left, {line.initial} initial;"
        f" by the orders {line.sold_by_orders} sold, {line.reserved_by_orders} reserved"
        for line in audit.books
        if not line.balances
    ]
    whole = audit.books[-1]
    detail = f"{whole.sold} sold + {whole.reserved} reserved + {whole.left} left = {whole.initial}, and so per option"
    return _mark("sold_reserved_left_is_initial", faults, detail)


def _money_adds_up(audit: Audit) -> Mark:
    money = audit.money
    detail = f"{money.paid_orders} paid orders, {money.captured} captured at the provider, {money.refunded} given back"
    return _mark("paid_orders_are_captured_payments", money.breaches, detail)


def _limits_kept(audit: Audit) -> Mark:
    limits = audit.limits
    detail = (
        f"limit {limits.per_customer}, most held {limits.most_held_by_one}, {limits.customers_at_limit} at it;"
        f" {limits.taken_in_deal} of {limits.allotment} allotted units taken"
    )
    return _mark("limits_and_allotment_kept", limits.breaches, detail)


def _no_deadlock(audit: Audit) -> Mark:
    faults = []
    if audit.deadlocks_counted or audit.deadlocks_in_log:
        faults = [f"{audit.deadlocks_counted} in pg_stat_database, {audit.deadlocks_in_log} in PostgreSQL's log"]
    return _mark("no_deadlock", faults, "0 in pg_stat_database, 0 in PostgreSQL's log")


def _acknowledged_exist(answers: Answers, audit: Audit) -> Mark:
    faults = [f"order {one} was acknowledged and is gone" for one in audit.missing]
    return _mark("acknowledged_orders_exist", faults, f"all {len(answers.accepted)} orders answered 201 or 202 exist")


def _one_key_one_order(answers: Answers) -> Mark:
    faults = [f"key {key} was answered with more than one order" for key in answers.split_keys]
    detail = f"{answers.retried} requests were sent again under their key, {answers.retry_tries} times in all"
    return _mark("one_key_one_order", faults, detail)


def _nothing_behind_a_refusal(answers: Answers, audit: Audit) -> Mark:
    """Whoever got no answer at all cannot know of the order; everybody else was told of theirs."""
    unknown_to_shopper = [] if answers.unanswered or answers.not_issued else audit.unannounced
    faults = [f"order {one} exists, and its shopper was told otherwise" for one in unknown_to_shopper]
    return _mark("no_order_behind_a_refusal", faults, "every order in the tables was announced to its shopper")


def _everything_rests(audit: Audit) -> Mark:
    states = ", ".join(f"{count} {state}" for state, count in audit.orders_by_state.items())
    return _mark("nothing_left_under_way", audit.restless, states or "no orders")


def _everybody_answered(answers: Answers) -> Mark:
    faults = [f"{answers.unanswered} of {answers.sent} shoppers had no answer in the end"] if answers.unanswered else []
    faults += [answers.error] if answers.error else []
    return _mark("everybody_was_answered", faults, f"{answers.sent} requests, each with an order or a refusal")


def _answers_can_be_acted_on(answers: Answers, probes: Probes) -> Mark:
    faults = [f"{count}× {what}" for what, count in answers.odd_tries.items()]
    faults += list(probes.odd)
    detail = f"{answers.tries} answers of the crowd and {probes.sent} probes: known codes, problem+json"
    return _mark("answers_can_be_acted_on", faults, detail)


def _invariants_hold(audit: Audit) -> Mark:
    return _mark("invariants_hold", audit.invariant_breaches, f"{audit.invariants_checked} queries found nothing")


def _was_contested(answers: Answers) -> Mark:
    """Not a promise of the shop but of the drill: a rush in which nobody was refused proves nothing."""
    refused = [answers.by_kind.get(code, 0) for code in ("sold_out", "limit_exceeded")]
    faults = [] if all(refused) else [f"{refused[0]} sold out, {refused[1]} over the limit"]
    return _mark("units_were_fought_for", faults, f"{refused[0]} refused as sold out, {refused[1]} over the limit")


def _kill_hit(what: str, kills: Sequence[KillReport]) -> Mark:
    kill = next((one for one in kills if one.what == what), None)
    name = f"survived_kill_of_{what}"
    if kill is None:
        return Mark(name, False, "it was not killed: the load had ended before; send more orders")
    faults = []
    if not kill.in_flight:
        faults.append("the kill hit no order in flight")
    if kill.found_after != kill.acknowledged_before:
        faults.append(f"{kill.acknowledged_before} orders acknowledged before, {kill.found_after} found after")
    if kill.back_after_s is None:
        faults.append(f"{kill.victim} did not come back")
    detail = (
        f"{kill.victim} at {kill.at_s:.2f} s with {kill.in_flight} orders in flight; {kill.acknowledged_before}"
        f" acknowledged before, {kill.found_after} found after; back after {kill.back_after_s} s"
    )
    return _mark(name, faults, detail)
