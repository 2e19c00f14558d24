"""`doorbuster bench`: measure this machine, print the table, write BENCHMARKS.md."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from doorbuster.drills.bench import report

_ERR = Console(stderr=True)


def bench(
    repeats: Annotated[int, typer.Option(min=1, max=9, help="How often each load runs; medians count.")] = 3,
    seconds: Annotated[int, typer.Option(min=4, max=60, help="How long each load lasts.")] = 10,
    workers: Annotated[int, typer.Option(min=0, max=16, show_default="one for every two cores")] = 0,
    seed: Annotated[int, typer.Option(help="The same seed draws the same orders.")] = 1,
    out: Annotated[Path, typer.Option(help="Where the report is written.")] = Path("BENCHMARKS.md"),
    as_json: Annotated[bool, typer.Option("--json", help="The figures as JSON on stdout; no file.")] = False,
) -> None:
    """Measure placements and paid orders against pgbench on this machine. Exit code 1 when a mark is missed."""
    with _ERR.status("starting") as status:
        figures = report.run(repeats=repeats, seconds=seconds, workers=workers, seed=seed, tell=status.update)
    if as_json:
        sys.stdout.write(msgspec.json.encode(figures).decode() + "\n")
    else:
        report.write_markdown(figures, out)
        Console().print(_table(figures))
    if not report.held(figures):
        raise typer.Exit(1)


def _table(figures: report.Figures) -> Table:
    table = Table(title=f"{figures.machine}, {figures.at}", title_justify="left")
    for column, side in (("what", "left"), ("figure", "right"), ("against pgbench", "right"), ("mark", "left")):
        table.add_column(column, justify=side)  # type: ignore[arg-type]  # the literals are rich's own
    for row in report.rows(figures):
        colour = {"✓": "green", "✗": "red"}.get(row[3][:1], "")
        table.add_row(*row, style=colour if colour == "red" else "")
    return table
