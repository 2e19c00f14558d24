"""`doorbuster drill …`: replays an incident or a rush, prints marks and figures, fails on a missed mark."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.progress import Progress, TaskID
from rich.table import Table

from doorbuster import client
from doorbuster.drills.load import LoadFailed
from doorbuster.drills.load import Progress as LoadProgress
from doorbuster.drills.temporary_shop import ShopDidNotStart, running_shop, temporary_shop
from doorbuster.drills.timedeal import report as pages
from doorbuster.drills.timedeal import shop as shop_drill
from doorbuster.drills.timedeal.before import DrillCannotRun, marks, run_before
from doorbuster.drills.timedeal.chaos import KillFailed
from doorbuster.drills.timedeal.findings import BeforeReport
from doorbuster.drills.timedeal.shop_findings import ShopReport
from doorbuster.engines.embedded import StartError, temporary_postgres
from doorbuster.surfaces.cli import events_drill, psp_drill
from doorbuster.surfaces.cli.drill_output import (
    ERR,
    MISSED,
    OUT,
    drilling,
    marks_table,
    print_json,
    progress_bar,
    tell_runs,
)  # fmt: skip

_FAULTS = (
    client.NotRunning, client.ShopRefused, DrillCannotRun, KillFailed, LoadFailed, ShopDidNotStart, StartError,
    ValueError,
)  # fmt: skip
BEFORE_SHOPPERS, BEFORE_SECONDS = 64, 3.0


def register(drill_app: typer.Typer) -> None:
    """Add every drill to the command line."""
    drill_app.command("timedeal")(timedeal)
    drill_app.command("events")(events_drill.events)
    drill_app.command("psp")(psp_drill.psp)


def timedeal(
    before: Annotated[bool, typer.Option("--before", help="Part one: the incident, and every cure tried.")] = False,
    chaos: Annotated[
        bool, typer.Option("--chaos", help="kill -9 a worker, a database backend, the postmaster.")
    ] = False,
    seed: Annotated[int, typer.Option(help="The same seed draws the same crowd and the same kills.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="The result as JSON on stdout, progress on stderr.")] = False,
    shoppers: Annotated[int | None, typer.Option(help=f"Default 1000; {BEFORE_SHOPPERS} with --before.")] = None,
    orders: Annotated[int, typer.Option(help="Orders the crowd sends.")] = 6_000,
    options: Annotated[int, typer.Option(help="Options of the hot item, 4 to 50.")] = 6,
    stock_share: Annotated[float, typer.Option(help="Stock for this share of the demand.")] = 0.5,
    workers: Annotated[int, typer.Option(min=1, max=16, help="Worker processes of the drill's own shop.")] = 2,
    split: Annotated[
        str, typer.Option(metavar="[=group|=domain]", help="The drill's own shop runs its services apart.")
    ] = "",
    seconds: Annotated[float | None, typer.Option(help="Stop sending after; with --before, per stage.")] = None,
    target: Annotated[str, typer.Option(help="URL of a running shop to aim at; needs its --data.")] = "",
    data: Annotated[Path, typer.Option(help="Data directory of the --target.", envvar="DOORBUSTER_DATA")] = Path(
        ".doorbuster"
    ),
    report: Annotated[Path | None, typer.Option(help="The HTML report; the JSON goes beside it.")] = None,
    runs: Annotated[int, typer.Option(min=1, max=100, help="So many runs, each with the next seed.")] = 1,
    settings: Annotated[str, typer.Option(hidden=True, help="JSON overrides of the own shop's settings.")] = "{}",
) -> None:
    """Thousands of shoppers, one hot item. Part one (--before) replays the deadlock; part two is the real shop.

    Needs nothing running: it starts its own shop on a temporary directory and removes it. Exit code 1 when a mark is
    missed, 2 when the drill could not run.
    """
    reports = []
    with drilling(_FAULTS, "shop was"):
        if target and chaos:
            raise ValueError("--chaos kills processes: it runs only on the drill's own shop, never on a --target")
        if before:
            found = _before(seed, shoppers or BEFORE_SHOPPERS, seconds or BEFORE_SECONDS)
            _finish_before(found, report, as_json)
            return
        wanted = shop_drill.Wanted(seed, shoppers or 1_000, orders, options, stock_share, seconds, chaos)
        overrides = shop_drill.OVERRIDES | msgspec.json.decode(settings)
        for number in range(runs):
            once = msgspec.structs.replace(wanted, seed=seed + number)
            found_here = _shop(once, target, data, workers, overrides, [f"--split={split}"])
            paths = pages.write_shop(found_here, report if runs == 1 else None)
            reports.append(found_here)
            if not as_json:
                _show(found_here, paths.html)
    tell_runs(reports, as_json, _summary, _runs_table)


def _before(seed: int, shoppers: int, seconds: float) -> BeforeReport:
    async def work(progress: Progress, task: TaskID) -> BeforeReport:
        async with temporary_postgres() as server:
            return await run_before(
                server.dsn(), seed=seed, shoppers=shoppers, seconds=seconds,
                on_progress=lambda what, share: progress.update(task, description=what, completed=share * 100),
            )  # fmt: skip

    with progress_bar() as progress:
        return asyncio.run(work(progress, progress.add_task("a PostgreSQL of our own", total=100)))


def _finish_before(found: BeforeReport, report: Path | None, as_json: bool) -> None:
    judged = marks(found)
    passed = all(mark.passed for mark in judged)
    result = pages.before_result(found, judged)
    paths = pages.write_before(found, judged, report)
    if as_json:
        print_json(result)
    else:
        OUT.print(_stages_table(found))
        if found.cycle is not None:
            OUT.print("[bold]One deadlock, as PostgreSQL reported it[/bold]")
            OUT.print(found.example_cycle, markup=False, highlight=False, soft_wrap=True)
        OUT.print(marks_table(judged))
        OUT.print(f"Report: {paths.html}", highlight=False)
    if not passed:
        raise typer.Exit(MISSED)


def _shop(
    wanted: shop_drill.Wanted, target: str, data: Path, workers: int, overrides: dict[str, Any], more: list[str]
) -> ShopReport:
    with progress_bar() as progress:
        task = progress.add_task("starting a shop of its own" if not target else "looking at the shop", total=None)

        def step(said: str) -> None:
            progress.update(task, description=said)
            if said.startswith("kill -9"):
                ERR.print(f"  [yellow]⚡[/yellow] {said}", highlight=False)

        def load(now: LoadProgress) -> None:
            progress.update(task, total=now.expected, completed=now.done)

        tellers = shop_drill.Tellers(step, load)
        if target:
            return asyncio.run(shop_drill.run_shop(running_shop(target, data), wanted, tellers))
        with temporary_shop(workers=workers, overrides=overrides, more=more) as own:
            found = asyncio.run(shop_drill.run_shop(own, wanted, tellers))
            if not found.passed:
                kept = pages.keep_logs(own.paths.logs, found)
                ERR.print(f"  The shop's logs of this run are kept in {kept}", highlight=False)
            return found


def _summary(reports: Sequence[ShopReport]) -> dict[str, Any]:
    return {
        "drill": "timedeal",
        "part": "shop",
        "passed": all(one.passed for one in reports),
        "runs": list(reports),
    }


def _show(found: ShopReport, page: Path) -> None:
    figures = found.figures
    table = Table(title=f"Time deal, seed {found.seed}" + (", with chaos" if found.chaos else ""), title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    rows = {
        "orders sent": f"{found.orders_sent:,} in {figures.seconds} s",
        "orders/s (acknowledged)": f"{figures.orders_per_s:,.1f}, of them paid {figures.paid_orders_per_s:,.1f}",
        "answers/s": f"{figures.answers_per_s:,.1f}",
        "p50 / p99": f"{figures.p50_ms:,.1f} / {figures.p99_ms:,.1f} ms",
        "answers": ", ".join(f"{kind} {count:,}" for kind, count in found.answers.items()),
        "sent again, same key": f"{found.retried_requests:,} requests, {found.retry_tries:,} tries",
        "what became of them": ", ".join(f"{one.first}→{one.last} {one.requests:,}" for one in found.retries_became),
        "orders at rest": ", ".join(f"{state} {count:,}" for state, count in found.orders_by_state.items()),
        "at rest after": f"{figures.settled_after_s} s",
        "load generator": f"{figures.load_cpu_share:.0%} of a core",
    }
    for name, value in rows.items():
        table.add_row(name, value or "–")
    OUT.print(table)
    OUT.print(_books_table(found))
    OUT.print(marks_table(found.marks))
    OUT.print(f"Report: {page}", highlight=False)


def _books_table(found: ShopReport) -> Table:
    table = Table(title="Units", title_justify="left")
    for column in ("", "initial", "sold", "reserved", "left"):
        table.add_column(column, justify="right" if column else "left")
    for line in found.books:
        table.add_row(line.row, *(f"{units:,}" for units in (line.initial, line.sold, line.reserved, line.left)))
    return table


def _stages_table(found: BeforeReport) -> Table:
    table = Table(title="The incident and its cures", title_justify="left")
    for column in ("way", "deadlocks", "orders/s", "p50 ms", "p99 ms", "refused", "oversold"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for stage in found.stages:
        table.add_row(
            stage.title, f"{stage.deadlocks:,}", f"{stage.orders_per_s:,.1f}", f"{stage.p50_ms:,.1f}",
            f"{stage.p99_ms:,.1f}", f"{stage.refused_share:.1%}", str(stage.oversold_units),
        )  # fmt: skip
    return table


def _runs_table(reports: Sequence[ShopReport]) -> Table:
    table = Table(title=f"{len(reports)} runs", title_justify="left")
    for column in (
        "seed",
        "passed",
        "orders/s",
        "p99 ms",
        "in flight at kills",
        "acknowledged",
        "found",
        "missed marks",
    ):
        table.add_column(column, justify="right")
    for one in reports:
        table.add_row(
            str(one.seed), "[green]✓[/green]" if one.passed else "[red]✗[/red]", f"{one.figures.orders_per_s:,.1f}",
            f"{one.figures.p99_ms:,.1f}", "/".join(str(kill.in_flight) for kill in one.kills) or "–",
            f"{one.acknowledged:,}", f"{one.acknowledged_found:,}",
            ", ".join(mark.name for mark in one.marks if not mark.passed) or "–",
        )  # fmt: skip
    return table
