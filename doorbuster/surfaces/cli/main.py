"""`doorbuster`: start, stop and look at a shop, fill it, and run the drills."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from doorbuster import __version__, client, invariants, provision, services, single_machine
from doorbuster.engines.embedded import (
    DataPaths,
    PostgresServer,
    StartError,
    kept_password,
    read_state,
    stop_running,
)
from doorbuster.platform.money import is_currency
from doorbuster.surfaces.cli import drills, events, jobs, load_catalog, reconcile, shopify_csv, status_report
from doorbuster.surfaces.cli.bench import bench
from doorbuster.surfaces.cli.faults import UserFault
from doorbuster.surfaces.cli.observed import show_map
from doorbuster.surfaces.cli.serve import serve
from doorbuster.surfaces.cli.up import DEFAULT_DATA, Data, up

app = typer.Typer(
    help="Doorbuster: a commerce backend that survives the door-buster night.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
drill_app = typer.Typer(help="Replay an incident, then watch the shop survive it.", no_args_is_help=True)
app.add_typer(drill_app, name="drill")
app.add_typer(events.app, name="events")
app.command()(up)
app.command()(bench)
app.command()(serve)
app.command(name="map")(show_map)
drills.register(drill_app)
jobs.register(app)
reconcile.register(app)
_OUT = Console()
_ERR = Console(stderr=True)


def run() -> None:
    """The entry point: every expected failure is one clear line on stderr and exit code 1."""
    try:
        app(with_plain_split(sys.argv[1:]))
    except (StartError, UserFault) as fault:
        _ERR.print(f"[red]✗[/red] {fault.message}", highlight=False, soft_wrap=True)
        if fault.hint:
            _ERR.print(f"  {fault.hint}", highlight=False, soft_wrap=True)
        sys.exit(1)
    except (client.NotRunning, client.ShopRefused) as fault:
        _ERR.print(f"[red]✗[/red] {fault}", highlight=False, soft_wrap=True)
        sys.exit(1)


def with_plain_split(arguments: list[str]) -> list[str]:
    """`--split` alone means `--split=group`; the option parser knows no optional values."""
    follows = [*arguments[1:], None]
    return [
        "--split=group" if word == "--split" and after not in services.SPLITS else word
        for word, after in zip(arguments, follows, strict=True)
    ]


@app.command()
def version() -> None:
    """Print the version."""
    _OUT.print(__version__)


@app.command()
def down(data: Data = DEFAULT_DATA) -> None:
    """Stop the shop and everything that a killed one left behind. The data stays."""
    if stop_running(data):
        _OUT.print("Stopped. The data stays in", str(data), highlight=False)
    else:
        _OUT.print("Nothing was running on", str(data), highlight=False)


@app.command()
def status(
    data: Data = DEFAULT_DATA, as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False
) -> None:
    """What runs here: health, ports, process ids, memory. Exit code 1 unless all is well."""
    state = read_state(data)
    running = state is not None and state.status in ("starting", "ready", "stopping")
    healthy = (
        running
        and state is not None
        and state.status == "ready"
        and all(child.state == "ready" for child in state.children)
    )
    if as_json:
        sys.stdout.write(msgspec.json.encode(status_report.as_document(state, healthy)).decode() + "\n")
    elif state is None or not running:
        _OUT.print(f"Nothing runs on {data}. Start with `doorbuster up`.", highlight=False)
    else:
        _OUT.print(status_report.as_table(state))
    if not healthy:
        raise typer.Exit(1)


@app.command()
def migrate(data: Data = DEFAULT_DATA) -> None:
    """Bring the running shop's database schemas up to date (`up` does this by itself)."""
    server = _server(data)
    applied = asyncio.run(
        provision.migrate_shop(
            server,
            provision.passwords(DataPaths(data).keys),
            apart=single_machine.is_apart(data),
            events=client.read_settings(data).events,
        )
    )
    _OUT.print("\n".join(applied) if applied else "Every schema is up to date.", highlight=False)


@app.command()
def check(data: Data = DEFAULT_DATA) -> None:
    """Run every domain's invariants on the running shop; each must find nothing. Exit code 1 if one does."""
    count, breaches = asyncio.run(invariants.check_all(_server(data), apart=single_machine.is_apart(data)))
    for breach in breaches:
        _OUT.print(f"[red]✗[/red] {breach.domain}.{breach.name}: {breach.promise}", highlight=False)
        for row in breach.rows:
            _OUT.print(f"    {row}", highlight=False, markup=False)
    _OUT.print(f"{count - len(breaches)} of {count} invariants hold.", highlight=False)
    if breaches:
        raise typer.Exit(1)


def _server(data: Path) -> PostgresServer:
    state = read_state(data)
    if state is None or state.status != "ready":
        raise client.NotRunning(f"No shop runs on {data}. Start one with `doorbuster up --detach`.")
    paths = DataPaths(data.absolute())
    return PostgresServer(paths.pg, Path(state.socket_dir), kept_password(paths.superuser_password))


@app.command()
def token(
    role: Annotated[str, typer.Option(help="shopper, merchant or admin.")] = "shopper",
    shoppers: Annotated[int, typer.Option(min=0, max=1_000_000, help="Tokens of N shoppers, one a line.")] = 0,
    hours: Annotated[float, typer.Option(min=0.01, max=720, help="How long they are good.")] = 24,
    data: Data = DEFAULT_DATA,
) -> None:
    """Print access tokens for trying and testing this shop, signed with its own key."""
    if role not in client.ROLES:
        raise UserFault(f"There is no role {role!r}.", f"Choose one of {', '.join(client.ROLES)}.")
    settings = client.read_settings(data)
    lifetime_s = int(hours * 3_600)
    tokens = (
        client.shopper_tokens(settings, shoppers, lifetime_s)
        if shoppers
        else [client.token(settings, role, lifetime_s=lifetime_s)]
    )
    sys.stdout.write("\n".join(tokens) + "\n")


@app.command(name="import")
def import_products(
    file: Annotated[Path, typer.Argument(help="A product CSV as Shopify exports it.", show_default=False)],
    data: Data = DEFAULT_DATA,
    currency: Annotated[str, typer.Option(help="ISO 4217; without it, the shop's.")] = "",
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Import the good products of a file with bad ones.")] = (
        False
    ),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and check; change nothing.")] = False,
) -> None:
    """Import products with options, prices, stock and images. The same file again changes nothing more."""
    settings = client.read_settings(data)
    currency = currency or settings.shop_currency
    if not is_currency(currency):
        raise UserFault(f"{currency!r} is not an ISO 4217 currency.", "For example --currency USD.")
    read = _read(file, currency)
    for problem in read.problems[:50]:
        where = f"{file}:{problem.line}" + (f" [{problem.column_name}]" if problem.column_name else "")
        _ERR.print(f"[red]✗[/red] {where} {problem.message}", highlight=False, soft_wrap=True)
    if read.problem_count > 50:
        _ERR.print(f"  … and {read.problem_count - 50} more", highlight=False)
    ignored = [*read.unknown_columns, *read.unused_columns]
    if ignored:
        _ERR.print(f"[yellow]![/yellow] Columns ignored: {', '.join(ignored)}", highlight=False, soft_wrap=True)
    if read.problem_count and not skip_bad:
        raise UserFault(
            f"Nothing was imported: {read.problem_count} problems in {len(read.bad_handles)} products.",
            "Mend the file, or import the good products with --skip-bad.",
        )
    variants = sum(len(product.variants) for product in read.products)
    if dry_run:
        _OUT.print(f"{len(read.products)} products with {variants} options would be imported.", highlight=False)
        return
    if not read.products:
        raise UserFault("There is nothing to import.", "Every product of the file has a problem.")
    loaded = _load(client.find(data), read, currency)
    skipped = f", {len(read.bad_handles)} skipped" if read.bad_handles else ""
    _OUT.print(
        f"[green]✓[/green] {loaded.created} created, {loaded.updated} updated, {loaded.unchanged} unchanged{skipped}"
        f" ({loaded.options} options, prices in {currency}).",
        highlight=False,
    )


def _read(file: Path, currency: str) -> shopify_csv.ReadResult:
    with _progress() as progress:
        task = progress.add_task("reading", total=None)
        try:
            return shopify_csv.read_products(
                file, currency, lambda done, total: progress.update(task, completed=done, total=total)
            )
        except shopify_csv.UnreadableFile as unreadable:
            raise UserFault(f"{file}: {unreadable}", "Nothing was imported.") from unreadable


def _load(shop: client.Shop, read: shopify_csv.ReadResult, currency: str) -> load_catalog.Loaded:
    async def work() -> load_catalog.Loaded:
        with _progress() as progress:
            task = progress.add_task("importing", total=3 * len(read.products))
            async with client.Client(shop) as merchant:
                return await load_catalog.load_products(
                    merchant, read.products, currency, lambda done, _: progress.update(task, completed=done)
                )

    return asyncio.run(work())


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description:>10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=_ERR, transient=not _ERR.is_terminal,
    )  # fmt: skip


if __name__ == "__main__":
    run()
