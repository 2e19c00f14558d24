"""Runs a plan in a process of its own: its CPU is counted apart and it never waits for the caller's loop."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from doorbuster.drills.load.dialer import CONNECT_TIMEOUT_S, LoadFailed
from doorbuster.drills.load.generator import STOP_DRAIN_S
from doorbuster.drills.load.plan import Plan, check_plan, write_plan
from doorbuster.drills.load.result import Progress, Result, read_result

KEPT_ERROR_LINES = 20
# Starting Python, reading the plan, sorting and writing the result of a large run.
OVERHEAD_S = 30.0


class RunningLoad:
    """Guards a load process and its temporary files. The callback runs on a thread that reads the process's lines."""

    def __init__(
        self, plan: Plan, on_progress: Callable[[Progress], None] | None, env: Mapping[str, str] | None
    ) -> None:
        check_plan(plan)
        self._folder = Path(tempfile.mkdtemp(prefix="doorbuster-load-"))
        self._out = self._folder / "result.msgpack"
        self._limit_s = plan.limit_s + max(CONNECT_TIMEOUT_S, plan.timeout_s) + OVERHEAD_S
        self._on_progress = on_progress
        self._latest: Progress | None = None
        self._other_lines: deque[str] = deque(maxlen=KEPT_ERROR_LINES)
        write_plan(plan, self._folder / "plan.msgpack")
        command = [sys.executable, "-m", "doorbuster.drills.load", "--progress-json"]
        self._process = subprocess.Popen(
            [*command, "--plan", str(self._folder / "plan.msgpack"), "--out", str(self._out)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=_with_this_package(os.environ if env is None else env),
        )
        self._reader = threading.Thread(target=self._read_lines, name="load-progress", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._process.poll()

    def progress(self) -> Progress | None:
        """The latest progress, at most Plan.progress_every_s old; None before the first request."""
        return self._latest

    def inflight(self) -> int:
        """Requests out at the latest progress; for the exact number at a moment ask result.in_flight_at afterwards."""
        return 0 if self._latest is None else self._latest.inflight

    def wait(self, timeout_s: float | None = None) -> Result:
        """Block until it is over; the Result. LoadFailed when it has none; TimeoutError, and a kill, when late."""
        try:
            code = self._process.wait(self._limit_s if timeout_s is None else timeout_s)
        except subprocess.TimeoutExpired as late:
            self.close()
            raise TimeoutError(f"the load process was not done after {late.timeout} s") from late
        self._reader.join(timeout=5.0)
        if code != 0:
            said = " | ".join(self._other_lines)
            self.close()
            raise LoadFailed(f"the load process ended with {code}: {said}")
        result = read_result(self._out)
        self.close()
        return result

    def stop(self) -> Result:
        """Let it start nothing new, and wait for the Result of what was sent; LoadFailed when it had not begun."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self.wait(STOP_DRAIN_S + CONNECT_TIMEOUT_S + OVERHEAD_S)

    def close(self) -> None:
        """Kill it if it still runs, and remove its files; may be called twice."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(10.0)
        self._reader.join(timeout=5.0)
        if self._process.stderr is not None:
            self._process.stderr.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read_lines(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            try:
                self._latest = msgspec.json.decode(line, type=Progress)
            except msgspec.MsgspecError:
                self._other_lines.append(line.decode("utf-8", "replace").strip())
                continue
            if self._on_progress is not None:
                self._on_progress(self._latest)


def run_process(
    plan: Plan, on_progress: Callable[[Progress], None] | None = None, env: Mapping[str, str] | None = None
) -> RunningLoad:
    """Start the plan in its own process and return at once; BadPlan before anything is started. Use it as a context."""
    return RunningLoad(plan, on_progress, env)


def _with_this_package(env: Mapping[str, str]) -> dict[str, str]:
    """The child must find the package wherever the caller's working directory is."""
    root = str(Path(__file__).resolve().parents[3])
    return {**env, "PYTHONPATH": os.pathsep.join(filter(None, (root, env.get("PYTHONPATH", ""))))}
