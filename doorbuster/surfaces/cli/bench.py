"""`doorbuster bench`: measure this machine, print the table, write BENCHMARKS.md."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer
import uvloop
from rich.console import Console
from rich.table import Table

from doorbuster.drills.bench import events_report, report

_ERR = Console(stderr=True)


def bench(
    repeats: Annotated[int, typer.Option(min=1, max=9, help="How often each load runs; medians count.")] = 3,
    seconds: Annotated[int, typer.Option(min=4, max=60, help="How long each load lasts.")] = 10,
    workers: Annotated[int, typer.Option(min=0, max=16, show_default="one for every two cores")] = 0,
    seed: Annotated[int, typer.Option(help="The same seed draws the same orders.")] = 1,
    out: Annotated[Path, typer.Option(help="Where the report is written.")] = Path("BENCHMARKS.md"),
    events: Annotated[
        bool, typer.Option("--events", help="Measure the event log instead, on both transports.")
    ] = False,
    off_seconds: Annotated[
        float, typer.Option(min=1, max=3_600, help="With --events: how long a consumer is switched off.")
    ] = 60.0,
    as_json: Annotated[bool, typer.Option("--json", help="The figures as JSON on stdout; no file.")] = False,
) -> None:
    """Measure placements and paid orders against pgbench on this machine. Exit code 1 when a mark is missed."""
    if events:
        _bench_events(as_json, off_seconds)
        return
    with _ERR.status("starting") as status:
        figures = report.run(repeats=repeats, seconds=seconds, workers=workers, seed=seed, tell=status.update)
    if as_json:
        sys.stdout.write(msgspec.json.encode(figures).decode() + "\n")
    else:
        report.write_markdown(figures, out)
        Console().print(_table(figures))
    if not report.held(figures):
        raise typer.Exit(1)


def _bench_events(as_json: bool, off_s: float) -> None:
    with _ERR.status("starting") as status:
        found = uvloop.run(events_report.measure(report.machine(), report.now(), status.update, off_s))
    judged = events_report.marks(found)
    if as_json:
        sys.stdout.write(msgspec.json.encode({"figures": found, "marks": judged}).decode() + "\n")
    else:
        events_report.write_markdown(found, Path("BENCHMARKS-events.md"))
        table = Table(title=f"{found.machine}, {found.at}", title_justify="left")
        for column in ("what", "figure", "holds"):
            table.add_column(column)
        for mark in judged:
            table.add_row(mark.name, mark.detail, "[green]✓[/green]" if mark.passed else "[red]✗[/red]")
        Console().print(table)
    if not all(mark.passed for mark in judged):
        raise typer.Exit(1)


def _table(figures: report.Figures) -> Table:
    table = Table(title=f"{figures.machine}, {figures.at}", title_justify="left")
    for column, side in (("what", "left"), ("figure", "right"), ("against pgbench", "right"), ("mark", "left")):
        table.add_column(column, justify=side)  # type: ignore[arg-type]  # the literals are rich's own
    for row in report.rows(figures):
        colour = {"✓": "green", "✗": "red"}.get(row[3][:1], "")
        table.add_row(*row, style=colour if colour == "red" else "")
    return table
