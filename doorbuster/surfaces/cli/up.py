"""`doorbuster up`: what was asked for, checked, and the shop composed or started in the background."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.panel import Panel

from doorbuster import client, services, single_machine
from doorbuster.engines.embedded import DataPaths, StartError, Supervisor, prepare, start_detached
from doorbuster.engines.embedded import run as run_supervised
from doorbuster.surfaces.cli import load_catalog
from doorbuster.surfaces.cli.faults import UserFault

_OUT = Console()
DEFAULT_DATA = Path(".doorbuster")
Data = Annotated[Path, typer.Option(help="Where the shop keeps everything.", envvar="DOORBUSTER_DATA")]
Port = Annotated[int, typer.Option(min=1, max=65_535, help="Where the edge listens (TLS).")]
Workers = Annotated[
    int,
    typer.Option(
        min=0,
        max=64,
        show_default="one for every two cores",
        help="Workers that serve at once. With one, a second stands by and takes over when it dies.",
    ),
]
Split = Annotated[
    str,
    typer.Option(
        metavar="[=group|=domain]",
        help="Run the services apart, one process for each group or domain, a database for each group.",
    ),
]
Events = Annotated[
    str, typer.Option("--events", help="What carries facts between services: postgres, or kafka (needs Java).")
]
Collector = Annotated[
    str,
    typer.Option(envvar="OTEL_EXPORTER_OTLP_ENDPOINT", help="Trace, and send the spans to http://host:port (OTLP)."),
]
TRANSPORTS = ("postgres", "kafka")


def up(
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Go on in the background once ready.")] = False,
    port: Port = 8443,
    data: Data = DEFAULT_DATA,
    workers: Workers = 0,
    split: Split = "",
    events: Events = "postgres",
    no_demo: Annotated[bool, typer.Option("--no-demo", help="Start with an empty shop.")] = False,
    otlp_endpoint: Collector = "",
    trace_percent: Annotated[float, typer.Option(min=0, max=100, help="How many requests are traced.")] = 100.0,
    settings: Annotated[str, typer.Option(hidden=True, help="JSON overrides of settings, for drills.")] = "{}",
    psp_faults: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Start a whole shop on this machine: PostgreSQL, workers, a sandbox payment provider and the edge."""
    if split not in services.SPLITS:
        raise UserFault(f"The shop cannot be split by {split!r}.", "Say --split, --split=group or --split=domain.")
    if events not in TRANSPORTS:
        raise UserFault(f"Facts cannot go over {events!r}.", "Say --events postgres or --events kafka.")
    traced = {"otlp_endpoint": otlp_endpoint, "trace_percent": trace_percent}
    options = single_machine.Options(
        port=port,
        workers=workers,
        split=split,
        events=events,
        psp_faults=psp_faults,
        overrides=traced | msgspec.json.decode(settings),
    )
    paths = prepare(data)
    if detach:
        _welcome(start_detached([*_again(options, data), *(["--no-demo"] if no_demo else [])], paths), paths)
        return
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s")

    async def compose(supervisor: Supervisor) -> str:
        url = await single_machine.compose(supervisor, options)
        if not no_demo:
            await _load_demo_once(url, paths)
        return url

    run_supervised(data, compose, lambda url: _welcome(url, paths))


def _again(options: single_machine.Options, data: Path) -> list[str]:
    """The same command, in the foreground of a process of its own."""
    return [
        sys.executable, "-m", "doorbuster.surfaces.cli.main", "up", "--port", str(options.port), "--data", str(data),
        "--workers", str(options.workers), f"--split={options.split}", "--events", options.events,
        "--psp-faults", options.psp_faults, "--settings", msgspec.json.encode(options.overrides).decode(),
    ]  # fmt: skip


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
