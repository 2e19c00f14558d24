"""`up --detach`: the program goes on in a session of its own, and the caller learns whether it got ready or why not."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import time
from collections.abc import Sequence

from doorbuster.engines.embedded import child_logs
from doorbuster.engines.embedded.errors import StartError
from doorbuster.engines.embedded.paths import DataPaths

_READY_FD = "DOORBUSTER_READY_FD"
_MESSAGE_LIMIT = 64 * 1024


def start_detached(argv: Sequence[str], paths: DataPaths, timeout_s: float = 120.0) -> str:
    """Start `argv` (a program that calls `running.run`) as a daemon and return its URL once it is ready.

    It writes to logs/supervisor.log. StartError with the daemon's own words when it can not start, or with the last
    line of its log when it dies without any. A daemon that is still starting after `timeout_s` goes on,
    and the error says so.
    """
    reading, writing = os.pipe()
    log_path = paths.logs / "supervisor.log"
    offset = child_logs.size(log_path)
    log = child_logs.open_for_append(log_path)
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, _READY_FD: str(writing)},
            pass_fds=[writing],
            start_new_session=True,  # no terminal: closing it does not end the shop
        )
    finally:
        os.close(writing)
        os.close(log)
    try:
        said = _read_until_closed(reading, timeout_s)
    finally:
        os.close(reading)
    if said is None:
        raise StartError(
            f"Doorbuster is still starting after {timeout_s:g} s as process {process.pid}.",
            f"Look at {log_path}, or stop it with `doorbuster down`.",
        )
    if not said:
        last = child_logs.last_line(child_logs.said_since(log_path, offset))
        raise StartError(f"Doorbuster ended while it started: {last}", f"Look at {log_path}.")
    message: dict[str, str] = json.loads(said)
    if "url" not in message:
        raise StartError(message["message"], message["hint"])
    return message["url"]


def _read_until_closed(descriptor: int, timeout_s: float) -> bytes | None:
    """What the daemon reports; empty when it died first, None when the time is over."""
    deadline, said = time.monotonic() + timeout_s, b""
    while len(said) < _MESSAGE_LIMIT:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([descriptor], [], [], left)[0]:
            return None
        part = os.read(descriptor, 4096)
        if not part:
            break
        said += part
    return said


class ReadyReport:
    """The daemon's end of the pipe to the caller that waits for it; says one thing, once. No pipe: says nothing."""

    def __init__(self) -> None:
        number = os.environ.pop(_READY_FD, "")  # taken away: a child of ours must not think that it is the daemon
        self._descriptor = int(number) if number else None

    def ready(self, url: str) -> None:
        """Everything is ready at `url`."""
        self._say({"url": url})

    def failed(self, error: StartError) -> None:
        """Nothing runs, and why."""
        self._say({"message": error.message, "hint": error.hint})

    def _say(self, message: dict[str, str]) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            return
        with contextlib.suppress(BrokenPipeError):  # a caller that went away is no fault of ours
            os.write(descriptor, json.dumps(message).encode())
        os.close(descriptor)
