"""What every drill prints with: a bar on stderr, JSON on stdout, a table of marks, and what its exit codes say."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from doorbuster.drills.timedeal.findings import Mark

OUT = Console()
ERR = Console(stderr=True)
MISSED, CANNOT_RUN = 1, 2


class Judged(Protocol):
    """A drill's report."""

    @property
    def passed(self) -> bool: ...


R = TypeVar("R", bound=Judged)


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar on stderr that goes away at the end; nothing where stderr is no terminal."""
    with Progress(
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f}"),
        TimeElapsedColumn(), console=ERR, transient=True, disable=not ERR.is_terminal,
    ) as progress:  # fmt: skip
        yield progress


def print_json(result: Any) -> None:
    """One value as one line of JSON on stdout."""
    sys.stdout.write(msgspec.json.encode(result).decode() + "\n")


def interrupt_on_sigterm() -> None:
    """Whoever stops the drill politely gets the same tidying up as Ctrl-C."""
    signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(number: int, frame: object) -> None:
    # A shell starts what goes on in the background deaf to Ctrl-C.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.raise_signal(signal.SIGINT)


def marks_table(found: Sequence[Mark]) -> Table:
    """The marks, with what was found."""
    table = Table(title="Marks", title_justify="left")
    for column in ("", "mark", "what was found"):
        table.add_column(column, overflow="fold")
    for mark in found:
        table.add_row("[green]✓[/green]" if mark.passed else "[red]✗[/red]", mark.name, mark.detail)
    return table


@contextmanager
def drilling(faults: tuple[type[BaseException], ...], what: str) -> Iterator[None]:
    """What keeps a drill from running, or stops it, ends the command with one line; `what` was stopped and removed."""
    interrupt_on_sigterm()
    try:
        yield
    except faults as fault:
        ERR.print(f"[red]✗[/red] {fault}", highlight=False, soft_wrap=True)
        raise typer.Exit(CANNOT_RUN) from fault
    except KeyboardInterrupt:
        ERR.print(f"[red]✗[/red] Interrupted; the drill's {what} stopped and removed.", highlight=False)
        raise typer.Exit(130) from None


def tell_runs(
    reports: Sequence[R], as_json: bool, summed: Callable[[Sequence[R]], Any], table: Callable[[Sequence[R]], Table]
) -> None:
    """The end of several runs of a drill, or of one: JSON or a table, and exit code 1 when a mark was missed."""
    if as_json:
        print_json(reports[0] if len(reports) == 1 else summed(reports))
    elif len(reports) > 1:
        OUT.print(table(reports))
    if not all(one.passed for one in reports):
        raise typer.Exit(MISSED)
