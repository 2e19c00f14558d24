"""`doorbuster events`: what the services tell each other, who listens, how far they are, and what is set aside."""

from __future__ import annotations

import asyncio
import getpass
import sys
from collections.abc import Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import asyncpg
import msgspec
import typer
from rich.console import Console
from rich.table import Table

from doorbuster import client, contracts, map, provision, single_machine
from doorbuster.background import SUBSCRIPTIONS
from doorbuster.engines.embedded import DataPaths, PostgresServer, kept_password, read_state
from doorbuster.engines.event_log import dead_letters, lag, retention, shadow, status
from doorbuster.engines.event_log import replay as event_replay
from doorbuster.platform import db, settings
from doorbuster.platform.errors import Refusal, Unavailable

app = typer.Typer(help="The facts that services tell each other, and how far each listener is.")
dead = typer.Typer(help="What consumers have set aside because they could not handle it.", no_args_is_help=True)
app.add_typer(dead, name="dead")
_OUT = Console()
T = TypeVar("T")

Data = Annotated[Path, typer.Option(help="Where the shop keeps everything.", envvar="DOORBUSTER_DATA")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
Note = Annotated[str, typer.Option(help="Why; it is kept with your name.")]
DEFAULT_DATA = Path(".doorbuster")


@app.callback(invoke_without_command=True)
def show(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    asyncapi: Annotated[bool, typer.Option("--asyncapi", help="The contract as an AsyncAPI 3 document.")] = False,
) -> None:
    """List every kind of fact with its version, its publisher and its listeners."""
    if context.invoked_subcommand is not None:
        return
    if asyncapi:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(contracts.asyncapi()), indent=1).decode() + "\n")
    elif as_json:
        sys.stdout.write(msgspec.json.encode(_listed()).decode() + "\n")
    else:
        table = Table(title="Facts", title_justify="left")
        for column in ("fact", "version", "told by", "heard by"):
            table.add_column(column)
        for one in _listed():
            heard = ", ".join(one.heard_by) or "[dim]nobody yet[/dim]"
            table.add_row(one.name, str(one.version), one.told_by, heard)
        _OUT.print(table)


class _Listed(msgspec.Struct, frozen=True):
    """One line of the list."""

    name: str
    version: int
    told_by: str
    heard_by: tuple[str, ...]
    fields: tuple[str, ...]


def _listed() -> list[_Listed]:
    return [
        _Listed(kind.name, kind.version, kind.topic, contracts.hearers(kind), kind.content.__struct_fields__)
        for kind in contracts.FACT_TYPES
    ]


@app.command("lag")
def show_lag(data: Data = DEFAULT_DATA, as_json: AsJson = False) -> None:
    """How far each consumer is behind: events waiting, the oldest one's age, what is set aside, workers at work."""

    async def look() -> list[lag.Lag]:
        return [
            await status.look(domain.id, source, types)
            for domain in map.BUILT
            for source, types in map.heard_by_source(domain).items()
        ]

    found = _on_shop(data, look())
    if as_json:
        _print_json(found)
        return
    table = Table(title="Consumers", title_justify="left")
    for column in ("consumer", "hears", "waiting", "oldest", "set aside", "workers"):
        table.add_column(column, justify="left" if column in ("consumer", "hears") else "right")
    for one in found:
        waits = f"{one.waiting}{'+' if one.waiting >= lag.MOST else ''}"
        set_aside = f"[red]{one.dead_letters}[/red]" if one.dead_letters else "0"
        table.add_row(one.consumer, one.source, waits, f"{one.oldest_s:.1f} s", set_aside, str(one.owners))
    _OUT.print(table)


@dead.command("list")
def list_dead(
    consumer: Annotated[str, typer.Argument(help="One consumer, as group.domain.")] = "",
    data: Data = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """What is set aside, oldest first."""

    async def look() -> list[tuple[str, dead_letters.DeadLetter]]:
        names = [_consumer(consumer)] if consumer else [domain.id for domain in map.BUILT if domain.hears]
        return [(name, letter) for name in names for letter in await dead_letters.list_dead_letters(name, 1_000)]

    found = _on_shop(data, look())
    if as_json:
        _print_json([{"consumer": name} | msgspec.structs.asdict(letter) for name, letter in found])
        return
    if not found:
        _OUT.print("Nothing is set aside.")
        return
    table = Table(title="Set aside", title_justify="left")
    for column in ("consumer", "source", "seq", "key", "type", "tries", "next try", "error"):
        table.add_column(column, justify="right" if column in ("seq", "tries") else "left")
    for name, letter in found:
        waits = letter.error == dead_letters.WAITS
        again = "" if waits else f"{letter.retry_at:%H:%M:%S}" if letter.retry_at else "[red]given up[/red]"
        table.add_row(
            name, letter.source, str(letter.seq), letter.key, letter.type, str(letter.tries), again, letter.error[:80]
        )
    _OUT.print(table)


@dead.command("show")
def show_dead(consumer: str, source: str, seq: int, data: Data = DEFAULT_DATA) -> None:
    """One event set aside, whole."""
    _print_json(_on_shop(data, dead_letters.inspect(_consumer(consumer), source, seq)), indent=1)


@dead.command("requeue")
def requeue_dead(consumer: str, source: str, key: str, note: Note = "", data: Data = DEFAULT_DATA) -> None:
    """Try a key again, from its first event, in order."""
    count = _on_shop(data, dead_letters.requeue(_consumer(consumer), source, key, actor=getpass.getuser(), note=note))
    _OUT.print(f"{count} events of {key} are tried again, in order.", highlight=False)


@dead.command("drop")
def drop_dead(
    consumer: str,
    source: str,
    key: str,
    note: Annotated[str, typer.Option(help="Why; it is kept with your name.", prompt="Why")],
    whole_key: Annotated[bool, typer.Option("--whole-key", help="All that waits, not only the first event.")] = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """Give up a key's first event (or all of it): it never has an effect in this consumer."""
    count = _on_shop(
        data,
        dead_letters.drop(_consumer(consumer), source, key, actor=getpass.getuser(), note=note, whole_key=whole_key),
    )
    _OUT.print(f"{count} events of {key} were dropped; {consumer} will never have their effect.", highlight=False)


@app.command("replay")
def replay(
    consumer: str,
    source: str,
    since: Annotated[
        datetime | None, typer.Option(help="From this time on (UTC); without it, all that the log has.")
    ] = None,
    shadow_name: Annotated[
        str, typer.Option("--shadow", help="Into empty copies of its tables beside the shop, to be compared.")
    ] = "",
    drop_it: Annotated[bool, typer.Option("--drop", help="Remove the shadow of this name instead.")] = False,
    note: Note = "",
    data: Data = DEFAULT_DATA,
) -> None:
    """Have a consumer hear a source again. Its handlers are idempotent: what had its effect keeps it."""
    from_time = since.replace(tzinfo=UTC) if since is not None and since.tzinfo is None else since
    if shadow_name:
        _replay_beside(data, _consumer(consumer), source, shadow_name, from_time, drop_it=drop_it)
        return
    found = _on_shop(data, event_replay(_consumer(consumer), source, from_time, actor=getpass.getuser(), note=note))
    where = "" if found.from_seq is None else f" from number {found.from_seq} on"
    _OUT.print(f"{consumer} hears {source} again{where}: {found.facts} facts.", highlight=False)


def _replay_beside(data: Path, consumer: str, source: str, name: str, since: datetime | None, *, drop_it: bool) -> None:
    subscription = next((s for s in SUBSCRIPTIONS if (s.consumer, s.source) == (consumer, source)), None)
    if subscription is None:
        raise typer.BadParameter(f"{consumer} does not hear {source}")
    database = provision.databases(apart=single_machine.is_apart(data))[consumer]

    async def work() -> shadow.Shadow | None:
        owner = await asyncpg.connect(_server(data).dsn(database=database), timeout=10)
        try:
            if drop_it:
                await shadow.drop_shadow(owner, consumer, name)
                return None
            return await shadow.run_shadow(owner, subscription, name, since)
        finally:
            await owner.close()

    found = _on_shop(data, work())
    if found is None:
        _OUT.print(f"The shadow {name} of {consumer} is gone.", highlight=False)
        return
    table = Table(title=f"{found.schema}: caught up in {found.seconds:.1f} s, {found.set_aside} set aside")
    for column in ("table", "rows", "in the shadow", "equal"):
        table.add_column(column, justify="left" if column == "table" else "right")
    for one in found.tables:
        equal = "[green]yes[/green]" if one.is_equal else "[yellow]no[/yellow]"
        table.add_row(one.table, str(one.rows), str(one.shadow_rows), equal)
    _OUT.print(table)


@app.command("retention")
def keep(
    keep_days: Annotated[int, typer.Option(min=0, max=3_650, help="Days to keep.")] = retention.KEEP_DAYS,
    data: Data = DEFAULT_DATA,
    as_json: AsJson = False,
) -> None:
    """Drop days of the logs that are old and handled by all (the shop does so by itself), and show what is left."""

    async def work() -> list[dict[str, object]]:
        return [
            {
                "domain": domain.id,
                "dropped": (await retention.keep_days(domain.id, keep_days=keep_days))[1],
                "days": await retention.days(domain.id),
            }
            for domain in map.BUILT
            if domain.publishes
        ]

    found: list[Any] = _on_shop(data, work())
    if as_json:
        _print_json(found)
        return
    table = Table(title="Logs", title_justify="left")
    for column in ("log", "days", "oldest", "size", "dropped"):
        table.add_column(column, justify="left" if column == "log" else "right")
    for one in found:
        size = sum(day.bytes for day in one["days"]) / 2**20
        oldest = f"{one['days'][0].from_at:%Y-%m-%d}" if one["days"] else ""
        table.add_row(one["domain"], str(len(one["days"])), oldest, f"{size:.1f} MB", str(len(one["dropped"])))
    _OUT.print(table)


@app.command("rehome")
def make_own(data: Data = DEFAULT_DATA) -> None:
    """After a dump was restored into another cluster: make the logs this cluster's own. `up` does so by itself."""
    done = asyncio.run(provision.rehome_logs(_server(data), apart=single_machine.is_apart(data)))
    _OUT.print("\n".join(done) if done else "Every log is at home in this cluster.", highlight=False)


def _server(data: Path) -> PostgresServer:
    state = read_state(data)
    if state is None or state.status != "ready":
        raise client.NotRunning(f"No shop runs on {data}. Start one with `doorbuster up --detach`.")
    paths = DataPaths(data.absolute())
    return PostgresServer(paths.pg, Path(state.socket_dir), kept_password(paths.superuser_password))


def _consumer(name: str) -> str:
    """`group.domain` of a domain that hears something. Raises typer.BadParameter naming those that do."""
    known = [domain.id for domain in map.BUILT if domain.hears]
    if name not in known:
        raise typer.BadParameter(f"{name!r} hears nothing; consumers are {', '.join(known)}")
    return name


def _on_shop(data: Path, work: Coroutine[Any, Any, T]) -> T:
    """Run this with the running shop's own logins. A refusal ends the command with its words."""

    async def run() -> T:
        try:
            return await work
        finally:
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


def _print_json(value: object, indent: int = 0) -> None:
    text = msgspec.json.encode(value)
    sys.stdout.write((msgspec.json.format(text, indent=indent) if indent else text).decode() + "\n")
