"""Starts children in order, restarts what dies, stops them in reverse, and writes down who runs."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import secrets
import signal
import time
from collections import deque
from collections.abc import Awaitable
from pathlib import Path
from typing import Literal

from doorbuster.engines.embedded import child_logs, process_table
from doorbuster.engines.embedded.child import Child
from doorbuster.engines.embedded.errors import StartError
from doorbuster.engines.embedded.paths import DataPaths
from doorbuster.engines.embedded.process_table import ChildState, Condition, ProcessKey, RunState, utc_now

_log = logging.getLogger("doorbuster.supervisor")

FIRST_ATTEMPTS = 3
_BACKOFF_FIRST_S = 0.2
_BACKOFF_MOST_S = 5.0
_WINDOW_S = 60.0
_FAILING_AFTER = 6
_FAILING_PAUSE_S = 10.0
_PROBE_EVERY_S = 0.05
_PROBE_TIMEOUT_S = 5.0
_EXPLAIN_EVERY_S = 1.0
_CAP_EVERY_S = 2.0
_REAP_TIMEOUT_S = 5.0


class _Kept:
    """One child and what became of it so far."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.process: asyncio.subprocess.Process | None = None
        self.key: ProcessKey | None = None
        self.condition: Condition = "starting"
        self.since = utc_now()
        self.restarts = 0
        self.problem = ""
        self.failures: deque[float] = deque(maxlen=_FAILING_AFTER + 1)
        self.stopping = asyncio.Event()
        self.first_ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None] | None = None

    def state(self) -> ChildState:
        """This child as the state file shows it."""
        return ChildState(
            name=self.child.name,
            state=self.condition,
            since=self.since,
            pid=_pid(self),
            start_ticks=self.key.start_ticks if self.key else None,
            restarts=self.restarts,
            address=self.child.address,
            stop_signal=int(self.child.stop_signal),
            stop_grace_s=self.child.stop_grace_s,
            problem=self.problem,
        )

    def recent_failures(self) -> int:
        """How often it died within the last minute (counted up to one more than makes it a failing child)."""
        return sum(time.monotonic() - at < _WINDOW_S for at in self.failures)

    def is_failing(self) -> bool:
        """True when it died too often to be started again at once."""
        return self.recent_failures() > _FAILING_AFTER

    def pause_s(self) -> float:
        """How long to wait before the next start: doubling, then slow."""
        if self.is_failing():
            return _FAILING_PAUSE_S
        return float(min(_BACKOFF_FIRST_S * 2 ** max(self.recent_failures() - 1, 0), _BACKOFF_MOST_S))


class Supervisor:
    """Guards the children of one run. Use it from one event loop, on the thread that lives as long as the program."""

    def __init__(self, paths: DataPaths, socket_dir: Path) -> None:
        me = process_table.identify(os.getpid())
        assert me is not None, "a running process has an identity"
        self._paths = paths
        self._socket_dir = socket_dir
        self._me = me
        self._run = secrets.token_hex(16)
        self._boot = process_table.boot_mark()
        self._status: Literal["starting", "ready", "stopping", "stopped", "failed"] = "starting"
        self._since = utc_now()
        self._url = ""
        self._problem = ""
        self._groups: list[list[_Kept]] = []
        self._hurry = asyncio.Event()
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Before the first child: should we be killed right after, the next run knows the mark our children carry.
        self._write()

    @property
    def paths(self) -> DataPaths:
        """The data directory of this run."""
        return self._paths

    @property
    def socket_dir(self) -> Path:
        """The private directory for this run's sockets; paths in it are short enough to bind."""
        return self._socket_dir

    def state(self) -> RunState:
        """What runs now."""
        children = [kept.state() for group in self._groups for kept in group]
        return RunState(
            run=self._run,
            boot=self._boot,
            supervisor=self._me,
            status=self._status,
            since=self._since,
            url=self._url,
            socket_dir=str(self._socket_dir),
            problem=self._problem,
            children=children,
        )

    def mark(self, status: Literal["ready", "stopped", "failed"], url: str = "", problem: str = "") -> None:
        """Write down that the whole is ready, stopped, or could not start."""
        self._status, self._since, self._problem = status, utc_now(), problem
        self._url = url or self._url
        self._write()

    def hurry(self) -> None:
        """Stop waiting for children to stop cleanly: kill them."""
        self._hurry.set()

    async def start(self, *children: Child) -> None:
        """Start these together and return when all are ready; they are stopped together, before what started earlier.

        StartError when one can not start: its known fault at once, else after 3 attempts. The others go on running
        until `stop`.
        """
        assert self._status == "starting", f"children are started before the run is {self._status}"
        known = {kept.child.name for group in self._groups for kept in group}
        assert not known & {child.name for child in children}, "two children have the same name"
        group = [_Kept(child) for child in children]
        self._groups.append(group)
        for kept in group:
            kept.task = asyncio.create_task(self._keep(kept), name=f"keep {kept.child.name}")
            kept.task.add_done_callback(functools.partial(self._kept_ended, kept))
        await asyncio.gather(*(kept.first_ready for kept in group))

    async def stop(self) -> None:
        """Stop all children, the last started first; returns when none is left. Bounded by the sum of their graces."""
        self._status, self._since = "stopping", utc_now()
        self._write()
        for group in reversed(self._groups):
            await asyncio.gather(*(self._stop_one(kept) for kept in group))
        if self.broken.done():
            self.broken.exception()  # read, so that asyncio does not complain of an error nobody looked at

    async def cap_logs(self) -> None:
        """Keep every log under its size until cancelled."""
        while True:
            for path in self._paths.logs.glob("*.log"):
                child_logs.cap(path)
            await asyncio.sleep(_CAP_EVERY_S)

    def _write(self) -> None:
        try:
            process_table.write_state(self._paths, self.state())
        except OSError as error:  # a full disk must not end the supervision of what still runs
            _log.error("the state file cannot be written: %s", error)

    def _note(self, kept: _Kept, condition: Condition, problem: str = "") -> None:
        kept.condition, kept.since, kept.problem = condition, utc_now(), problem
        self._write()

    async def _keep(self, kept: _Kept) -> None:
        """Start, watch and start again until told to stop, or until the first start has failed for good."""
        child, log = kept.child, self._paths.logs / f"{kept.child.name}.log"
        while not kept.stopping.is_set():
            offset, begun, how = child_logs.size(log), time.monotonic(), "could not be started"
            try:
                await self._spawn(kept, log)
                ready = await self._until_ready(kept, log, offset)
                if ready and not kept.stopping.is_set():
                    _log.info("%s is ready (process %s, %.2f s)", child.name, _pid(kept), time.monotonic() - begun)
                    self._note(kept, "ready")
                    if not kept.first_ready.done():
                        kept.first_ready.set_result(None)
                how = await self._until_gone(kept, end_it=not ready)
                said = child_logs.said_since(log, offset)
            except OSError as error:  # no room for a log, no more processes: as temporary as a child that dies
                said = str(error)
            if kept.stopping.is_set() or not self._count_failure(kept, said, how):
                break
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(kept.stopping.wait(), kept.pause_s())
                break
            kept.restarts += 1
        self._note(kept, "stopped", kept.problem)

    def _kept_ended(self, kept: _Kept, task: asyncio.Task[None]) -> None:
        """A keeper that broke is a bug: it fails the start, or ends the run, rather than leave a child unwatched."""
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            for waiting in (kept.first_ready, self.broken):
                if not waiting.done():
                    waiting.set_exception(RuntimeError(f"the keeper of {kept.child.name} broke: {error!r}"))

    async def _spawn(self, kept: _Kept, log: Path) -> None:
        child = kept.child
        await asyncio.wait_for(child.before_start(), child.stop_grace_s)
        environment = {**(os.environ if child.env is None else child.env), process_table.RUN_MARK: self._run}
        output = child_logs.open_for_append(log)
        try:
            kept.process = await asyncio.create_subprocess_exec(
                *child.launch(child.argv, child.death_signal),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                # A session of its own: Ctrl-C in the terminal reaches us alone, and we stop children in our order.
                start_new_session=True,
            )
        finally:
            os.close(output)
        kept.key = process_table.identify(kept.process.pid)
        self._note(kept, "failing" if kept.condition == "failing" else "starting", kept.problem)

    async def _until_ready(self, kept: _Kept, log: Path, offset: int) -> bool:
        """True when the probe says so in time; False when it ended, was stopped, took too long or told a fault."""
        assert kept.process is not None
        begun = explained = time.monotonic()
        while kept.process.returncode is None and not kept.stopping.is_set():
            with contextlib.suppress(TimeoutError):
                if await asyncio.wait_for(kept.child.ready(), _PROBE_TIMEOUT_S) and kept.process.returncode is None:
                    return True
            if time.monotonic() - begun >= kept.child.ready_within_s:
                return False
            if time.monotonic() - explained >= _EXPLAIN_EVERY_S:
                # A child can be up and useless: a PostgreSQL that refuses every connection would be waited for in vain.
                if kept.child.explain(child_logs.said_since(log, offset)) is not None:
                    return False
                explained = time.monotonic()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(kept.stopping.wait(), _PROBE_EVERY_S)
        return False

    async def _until_gone(self, kept: _Kept, end_it: bool) -> str:
        """Wait for the end of the process (with `end_it`, bring it about) and say how it ended."""
        assert kept.process is not None
        late = end_it and kept.process.returncode is None
        if late:
            _signal(kept, kept.child.stop_signal if kept.stopping.is_set() else signal.SIGKILL)
        code = await kept.process.wait()
        pid = kept.process.pid
        # What the child itself started and did not take along: it may hold the socket that the next one needs.
        await asyncio.to_thread(process_table.kill_session, self._run, pid)
        kept.process = kept.key = None
        if late:
            return f"was not ready within {kept.child.ready_within_s:g} s and was stopped"
        return f"ended with exit status {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"

    def _count_failure(self, kept: _Kept, said: str, how: str) -> bool:
        """Note that the child died; False when its first start failed for good."""
        name, known = kept.child.name, kept.child.explain(said)
        kept.failures.append(time.monotonic())
        problem = known.message if known else f"{name} {how}: {child_logs.last_line(said)}"
        _log.warning("%s", f"{name} {how}: {problem}" if known else problem)
        if not kept.first_ready.done() and (known is not None or len(kept.failures) >= FIRST_ATTEMPTS):
            kept.problem = problem
            hint = f"Its log is {self._paths.logs / name}.log."
            kept.first_ready.set_exception(known or StartError(f"{problem[:1].upper()}{problem[1:]}", hint))
            return False
        failing = kept.is_failing()
        if failing and kept.condition != "failing":
            _log.error("%s keeps dying; it is started again every %g s. %s", name, _FAILING_PAUSE_S, problem)
        self._note(kept, "failing" if failing else "starting", problem)
        return True

    async def _stop_one(self, kept: _Kept) -> None:
        child, task = kept.child, kept.task
        assert task is not None
        if kept.process is not None and not self._hurry.is_set():
            try:
                await self._unless_hurried(child.before_stop(), child.stop_grace_s)
            except TimeoutError:
                _log.warning("%s did not drain within %g s", child.name, child.stop_grace_s)
        kept.stopping.set()
        _signal(kept, child.stop_signal)
        try:
            await self._unless_hurried(asyncio.wait([task]), child.stop_grace_s)
        except TimeoutError:
            if not self._hurry.is_set():
                _log.warning("%s did not stop within %g s and is killed", child.name, child.stop_grace_s)
            _signal(kept, signal.SIGKILL)
            await asyncio.wait([task], timeout=_REAP_TIMEOUT_S)
        if kept.first_ready.done() and not kept.first_ready.cancelled():
            kept.first_ready.exception()  # read, so that asyncio does not complain of an error nobody looked at

    async def _unless_hurried(self, step: Awaitable[object], timeout_s: float) -> None:
        """Await `step` for at most `timeout_s`; TimeoutError also when told to hurry."""
        work = asyncio.ensure_future(step)
        hurry = asyncio.ensure_future(self._hurry.wait())
        await asyncio.wait({work, hurry}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if not work.done():
            work.cancel()
            raise TimeoutError
        work.result()


def _pid(kept: _Kept) -> int | None:
    return kept.key.pid if kept.key else None


def _signal(kept: _Kept, what: signal.Signals) -> None:
    """Signal the child's process if it has one; asyncio has not reaped it while `returncode` is None."""
    if kept.process is not None and kept.process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            kept.process.send_signal(what)
