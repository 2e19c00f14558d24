"""A whole shop for one drill: its own data directory, its own port, and gone at the end whatever happened."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from doorbuster import client, provision, single_machine
from doorbuster.engines.embedded import DataPaths, PostgresServer, kept_password, read_state, stop_running

START_WITHIN_S = 90.0
_TRIES = 3


class ShopDidNotStart(Exception):
    """The drill's own shop could not be started; the message holds the command's words."""


class DrilledShop(msgspec.Struct, frozen=True):
    """A running shop that a drill may look into: over TLS as anybody, and as the database's superuser."""

    url: str
    data: Path
    workers: int
    own: bool

    @property
    def port(self) -> int:
        """Where its edge listens."""
        return int(self.url.rsplit(":", 1)[1])

    @property
    def paths(self) -> DataPaths:
        """Where its files are."""
        return DataPaths(self.data.absolute())

    @property
    def server(self) -> PostgresServer:
        """Its PostgreSQL. Raises client.NotRunning when the shop is down."""
        state = read_state(self.data)
        if state is None or not state.socket_dir:
            raise client.NotRunning(f"No shop runs on {self.data}.")
        return PostgresServer(self.paths.pg, Path(state.socket_dir), kept_password(self.paths.superuser_password))

    @property
    def dsn(self) -> str:
        """The database in which the orders are, as superuser."""
        return self.dsn_of("commerce.order")

    def dsn_of(self, domain: str) -> str:
        """The database a domain's tables are in, as superuser."""
        where = provision.databases(apart=single_machine.is_apart(self.data))
        return self.server.dsn(database=where[domain])

    def as_client(self) -> client.Shop:
        """The shop as the command line's client knows it."""
        return client.Shop(self.url, str(self.paths.root), client.read_settings(self.data))


def running_shop(url: str, data: Path) -> DrilledShop:
    """The shop that runs already at `url` on `data`. Raises client.NotRunning when that is not so."""
    found = client.find(data)
    if found.url.rstrip("/") != url.rstrip("/"):
        raise client.NotRunning(f"The shop on {data} answers at {found.url}, not at {url}. Name its --data directory.")
    state = read_state(data)
    workers = sum(child.name.startswith("worker-") for child in state.children) if state else 0
    return DrilledShop(found.url, data.absolute(), workers, own=False)


EMPTY: Mapping[str, str] = {}


@contextmanager
def temporary_shop(
    *, workers: int, overrides: Mapping[str, object], more: Sequence[str] = (), files: Mapping[str, str] = EMPTY
) -> Iterator[DrilledShop]:
    """A fresh, empty shop on a free port; `overrides` are fields of Settings, `more` options of `doorbuster up`,
    `files` what stands in its data directory before it starts.

    Stopped and removed at the end, also when interrupted. Takes about 5 s. Raises ShopDidNotStart.
    """
    home = Path(tempfile.mkdtemp(prefix="doorbuster-drill-"))
    data = home / "shop"
    data.mkdir(mode=0o700)
    for name, text in files.items():
        (data / name).parent.mkdir(exist_ok=True)
        (data / name).write_text(text)
    try:
        yield DrilledShop(_start(data, workers, overrides, more), data, workers, own=True)
    finally:
        try:
            stop_running(data)
        finally:
            shutil.rmtree(home, ignore_errors=True)


def _start(data: Path, workers: int, overrides: Mapping[str, object], more: Sequence[str]) -> str:
    said = ""
    for _ in range(_TRIES):  # between finding a free port and listening on it, somebody else may take it
        port = free_port()
        argv = [sys.executable, "-m", "doorbuster.surfaces.cli.main", "up", "--detach", "--no-demo"]
        argv += ["--port", str(port), "--data", str(data), "--workers", str(workers)]
        argv += ["--settings", json.dumps(dict(overrides)), *more]
        # A session of its own: Ctrl-C in the terminal must reach the drill only, which then stops the shop in order.
        starting = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        try:
            said, _ = starting.communicate(timeout=START_WITHIN_S)
        except BaseException:
            # What it is starting can be stopped only once it stands.
            _wait_or_kill(starting)
            raise
        if starting.returncode == 0:
            return f"https://localhost:{port}"
        if "port" not in said.lower():
            break
    raise ShopDidNotStart(said.strip()[-2_000:])


def _wait_or_kill(starting: subprocess.Popen[str]) -> None:
    try:
        starting.communicate(timeout=START_WITHIN_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        starting.kill()
        starting.wait(10)


def free_port() -> int:
    """A port of the loopback interface that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
