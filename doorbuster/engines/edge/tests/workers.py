"""A real HTTP/1.1 server on a Unix socket that stands for a worker: it echoes what reached it and fails on demand.

The request header `x-test` chooses the answer: `sleep=S`, `drop` (read the request, answer nothing), `drop-first` (the
same, but only the first time a request id is seen by any worker), `garbage`, `problem`, or nothing for an echo.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Seen:
    """One request as it reached a worker."""

    worker: str
    method: str
    target: str
    headers: list[tuple[str, str]]
    body_length: int

    def header(self, name: str) -> str | None:
        values = [value for key, value in self.headers if key == name]
        return ", ".join(values) if values else None


@dataclass
class Book:
    """What all workers of one shop saw, probes of the edge left out."""

    seen: list[Seen] = field(default_factory=list)
    dropped: set[str] = field(default_factory=set)


class Worker:
    """Guards one listening socket and its connections."""

    def __init__(self, path: Path, book: Book) -> None:
        self.path = path
        self._book = book
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, str(self.path), backlog=4096)

    async def die(self) -> None:
        """As after kill -9: nobody listens, every connection is cut, the socket file stays."""
        if self._server is None:
            return
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        self._server = None
        if not self.path.exists():
            os.mknod(self.path)

    async def revive(self) -> None:
        self.path.unlink(missing_ok=True)
        await self.start()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._answer_one(reader, writer):
                    pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip("\r\n").split("\r\n")
        method, target, _ = first.split(" ", 2)
        headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        length = int(dict(headers).get("content-length", "0"))
        await reader.readexactly(length)
        seen = Seen(self.path.name, method, target, headers, length)
        if target != "/readyz":
            self._book.seen.append(seen)
        return await self._act(seen, writer)

    async def _act(self, seen: Seen, writer: asyncio.StreamWriter) -> bool:
        wish = seen.header("x-test") or ""
        request_id = seen.header("x-request-id") or ""
        if wish.startswith("sleep="):
            await asyncio.sleep(float(wish.removeprefix("sleep=")))
        if wish == "drop" or (wish == "drop-first" and request_id not in self._book.dropped):
            self._book.dropped.add(request_id)
            return False
        if wish == "garbage":
            writer.write(b"this is not HTTP\r\n\r\n")
            await writer.drain()
            return False
        if wish == "problem":
            body, status, kind = (
                b'{"code":"sold_out","detail":"of the worker"}',
                "409 Conflict",
                "application/problem+json",
            )
        else:
            echo = {"worker": seen.worker, "method": seen.method, "target": seen.target, "headers": seen.headers}
            body, status = json.dumps(echo).encode(), "200 OK"
        kind = "application/problem+json" if status.startswith("4") else "application/json"
        head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\nserver: secret\r\n\r\n"
        writer.write(head.encode() + (b"" if seen.method == "HEAD" else body))
        await writer.drain()
        return True
