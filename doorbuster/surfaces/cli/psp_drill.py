"""`doorbuster drill psp`: a payment provider fails under load and comes back; prints marks and figures."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, get_args

import msgspec
import typer
from rich.progress import Progress
from rich.table import Table

from doorbuster import client
from doorbuster.drills import pages
from doorbuster.drills.load import LoadFailed
from doorbuster.drills.load import Progress as LoadProgress
from doorbuster.drills.psp import plants
from doorbuster.drills.psp import report as psp_pages
from doorbuster.drills.psp.accounts import AccountDown, accounts, running_simulators
from doorbuster.drills.psp.assess import assess, assess_before
from doorbuster.drills.psp.before import BeforeReport
from doorbuster.drills.psp.findings import Report
from doorbuster.drills.psp.kinds import KINDS, SANDBOX, read_kinds
from doorbuster.drills.psp.naive import run_naive
from doorbuster.drills.psp.plan import BEFORE, FAULTS, MOST_LOST, SMALL, FaultKind, Wanted, phases_of
from doorbuster.drills.psp.run import Tellers, rush
from doorbuster.drills.psp.stage import RulesRefused, running_stage
from doorbuster.drills.temporary_shop import ShopDidNotStart
from doorbuster.surfaces.cli.drill_output import ERR, MISSED, OUT, drilling, marks_table, print_json, progress_bar

_FAULTS = (
    AccountDown, LoadFailed, RulesRefused, ShopDidNotStart, TimeoutError, ValueError, client.NotRunning,
    client.ShopRefused,
)  # fmt: skip
_COLUMNS = 72
_NAIVE_PAYMENTS = 500


def psp(
    before: Annotated[
        bool, typer.Option("--before", help="Part one: one provider that goes down, and naive failover.")
    ] = False,
    fault: Annotated[str, typer.Option(help=f"What the provider does: {', '.join(FAULTS)}.")] = "down",
    payments: Annotated[int, typer.Option(help="Orders that are paid for, from 300.")] = 2_400,
    providers: Annotated[int, typer.Option(min=2, max=4, help="Accounts, each at a provider of its own.")] = 2,
    kinds: Annotated[
        str, typer.Option(help=f"The kind of all accounts, or one for each: {', '.join(KINDS)} (toss,stripe,nicepay).")
    ] = SANDBOX,
    seed: Annotated[int, typer.Option(help="The same seed draws the same orders, faults and kills.")] = 1,
    kill: Annotated[bool, typer.Option("--kill", help="kill -9 of workers while attempts are being sent.")] = False,
    lost: Annotated[
        float, typer.Option(min=0.0, max=MOST_LOST, help="Of the other providers' answers this share is lost, always.")
    ] = 0.0,
    plant: Annotated[
        str, typer.Option(help=f"Do what must not happen, to see that it is found: {', '.join(plants.PLANTS)}.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="The result as JSON on stdout, progress on stderr.")] = False,
    report: Annotated[Path | None, typer.Option(help="The HTML report; the JSON goes beside it.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=8, help="Worker processes of the drill's own shop.")] = 2,
) -> None:
    """A payment provider goes down, is slow, or takes money without an answer, under load; then it is well again.

    Needs nothing running: it starts its own shop and simulators on a temporary directory and removes them. Exit code 1
    when a mark is missed, 2 when the drill could not run.
    """
    found: Report | BeforeReport
    with drilling(_FAULTS, "shop and simulators were"):
        if before:
            if kinds != SANDBOX:
                raise ValueError("--before is the incident of a shop with sandbox accounts; leave --kinds out")
            found = _before(seed)
            page = psp_pages.write_before(found, report)
        else:
            found = _router(_wanted(fault, payments, providers, kinds, seed, kill, plant, workers, lost))
            page = psp_pages.write_router(found, report)
    if as_json:
        print_json(found)
    else:
        for table in _before_tables(found) if isinstance(found, BeforeReport) else _router_tables(found):
            OUT.print(table)
        OUT.print(marks_table(found.marks))
        OUT.print(f"Report: {page.html}", highlight=False)
    if not found.passed:
        raise typer.Exit(MISSED)


def _wanted(
    fault: str, payments: int, providers: int, kinds: str, seed: int, kill: bool, plant: str, workers: int, lost: float
) -> Wanted:
    """Refused (ValueError) before anything is started."""
    if fault not in get_args(FaultKind):
        raise ValueError(f"--fault is one of {', '.join(FAULTS)}, not {fault!r}")
    phases_of(payments)
    if kill and payments < SMALL:
        raise ValueError(f"--kill needs {SMALL} payments: a shorter fault is over before a killed worker is back")
    plants.plant_of(plant)
    of_kinds = read_kinds(kinds)
    if plant == "naive" and set(of_kinds) != {SANDBOX}:
        raise ValueError("--plant naive charges with the sandbox's tokens; leave --kinds out")
    number = len(accounts(providers, of_kinds))
    return Wanted(msgspec.convert(fault, FaultKind), payments, number, seed, kill, plant, workers, of_kinds, lost)


def _router(wanted: Wanted) -> Report:
    with progress_bar() as progress:
        tellers = _tellers(progress)
        mine = accounts(wanted.providers, wanted.kinds)
        with running_stage(mine, wanted.workers) as stage:
            phases = phases_of(wanted.payments)
            seen = asyncio.run(rush(stage, wanted, phases, tellers))
            found = assess(wanted, phases, mine, seen)
            if not found.passed:
                kept = pages.keep_logs(stage.shop.paths.logs, f"psp-{wanted.fault}-seed{wanted.seed}")
                ERR.print(f"  The shop's logs of this run are kept in {kept}", highlight=False)
            return found


def _before(seed: int) -> BeforeReport:
    with progress_bar() as progress:
        tellers = _tellers(progress)
        orders = round(BEFORE.per_s * BEFORE.end_s)
        with running_stage(accounts(1), workers=2) as stage:
            seen = asyncio.run(rush(stage, Wanted("down", orders, 1, seed), BEFORE, tellers))
        task = progress.add_task("failover as it is usually written", total=_NAIVE_PAYMENTS)
        with running_simulators(accounts(2)) as simulators:
            tell: Callable[[int], None] = lambda done: progress.update(task, completed=done)  # noqa: E731
            naive = asyncio.run(run_naive(simulators, _NAIVE_PAYMENTS, seed, tell))
        return assess_before(seed, seen, naive)


def _tellers(progress: Progress) -> Tellers:
    task = progress.add_task("starting providers and a shop", total=None)

    def step(said: str) -> None:
        progress.update(task, description=said)

    def event(said: str) -> None:
        ERR.print(f"  [yellow]⚡[/yellow] {said}", highlight=False)

    def load(now: LoadProgress) -> None:
        progress.update(task, total=now.expected, completed=now.done)

    return Tellers(step, event, load)


def _router_tables(found: Report) -> list[Table]:
    figures = Table(
        title=f"Payments while {found.faulty} fails ({found.fault}), seed {found.seed}", title_justify="left"
    )
    early = found.second_provider_calls_while_unknown
    figures.add_column("figure")
    figures.add_column("value", justify="right")
    for name, value in {
        "payments": f"{found.payments:,} at {found.payments_per_s:g}/s, {found.captured:,} captured",
        "captured twice / asked while unknown": f"{found.orders_captured_twice} / {early}",
        "unknown for a while / left / cases": f"{found.outcomes_unknown:,} / {found.unknown_left} / {found.cases}",
        "seconds to shift / to return": f"{_or_never(found.seconds_to_shift)} / {_or_never(found.seconds_to_return)}",
        "succeeded after the shift": f"{found.success_after_shift:.3%} of {found.payments_after_shift:,}",
        "succeeded in all / paid at once": f"{found.success:.3%} / {found.paid_at_once:.3%}",
        "how they ended": ", ".join(f"{what} {count:,}" for what, count in found.payments_ended.items()),
        "probes, at once at most": f"{found.probes}, {max(found.most_probes, found.most_permits)}",
        "p50 / p99": f"{found.p50_ms:,.0f} / {found.p99_ms:,.0f} ms, a time-out is {found.payment_timeout_s:g} s",
        "at rest after": f"{found.settled_after_s} s",
    }.items():  # fmt: skip
        figures.add_row(name, value)
    return [figures, _spark_table(found)]


def _spark_table(found: Report) -> Table:
    """Payments over time by the provider that was asked first, with the moments of the fault and the recovery."""
    table = Table(title="Where payments went first", title_justify="left")
    table.add_column("provider")
    table.add_column(f"0 to {found.seconds:.0f} s", no_wrap=True)
    table.add_column("most", justify="right")
    group = max(1, -(-len(found.slices) // _COLUMNS))
    columns = [found.slices[n : n + group] for n in range(0, len(found.slices), group)]
    width_s = (found.slices[1].from_s - found.slices[0].from_s) * group
    signs = [" "] * len(columns)
    for at_s, sign in ((found.fault_s, "▼"), (found.heal_s, "▲")):
        signs[min(len(columns) - 1, int(at_s / width_s))] = sign
    for name in (one.name for one in found.providers):
        counts = [float(sum(one.first_at.get(name, 0) for one in column)) for column in columns]
        table.add_row(name, psp_pages.sparkline(counts), f"{max(counts) / width_s:,.0f}/s")
    probes = [float(sum(one.probes for one in column)) for column in columns]
    table.add_row("probes", psp_pages.sparkline(probes), f"{max(probes):.0f}")
    table.add_row("▼ fails, ▲ well again", "".join(signs), "")
    return table


def _before_tables(found: BeforeReport) -> list[Table]:
    outage, naive = found.outage, found.naive
    table = Table(title=f"The incident, seed {found.seed}", title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in {
        "one provider: paid before it went down": f"{outage.paid_before} of {outage.orders_before}",
        "one provider: paid after": f"{outage.paid_after} of {outage.orders_after}",
        "what shoppers were told after": ", ".join(f"{what} {count}" for what, count in outage.answers_after.items()),
        "not sold": f"{outage.sales_lost / 100:,.2f} {outage.currency} in {outage.seconds - outage.fault_s:.0f} s",
        "naive failover: orders captured twice": f"{naive.orders_captured_twice} of {naive.payments}",
        "naive failover: answers lost": f"{naive.answers_lost}",
        "taken beyond their orders": f"{naive.owed_minor / 100:,.2f} {outage.currency}",
        "one of them": naive.examples[0] if naive.examples else "none",
    }.items():
        table.add_row(name, value)
    return [table]


def _or_never(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.1f} s"
