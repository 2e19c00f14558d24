"""Faults of the surroundings that are found before anything starts, and processes told apart by more than their id."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from doorbuster.engines.embedded import (
    ChildState,
    DataPaths,
    RunState,
    StartError,
    check_port_is_free,
    prepare,
    pss_bytes,
    read_state,
)
from doorbuster.engines.embedded.process_table import (
    ProcessKey,
    boot_mark,
    identify,
    is_alive,
    send,
    stop_leftovers,
    utc_now,
    write_state,
)


def test_a_taken_port_is_named_with_its_owner_and_the_way_out() -> None:
    with socket.create_server(("0.0.0.0", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(StartError, match=rf"^Port {port} is already taken by process {os.getpid()} \(") as raised:
            check_port_is_free(port)
        assert "--port" in raised.value.hint
    check_port_is_free(port)


def test_a_port_shared_with_reuseport_is_taken_too() -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(StartError, match="is already taken"):
            check_port_is_free(other.getsockname()[1], "127.0.0.1")


def test_a_number_that_is_no_port_is_told() -> None:
    with pytest.raises(StartError, match="Port 70000 on"):
        check_port_is_free(70000)


def test_memory_is_counted_for_what_runs_and_zero_for_what_does_not() -> None:
    gone = subprocess.Popen(["/bin/true"])
    gone.wait()
    assert 5e6 < pss_bytes(os.getpid()) < 2e9
    assert pss_bytes(gone.pid) == 0


def test_a_recycled_process_id_is_never_signalled() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as other:
        key = identify(other.pid)
        assert key is not None
        assert send(ProcessKey(key.pid, key.start_ticks - 1), signal.SIGKILL) is False
        assert other.poll() is None
        assert send(key, signal.SIGKILL) is True
    assert is_alive(key) is False
    assert send(key, signal.SIGKILL) is False


def test_a_process_that_ended_but_was_not_reaped_is_not_alive() -> None:
    with subprocess.Popen(["/bin/true"]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        assert identify(ended.pid) is None


def test_processes_of_another_boot_are_left_alone(tmp_path: Path) -> None:
    paths = prepare(tmp_path)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as other:
        key = identify(other.pid)
        assert key is not None
        child = ChildState("a", "ready", utc_now(), pid=key.pid, start_ticks=key.start_ticks)
        state = RunState("r", "another boot", ProcessKey(1, 1), "ready", utc_now(), children=[child])
        write_state(paths, state)
        assert stop_leftovers(state) == 0
        assert other.poll() is None
        told = read_state(tmp_path)
        assert told is not None
        assert (told.status, told.children[0].state, told.children[0].pid) == ("killed", "stopped", None)
        other.kill()


@pytest.mark.parametrize("content", [b"", b"{", b'{"run": 1}', b"\xff"])
def test_a_damaged_state_file_is_read_as_no_run(tmp_path: Path, content: bytes) -> None:
    prepare(tmp_path)
    DataPaths(tmp_path).state.write_bytes(content)
    assert read_state(tmp_path) is None


def test_a_state_file_is_private_and_read_back_as_written(tmp_path: Path) -> None:
    paths, me = prepare(tmp_path), identify(os.getpid())
    assert me is not None
    state = RunState("r", boot_mark(), me, "ready", utc_now(), url="https://localhost:8443")
    write_state(paths, state)
    assert read_state(tmp_path) == state
    assert paths.state.stat().st_mode & 0o777 == 0o600
