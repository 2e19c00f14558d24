"""A drill that is stopped politely leaves nothing behind, also one that a shell started deaf to Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest


def deaf() -> None:
    """As a shell starts what goes on in the background."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@pytest.mark.parametrize("begin", [None, deaf], ids=["in the foreground", "in the background"])
def test_a_drill_that_is_told_to_stop_removes_its_shop(begin: Callable[[], None] | None) -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own paths are too long for sockets
        stopped_in_the_middle(Path(folder), begin)


def stopped_in_the_middle(folder: Path, begin: Callable[[], None] | None) -> None:
    command = [sys.executable, "-m", "doorbuster.surfaces.cli.main", "drill", "psp", "--payments", "300"]
    drill = subprocess.Popen(
        command, preexec_fn=begin, env=os.environ | {"TMPDIR": str(folder)},  # noqa: PLW1509
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        until_a_shop_stands(folder)
        drill.send_signal(signal.SIGTERM)
        said, _ = drill.communicate(timeout=60)
    finally:
        drill.kill()
    assert drill.returncode == 130, said
    assert "stopped and removed" in said
    assert [path.name for path in folder.iterdir()] == []


def until_a_shop_stands(folder: Path, within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not list(folder.glob("doorbuster-drill-*/shop/run/*.sock")):
        assert time.monotonic() < deadline, "no shop was started"
        time.sleep(0.1)
