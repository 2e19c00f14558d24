"""`doorbuster`: start, stop and look at a shop, fill it, and run the drills."""

from __future__ import annotations

import asyncio
import logging
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from doorbuster import __version__, client, invariants, provision, single_machine
from doorbuster.engines.embedded import (
    DataPaths,
    PostgresServer,
    RunState,
    StartError,
    Supervisor,
    kept_password,
    prepare,
    pss_bytes,
    pss_tree_bytes,
    read_state,
    start_detached,
    stop_running,
)
from doorbuster.engines.embedded import (
    run as run_supervised,
)
from doorbuster.platform.clock import utc_now
from doorbuster.platform.money import is_currency
from doorbuster.surfaces.cli import drills, load_catalog, map_picture, shopify_csv
from doorbuster.surfaces.cli.bench import bench

app = typer.Typer(
    help="Doorbuster: a commerce backend that survives the door-buster night.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
drill_app = typer.Typer(help="Replay an incident, then watch the shop survive it.", no_args_is_help=True)
app.add_typer(drill_app, name="drill")
app.command()(bench)
drills.register(drill_app)
_OUT = Console()
_ERR = Console(stderr=True)

Data = Annotated[Path, typer.Option(help="Where the shop keeps everything.", envvar="DOORBUSTER_DATA")]
DEFAULT_DATA = Path(".doorbuster")


class UserFault(Exception):
    """Something the user can mend: one line what is wrong, one what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def run() -> None:
    """The entry point: every expected failure is one clear line on stderr and exit code 1."""
    try:
        app()
    except (StartError, UserFault) as fault:
        _ERR.print(f"[red]✗[/red] {fault.message}", highlight=False, soft_wrap=True)
        if fault.hint:
            _ERR.print(f"  {fault.hint}", highlight=False, soft_wrap=True)
        sys.exit(1)
    except (client.NotRunning, client.ShopRefused) as fault:
        _ERR.print(f"[red]✗[/red] {fault}", highlight=False, soft_wrap=True)
        sys.exit(1)


@app.command()
def version() -> None:
    """Print the version."""
    _OUT.print(__version__)


@app.command()
def up(
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Go on in the background once ready.")] = False,
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Where the edge listens (TLS).")] = 8443,
    data: Data = DEFAULT_DATA,
    workers: Annotated[
        int,
        typer.Option(
            min=0,
            max=64,
            show_default="one for every two cores",
            help="Workers that serve at once. With one, a second stands by and takes over when it dies.",
        ),
    ] = 0,
    no_demo: Annotated[bool, typer.Option("--no-demo", help="Start with an empty shop.")] = False,
    settings: Annotated[str, typer.Option(hidden=True, help="JSON overrides of settings, for drills.")] = "{}",
    psp_faults: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Start a whole shop on this machine: PostgreSQL, workers, a sandbox payment provider and the edge."""
    paths = prepare(data)
    if detach:
        argv = [sys.executable, "-m", "doorbuster.surfaces.cli.main", "up", "--port", str(port), "--data", str(data)]
        argv += ["--workers", str(workers), "--settings", settings, "--psp-faults", psp_faults]
        url = start_detached(argv + (["--no-demo"] if no_demo else []), paths)
        _welcome(url, paths)
        return
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    options = single_machine.Options(
        port=port, workers=workers, psp_faults=psp_faults, overrides=msgspec.json.decode(settings)
    )

    async def compose(supervisor: Supervisor) -> str:
        url = await single_machine.compose(supervisor, options)
        if not no_demo:
            await _load_demo_once(url, paths)
        return url

    run_supervised(data, compose, lambda url: _welcome(url, paths))


async def _load_demo_once(url: str, paths: DataPaths) -> None:
    done = paths.root / "demo-loaded"
    if done.exists():
        return
    shop = client.Shop(url, str(paths.root), client.read_settings(paths.root))
    try:
        async with client.Client(shop) as merchant:
            await load_catalog.load_demo(merchant)
    except (client.ShopRefused, client.NotRunning) as refused:
        raise StartError(f"The demo shop could not be loaded: {refused}", "Start with --no-demo.") from refused
    done.write_text("1\n")


def _welcome(url: str, paths: DataPaths) -> None:
    command = "doorbuster" if paths.root == DEFAULT_DATA.absolute() else f"doorbuster … --data {paths.root}"
    lines = [
        f"[bold]{url}/[/bold]   the shop's front page",
        f"{url}/api/v1/docs   the API, to read and try",
        f"{paths.keys / 'ca.pem'}   the CA to trust (curl --cacert)",
        "",
        "Next:",
        "  doorbuster status              what runs, and is it well",
        "  doorbuster token               a shopper's access token",
        "  doorbuster import FILE.csv     your own products (Shopify CSV)",
        "  doorbuster drill timedeal      thousands of shoppers, one hot item",
        "  doorbuster down                stop everything",
    ]
    if command != "doorbuster":
        lines.append(f"[dim]This shop's commands take --data {paths.root}[/dim]")
    _OUT.print(Panel("\n".join(lines), title="[green]Doorbuster is open[/green]", expand=False), highlight=False)


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
        sys.stdout.write(msgspec.json.encode(_status(state, healthy)).decode() + "\n")
    elif state is None or not running:
        _OUT.print(f"Nothing runs on {data}. Start with `doorbuster up`.", highlight=False)
    else:
        _OUT.print(_status_table(state))
    if not healthy:
        raise typer.Exit(1)


def _status(state: RunState | None, healthy: bool) -> dict[str, object]:
    if state is None:
        return {"status": "stopped", "healthy": False, "url": "", "port": None, "pid": None, "processes": []}
    running = state.status in ("starting", "ready", "stopping")
    processes = [
        {
            "name": child.name,
            "pid": child.pid,
            "state": child.state,
            "restarts": child.restarts,
            "since": child.since,
            "address": child.address,
            "problem": child.problem,
            "pss_bytes": pss_tree_bytes(child.pid) if child.pid else 0,
        }
        for child in state.children
    ]
    return {
        "status": state.status,
        "healthy": healthy,
        "url": state.url,
        "port": int(state.url.rsplit(":", 1)[1]) if state.url else None,
        "pid": state.supervisor.pid if running else None,
        "since": state.since,
        "problem": state.problem,
        "processes": processes,
    }


def _status_table(state: RunState) -> Table:
    table = Table(title=f"{state.url or 'starting'}  ({state.status})", title_justify="left")
    for column in ("process", "pid", "state", "for", "restarts", "memory", "address"):
        table.add_column(column, justify="right" if column in ("pid", "restarts", "memory") else "left")
    colours = {"ready": "green", "starting": "yellow", "failing": "red", "stopped": "dim"}
    for child in state.children:
        memory = f"{pss_tree_bytes(child.pid) / 2**20:.0f} MB" if child.pid else ""
        colour = colours[child.state]
        table.add_row(
            child.name, str(child.pid or ""), f"[{colour}]{child.state}[/{colour}]", _age(child.since),
            str(child.restarts), memory, Path(child.address).name,
        )  # fmt: skip
    own = f"{pss_bytes(state.supervisor.pid) / 2**20:.0f} MB"
    table.add_row("supervisor", str(state.supervisor.pid), "[green]ready[/green]", _age(state.since), "", own, "")
    return table


def _age(since: str) -> str:
    """How long ago an ISO time was, in the largest two units: 45 s, 3 min 5 s, 2 h 10 min, 3 d 4 h."""
    seconds = max(0, int((utc_now() - datetime.fromisoformat(since)).total_seconds()))
    units = (("d", seconds // 86_400), ("h", seconds // 3_600 % 24), ("min", seconds // 60 % 60), ("s", seconds % 60))
    first = next((index for index, (_, amount) in enumerate(units) if amount), len(units) - 1)
    return " ".join(f"{amount} {unit}" for unit, amount in units[first : first + 2] if amount) or "0 s"


@app.command(name="map")
def show_map(
    out: Annotated[Path | None, typer.Option(help="Write the picture as SVG (docs/map.svg is made so).")] = None,
) -> None:
    """Show the domain map: groups, domains, what each publishes and hears; or draw it."""
    if out is None:
        _OUT.print(map_picture.map_table())
    else:
        out.write_text(map_picture.draw_map())
        _OUT.print(f"Drawn into {out}.", highlight=False)


@app.command()
def migrate(data: Data = DEFAULT_DATA) -> None:
    """Bring the running shop's database schemas up to date (`up` does this by itself)."""
    server = _server(data)
    applied = asyncio.run(
        provision.migrate_shop(
            server.dsn(), server.dsn(database=provision.DATABASE), provision.passwords(DataPaths(data).keys)
        )
    )
    _OUT.print("\n".join(applied) if applied else "Every schema is up to date.", highlight=False)


@app.command()
def check(data: Data = DEFAULT_DATA) -> None:
    """Run every domain's invariants on the running shop; each must find nothing. Exit code 1 if one does."""
    count, breaches = asyncio.run(invariants.check(_server(data).dsn(database=provision.DATABASE)))
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
