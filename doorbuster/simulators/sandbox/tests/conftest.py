"""Starts real sandbox processes for the tests and talks to them over real sockets."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

SECRET = "test-secret-of-the-sandbox"
ROOT = Path(__file__).resolve().parents[4]
WAIT_S = 10.0


class Response:
    def __init__(self, status: int, headers: dict[str, str], raw: bytes) -> None:
        self.status = status
        self.headers = headers
        self.raw = raw

    @property
    def json(self) -> Any:
        return json.loads(self.raw)

    @property
    def code(self) -> str:
        return str(self.json["error"]["code"])


class Nursery:
    """Guards the process that forks the sandboxes (see nursery.py)."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "doorbuster.simulators.sandbox.tests.nursery"]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def start(self, argv: list[str], stderr: Path) -> int:
        return int(self._ask({"argv": argv, "stderr": str(stderr)})["pid"])

    def wait(self, pid: int, timeout_s: float) -> int | None:
        """The exit code, or None when it still runs after `timeout_s`."""
        code = self._ask({"wait": pid, "timeout_s": timeout_s})["code"]
        return None if code is None else int(code)

    def close(self) -> None:
        self._process.communicate(timeout=WAIT_S)

    def _ask(self, question: dict[str, object]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        return json.loads(self._process.stdout.readline())


class Sandbox:
    """Guards one sandbox process at a time; `start` after an end keeps the ledger."""

    def __init__(self, nursery: Nursery, folder: Path, *options: str) -> None:
        self.ledger = folder / "ledger.jsonl"
        self._nursery = nursery
        self._ready = folder / "ready.json"
        self._secret = folder / "secret"
        self._secret.write_text(SECRET + "\n")
        self._stderr = folder / "stderr"
        self._options = options
        self.running = False
        self.start()

    @property
    def argv(self) -> list[str]:
        return ["--ledger", str(self.ledger), "--secret-file", str(self._secret), *self._options]

    @property
    def stderr(self) -> str:
        return self._stderr.read_text()

    def start(self) -> None:
        assert not self.running
        self._ready.unlink(missing_ok=True)
        self.pid = self._nursery.start([*self.argv, "--ready-file", str(self._ready)], self._stderr)
        give_up_at = time.monotonic() + WAIT_S
        while not self._ready.exists():
            assert self._nursery.wait(self.pid, 0) is None, self.stderr
            assert time.monotonic() < give_up_at, "the sandbox did not get ready"
            time.sleep(0.002)
        ready = json.loads(self._ready.read_bytes())
        assert ready["pid"] == self.pid
        self.port: int = ready["port"]
        self.running = True

    def end(self, number: signal.Signals = signal.SIGTERM) -> int | None:
        """The exit code; negative for the signal that killed it, as subprocess has it."""
        assert self.running
        os.kill(self.pid, number)
        code = self._nursery.wait(self.pid, WAIT_S)
        self.running = False
        assert "Traceback" not in self.stderr, self.stderr
        return code

    def kill_and_restart(self) -> None:
        assert self.end(signal.SIGKILL) == -signal.SIGKILL
        self.start()

    def connect(self, timeout_s: float = 5.0) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=timeout_s)

    def raw(self, sent: bytes, timeout_s: float = 5.0) -> bytes:
        """Everything the sandbox answers to these bytes until it closes."""
        with self.connect(timeout_s) as sock:
            sock.sendall(sent)
            received = b""
            while part := sock.recv(65536):
                received += part
            return received

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        key: str | None = None,
        secret: str = SECRET,
        timeout_s: float = 5.0,
    ) -> Response:
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        if key is not None:
            headers["Idempotency-Key"] = key
        payload = None
        if body is not None:
            payload = body if isinstance(body, bytes) else json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)) as connection:
            connection.request(method, path, body=payload, headers=headers)
            answer = connection.getresponse()
            return Response(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())

    def charge(
        self,
        key: str,
        reference: str = "pay_1.1",
        instrument: str = "tok_visa",
        amount_minor: int = 1000,
        **options: Any,
    ) -> Response:
        body = {"reference": reference, "amount_minor": amount_minor, "currency": "USD", "instrument": instrument}
        return self.call("POST", "/v1/charges", body, key=key, **options)

    def refund(self, key: str, charge_id: str, amount_minor: int, reference: str = "ref_1") -> Response:
        body = {"charge_id": charge_id, "amount_minor": amount_minor, "reference": reference}
        return self.call("POST", "/v1/refunds", body, key=key)

    def inquire(self, reference: str) -> Any:
        answer = self.call("GET", f"/v1/charges?reference={reference}")
        assert answer.status == 200
        return answer.json["data"]

    def faults(self, **faults: object) -> None:
        answer = self.call("PUT", "/admin/faults", faults)
        assert answer.status == 200, answer.raw

    def summary(self) -> Any:
        return self.call("GET", "/v1/ledger/summary").json


Start = Callable[..., Sandbox]


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture
def start(nursery: Nursery, tmp_path: Path) -> Iterator[Start]:
    """Starts sandboxes with options, each in its own folder, and ends them; none may have logged a bug."""
    started: list[Sandbox] = []

    def begin(*options: str) -> Sandbox:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        started.append(Sandbox(nursery, folder, *options))
        return started[-1]

    yield begin
    for sandbox in started:
        if sandbox.running:
            assert sandbox.end() == 0


@pytest.fixture
def sandbox(start: Start) -> Sandbox:
    return start()
