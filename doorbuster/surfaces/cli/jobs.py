"""`doorbuster jobs`: what runs when in the running shop, how it went, and running or retrying a tick by hand."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import asyncpg
import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from doorbuster import client, map, provision, single_machine
from doorbuster.engines.embedded import DataPaths, PostgresServer, kept_password, read_state
from doorbuster.engines.schedule import (
    Every,
    JobLine,
    NotPossible,
    RunLine,
    list_jobs,
    list_runs,
    retry_run,
    run_now,
)
from doorbuster.platform.clock import utc_now

T = TypeVar("T")
_OUT = Console()
_ERR = Console(stderr=True)
_COLOURS = {
    "done": "green", "sweeping": "green", "running": "cyan", "due": "cyan", "new": "dim", "skipped": "dim",
    "retrying": "yellow", "failing": "red", "failed": "red", "abandoned": "red", "nobody runs it": "red",
}  # fmt: skip
_SHOWN = 300
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))

Data = Annotated[Path, typer.Option(help="Where the shop keeps everything.", envvar="DOORBUSTER_DATA")]
Json = Annotated[bool, typer.Option("--json", help="For programs.")]
Job = Annotated[str, typer.Argument(help="A job as `doorbuster jobs` names it.", show_default=False)]
_DEFAULT_DATA = Path(".doorbuster")

jobs_app = typer.Typer(help="What runs when, and how it went.")


def register(app: typer.Typer) -> None:
    """Add `jobs` to the command line."""
    app.add_typer(jobs_app, name="jobs")


class DomainJob(msgspec.Struct, frozen=True):
    """A job and whose it is."""

    domain: str
    line: JobLine


@jobs_app.callback(invoke_without_command=True)
def jobs(context: typer.Context, data: Data = _DEFAULT_DATA, as_json: Json = False) -> None:
    """What runs when: every job and sweep of the running shop, with its last run and its error."""
    if context.invoked_subcommand is not None:
        return
    found = asyncio.run(_all_jobs(data))
    if as_json:
        _print([{"domain": one.domain, **msgspec.structs.asdict(one.line)} for one in found])
    else:
        found.sort(key=lambda one: one.line.job)
        _OUT.print(_jobs_table(found))
        _show_errors([(one.line.job, one.line.error) for one in found])


@jobs_app.command()
def history(
    job: Job,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="So many ticks, the newest.")] = 20,
    data: Data = _DEFAULT_DATA,
    as_json: Json = False,
) -> None:
    """A job's newest ticks: when, how long, how often tried, what came of them. Of a sweep, rounds worth telling."""

    async def read() -> list[RunLine]:
        async with _schema_of(data, job) as conn:
            return await list_runs(conn, job, limit)

    found = _asked(read())
    if as_json:
        _print(found)
    else:
        _OUT.print(_history_table(job, found))
        _show_errors([(_tick(line.scheduled_for), line.error) for line in found])


@jobs_app.command()
def run(
    job: Job,
    scheduled_for: Annotated[
        str, typer.Option(help="The tick that was missed, ISO 8601; without it, an extra one as of now.")
    ] = "",
    data: Data = _DEFAULT_DATA,
    as_json: Json = False,
) -> None:
    """Have a tick run now, by the shop's own schedulers (within 3 s). A tick that ran already is refused."""

    async def ask() -> datetime:
        async with _schema_of(data, job) as conn:
            return await run_now(conn, job, _moment(scheduled_for) if scheduled_for else None)

    _say(job, _asked(ask()), as_json, "will run now")


@jobs_app.command()
def retry(
    job: Job,
    tick: Annotated[str, typer.Argument(help="The failed tick, as the history shows it.", show_default=False)],
    data: Data = _DEFAULT_DATA,
    as_json: Json = False,
) -> None:
    """Try a failed tick again, from its first chunk that is not finished."""

    async def ask() -> datetime:
        moment = _moment(tick)
        async with _schema_of(data, job) as conn:
            await retry_run(conn, job, moment)
        return moment

    _say(job, _asked(ask()), as_json, "is tried again")


def _say(job: str, tick: datetime, as_json: bool, what: str) -> None:
    if as_json:
        _print({"job": job, "scheduled_for": tick.isoformat(), "state": "due"})
    else:
        _OUT.print(f"{job} of {_tick(tick)} {what}: doorbuster jobs history {job}", highlight=False, soft_wrap=True)


def _print(what: Any) -> None:
    sys.stdout.write(msgspec.json.encode(what).decode() + "\n")


def _asked(coroutine: Coroutine[Any, Any, T]) -> T:
    """Its result; what is not possible is one clear line on stderr and exit code 1."""
    try:
        return asyncio.run(coroutine)
    except NotPossible as no:
        _ERR.print(f"[red]✗[/red] {no}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from no


def _moment(text: str) -> datetime:
    """An ISO 8601 moment; without an offset it is UTC, as the history shows it."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise NotPossible(f"{text!r} is no moment. For example 2026-11-30T03:00:00+09:00.") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@contextlib.asynccontextmanager
async def _connected(data: Path, domain: map.Domain) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """The schema of a domain, as the running shop's superuser."""
    state = read_state(data)
    if state is None or state.status != "ready":
        raise client.NotRunning(f"No shop runs on {data}. Start one with `doorbuster up --detach`.")
    paths = DataPaths(data.absolute())
    server = PostgresServer(paths.pg, Path(state.socket_dir), kept_password(paths.superuser_password))
    connection = await asyncpg.connect(
        server.dsn(database=provision.databases(apart=single_machine.is_apart(data))[domain.id]),
        timeout=10,
        server_settings={"search_path": domain.name},
    )
    try:
        yield connection
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def _schema_of(data: Path, job: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """The schema that has a job. Raises NotPossible when none has."""
    for domain in map.BUILT:
        async with _connected(data, domain) as conn:
            if any(line.job == job for line in await list_jobs(conn)):
                yield conn
                return
    raise NotPossible(f"There is no job {job!r}; `doorbuster jobs` lists them.")


async def _all_jobs(data: Path) -> list[DomainJob]:
    found = []
    for domain in map.BUILT:
        async with _connected(data, domain) as conn:
            found += [DomainJob(domain.id, line) for line in await list_jobs(conn)]
    return found


def _jobs_table(found: list[DomainJob]) -> Table:
    table = Table()
    for column in ("job", "schedule", "last run", "took", "next due", "state"):
        table.add_column(column, justify="right" if column == "took" else "left", no_wrap=True)
    for one in found:
        line = one.line
        state = f"[{_COLOURS[line.state]}]{line.state}[/]"
        if line.failed:
            state += f" [red]({line.failed} failed)[/red]"
        table.add_row(
            line.job, _schedule(line), _when(line.last_run), _took(line.took_s), _when(line.next_due), state
        )  # fmt: skip
    return table


def _history_table(job: str, found: list[RunLine]) -> Table:
    table = Table(title=f"{job}, ticks in UTC", title_justify="left")
    for column in ("tick", "state", "took", "tries", "chunks", "result"):
        right = column in ("took", "tries", "chunks")
        table.add_column(column, justify="right" if right else "left", no_wrap=column != "result", overflow="fold")
    for line in found:
        state = f"[{_COLOURS[line.state]}]{line.state}[/]" + (" by hand" if line.by_hand else "")
        result = bytes(line.result).decode()
        table.add_row(
            _tick(line.scheduled_for), state, _took(line.took_s), str(line.attempts), str(line.chunks),
            escape(result if result != "{}" else ""),
        )  # fmt: skip
    return table


def _show_errors(errors: list[tuple[str, str | None]]) -> None:
    """Below the table, where there is room for them."""
    for of, error in errors:
        if error:
            _OUT.print(f"[red]✗[/red] {of}: {escape(error.splitlines()[0][:_SHOWN])}", highlight=False, soft_wrap=True)


def _tick(moment: datetime) -> str:
    """A tick as `retry` takes it: ISO 8601 in UTC, with a fraction only if there is one."""
    text = moment.astimezone(UTC).replace(tzinfo=None).isoformat()
    return (text.rstrip("0") if "." in text else text) + "Z"


def _schedule(line: JobLine) -> str:
    if line.every_s is None:
        return f"daily {line.daily_at} {line.zone}"
    return str(Every(line.every_s))


def _when(moment: datetime | None) -> str:
    """How far away, in whole units: `3 s ago`, `in 12 min`."""
    if moment is None:
        return ""
    seconds = (moment - utc_now()).total_seconds()
    length, unit = next(((length, unit) for length, unit in _UNITS if abs(seconds) >= length), (1, "s"))
    count = int(abs(seconds) // length)
    return f"in {count} {unit}" if seconds > 0 else f"{count} {unit} ago"


def _took(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds * 1_000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
