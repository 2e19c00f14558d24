"""`doorbuster drill events`: makes a history under kills, reads it back, fails when the log has broken a promise."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table

from doorbuster.drills.events import findings, plants
from doorbuster.drills.events import run as one_run
from doorbuster.drills.events.findings import Report, Wanted
from doorbuster.drills.events.refusal import CannotCarry
from doorbuster.drills.events.transport import TRANSPORTS
from doorbuster.engines.embedded import StartError
from doorbuster.surfaces.cli.drill_output import (
    OUT,
    drilling,
    marks_table,
    progress_bar,
    tell_runs,
)  # fmt: skip

_FAULTS = (CannotCarry, StartError, TimeoutError, plants.NoSuchPlant)


def events(
    transport: Annotated[str, typer.Option(help=f"What carries the facts: {', '.join(TRANSPORTS)}.")] = "postgres",
    number: Annotated[int, typer.Option("--events", min=100, help="Facts to write in each run.")] = 20_000,
    kills: Annotated[
        int, typer.Option(min=0, help="kill -9 of writers, consumers, PostgreSQL, Kafka's parts; a plant has its own.")
    ] = 4,
    seed: Annotated[int, typer.Option(help="The same seed draws the same load and the same kills.")] = 1,
    runs: Annotated[int, typer.Option(min=1, max=100, help="So many runs, each with the next seed.")] = 1,
    plant: Annotated[
        str, typer.Option(help=f"Break the log on purpose, to see that it is found: {', '.join(plants.PLANTS)}.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="The result as JSON on stdout, progress on stderr.")] = False,
) -> None:
    """16 writers, two groups of consumers, kill -9 at every commit boundary: nothing lost, nothing twice, in order.

    Needs nothing running: it starts a PostgreSQL of its own (and a Kafka, which needs Java) and removes it. Exit code 1
    when a mark is missed, 2 when the drill could not run.
    """
    reports = []
    with drilling(_FAULTS, "servers were"):
        for n in range(runs):
            reports.append(_once(Wanted(number, kills, seed + n, transport, plant)))
            if not as_json:
                _show(reports[-1])
    tell_runs(reports, as_json, summary, _runs_table)


def _once(wanted: Wanted) -> Report:
    with progress_bar() as progress:
        task = progress.add_task(f"seed {wanted.seed}", total=wanted.events)
        return asyncio.run(
            one_run.run(
                wanted,
                tell=lambda said: progress.update(task, description=f"seed {wanted.seed}: {said}"),
                advance=lambda done: progress.update(task, completed=done),
            )
        )


def summary(reports: Sequence[Report]) -> dict[str, Any]:
    """All runs in one value: the sums, and each run."""
    kills: dict[str, int] = {}
    for one in reports:
        for kind, count in one.kills.items():
            kills[kind] = kills.get(kind, 0) + count
    return {
        "drill": "events",
        "transport": reports[0].transport,
        "passed": all(one.passed for one in reports),
        "events": sum(one.events for one in reports),
        "kills": dict(sorted(kills.items())),
        "lost": sum(one.lost for one in reports),
        "duplicated": sum(one.duplicated for one in reports),
        "inversions": sum(one.inversions for one in reports),
        "cursor_regressions": sum(one.cursor_regressions for one in reports),
        "runs": list(reports),
    }


def _show(found: Report) -> None:
    planted = f", planted {found.plant}" if found.plant else ""
    table = Table(title=f"Events over {found.transport}, seed {found.seed}{planted}", title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in {
        "facts written": f"{found.events:,} in {found.transactions:,} transactions, {found.events_per_s:,.0f}/s",
        "kills": f"{findings.kills_in(found.kills)} kills, {findings.pauses_in(found.kills)} pauses",
        "lost / twice / out of order": f"{found.lost:,} / {found.duplicated:,} / {found.inversions:,}",
        "cursors that went back": f"{found.cursor_regressions:,}",
        "drained after": f"{found.drain_s:.1f} s",
        "commit → handler, kills and all": f"p50 {found.delivery_p50_ms:,.0f} ms, p99 {found.delivery_p99_ms:,.0f} ms",
        "the whole run": f"{found.seconds:.1f} s",
    }.items():
        table.add_row(name, value)
    OUT.print(table)
    if found.blows:
        OUT.print(_blows_table(found))
    OUT.print(marks_table(found.marks))


def _blows_table(found: Report) -> Table:
    table = Table(title="Kills and pauses", title_justify="left")
    for column in ("at", "what", "whom", "fell", "back after"):
        table.add_column(column, justify="right" if column in ("at", "back after") else "left")
    for blow in found.blows:
        table.add_row(
            f"{blow.at_s:.1f} s", blow.kind.replace("_", " "), blow.victim,
            "[green]✓[/green]" if blow.struck else "[red]✗[/red]",
            "–" if blow.back_after_s is None else f"{blow.back_after_s:.1f} s",
        )  # fmt: skip
    return table


def _runs_table(reports: Sequence[Report]) -> Table:
    # Without lines between the columns it fits into 80 characters, with a million facts in all.
    table = Table(title=f"{len(reports)} runs", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("seed", "ok", "facts", "facts/s", "kills", "lost", "twice", "swapped", "drain s"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("missed")
    for one in reports:
        table.add_row(
            str(one.seed), "[green]✓[/green]" if one.passed else "[red]✗[/red]", f"{one.events:,}",
            f"{one.events_per_s:,.0f}", str(findings.kills_in(one.kills)), f"{one.lost:,}", f"{one.duplicated:,}",
            f"{one.inversions:,}", f"{one.drain_s:.1f}",
            ", ".join(mark.name for mark in one.marks if not mark.passed) or "–",
        )  # fmt: skip
    kills = sum(findings.kills_in(one.kills) for one in reports)
    table.add_row(
        "all", "", f"{sum(one.events for one in reports):,}", "", str(kills),
        *(f"{sum(getattr(one, name) for one in reports):,}" for name in ("lost", "duplicated", "inversions")), "", "",
    )  # fmt: skip
    return table
