"""How a simulated PSP starts, ends and refuses to start, and what a broken disk leaves behind."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from doorbuster.simulators.host.clock import Clock
from doorbuster.simulators.host.ledger import LedgerUnavailable
from doorbuster.simulators.host.tests.processes import ROOT, SECRET, Simulator, basic
from doorbuster.simulators.host.wire import Request
from doorbuster.simulators.toss import books as toss_books
from doorbuster.simulators.toss import provider as toss
from doorbuster.simulators.toss.provider import Ticket
from doorbuster.simulators.toss.requests import BuyerBody
from doorbuster.simulators.toss.window import play_buyer


def run(name: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"doorbuster.simulators.{name}", *options]
    return subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=10)


def test_a_process_says_in_one_line_why_it_cannot_start(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    needed = ["--ledger", str(tmp_path / "ledger"), "--secret-file", str(secret)]
    missing = run("toss", *needed)
    assert (missing.returncode, missing.stderr.count("\n")) == (1, 1)
    secret.write_text("\n")
    assert "needs a secret" in run("toss", *needed).stderr
    secret.write_text("test_sk\n")
    unreadable = run("toss", *needed, "--faults", "{")
    assert (unreadable.returncode, unreadable.stderr.count("\n")) == (1, 1)
    assert run("toss", *needed, "--port", "99999").returncode == 2
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = run("kakaopay", *needed, "--port", str(taken.getsockname()[1]))
    assert (busy.returncode, "cannot listen" in busy.stderr, "Traceback" in busy.stderr) == (1, True, False)


def test_a_ledger_has_one_process(tmp_path: Path) -> None:
    simulator = Simulator("kakaopay", tmp_path)
    try:
        options = ["--ledger", str(simulator.ledger), "--secret-file", str(tmp_path / "secret")]
        second = run("kakaopay", *options)
        assert (second.returncode, "is used by another" in second.stderr) == (1, True)
        assert simulator.call("GET", "/livez").json == {"status": "ok"}
    finally:
        assert simulator.end() == 0
    assert not (tmp_path / "ready.json").exists()


def test_the_clock_only_moves_forward_and_remembers(tmp_path: Path) -> None:
    clock = Clock(tmp_path / "clock")
    before = clock.now_ms()
    clock.advance(5_000)
    assert clock.now_ms() >= before + 5_000
    for ms in (-1, 10**15):
        with pytest.raises(ValueError):
            clock.advance(ms)
    assert Clock(tmp_path / "clock").offset_ms == 5_000
    (tmp_path / "clock").write_text("yesterday")
    with pytest.raises(ValueError):
        Clock(tmp_path / "clock")


def never(_entry: object) -> None:
    raise LedgerUnavailable("no disk")


def test_a_ledger_that_takes_nothing_leaves_everything_as_it_was() -> None:
    lines: list[toss_books.Entry] = []
    sent: list[str] = []
    broken = False

    def append(entry: toss_books.Entry) -> None:
        if broken:
            never(entry)
        lines.append(entry)

    provider = toss.Provider(
        toss_books.Books(append), SECRET, lambda: 1_700_000_000_000, lambda id_, _v, _at: sent.append(id_)
    )
    bought = play_buyer(provider, BuyerBody("order-1", 1_000))
    body = json.dumps({"paymentKey": bought.payment_key, "orderId": "order-1", "amount": 1_000}).encode()
    request = Request("POST", "/v1/payments/confirm", {}, {**lower(basic()), "idempotency-key": "k"}, body, "http://x")
    broken = True
    ticket = provider.admit(request)
    assert isinstance(ticket, Ticket)
    with pytest.raises(LedgerUnavailable):
        provider.decide(ticket, lambda: False)
    assert (provider.books.payments[bought.payment_key].status, sent) == ("IN_PROGRESS", [])
    broken = False
    again = provider.admit(request)
    assert isinstance(again, Ticket), "the key is neither kept nor in progress"
    assert provider.decide(again, lambda: False).kind == "capture"


def lower(headers: dict[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def test_a_process_that_listens_to_nobody_still_ends_in_order(tmp_path: Path) -> None:
    simulator = Simulator("kakaopay", tmp_path)
    simulator.admin("POST", "refuse", {"ms": 60_000})
    assert simulator.end() == 0
