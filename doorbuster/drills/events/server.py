"""A throw-away PostgreSQL whose postmaster may be killed: it comes back on its data, as under the shop's supervisor."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from doorbuster.engines.embedded import PostgresServer, StartError, temporary_postgres
from doorbuster.engines.embedded.postgres import accepts_connections, confined_argv, postgres_argv, server_environment

_BACK_WITHIN_S = 60.0
_LOOK_S = 0.02
_BETWEEN_STARTS_S = 0.1


class KillableServer:
    """Guards the process of one PostgreSQL, and starts it again whenever it has ended."""

    def __init__(self, postgres: PostgresServer, settings: Mapping[str, str], log: Path) -> None:
        self.postgres = postgres
        self._argv = confined_argv(postgres_argv(postgres.data_dir, postgres.socket_dir, settings), signal.SIGQUIT)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    async def kill(self) -> float:
        """SIGKILL the postmaster and start it again on its data; returns after how many seconds it answers.

        StartError when it does not within 60 s.
        """
        began = time.monotonic()
        victim = self.postgres.pid
        os.kill(victim, signal.SIGKILL)
        await self._until_gone(victim, began)
        while time.monotonic() - began < _BACK_WITHIN_S:
            # A first start may be refused: the old backends need a moment to notice that their postmaster is gone.
            if self._process is None or self._process.poll() is not None:
                self._start()
            if await accepts_connections(self.postgres):
                return time.monotonic() - began
            await asyncio.sleep(_BETWEEN_STARTS_S)
        raise self._lost()

    async def until_it_answers(self) -> float:
        """Wait through a crash recovery that PostgreSQL does by itself; returns the seconds it took."""
        began = time.monotonic()
        while time.monotonic() - began < _BACK_WITHIN_S:
            if await accepts_connections(self.postgres):
                return time.monotonic() - began
            await asyncio.sleep(_LOOK_S)
        raise self._lost()

    def stop(self) -> None:
        """End what was started here; the first process belongs to `temporary_postgres`."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)

    def _start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._argv, stdout=log, stderr=log, env=server_environment())

    async def _until_gone(self, pid: int, began: float) -> None:
        """Whoever started the process has to reap it: a zombie still counts as a running postmaster."""
        while time.monotonic() - began < _BACK_WITHIN_S:
            if self._process is not None and self._process.pid == pid:
                self._process.poll()
            else:
                _reap(pid)
            if not Path(f"/proc/{pid}").exists():
                return
            await asyncio.sleep(_LOOK_S)
        raise self._lost()

    def _lost(self) -> StartError:
        said = self._log.read_text(errors="replace").strip().splitlines()[-3:]
        return StartError(f"the drill's PostgreSQL did not come back: {' | '.join(said)}", "Run the drill again.")


def _reap(pid: int) -> None:
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


@asynccontextmanager
async def killable_postgres(settings: Mapping[str, str], folder: Path) -> AsyncIterator[KillableServer]:
    """A fresh server with fsync on and these settings; gone at the end, whatever was killed."""
    async with temporary_postgres(settings=settings) as postgres:
        server = KillableServer(postgres, settings, folder / "postgres-again.log")
        try:
            yield server
        finally:
            await asyncio.to_thread(server.stop)
