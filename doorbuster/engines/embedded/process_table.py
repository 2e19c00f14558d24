"""Who runs: a state file that survives the supervisor, and the proof that a process is still the one it names.

A process id alone is recycled by the kernel; an id *and* its start time *and* the boot it was seen in are one process.
Nothing is ever signalled on less than that, or than this run's random mark in the process's own environment.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from doorbuster.engines.embedded.paths import DataPaths

RUN_MARK = "DOORBUSTER_RUN"
_POLL_S = 0.02

Condition = Literal["starting", "ready", "failing", "stopped"]


class ProcessKey(msgspec.Struct, frozen=True):
    """One process for all time: its id and its start in clock ticks after the boot."""

    pid: int
    start_ticks: int


class ChildState(msgspec.Struct, frozen=True):
    """What the supervisor knows of one child. `since` is when `state` began (UTC, ISO 8601)."""

    name: str
    state: Condition
    since: str
    pid: int | None = None
    start_ticks: int | None = None
    restarts: int = 0
    address: str = ""
    stop_signal: int = int(signal.SIGTERM)
    stop_grace_s: float = 10.0
    problem: str = ""

    @property
    def process(self) -> ProcessKey | None:
        """The process, when there is one."""
        return None if self.pid is None or self.start_ticks is None else ProcessKey(self.pid, self.start_ticks)


class RunState(msgspec.Struct, frozen=True):
    """One run of a supervisor, as its state file tells it. `status` is `killed` when it ended without saying so."""

    run: str
    boot: str
    supervisor: ProcessKey
    status: Literal["starting", "ready", "stopping", "stopped", "failed", "killed"]
    since: str
    url: str = ""
    socket_dir: str = ""
    problem: str = ""
    children: list[ChildState] = []


def utc_now() -> str:
    """The time of day as the state file writes it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def boot_mark() -> str:
    """A name for this boot of the machine: after the next one, ids and ticks mean other processes."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _stat_fields(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the command's name, which may itself hold spaces and brackets."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def identify(pid: int) -> ProcessKey | None:
    """The process that has this id now; None when there is none, or only one that ended and was not reaped yet."""
    fields = _stat_fields(pid)
    if fields is None or fields[0] in "ZX":
        return None
    return ProcessKey(pid, int(fields[19]))


def is_alive(process: ProcessKey | None) -> bool:
    """True while that very process runs."""
    return process is not None and identify(process.pid) == process


def send(process: ProcessKey, what: signal.Signals) -> bool:
    """Signal that very process; False when it is gone.

    The descriptor is opened before the identity is checked, so the signal can not reach a later owner of the id.
    """
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    try:
        if not is_alive(process):
            return False
        signal.pidfd_send_signal(descriptor, what)
        return True
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)


def wait_gone(processes: Iterable[ProcessKey], timeout_s: float) -> list[ProcessKey]:
    """Wait until they have ended; those that still run after `timeout_s` are returned."""
    deadline = time.monotonic() + timeout_s
    left = [each for each in processes if is_alive(each)]
    while left and time.monotonic() < deadline:
        time.sleep(_POLL_S)
        left = [each for each in left if is_alive(each)]
    return left


def marked(run: str, session: int | None = None) -> list[ProcessKey]:
    """The processes that carry this run's mark in their environment, or those of them in one session."""
    mark = f"{RUN_MARK}={run}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        fields = _stat_fields(int(entry.name))
        if fields is None or fields[0] in "ZX" or (session is not None and int(fields[3]) != session):
            continue
        with contextlib.suppress(OSError):
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(ProcessKey(int(entry.name), int(fields[19])))
    return found


def kill_session(run: str, session: int, timeout_s: float = 5.0) -> int:
    """Kill what is left of this run in one session, and wait until it is gone; how many there were."""
    found = marked(run, session)
    for process in found:
        send(process, signal.SIGKILL)
    wait_gone(found, timeout_s)
    return len(found)


def write_state(paths: DataPaths, state: RunState) -> None:
    """Replace the state file; a reader sees the old one or the new one."""
    part = paths.state.with_suffix(".part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(state), indent=1))
    part.replace(paths.state)


def read_state(root: Path) -> RunState | None:
    """The last run on this data directory as it is *now*: a supervisor or child that is gone is not shown as running.

    None when there never was one, or the file is damaged (it holds nothing that can not be made again).
    """
    try:
        state = msgspec.json.decode(DataPaths(root.absolute()).state.read_bytes(), type=RunState)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return None
    same_boot = state.boot == boot_mark()
    if state.status in ("stopped", "failed") or (same_boot and is_alive(state.supervisor)):
        return state
    children = [
        each
        if same_boot and is_alive(each.process)
        else msgspec.structs.replace(each, state="stopped", pid=None, start_ticks=None)
        for each in state.children
    ]
    return msgspec.structs.replace(state, status="killed", children=children)


def leftovers(state: RunState) -> dict[ProcessKey, ChildState | None]:
    """The processes of a run whose supervisor is gone; None stands for what a child itself had started."""
    if state.boot != boot_mark():
        return {}
    found: dict[ProcessKey, ChildState | None] = {each.process: each for each in state.children if each.process}
    for process in marked(state.run):
        found.setdefault(process, None)
    return {process: child for process, child in found.items() if is_alive(process) and process.pid != os.getpid()}


def stop_leftovers(state: RunState) -> int:
    """End what a killed supervisor left, each as its child is stopped cleanly; returns how many there were.

    Takes at most the longest grace of a child and 5 s.
    """
    found = leftovers(state)
    for process, child in found.items():
        send(process, signal.Signals(child.stop_signal) if child else signal.SIGTERM)
    wait_gone(found, max((child.stop_grace_s for child in found.values() if child), default=1.0))
    left = leftovers(state)  # also what only shows now: started by a child while it was being stopped
    for process in left:
        send(process, signal.SIGKILL)
    wait_gone(left, 5.0)
    return len(found)
