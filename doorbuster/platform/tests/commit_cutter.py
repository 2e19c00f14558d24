"""A proxy before PostgreSQL's Unix socket that cuts the connection exactly at a commit, or is away for a while."""

from __future__ import annotations

import asyncio
import functools
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import msgspec

from doorbuster.platform import db, settings
from doorbuster.platform.settings import Settings

Cut = Literal["before", "after"]
Work = Callable[..., Awaitable[Any]]
_WRITES = re.compile(rb"\b(INSERT INTO|UPDATE|DELETE FROM)\b")
# Leases and ticks of the engines in the background of the same process: not the commits that a test is about.
_BACKGROUND = re.compile(rb"\b(batch_job|batch_run|event_cursor|event_member)\b")


class _Quiet:
    """Background work of this process stands aside while a cutter is open: the next commit is then the test's own."""

    def __init__(self) -> None:
        self._cutters = self._working = 0
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> None:
        async with self._changed:
            self._cutters += 1
            await self._changed.wait_for(lambda: not self._working)

    async def __aexit__(self, *_: object) -> None:
        async with self._changed:
            self._cutters -= 1
            self._changed.notify_all()

    async def work(self, work: Work, *arguments: Any) -> Any:
        """Do this when no cutter is open."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._cutters)
            self._working += 1
        try:
            return await work(*arguments)
        finally:
            async with self._changed:
                self._working -= 1
                self._changed.notify_all()


_QUIET = _Quiet()


def aside(work: Work) -> Work:
    """This work, which waits while a test cuts commits."""
    return functools.partial(_QUIET.work, work)


class _Client:
    """Guards what one client has told the server so far: is it in a transaction, which prepared statements write."""

    def __init__(self) -> None:
        self._in_transaction = False
        self._writing: set[bytes] = set()
        self._background: set[bytes] = set()
        self._is_background = False

    def commits(self, data: bytes) -> bool:
        """Whether this is a COMMIT, or the execution of a statement that writes and is its own transaction."""
        found = False
        while len(data) > 5 and data[:1].isalpha():
            length = 1 + int.from_bytes(data[1:5], "big")
            kind, body, data = data[:1], data[5:length], data[length:]
            match kind:
                case b"Q":
                    found |= body == b"COMMIT\0" and not self._is_background
                    self._is_background &= body not in (b"BEGIN\0", b"COMMIT\0")
                    self._in_transaction = body == b"BEGIN\0" or (self._in_transaction and b"SAVEPOINT" in body)
                case b"P":
                    name, query, *_ = body.split(b"\0")
                    (self._writing.add if _WRITES.search(query) else self._writing.discard)(name)
                    (self._background.add if _BACKGROUND.search(query) else self._background.discard)(name)
                case b"B":
                    _, name, *_ = body.split(b"\0", 2)
                    self._is_background |= name in self._background and self._in_transaction
                    found |= name in self._writing - self._background and not self._in_transaction
                case _:
                    pass
        return found


class Cutter:
    """Guards the proxied connections. `cut` is consumed by the next COMMIT: `before` drops the connection instead of
    forwarding it (PostgreSQL rolls back), `after` forwards it, waits for the answer, and drops that (it is done)."""

    def __init__(self, target: Path) -> None:
        self.cut: Cut | None = None
        self.cuts = 0
        self._spared = 0
        self._target = target
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.folder = Path(tempfile.mkdtemp(prefix="cut-"))

    def cut_at(self, nth: int, how: Cut) -> None:
        """Cut at the nth commit from now on."""
        self.cut, self._spared = how, nth - 1

    async def open(self) -> None:
        """Accept connections (again)."""
        self._server = await asyncio.start_unix_server(self._serve, self.folder / ".s.PGSQL.5432")

    async def close(self) -> None:
        """Refuse connections and cut those there are, as a server that is gone does."""
        if self._server is not None:
            self._server.close()
        (self.folder / ".s.PGSQL.5432").unlink(missing_ok=True)
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream = await asyncio.open_unix_connection(self._target / ".s.PGSQL.5432")
        self._writers |= {writer, upstream}
        muted, client = asyncio.Event(), _Client()
        back = asyncio.create_task(self._pump_back(upstream_reader, writer, muted))
        try:
            while data := await reader.read(65_536):
                is_commit = client.commits(data)
                if is_commit and self._spared:
                    self._spared -= 1
                elif is_commit and self.cut is not None:
                    how, self.cut = self.cut, None
                    self.cuts += 1
                    if how == "after":
                        muted.set()
                        upstream.write(data)
                        await asyncio.wait_for(back, 10)
                    break
                upstream.write(data)
                await upstream.drain()
        except (OSError, TimeoutError):
            pass
        finally:
            back.cancel()
            for one in (writer, upstream):
                self._writers.discard(one)
                one.transport.abort()

    async def _pump_back(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, muted: asyncio.Event
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                if muted.is_set():
                    return  # the answer to COMMIT, which nobody will see
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


@asynccontextmanager
async def cutter(shop: Settings, *domains: str) -> AsyncIterator[Cutter]:
    """Send these domains' connections of this process through a cutter; no scheduled work runs meanwhile."""
    async with _QUIET, _through(shop, domains) as proxy:
        yield proxy


@asynccontextmanager
async def _through(shop: Settings, domains: tuple[str, ...]) -> AsyncIterator[Cutter]:
    login = shop.databases[domains[0]]
    proxy = Cutter(Path(login.host))
    await proxy.open()
    through = {name: msgspec.structs.replace(shop.databases[name], host=str(proxy.folder)) for name in domains}
    before = settings.current()
    settings.use(msgspec.structs.replace(before, databases=before.databases | through))
    try:
        for name in domains:
            await db.of(name).close()
        yield proxy
    finally:
        settings.use(before)
        for name in domains:
            await db.of(name).close()
        await proxy.close()
        shutil.rmtree(proxy.folder, ignore_errors=True)
