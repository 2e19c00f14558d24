"""The ledger file: torn ends are cut, damage and a second owner are refused, a full disk captures nothing."""

import http.client
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from doorbuster.simulators.host.ledger import MAX_LINE_BYTES, LedgerUnavailable
from doorbuster.simulators.sandbox.ledger import Charge, open_ledger

if TYPE_CHECKING:
    from pathlib import Path

    from doorbuster.simulators.sandbox.tests.conftest import Sandbox


def charge(n: int) -> Charge:
    return Charge(f"ch_{n}", f"k{n}", f"pay_{n}.1", 100, "USD", "tok_visa", "2026-01-01T00:00:00.000Z")


def run(options: list[str], secret: str = "") -> subprocess.CompletedProcess[str]:
    """The command as an operator gives it, which is expected to end by itself."""
    command = [sys.executable, "-m", "doorbuster.simulators.sandbox", *options]
    environment = os.environ | {"DOORBUSTER_SANDBOX_SECRET": secret}
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=10, env=environment)


@pytest.mark.parametrize("torn", [b'{"kind":"cha', b"\0" * 300, b"\n", b'{"kind":"charge"}\n', b"\xff\xfe"])
def test_a_torn_last_line_is_cut_off_and_the_rest_kept(sandbox: "Sandbox", torn: bytes) -> None:
    first = sandbox.charge("k1")
    sandbox.end(signal.SIGKILL)
    whole = sandbox.ledger.read_bytes()
    sandbox.ledger.write_bytes(whole + torn)
    sandbox.start()
    assert sandbox.ledger.read_bytes() == whole
    assert sandbox.charge("k1").raw == first.raw
    assert sandbox.charge("k2", reference="pay_2.1").status == 200
    sandbox.kill_and_restart()
    assert sandbox.summary()["captured"] == 2


def test_every_cut_of_the_file_replays_the_whole_lines_before_it(tmp_path: "Path") -> None:
    path = tmp_path / "ledger"
    ledger, _ = open_ledger(path)
    for n in range(3):
        ledger.append(charge(n))
    ledger.close()
    whole = path.read_bytes()
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        reopened, records = open_ledger(path)
        kept = list(records)
        assert kept == [charge(n) for n in range(whole[:cut].count(b"\n"))]
        reopened.append(charge(9))
        reopened.close()
        reopened, records = open_ledger(path)
        assert list(records) == [*kept, charge(9)]
        reopened.close()


def test_damage_before_the_last_line_is_one_clear_line_and_no_start(sandbox: "Sandbox") -> None:
    for n in range(3):
        sandbox.charge(f"k{n}")
    sandbox.end()
    lines = sandbox.ledger.read_bytes().splitlines(keepends=True)
    damaged = lines[0] + b"{}\n" + lines[2]
    sandbox.ledger.write_bytes(damaged)
    refused = run(sandbox.argv)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "line 2 cannot be read" in refused.stderr
    assert sandbox.ledger.read_bytes() == damaged
    sandbox.ledger.write_bytes(b"".join(lines))
    sandbox.start()


def test_a_second_sandbox_on_the_same_ledger_does_not_start(sandbox: "Sandbox") -> None:
    refused = run(sandbox.argv)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "used by another process" in refused.stderr


def test_a_taken_port_and_a_missing_secret_are_one_clear_line(sandbox: "Sandbox", tmp_path: "Path") -> None:
    options = ["--ledger", str(tmp_path / "other")]
    missing = run(options)
    assert (missing.returncode, missing.stderr.count("\n")) == (1, 1)
    assert "needs a secret" in missing.stderr
    taken = run([*options, "--port", str(sandbox.port)], secret="s")
    assert (taken.returncode, taken.stderr.count("\n")) == (1, 1)
    assert "cannot listen" in taken.stderr


def test_a_disk_that_takes_half_a_record_leaves_the_file_as_it_was(tmp_path: "Path") -> None:
    path = tmp_path / "ledger"
    ledger, _ = open_ledger(path)
    ledger.append(charge(1))
    whole = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        for room in (0, 10):
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + room, hard))
            with pytest.raises(LedgerUnavailable):
                ledger.append(charge(2))
            assert path.read_bytes() == whole
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    ledger.append(charge(2))
    ledger.close()
    again, records = open_ledger(path)
    assert list(records) == [charge(1), charge(2)]
    again.close()


def test_a_full_disk_answers_503_and_captures_nothing(sandbox: "Sandbox") -> None:
    assert sandbox.charge("k1").status == 200
    size = sandbox.ledger.stat().st_size
    hard = resource.prlimit(sandbox.pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(sandbox.pid, resource.RLIMIT_FSIZE, (size, hard))
    refused = sandbox.charge("k2", reference="pay_2.1")
    assert (refused.status, refused.code) == (503, "ledger_unavailable")
    assert sandbox.inquire("pay_2.1") == []
    resource.prlimit(sandbox.pid, resource.RLIMIT_FSIZE, (hard, hard))
    assert sandbox.charge("k2", reference="pay_2.1").status == 200
    assert sandbox.summary()["captured"] == 2


def test_what_was_answered_before_kill_9_is_there_after_it(sandbox: "Sandbox") -> None:
    answered: list[str] = []

    def shop(lane: int) -> None:
        for n in range(2000):
            key = f"{lane}-{n}"
            try:
                if sandbox.charge(key, reference=f"pay_{key}.1").status == 200:
                    answered.append(key)
            except (OSError, http.client.HTTPException):
                return

    lanes = [threading.Thread(target=shop, args=(lane,)) for lane in range(4)]
    for lane in lanes:
        lane.start()
    time.sleep(0.4)
    sandbox.end(signal.SIGKILL)
    for lane in lanes:
        lane.join(10)
    assert answered, "the kill must hit traffic"
    sandbox.start()
    recorded = []
    after: int | None = 0
    while after is not None:
        page = sandbox.call("GET", f"/v1/ledger/charges?after={after}").json
        recorded += [entry["idempotency_key"] for entry in page["data"]]
        after = page["next_after"]
    assert set(answered) <= set(recorded)
    # At most the one request each lane had in flight was captured without its answer arriving.
    assert len(recorded) - len(answered) <= len(lanes)
    assert len(set(recorded)) == len(recorded)


def test_a_record_longer_than_a_line_is_not_written(tmp_path: "Path") -> None:
    ledger, _ = open_ledger(tmp_path / "ledger")
    with pytest.raises(LedgerUnavailable):
        ledger.append(Charge("ch_1", "k" * MAX_LINE_BYTES, "r", 1, "USD", "tok_visa", "now"))
    ledger.close()
    assert (tmp_path / "ledger").read_bytes() == b""
