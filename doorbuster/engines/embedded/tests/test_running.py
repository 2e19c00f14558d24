"""A whole run as a user meets it: real supervisor processes, stopped, doubled, and killed with SIGKILL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import doorbuster
from doorbuster.engines.embedded import StartError, prepare, read_state, start_detached, stop_running
from doorbuster.engines.embedded.process_table import is_alive, marked

_PROGRAM = Path(__file__).with_name("sample_program.py")
_ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(doorbuster.__file__).parents[1])}
_TIMEOUT_S = 20.0


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the sample program on `tmp_path/shop` and waits until it said that it is ready."""
    started: list[subprocess.Popen[str]] = []

    def start(mode: str = "plain", wait: bool = True) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(_PROGRAM), str(tmp_path / "shop"), mode],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=_ENVIRONMENT,
        )
        started.append(process)
        if wait:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("ready")
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=_TIMEOUT_S)
    stop_running(tmp_path / "shop", timeout_s=5)


def _until(holds: Callable[[], object], timeout_s: float = _TIMEOUT_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it did not become so in time"
        time.sleep(0.02)


def test_status_shows_each_process_and_a_clean_stop_leaves_none(
    tmp_path: Path, up: Callable[..., subprocess.Popen[str]]
) -> None:
    process = up()
    state = read_state(tmp_path / "shop")
    assert state is not None
    assert (state.status, state.url, state.supervisor.pid) == ("ready", "https://localhost:1", process.pid)
    assert [(each.name, each.state, is_alive(each.process)) for each in state.children] == [
        ("first", "ready", True),
        ("second", "ready", True),
    ]
    process.send_signal(signal.SIGINT)
    assert process.wait(_TIMEOUT_S) == 0
    after = read_state(tmp_path / "shop")
    assert after is not None
    assert (after.status, [each.state for each in after.children]) == ("stopped", ["stopped", "stopped"])
    assert marked(state.run) == []
    assert list((tmp_path / "shop" / "run").iterdir()) == [], "a stopped run removes its sockets"


def test_second_up_names_the_running_process_and_its_address(
    tmp_path: Path, up: Callable[..., subprocess.Popen[str]]
) -> None:
    first = up()
    second = up(wait=False)
    _, said = second.communicate(timeout=_TIMEOUT_S)
    assert second.returncode == 1
    assert f"Doorbuster already runs on {tmp_path / 'shop'} as process {first.pid} at https://localhost:1." in said
    assert first.poll() is None, "the running one is left alone"


def test_nothing_outlives_a_supervisor_that_is_killed(tmp_path: Path, up: Callable[..., subprocess.Popen[str]]) -> None:
    process = up()
    state = read_state(tmp_path / "shop")
    assert state is not None
    process.kill()
    process.wait(_TIMEOUT_S)
    _until(lambda: not marked(state.run), 5.0)
    after = read_state(tmp_path / "shop")
    assert after is not None
    assert (after.status, {each.state for each in after.children}) == ("killed", {"stopped"})


def test_postgresql_ends_cleanly_with_a_killed_supervisor_and_the_next_up_goes_on(
    tmp_path: Path, up: Callable[..., subprocess.Popen[str]]
) -> None:
    def of_this_shop() -> list[int]:
        found = [each for each in psutil.process_iter(["cmdline"]) if each.info["cmdline"]]
        return [each.pid for each in found if str(tmp_path / "shop" / "pg") in each.info["cmdline"]]

    process = up("postgres")
    assert len(of_this_shop()) == 1
    process.kill()
    process.wait(_TIMEOUT_S)
    _until(lambda: not of_this_shop())
    assert not (tmp_path / "shop" / "pg" / "postmaster.pid").exists(), "it was shut down, not cut off"
    up("postgres")
    assert len(of_this_shop()) == 1


@pytest.mark.parametrize("mode", ["deaf", "grandchild"])
def test_down_ends_what_a_killed_supervisor_left(
    tmp_path: Path, up: Callable[..., subprocess.Popen[str]], mode: str
) -> None:
    process = up(mode)
    state = read_state(tmp_path / "shop")
    assert state is not None
    process.kill()
    process.wait(_TIMEOUT_S)
    assert marked(state.run), "this child was to survive the death signal, else the test shows nothing"
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        assert stop_running(tmp_path / "shop") is True
        assert marked(state.run) == []
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
    assert stop_running(tmp_path / "shop") is False, "a second down finds nothing to do"


def test_next_up_ends_what_a_killed_supervisor_left(tmp_path: Path, up: Callable[..., subprocess.Popen[str]]) -> None:
    process = up("deaf")
    state = read_state(tmp_path / "shop")
    process.kill()
    process.wait(_TIMEOUT_S)
    assert state is not None
    assert marked(state.run)
    up("plain")
    assert marked(state.run) == []


def test_down_stops_a_running_program(tmp_path: Path, up: Callable[..., subprocess.Popen[str]]) -> None:
    process = up("deaf")
    assert stop_running(tmp_path / "shop") is True
    assert process.wait(_TIMEOUT_S) == 0


def test_stop_while_starting_ends_the_start(tmp_path: Path, up: Callable[..., subprocess.Popen[str]]) -> None:
    process = up("stuck", wait=False)
    _until(lambda: (state := read_state(tmp_path / "shop")) is not None and len(state.children) == 2)
    process.terminate()
    assert process.wait(_TIMEOUT_S) == 0
    state = read_state(tmp_path / "shop")
    assert state is not None
    assert (state.status, marked(state.run)) == ("stopped", [])


def test_detached_program_reports_its_address_and_outlives_the_caller(tmp_path: Path) -> None:
    argv = [sys.executable, str(_PROGRAM), str(tmp_path), "plain"]
    caller = (
        "import sys; from pathlib import Path; from doorbuster.engines.embedded import prepare, start_detached\n"
        f"print(start_detached({argv!r}, prepare(Path({str(tmp_path)!r}))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", caller], capture_output=True, text=True, timeout=_TIMEOUT_S, env=_ENVIRONMENT, check=True
    )
    try:
        assert done.stdout.strip() == "https://localhost:1"
        state = read_state(tmp_path)
        assert state is not None
        assert state.status == "ready"
        assert os.getsid(state.supervisor.pid) == state.supervisor.pid
    finally:
        assert stop_running(tmp_path) is True


def test_detached_program_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", _ENVIRONMENT["PYTHONPATH"])
    with pytest.raises(StartError, match="Second ended with exit status 1: the flux capacitor is missing") as raised:
        start_detached([sys.executable, str(_PROGRAM), str(tmp_path), "broken"], prepare(tmp_path))
    assert "second.log" in raised.value.hint
    state = read_state(tmp_path)
    assert state is not None
    assert state.status == "failed"
    assert "flux capacitor" in state.problem
    assert marked(state.run) == [], "what had started is stopped again"


def test_detached_program_that_dies_without_a_word_is_not_waited_for(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="ended while it started: out of luck"):
        start_detached([sys.executable, "-c", "import sys; sys.exit('out of luck')"], prepare(tmp_path))
