"""A whole run of the program on one data directory: `run` (up), `stop_running` (down), and what a kill left between."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from doorbuster.engines.embedded import process_table
from doorbuster.engines.embedded.detach import ReadyReport
from doorbuster.engines.embedded.errors import StartError
from doorbuster.engines.embedded.lock import Locked, exclusive, is_held
from doorbuster.engines.embedded.paths import DataPaths, is_data_directory, prepare, remove_socket_dir, socket_dir
from doorbuster.engines.embedded.process_table import RunState, read_state
from doorbuster.engines.embedded.supervisor import Supervisor

_log = logging.getLogger("doorbuster.supervisor")

_KILL_TIMEOUT_S = 5.0
_CANCEL_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Composition:
    """What one run needs to know: where, what to start, and whom to tell."""

    paths: DataPaths
    sockets: Path
    compose: Callable[[Supervisor], Coroutine[Any, Any, str]]
    announce: Callable[[str], None]
    report: ReadyReport


def run(root: Path, compose: Callable[[Supervisor], Coroutine[Any, Any, str]], announce: Callable[[str], None]) -> None:
    """Run the program on `root` in the foreground until SIGTERM or SIGINT; returns after a clean stop.

    `compose` starts the children in their order and returns the URL to show; `announce` is called with it once
    everything is ready. A second signal stops at once, without grace. StartError when something can not start (all
    that had started is stopped first), or when the program runs on `root` already.
    """
    report = ReadyReport()
    try:
        paths = prepare(root)
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(exclusive(paths.lock))
            except Locked as error:
                raise _runs_already(paths) from error
            clear_leftovers(paths)
            sockets = socket_dir(paths.run)
            try:
                asyncio.run(_run(Composition(paths, sockets, compose, announce, report)))
            finally:
                remove_socket_dir(sockets, paths.run)
    except StartError as error:
        report.failed(error)
        raise


async def _run(composition: Composition) -> None:
    supervisor, asked_to_stop = Supervisor(composition.paths, composition.sockets), asyncio.Event()

    def on_signal() -> None:
        if asked_to_stop.is_set():
            supervisor.hurry()
        asked_to_stop.set()

    loop = asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, on_signal)
    stop: asyncio.Future[Any] = asyncio.create_task(asked_to_stop.wait())
    capping = asyncio.create_task(supervisor.cap_logs())
    problem = ""
    try:
        await _until_asked_to_stop(composition, supervisor, stop)
    except BaseException as error:
        problem = str(error) or repr(error)
        raise
    finally:
        await supervisor.stop()
        supervisor.mark("failed" if problem else "stopped", problem=problem)
        capping.cancel()
        stop.cancel()


async def _until_asked_to_stop(composition: Composition, supervisor: Supervisor, stop: asyncio.Future[Any]) -> None:
    """Bring everything up and wait; a stop asked for while starting ends the starting."""
    composing: asyncio.Future[Any] = asyncio.ensure_future(composition.compose(supervisor))
    await asyncio.wait({composing, stop}, return_when=asyncio.FIRST_COMPLETED)
    if not composing.done():
        composing.cancel()
        await asyncio.wait({composing}, timeout=_CANCEL_TIMEOUT_S)
        return
    url = composing.result()
    supervisor.mark("ready", url=url)
    composition.announce(url)
    composition.report.ready(url)
    await asyncio.wait({stop, supervisor.broken}, return_when=asyncio.FIRST_COMPLETED)
    if supervisor.broken.done():
        supervisor.broken.result()


def _runs_already(paths: DataPaths) -> StartError:
    state = read_state(paths.root)
    running = state if state and state.status in ("starting", "ready", "stopping") else None
    who = f" as process {running.supervisor.pid}" if running else ""
    where = f" at {running.url}" if running and running.url else ""
    return StartError(
        f"Doorbuster already runs on {paths.root}{who}{where}.",
        "Look with `doorbuster status`, stop it with `doorbuster down`, or give this one its own --data and --port.",
    )


def clear_leftovers(paths: DataPaths) -> int:
    """End the processes and remove the sockets of a run that was killed; the caller holds the lock. How many ended."""
    state = read_state(paths.root)
    if state is None or state.status in ("stopped", "failed"):
        return 0
    count = process_table.stop_leftovers(state)
    if count:
        _log.warning("stopped %d processes left behind by a supervisor that was killed", count)
    if state.socket_dir:
        remove_socket_dir(Path(state.socket_dir), paths.run)
    process_table.write_state(paths, _ended(state))
    return count


def _ended(state: RunState) -> RunState:
    children = [msgspec.structs.replace(each, state="stopped", pid=None, start_ticks=None) for each in state.children]
    return msgspec.structs.replace(state, status="stopped", since=process_table.utc_now(), children=children)


def stop_running(root: Path, timeout_s: float = 60.0) -> bool:
    """Stop the program that runs on `root` and whatever a killed one left; True when anything was running.

    Asks the supervisor first (SIGTERM) and waits `timeout_s` for its clean stop; then kills it and ends its children.
    """
    paths = DataPaths(root.absolute())
    if not is_data_directory(root):
        return False
    state = read_state(root)
    was_running = False
    if state is not None and state.status in ("starting", "ready", "stopping") and is_held(paths.lock):
        was_running = process_table.send(state.supervisor, signal.SIGTERM)
        if process_table.wait_gone([state.supervisor], timeout_s):
            process_table.send(state.supervisor, signal.SIGKILL)
            process_table.wait_gone([state.supervisor], _KILL_TIMEOUT_S)
    try:
        with exclusive(paths.lock):
            return clear_leftovers(paths) > 0 or was_running
    except Locked as error:
        raise StartError(
            f"Somebody holds {paths.lock}, and it is not the supervisor in {paths.state}.",
            "Another `doorbuster up` or `down` is at work there: wait for it and try again.",
        ) from error
