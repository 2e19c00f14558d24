"""Opens TLS connections for the slots of a load run, a bounded number at once, again and again with a growing pause."""

import asyncio
import random
import ssl
import time
from collections.abc import Callable
from typing import NamedTuple

from doorbuster.drills.load.plan import BadPlan, Plan
from doorbuster.drills.load.wire import Listener, Wire

HANDSHAKES_AT_ONCE = 32
CONNECT_TIMEOUT_S = 5.0


class LoadFailed(RuntimeError):
    """The run never began: nobody answered, or the certificate is not the one expected."""


class Told(NamedTuple):
    """Whom the dialer tells: of an open connection, and of a slot it gave up after reconnect_give_up_s."""

    connected: Callable[[int, Wire], None]
    gave_up: Callable[[int], None]


class Dialer:
    """Guards the connections being opened and counts them."""

    def __init__(self, plan: Plan, listener: Listener, told: Told) -> None:
        self.connects = 0
        self.failures = 0
        self.last_refusal = ""
        self._plan = plan
        self._listener = listener
        self._told = told
        self._tls = _client_tls(plan.ca_file)
        self._jitter = random.Random(plan.seed)  # noqa: S311  a repeatable schedule, no secret
        self._handshakes = asyncio.Semaphore(HANDSHAKES_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def dial_all(self) -> None:
        """Open one connection per slot; return when all stand or the deadline has passed; LoadFailed when none does."""
        deadline = time.monotonic() + max(CONNECT_TIMEOUT_S, self._plan.timeout_s)
        for slot in range(self._plan.connections):
            self.dial(slot, losses=0)
        while self._tasks and (left_s := deadline - time.monotonic()) > 0:
            await asyncio.wait(self._tasks, timeout=left_s)
        if not self.connects:
            raise LoadFailed(f"{self._plan.host}:{self._plan.port}: {self.last_refusal or 'no answer'}")

    def dial(self, slot: int, losses: int) -> None:
        """Open a connection for this slot, after a pause that doubles with each loss in a row (0: at once)."""
        if self._closed:
            return
        # A server that accepts and resets at once must not eat the plan, hence a pause before the first attempt too.
        task = asyncio.get_running_loop().create_task(self._dial(slot, self._pause_s(losses - 1) if losses else 0.0))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop opening connections."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _dial(self, slot: int, pause_s: float) -> None:
        give_up = time.monotonic() + self._plan.reconnect_give_up_s
        failures = 0
        while True:
            await asyncio.sleep(pause_s)
            try:
                wire = await self._handshake(slot)
            except (OSError, TimeoutError) as refusal:
                self.failures += 1
                self.last_refusal = f"{type(refusal).__name__}: {refusal}"
                pause_s = self._pause_s(failures)
                failures += 1
                # Waiting does not make a wrong certificate right.
                if isinstance(refusal, ssl.SSLCertVerificationError) or time.monotonic() + pause_s > give_up:
                    return self._told.gave_up(slot)
            else:
                self.connects += 1
                return self._told.connected(slot, wire)

    async def _handshake(self, slot: int) -> Wire:
        plan = self._plan
        async with self._handshakes, asyncio.timeout(CONNECT_TIMEOUT_S):
            _, wire = await asyncio.get_running_loop().create_connection(
                lambda: Wire(self._listener, slot),
                plan.host,
                plan.port,
                ssl=self._tls,
                server_hostname=plan.server_name,
            )
        if wire.is_lost:
            raise ConnectionResetError("lost right after the handshake")
        return wire

    def _pause_s(self, failures: int) -> float:
        doubled_ms = self._plan.reconnect_backoff_ms * 2.0 ** min(failures, 16)
        return min(doubled_ms, self._plan.reconnect_backoff_max_ms) / 1000 * self._jitter.uniform(0.5, 1.0)


def _client_tls(ca_file: str) -> ssl.SSLContext:
    try:
        tls = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise BadPlan(f"ca_file {ca_file}: {error}") from error
    tls.minimum_version = ssl.TLSVersion.TLSv1_3
    # Without this an edge that prefers HTTP/2 would choose it.
    tls.set_alpn_protocols(["http/1.1"])
    return tls
