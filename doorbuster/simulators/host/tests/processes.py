"""Starts real simulator processes for the tests and talks to them over real sockets."""

import base64
import contextlib
import http.client
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[4]
SECRET = "test_sk_of_the_simulator"
WAIT_S = 10.0


class Response:
    def __init__(self, status: int, headers: dict[str, str], raw: bytes) -> None:
        self.status = status
        self.headers = headers
        self.raw = raw

    @property
    def json(self) -> Any:
        return json.loads(self.raw)


class Simulator:
    """Guards one simulator process at a time; `start` after an end keeps the ledger."""

    secret = SECRET

    def __init__(self, name: str, folder: Path, *options: str) -> None:
        self.name = name
        self._folder = folder
        self._ready = folder / "ready.json"
        secret = folder / "secret"
        secret.write_text(self.secret + "\n")
        self._stderr = folder / "stderr"
        ledger = folder / "ledger.jsonl"
        self._argv = [sys.executable, "-m", f"doorbuster.simulators.{name}", "--ledger", str(ledger)]
        self._argv += ["--secret-file", str(secret), "--ready-file", str(self._ready), *options]
        self.ledger = ledger
        self.start()

    @property
    def argv(self) -> list[str]:
        return self._argv

    @property
    def stderr(self) -> str:
        return self._stderr.read_text()

    def start(self) -> None:
        self._ready.unlink(missing_ok=True)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with self._stderr.open("ab") as stderr:
            self.process = subprocess.Popen(self._argv, stderr=stderr, stdin=subprocess.DEVNULL, env=environment)
        give_up_at = time.monotonic() + WAIT_S
        while not self._ready.exists():
            assert self.process.poll() is None, self.stderr
            assert time.monotonic() < give_up_at, "the simulator did not get ready"
            time.sleep(0.005)
        self.port: int = json.loads(self._ready.read_bytes())["port"]

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        code = self.process.wait(WAIT_S)
        assert "Traceback" not in self.stderr, self.stderr
        return code

    def kill_and_restart(self) -> None:
        assert self.end(signal.SIGKILL) == -signal.SIGKILL
        self.start()

    def call(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None, timeout_s: float = 5.0
    ) -> Response:
        payload = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        sent = {"Content-Type": "application/json", **(headers or {})}
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout_s)) as connection:
            connection.request(method, path, body=payload, headers=sent)
            answer = connection.getresponse()
            return Response(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())

    def admin(self, method: str, path: str, body: object = None) -> Any:
        answer = self.call(method, f"/admin/{path}", body, {"Authorization": f"Bearer {self.secret}"})
        assert answer.status == 200, answer.raw
        return answer.json

    def faults(self, **faults: object) -> None:
        self.admin("PUT", "faults", faults)

    def advance(self, ms: int) -> None:
        self.admin("POST", "clock", {"advance_ms": ms})

    def summary(self) -> Any:
        return self.admin("GET", "ledger/summary")

    def webhooks(self) -> list[Any]:
        return list(self.admin("GET", "webhooks")["webhooks"])

    def settled_webhooks(self) -> list[Any]:
        """Once nothing is due any more."""
        give_up_at = time.monotonic() + WAIT_S
        while not self.admin("GET", "webhooks")["idle"]:
            assert time.monotonic() < give_up_at, self.webhooks()
            time.sleep(0.01)
        return self.webhooks()


def basic(secret: str = SECRET) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{secret}:".encode()).decode()}


class Shop:
    """A real HTTP server that takes webhooks; `status`, `content_type` and `answer` are what it answers."""

    def __init__(self) -> None:
        self.got: list[tuple[dict[str, str], Any]] = []
        self.raw: list[bytes] = []
        self.status = 200
        self.content_type = "text/html"
        self.answer = b"OK"
        shop = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                shop.raw.append(body)
                shop.got.append(({k.lower(): v for k, v in self.headers.items()}, json.loads(body)))
                self.send_response(shop.status)
                self.send_header("content-type", shop.content_type)
                answer = b"" if shop.status == 204 else shop.answer
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/webhooks"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(WAIT_S)


@contextlib.contextmanager
def open_shop() -> Iterator[Shop]:
    shop = Shop()
    try:
        yield shop
    finally:
        shop.close()
