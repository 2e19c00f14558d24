"""Where the event log is measured: a fresh server, a publisher and listeners as processes, and what came when."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import msgspec

from doorbuster.drills.bench.events_process import POISON, Ear, Heard, Pace
from doorbuster.drills.events.history import quantile
from doorbuster.drills.events.parts import NEAR, PUBLISHER
from doorbuster.drills.events.place import Place, furnish, schema_of
from doorbuster.drills.events.run import SERVER
from doorbuster.drills.events.server import killable_postgres

RATE = 1_000.0
SETTLE_S = 1.5
_HEARD_WITHIN_S = 60.0


class Delivery(msgspec.Struct, frozen=True):
    """From commit to handler, in ms, of `events` facts published at `per_s`."""

    events: int
    per_s: float
    p50_ms: float
    p99_ms: float


@asynccontextmanager
async def bench_place(keys: int = 1_000) -> AsyncIterator[Place]:
    """A fresh server with the drill's schemas."""
    with tempfile.TemporaryDirectory(prefix="doorbuster-bench-") as folder:
        async with killable_postgres(SERVER, Path(folder)) as server:
            yield await furnish(server, Path(folder), keys)


async def until_passed(
    place: Place, consumer: str, process: asyncio.subprocess.Process, within_s: float = _HEARD_WITHIN_S
) -> None:
    """Wait until all cursors are past the log, by asking the consumer's cursors and not its work."""
    publisher, hearer = await place.superuser(PUBLISHER), await place.superuser(consumer)
    try:
        last = await publisher.fetchval("SELECT max(txid)::text FROM outbox")
        give_up = time.monotonic() + within_s
        while time.monotonic() < give_up:
            assert process.returncode is None, "the listener ended"
            behind = await hearer.fetchval(
                "SELECT count(*) FROM event_cursor WHERE source = $1 AND (upto IS NOT NULL"
                " OR pg_snapshot_xmax(snapshot) <= $2::text::xid8)",
                PUBLISHER,
                last,
            )
            started = await hearer.fetchval("SELECT count(*) FROM event_cursor WHERE source = $1", PUBLISHER)
            if started and not behind:
                return
            await asyncio.sleep(0.1)
        raise TimeoutError(f"the log was not read within {within_s:g} s")
    finally:
        publisher.terminate()
        hearer.terminate()


@asynccontextmanager
async def listener(
    place: Place, consumer: str = NEAR, *, effects: bool = False, refuses: str = "", gather_s: float | None = None
) -> AsyncIterator[tuple[Path, asyncio.subprocess.Process]]:
    """One worker; its file of what came when is written at the end."""
    file = place.folder / f"heard-{schema_of(consumer)}.msgpack"
    process = await asyncio.create_subprocess_exec(
        *_argv(place, Ear(consumer, str(file), effects, refuses, gather_s)), stdin=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    try:
        yield file, process
        process.stdin.close()
        await asyncio.wait_for(process.wait(), _HEARD_WITHIN_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def publish(place: Place, pace: Pace) -> None:
    process = await asyncio.create_subprocess_exec(*_argv(place, pace), stdin=asyncio.subprocess.DEVNULL)
    try:
        code = await asyncio.wait_for(process.wait(), pace.seconds * 3 + _HEARD_WITHIN_S)
        assert code == 0, f"the publisher ended with {code}"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _argv(place: Place, told: Pace | Ear) -> list[str]:
    module = "doorbuster.drills.bench.events_process"
    return [sys.executable, "-m", module, str(place.settings_file), msgspec.json.encode(told).decode()]


async def deliveries(place: Place, file: Path) -> dict[str, Delivery]:
    """By label of their load: how long the facts of all keys but the poison one were on their way."""
    calls = msgspec.msgpack.decode(file.read_bytes(), type=list[Heard])
    came = {one: call.at for call in calls for one in call.ids}
    admin = await place.superuser(PUBLISHER)
    try:
        rows = await admin.fetch(
            "SELECT id::text, payload->>'label' AS label,"
            " extract(epoch FROM pg_xact_commit_timestamp(txid::xid))::float8 AS at FROM outbox WHERE key <> $1",
            POISON,
        )
    finally:
        admin.terminate()
    return {
        label: _delivery([row for row in rows if row["label"] == label], came) for label in {r["label"] for r in rows}
    }


def _delivery(rows: list[asyncpg.Record], came: dict[str, float]) -> Delivery:
    missing = sum(row["id"] not in came for row in rows)
    assert not missing, f"{missing} of {len(rows)} facts were not heard"
    delays = sorted((came[row["id"]] - row["at"]) * 1_000 for row in rows)
    first, last = min(row["at"] for row in rows), max(row["at"] for row in rows)
    per_s = len(rows) / (last - first)
    return Delivery(len(rows), round(per_s, 1), round(quantile(delays, 0.5), 2), round(quantile(delays, 0.99), 2))
