"""The pass marks of part one: what the incident must show, what each cure must reach, and books that balance."""

from __future__ import annotations

from doorbuster.drills.timedeal.findings import BeforeReport, Mark, StageReport

MUST_DEADLOCK = ("original", "item_last")
MUST_NOT_DEADLOCK = ("one_per_customer", "fixed_order", "group_commit")
# A commit shared by fewer buyers than this need not be faster than one each.
ENOUGH_TO_SHARE = 16


def marks(report: BeforeReport) -> list[Mark]:
    """Every mark of part one; the drill passes when all of them do."""
    found = [_deadlocks(report.stage(name)) for name in MUST_DEADLOCK]
    found += [_no_deadlock(report.stage(name)) for name in MUST_NOT_DEADLOCK]
    found.append(_cycle(report))
    found.append(_server_agrees(report))
    found += [books_balance(stage) for stage in report.stages]
    if report.shoppers >= ENOUGH_TO_SHARE:
        found.append(_ours_is_faster(report.stage("fixed_order"), report.stage("group_commit")))
    found += [
        Mark(f"pg_locks_{seen.step}", seen.confirmed, seen.answer if seen.confirmed else f"pg_locks shows {seen.rows}")
        for seen in report.lock_observations
    ]
    return found


def books_balance(stage: StageReport) -> Mark:
    """No stage may oversell: sold + left = initial per option and item, and one order in the tables per acceptance."""
    passed = not stage.ledger.breaches and stage.oversold_units == 0
    detail = f"{stage.accepted} orders of {stage.accepted_units} units, 0 oversold, sold + left = initial in every row"
    if not passed:
        detail = f"{stage.oversold_units} units oversold; " + "; ".join(stage.ledger.breaches)
    return Mark(f"{stage.name}_books_balance", passed, detail)


def _deadlocks(stage: StageReport) -> Mark:
    detail = f"{stage.deadlocks} deadlocks (SQLSTATE 40P01) in {stage.attempted} orders within {stage.elapsed_s} s"
    return Mark(f"{stage.name}_deadlocks", stage.deadlocks >= 1, detail)


def _no_deadlock(stage: StageReport) -> Mark:
    detail = f"{stage.deadlocks} deadlocks in {stage.attempted} orders, {stage.accepted} accepted"
    return Mark(f"{stage.name}_never_deadlocks", stage.deadlocks == 0 and stage.accepted > 0, detail)


def _cycle(report: BeforeReport) -> Mark:
    cycle = report.cycle
    if cycle is None:
        return Mark("one_cycle_explained", False, "no deadlock was reported in the stage `original`")
    detail = f"{len(cycle.processes)} processes, each waiting for a row that the next one has changed or queues for"
    return Mark("one_cycle_explained", cycle.explained, detail if cycle.explained else report.example_cycle)


def _server_agrees(report: BeforeReport) -> Mark:
    """Other users of the database may deadlock meanwhile, so the server's own counter may only be higher."""
    clients = sum(stage.deadlocks for stage in report.stages)
    server = sum(stage.deadlocks_counted_by_server for stage in report.stages)
    return Mark(
        "server_counted_the_deadlocks_too",
        server >= clients,
        f"clients received {clients} errors 40P01, pg_stat_database counted {server} deadlocks",
    )


def _ours_is_faster(one_each: StageReport, shared: StageReport) -> Mark:
    detail = (
        f"{shared.orders_per_s} orders/s with shared commits, {one_each.orders_per_s} with one transaction per order"
    )
    return Mark("shared_commits_sell_faster", shared.orders_per_s > one_each.orders_per_s, detail)
