"""Starts the sandbox PSP: `python -m doorbuster.simulators.sandbox --ledger FILE --secret-file FILE`."""

import argparse
import asyncio
import contextlib
import os
import resource
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import uvloop

from doorbuster.simulators.host.faults import CommonFaults
from doorbuster.simulators.host.ledger import LedgerBusy, LedgerDamaged
from doorbuster.simulators.sandbox.books import Books
from doorbuster.simulators.sandbox.faults import parse_faults
from doorbuster.simulators.sandbox.ledger import open_ledger
from doorbuster.simulators.sandbox.provider import Provider
from doorbuster.simulators.sandbox.server import Connection, Door, Limits

MAX_CONNECTIONS = 4096
BACKLOG = 1024


class CannotStart(Exception):
    """Expected; its text is the one line the operator sees."""


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT, then 0; 1 with one line on stderr when it cannot start; 2 for wrong options."""
    options = _options(argv)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(options))
    except (CannotStart, LedgerBusy, LedgerDamaged) as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 1
    return 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m doorbuster.simulators.sandbox", description="the sandbox PSP")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one; see --ready-file")
    parser.add_argument("--ledger", type=Path, required=True, help="durable, append-only; created when missing")
    parser.add_argument("--secret-file", type=Path, help="bearer secret; else DOORBUSTER_SANDBOX_SECRET")
    parser.add_argument("--ready-file", type=Path, help='gets {"host","port","pid"} once it listens')
    parser.add_argument("--faults", default="{}", help="JSON, as PUT /admin/faults takes it")
    parser.add_argument("--idle-timeout-s", type=float, default=75.0)
    parser.add_argument("--request-timeout-s", type=float, default=10.0)
    options = parser.parse_args(argv)
    if options.idle_timeout_s <= 0 or options.request_timeout_s <= 0:
        parser.error("a timeout is more than 0 seconds")
    if not 0 <= options.port <= 65535:
        parser.error("--port is a number from 0 to 65535")
    return options


async def _serve(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    ready_file: Path | None = options.ready_file
    if ready_file is not None:
        ready_file.unlink(missing_ok=True)
    faults = _faults(options.faults)
    secret = _secret(options.secret_file, os.environ)
    try:
        ledger, records = open_ledger(options.ledger)
    except OSError as error:
        raise CannotStart(f"cannot open the ledger: {error}") from error
    books = Books(ledger.append)
    for record in records:
        books.apply(record)
    limits = Limits(options.request_timeout_s, options.idle_timeout_s, _connections_allowed())
    door = Door(Provider(books, faults, secret), limits, loop)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        server = await loop.create_server(lambda: Connection(door), options.host, options.port, backlog=BACKLOG)
    except OSError as error:
        raise CannotStart(f"cannot listen on {options.host}:{options.port}: {error}") from error
    host, port = server.sockets[0].getsockname()[:2]
    print(f"sandbox: listening on http://{host}:{port}, {len(books.charges)} charges on record", file=sys.stderr)
    if ready_file is not None:
        _write_ready(ready_file, host, port)
    sweep = asyncio.create_task(door.sweep())
    await stop.wait()
    server.close()
    await door.stop()
    sweep.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await sweep
    ledger.close()
    if ready_file is not None:
        ready_file.unlink(missing_ok=True)


def _faults(raw: str) -> CommonFaults:
    try:
        return parse_faults(raw.encode())
    except (msgspec.DecodeError, UnicodeError) as error:
        raise CannotStart(f"--faults: {error}") from error


def _secret(file: Path | None, environment: Mapping[str, str]) -> bytes:
    try:
        text = file.read_text("utf-8") if file is not None else environment.get("DOORBUSTER_SANDBOX_SECRET", "")
    except (OSError, UnicodeDecodeError) as error:
        raise CannotStart(f"cannot read the secret: {error}") from error
    secret = text.strip()
    if not secret or not (secret.isascii() and secret.isprintable()):
        raise CannotStart("needs a secret of visible ASCII in --secret-file or DOORBUSTER_SANDBOX_SECRET")
    return secret.encode("ascii")


def _connections_allowed() -> int:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + 64
    raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < raised:
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
        soft = raised
    return MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, max(16, soft - 64))


def _write_ready(path: Path, host: str, port: int) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_bytes(msgspec.json.encode({"host": host, "port": port, "pid": os.getpid()}))
    draft.replace(path)


if __name__ == "__main__":
    sys.exit(main())
