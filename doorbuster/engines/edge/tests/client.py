"""A raw HTTP client over TLS: it sends exactly the bytes it is told to, since path tricks must not be tidied up."""

from __future__ import annotations

import asyncio
import json
import ssl
from dataclasses import dataclass
from typing import Any

DEADLINE_S = 10.0
PROBLEM_MEMBERS = {"type", "title", "status", "code", "detail", "request_id"}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def is_problem(self, status: int, code: str) -> bool:
        """Asserts the one format of every refusal; always true, so that a test reads as a claim."""
        assert self.status == status, (self.status, self.body)
        assert self.headers["content-type"] == "application/problem+json", self.headers
        document = self.json
        assert document.keys() >= PROBLEM_MEMBERS, document
        assert (document["status"], document["code"]) == (status, code), document
        assert document["title"] and len(document["detail"]) > 15
        assert "envoy" not in self.body.decode().lower()
        assert not [name for name in self.headers if name.startswith("x-envoy")]
        assert self.headers["server"] == "doorbuster"
        assert self.headers["x-content-type-options"] == "nosniff"
        return True


def tls(*alpn: str) -> ssl.SSLContext:
    """Trusts anybody: the certificate is made by the test."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


PLAIN = tls()


async def send(port: int, raw: bytes, *, context: ssl.SSLContext | None = None) -> bytes:
    """Send these bytes on a new connection and return everything until the edge closes or has answered once."""
    async with asyncio.timeout(DEADLINE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context or PLAIN)
        try:
            writer.write(raw)
            return await _read_answer(reader, head_only=raw.startswith(b"HEAD "))
        finally:
            writer.transport.abort()


async def _read_answer(reader: asyncio.StreamReader, *, head_only: bool) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    return head if head_only else head + await reader.readexactly(length)


def parse(raw: bytes) -> Answer:
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Answer(int(first.split(" ")[1]), headers, body)


async def ask(
    port: int,
    method: str,
    target: str,
    headers: dict[str, str] | list[tuple[str, str]] | None = None,
    body: bytes = b"",
) -> Answer:
    """One HTTP/1.1 request on its own connection; `target` goes out as it stands."""
    pairs = list(headers.items()) if isinstance(headers, dict) else list(headers or [])
    if body or method in ("POST", "PUT"):
        pairs.append(("content-length", str(len(body))))
    lines = [f"{method} {target} HTTP/1.1", "host: localhost", *(f"{name}: {value}" for name, value in pairs)]
    return parse(await send(port, "\r\n".join(lines).encode("utf-8") + b"\r\n\r\n" + body))
