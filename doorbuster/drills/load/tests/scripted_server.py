"""A real TLS server on loopback whose behaviour a test writes as one coroutine, and its throw-away certificate."""

import asyncio
import contextlib
import datetime
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from doorbuster.drills.load import Plan, Result, TryRow


@dataclass(frozen=True)
class Asked:
    """One request as it came: the n-th of all (from 0), on which connection (from 0), and its exact bytes."""

    number: int
    connection: int
    raw: bytes

    @property
    def path(self) -> str:
        return self.raw.split(b" ", 2)[1].decode()

    def header(self, name: str) -> str | None:
        for line in self.raw.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]:
            key, _, text = line.partition(b": ")
            if key.lower() == name.encode():
                return text.decode()
        return None


Answer = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    """What came in. `plan` fills in the address."""

    ca_file: Path
    port: int = 0
    connections: int = 0
    asked: list[Asked] = field(default_factory=list)

    def plan(self, **settings: object) -> Plan:
        defaults = {"host": "127.0.0.1", "port": self.port, "ca_file": str(self.ca_file), "connections": 1}
        return Plan(**(defaults | settings))  # type: ignore[arg-type]


def reply(status: int, body: bytes, *lines: str) -> bytes:
    head = [f"HTTP/1.1 {status} Whatever", f"content-length: {len(body)}", *lines]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def in_order(result: Result) -> list[TryRow]:
    return sorted(result.rows, key=lambda row: (row.index, row.try_no))


def write_certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "load test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(certificate.public_bytes(encoding))
    (folder / "key.pem").write_bytes(
        key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


@contextlib.asynccontextmanager
async def serving(answer: Answer, certificate: Path, server: Server | None = None) -> AsyncIterator[Server]:
    """Serve until the block ends; given a Server of before, again on its port."""
    server = server or Server(certificate / "ca.pem")
    handlers: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.add(task)
        connection, server.connections = server.connections, server.connections + 1
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                length = Asked(0, 0, head).header("content-length")
                asked = Asked(len(server.asked), connection, head + await reader.readexactly(int(length or 0)))
                server.asked.append(asked)
                await answer(asked, writer)
        writer.transport.abort()
        handlers.discard(task)

    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate / "ca.pem", certificate / "key.pem")
    listening = await asyncio.start_server(handle, "127.0.0.1", server.port, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for task in list(handlers):
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)
        await asyncio.sleep(0)
