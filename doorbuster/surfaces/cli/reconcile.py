"""`doorbuster reconcile`: read one of a provider's days or its settlement file now, and show what came of it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from doorbuster import client
from doorbuster.domains.commerce import ledger
from doorbuster.engines import payment_router
from doorbuster.platform import db, money, settings
from doorbuster.platform.calls import SYSTEM
from doorbuster.platform.errors import Refusal, Unavailable
from doorbuster.surfaces.cli.faults import UserFault

T = TypeVar("T")
_OUT = Console()
_MAX_FILE = 64 * 1024 * 1024
_MAX_CASES = 100
_COLOURS = {"matched": "green", "waiting": "cyan"}


def register(app: typer.Typer) -> None:
    """Add `reconcile` to the command line."""
    app.command()(reconcile)


class Answer(msgspec.Struct, frozen=True):
    """What `--json` prints."""

    reading: ledger.Reading
    report: ledger.Report
    cases: tuple[ledger.Case, ...]


def reconcile(
    provider: Annotated[str, typer.Option(help="Our account at a provider, as the settings name it.")],
    day: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="One of the provider's days.")],
    file: Annotated[
        Path | None, typer.Option(help="The provider's settlement file (CSV), instead of asking it.")
    ] = None,
    data: Annotated[Path, typer.Option(help="Where the shop keeps everything.", envvar="DOORBUSTER_DATA")] = Path(
        ".doorbuster"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Compare a day of a provider with our books now. Exit code 1 when a case of that day is open.

    The shop does it by itself every night; doing it again changes nothing.
    """
    content = None if file is None else _read(file)
    answer = _on_shop(data, _reconciled(provider, day.date(), content))
    if as_json:
        sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")
    else:
        _show(answer)
    if any(one.open for one in answer.report.figures):
        raise typer.Exit(1)


async def _reconciled(provider: str, day: date, file: bytes | None) -> Answer:
    if file is None:
        reading = await ledger.reconcile(SYSTEM, provider, day)
    else:
        reading = await ledger.take_file(SYSTEM, provider, day, file)
    found = await ledger.cases(SYSTEM, "open", provider, "", None, _MAX_CASES)
    report = await ledger.report(SYSTEM, provider, day)
    return Answer(reading, report, tuple(one for one in found if one.day == day))


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            content = opened.read(_MAX_FILE + 1)
    except OSError as error:
        raise UserFault(f"{file} cannot be read: {error.strerror}.") from error
    if len(content) > _MAX_FILE:
        raise UserFault(f"{file} has more than {_MAX_FILE >> 20} MB.", "Ask the provider for a file of fewer days.")
    return content


def _show(answer: Answer) -> None:
    reading, report = answer.reading, answer.report
    table = Table(title=f"{report.provider}, {report.day}", title_justify="left")
    for column in ("class", "rows", "sum", "open"):
        table.add_column(column, justify="left" if column == "class" else "right")
    for one in report.figures:
        colour = _COLOURS.get(one.kind, "red" if one.open else "dim")
        is_case = one.kind not in _COLOURS
        table.add_row(
            f"[{colour}]{one.kind.replace('_', ' ')}[/]", str(one.count), money.display(one.sum_minor, one.currency),
            str(one.open) if is_case else "",
        )  # fmt: skip
    _OUT.print(table)
    _OUT.print(
        f"{reading.rows} rows read, {reading.new} new; {reading.matched} matched, {reading.opened} cases opened,"
        f" {reading.closed} closed.",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    for case in answer.cases:
        names = ", ".join(dict.fromkeys([*(r.provider_id for r in case.theirs), *(m.provider_id for m in case.ours)]))
        amount = money.display(case.amount_minor, case.currency)
        _OUT.print(f"[red]✗[/red] {case.kind.replace('_', ' ')} {amount}: {names}", highlight=False, soft_wrap=True)
        _OUT.print(f"  {case.next_step}", highlight=False, soft_wrap=True)


def _on_shop(data: Path, work: Coroutine[Any, Any, T]) -> T:
    """Run this with the running shop's own logins. A refusal ends the command with its words."""

    async def run() -> T:
        try:
            return await work
        finally:
            await payment_router.close()
            await db.close_all()

    try:
        client.find(data)
    except client.NotRunning:
        work.close()
        raise
    settings.use(client.read_settings(data))
    try:
        return asyncio.run(run())
    except (Refusal, Unavailable) as refused:
        raise client.ShopRefused(str(refused)) from refused
