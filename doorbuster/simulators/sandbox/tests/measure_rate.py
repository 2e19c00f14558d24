"""Measures charges per second of one sandbox with a small raw client: `python -m …sandbox.tests.measure_rate`."""

import argparse
import asyncio
import itertools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import psutil
import uvloop

from doorbuster.simulators.sandbox.tests.conftest import SECRET, Nursery, Sandbox

BODY = b'{"reference":"pay_%08d.1","amount_minor":1999,"currency":"USD","instrument":"tok_visa"}'
HEAD = (
    b"POST /v1/charges HTTP/1.1\r\nHost: sandbox\r\nAuthorization: Bearer " + SECRET.encode() + b"\r\n"
    b"Content-Type: application/json\r\nIdempotency-Key: key-%08d\r\nContent-Length: %d\r\n\r\n"
)


class Shopper(asyncio.Protocol):
    """Guards one keep-alive connection that always has one charge under way; `took` gets seconds per charge."""

    def __init__(self, numbers: Iterator[int], until: float, took: list[float]) -> None:
        self._numbers = numbers
        self._until = until
        self._took = took
        self.left = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        assert data.startswith(b"HTTP/1.1 200") and data.endswith(b"}"), data
        now = time.perf_counter()
        self._took.append(now - self._sent_at)
        if now < self._until:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.left.set_result(exc)

    def _send(self) -> None:
        number = next(self._numbers)
        body = BODY % number
        self._sent_at = time.perf_counter()
        self._transport.write(HEAD % (number, len(body)) + body)


async def shop(port: int, shoppers: int, seconds: float) -> list[float]:
    took: list[float] = []
    numbers = itertools.count()
    until = time.perf_counter() + seconds
    loop = asyncio.get_running_loop()
    crowd = [
        (await loop.create_connection(lambda: Shopper(numbers, until, took), "127.0.0.1", port))[1]
        for _ in range(shoppers)
    ]
    for shopper in crowd:
        assert await asyncio.wait_for(shopper.left, seconds + 10) is None
    return took


def main() -> None:
    """Prints charges/s, and per second of CPU the sandbox used: the rate of one core had it a core alone."""
    options = argparse.ArgumentParser()
    options.add_argument("--seconds", type=float, default=5.0)
    options.add_argument("--shoppers", type=int, default=32)
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        nursery = Nursery()
        sandbox = Sandbox(nursery, Path(folder))
        process = psutil.Process(sandbox.pid)
        before = sum(process.cpu_times()[:2])
        began = time.perf_counter()
        took = sorted(uvloop.run(shop(sandbox.port, asked.shoppers, asked.seconds)))
        elapsed = time.perf_counter() - began
        cpu = sum(process.cpu_times()[:2]) - before
        memory_mib = process.memory_info().rss / 2**20
        captured = sandbox.summary()["captured"]
        began = time.perf_counter()
        sandbox.kill_and_restart()
        restart_s = time.perf_counter() - began
        assert sandbox.summary()["captured"] == captured == len(took)
        assert sandbox.end() == 0
        nursery.close()
    p50, p99 = (took[int(len(took) * share)] * 1000 for share in (0.5, 0.99))
    print(f"{captured} charges, {captured / elapsed:.0f}/s, {captured / cpu:.0f} per CPU second of the sandbox")
    print(f"p50 {p50:.2f} ms, p99 {p99:.2f} ms, {memory_mib:.0f} MiB, kill -9 to ready again {restart_s:.2f} s")


if __name__ == "__main__":
    main()
