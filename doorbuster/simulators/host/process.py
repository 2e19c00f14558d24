"""Starts a simulated PSP as a process: options, ledger, clock, listening, the ready file, an orderly end."""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from aiohttp import web

from doorbuster.simulators.host.clock import Clock
from doorbuster.simulators.host.faults import parse_faults
from doorbuster.simulators.host.ledger import LedgerBusy, LedgerDamaged, open_ledger
from doorbuster.simulators.host.server import MAX_BODY_BYTES, Desk, Psp
from doorbuster.simulators.host.webhooks import Headers, Outbox, Taken, taken_with_200

BACKLOG = 1024
KEEP_ALIVE_S = 75.0
STOP_S = 1.0


class CannotStart(Exception):
    """Expected; its text is the one line the operator sees."""


# What a PSP's module brings: from (append, secret, clock, outbox, options) to the PSP and the replay of one entry.
Build = Callable[[Callable[[Any], None], str, Clock, Outbox, argparse.Namespace], tuple[Psp, Callable[[Any], None]]]


def run(
    name: str,
    entry_type: type[Any],
    build: Build,
    argv: Sequence[str] | None = None,
    schedule_ms: tuple[int, ...] = (),
    headers: Headers = lambda _webhook, _attempts: {},
    add_options: Callable[[argparse.ArgumentParser], None] = lambda _parser: None,
    taken: Taken = taken_with_200,
) -> int:
    """Serve until SIGTERM or SIGINT, then 0; 1 with one line on stderr when it cannot start; 2 for wrong options.

    `taken` says which answers of the shop end the sending of a webhook.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m doorbuster.simulators.{name}", description=f"the {name} simulator"
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one; see --ready-file")
    parser.add_argument("--ledger", type=Path, required=True, help="durable, append-only; created when missing")
    parser.add_argument("--secret-file", type=Path, required=True, help="the secret key, also the admin door's bearer")
    parser.add_argument("--ready-file", type=Path, help='gets {"host","port","pid"} once it listens')
    parser.add_argument("--webhook-url", help="where webhooks go; none are sent without it")
    parser.add_argument("--faults", default="{}", help="JSON, as PUT /admin/faults takes it")
    add_options(parser)
    options = parser.parse_args(argv)
    if not 0 <= options.port <= 65535:
        parser.error("--port is a number from 0 to 65535")
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(name, entry_type, build, options, (schedule_ms, headers, taken)))
    except (CannotStart, LedgerBusy, LedgerDamaged) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    return 0


async def _serve(
    name: str,
    entry_type: type[Any],
    build: Build,
    options: argparse.Namespace,
    sending_rules: tuple[tuple[int, ...], Headers, Taken],
) -> None:
    ready_file: Path | None = options.ready_file
    if ready_file is not None:
        ready_file.unlink(missing_ok=True)
    secret = _secret(options.secret_file)
    try:
        faults = parse_faults(options.faults.encode())
        ledger, entries = open_ledger(options.ledger, msgspec.json.Decoder(entry_type))
        clock = Clock(_beside(options.ledger, "clock"))
        schedule_ms, headers, taken = sending_rules
        done = _beside(options.ledger, "webhooks")
        outbox = Outbox(options.webhook_url, schedule_ms, headers, clock, done, taken)
    except (OSError, ValueError) as error:
        raise CannotStart(str(error)) from error
    psp, replay = build(ledger.append, secret, clock, outbox, options)
    count = 0
    for entry in entries:
        replay(entry)
        count += 1
    desk = Desk(psp, secret, clock, outbox)
    desk.set_faults(faults)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    sending = asyncio.create_task(outbox.run())
    async with _listening(desk, options) as (host, port):
        print(f"{name}: listening on http://{host}:{port}, {count} entries on record", file=sys.stderr)
        if ready_file is not None:
            _write_ready(ready_file, host, port)
        await stop.wait()
    sending.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await sending
    outbox.close()
    ledger.close()
    if ready_file is not None:
        ready_file.unlink(missing_ok=True)


@contextlib.asynccontextmanager
async def _listening(desk: Desk, options: argparse.Namespace) -> Any:
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.router.add_route("*", "/{path:.*}", desk.serve)
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=KEEP_ALIVE_S, shutdown_timeout=STOP_S)
    await runner.setup()
    site = await _listen(runner, options.host, options.port)
    host, port = runner.addresses[0][:2]

    async def refuse(seconds: float) -> None:
        nonlocal site
        await site.stop()
        await asyncio.sleep(seconds)
        site = await _listen(runner, options.host, port)

    desk.refuse = refuse
    try:
        yield host, port
    finally:
        desk.close()
        await runner.cleanup()


async def _listen(runner: web.AppRunner, host: str, port: int) -> web.TCPSite:
    site = web.TCPSite(runner, host, port, backlog=BACKLOG, reuse_address=True)
    try:
        await site.start()
    except OSError as error:
        raise CannotStart(f"cannot listen on {host}:{port}: {error}") from error
    return site


def _beside(ledger: Path, kind: str) -> Path:
    return ledger.with_name(f"{ledger.name}.{kind}")


def _secret(file: Path) -> str:
    try:
        secret = file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CannotStart(f"cannot read the secret: {error}") from error
    if not secret or not (secret.isascii() and secret.isprintable()):
        raise CannotStart("needs a secret of visible ASCII in --secret-file")
    return secret


def _write_ready(path: Path, host: str, port: int) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_bytes(msgspec.json.encode({"host": host, "port": port, "pid": os.getpid()}))
    draft.replace(path)
