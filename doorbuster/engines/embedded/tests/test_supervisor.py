"""The supervisor against real child processes: order, restarts, limits, and a stop that always ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from doorbuster.engines.embedded import (
    Child,
    ChildState,
    StartError,
    Supervisor,
    child_logs,
    prepare,
    read_state,
    supervisor,
)
from doorbuster.engines.embedded.process_table import ProcessKey, identify, is_alive, send

_SLEEP = "import time; time.sleep(600)"


async def _always() -> bool:
    return True


async def _never() -> bool:
    return False


def _python(code: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", code]


@contextlib.asynccontextmanager
async def _supervisor(root: Path) -> AsyncIterator[Supervisor]:
    paths = prepare(root)
    one = Supervisor(paths, paths.run)
    try:
        yield one
    finally:
        await one.stop()


def _child(one: Supervisor, name: str) -> ChildState:
    return next(each for each in one.state().children if each.name == name)


def _key(one: Supervisor, name: str) -> ProcessKey:
    key = _child(one, name).process
    assert key is not None
    return key


async def _until(holds: Callable[[], object], timeout_s: float = 15.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not holds():
            await asyncio.sleep(0.02)


async def test_children_start_in_order_and_stop_in_reverse(tmp_path: Path) -> None:
    story = tmp_path / "story"
    code = (
        "import signal, sys, time\n"
        "say = lambda what: open({story!r}, 'a').write(what + '\\n')\n"
        "def end(*_): say('{name} stops'); sys.exit()\n"
        "signal.signal(15, end); time.sleep(0.2); say('{name} works'); time.sleep(600)"
    )

    def child(name: str) -> Child:
        async def works() -> bool:
            return story.exists() and f"{name} works" in story.read_text()

        return Child(name, _python(code.format(story=str(story), name=name)), works)

    async with _supervisor(tmp_path / "shop") as one:
        await one.start(child("a"))
        await one.start(child("b"))
    assert story.read_text().splitlines() == ["a works", "b works", "b stops", "a stops"]


async def test_a_killed_child_is_started_again_and_the_others_are_not(tmp_path: Path) -> None:
    async with _supervisor(tmp_path) as one:
        await one.start(Child("a", _python(_SLEEP), _always), Child("b", _python(_SLEEP), _always))
        first, other = _key(one, "a"), _key(one, "b")
        killed = time.monotonic()
        send(first, signal.SIGKILL)
        await _until(lambda: _child(one, "a").restarts == 1 and _child(one, "a").state == "ready")
        assert time.monotonic() - killed < 2.0
        assert _key(one, "a") != first
        assert _key(one, "b") == other
        told = read_state(tmp_path)
        assert told is not None
        assert [each.restarts for each in told.children] == [1, 0]


async def test_pauses_double_and_a_child_that_keeps_dying_is_called_failing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(supervisor, "_BACKOFF_FIRST_S", 0.01)
    monkeypatch.setattr(supervisor, "_FAILING_PAUSE_S", 0.3)
    broken = tmp_path / "broken"
    code = f"import os, sys, time\nif os.path.exists({str(broken)!r}): sys.exit('no luck today')\ntime.sleep(600)"
    async with _supervisor(tmp_path / "shop") as one:
        await one.start(Child("a", _python(code), _always))
        broken.touch()
        send(_key(one, "a"), signal.SIGKILL)
        await _until(lambda: _child(one, "a").state == "failing")
        assert _child(one, "a").problem == "a ended with exit status 1: no luck today"
        assert "a keeps dying; it is started again every 0.3 s." in caplog.text
        restarts = _child(one, "a").restarts
        broken.unlink()
        await _until(lambda: _child(one, "a").state == "ready" and is_alive(_child(one, "a").process))
        assert _child(one, "a").restarts > restarts >= 6


async def test_first_start_that_fails_is_tried_three_times_and_told_with_its_last_words(tmp_path: Path) -> None:
    async with _supervisor(tmp_path) as one:
        with pytest.raises(StartError, match="A ended with exit status 1: no flour, no bread") as raised:
            await one.start(Child("a", _python("import sys; sys.exit('no flour, no bread')"), _never))
        assert raised.value.hint == f"Its log is {tmp_path / 'logs' / 'a.log'}."
        assert (tmp_path / "logs" / "a.log").read_text().count("no flour") == supervisor.FIRST_ATTEMPTS
        await _until(lambda: _child(one, "a").state == "stopped")


async def test_a_known_fault_ends_the_first_start_at_once(tmp_path: Path) -> None:
    fault = StartError("The oven is cold.", "Light it.")
    argv = _python("import sys; sys.exit('E42')")
    async with _supervisor(tmp_path) as one:
        with pytest.raises(StartError) as raised:
            await one.start(Child("a", argv, _never, explain=lambda said: fault if "E42" in said else None))
        assert raised.value is fault
        assert (tmp_path / "logs" / "a.log").read_text().count("E42") == 1


async def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    async with _supervisor(tmp_path) as one:
        with pytest.raises(StartError, match="/no/such/program: No such file"):
            await one.start(Child("a", ["/no/such/program"], _never))


async def test_a_child_that_is_never_ready_is_killed_and_tried_again(tmp_path: Path) -> None:
    async with _supervisor(tmp_path) as one:
        with pytest.raises(StartError, match=r"A was not ready within 0\.2 s"):
            await one.start(Child("a", _python(_SLEEP), _never, ready_within_s=0.2))
        assert one.state().children[0].pid is None


async def test_a_probe_that_hangs_does_not_hang_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_PROBE_TIMEOUT_S", 0.05)
    asked = 0

    async def slow_once() -> bool:
        nonlocal asked
        asked += 1
        await asyncio.sleep(600 if asked == 1 else 0)
        return True

    async with _supervisor(tmp_path) as one:
        await asyncio.wait_for(one.start(Child("a", _python(_SLEEP), slow_once)), 5)
    assert asked == 2


async def test_a_probe_that_breaks_fails_the_start_instead_of_leaving_the_child_unwatched(tmp_path: Path) -> None:
    async def breaks() -> bool:
        raise ZeroDivisionError

    async with _supervisor(tmp_path) as one:
        with pytest.raises(RuntimeError, match="the keeper of a broke"):
            await one.start(Child("a", _python(_SLEEP), breaks))
        with pytest.raises(RuntimeError):
            one.broken.result()


async def test_a_deaf_child_is_killed_after_its_grace(tmp_path: Path) -> None:
    heard = tmp_path / "heard"
    code = (
        f"import signal, time; signal.signal(15, lambda *_: open({str(heard)!r}, 'w'))\n"
        "for _ in range(9): time.sleep(60)"
    )

    async def settled() -> bool:
        return True

    async with _supervisor(tmp_path / "shop") as one:
        await one.start(Child("a", _python(code), settled, stop_grace_s=0.5))
        await asyncio.sleep(0.3)
        key, begun = _key(one, "a"), time.monotonic()
    assert heard.exists()
    assert 0.4 < time.monotonic() - begun < 3.0
    assert not is_alive(key)


async def test_hurry_cuts_the_grace_short(tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); [time.sleep(60) for _ in range(9)]"
    async with _supervisor(tmp_path) as one:
        await one.start(Child("a", _python(code), _always, stop_grace_s=60))
        await asyncio.sleep(0.3)
        one.hurry()
        await asyncio.wait_for(one.stop(), 5)


async def test_what_a_dead_child_left_behind_is_ended_before_the_next_start(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = (
        f"import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', {_SLEEP!r}])\n"
        f"open({str(pid_file)!r}, 'w').write(str(p.pid)); time.sleep(600)"
    )

    async def started() -> bool:
        return pid_file.exists() and pid_file.read_text() != ""

    async def forget() -> None:
        pid_file.unlink(missing_ok=True)

    async with _supervisor(tmp_path / "shop") as one:
        await one.start(Child("a", _python(code), started, before_start=forget))
        grandchild = int(pid_file.read_text())
        os.kill(_key(one, "a").pid, signal.SIGKILL)
        await _until(lambda: _child(one, "a").restarts == 1 and _child(one, "a").state == "ready")
        assert identify(grandchild) is None


def test_a_log_is_capped_in_place_and_keeps_one_before(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    descriptor = child_logs.open_for_append(log)
    try:
        os.write(descriptor, b"x" * 100 + b"\nlast words\n")
        assert child_logs.last_line(child_logs.said_since(log, 0)) == "last words"
        assert child_logs.cap(log, limit_bytes=1000) is False
        assert child_logs.cap(log, limit_bytes=50) is True
        os.write(descriptor, b"new\n")
    finally:
        os.close(descriptor)
    assert log.read_bytes() == b"new\n"
    assert log.with_name("a.log.1").read_bytes().endswith(b"last words\n")
    assert child_logs.said_since(log, offset=5000) == "new\n", "an offset from before the cut still finds the news"
    assert log.stat().st_mode & 0o777 == 0o600
