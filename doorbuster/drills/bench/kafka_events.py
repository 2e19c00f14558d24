"""How fast facts travel over Kafka and Debezium here: commit → handler, drained per second, back after a kill.

`python -m doorbuster.drills.bench.kafka_events` measures and prints JSON; it needs Java and Maven.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence

import asyncpg
import msgspec
import uvloop

from doorbuster.engines import event_log
from doorbuster.engines.embedded import PostgresServer, StartError, temporary_postgres
from doorbuster.engines.embedded.kafka_temporary import TemporaryKafka, temporary_kafka
from doorbuster.engines.embedded.postgres import CAPTURED
from doorbuster.engines.event_log import Event, Fact, Subscription
from doorbuster.engines.event_log.kafka import KafkaEventLog, Plan, Publisher, Watch, prepare_publisher
from doorbuster.engines.event_log.kafka.connect_api import ConnectApi
from doorbuster.platform import clock, db, settings, telemetry
from doorbuster.platform.db import Conn
from doorbuster.platform.migrations import DomainSchema, migrate
from doorbuster.platform.settings import DatabaseLogin, Settings

PUB, SUB = "bench.pub", "bench.sub"
_SESSIONS = 8
_PAGE = 5_000
_WARM_UP_ROUNDS = 2
_WAIT_S = 120.0
_PAYLOAD = msgspec.json.encode({"text": "x" * 200})


class KafkaFigures(msgspec.Struct, frozen=True):
    """What was measured. A delay is from the INSERT into the outbox (before its COMMIT) to the call of the handler."""

    rate_per_s: int
    heard: int
    delay_p50_ms: float
    delay_p99_ms: float
    drained: int
    drained_per_s: float
    """With handlers that write, from the first effect to the last; inserted while the connector stood still."""
    back_after_kill_s: float
    """From the SIGKILL of Connect to the handler's call for a fact committed right after it."""


async def measure(rate_per_s: int = 500, seconds: float = 12.0, drain: int = 40_000) -> KafkaFigures:
    """Measure on a Kafka and a PostgreSQL of its own, about a minute and a half. StartError without Java or Maven."""
    async with (
        temporary_kafka() as kafka,
        temporary_postgres(settings=CAPTURED) as server,
        _place(kafka, server) as place,
    ):
        # Java compiles what it runs often: the first rounds of a fresh broker are four times as slow as the third.
        for _ in range(_WARM_UP_ROUNDS):
            await _drain(place, drain)
        drained_s = await _drain(place, drain)
        await _delays(place, rate_per_s, seconds / 3)
        delays = await _delays(place, rate_per_s, seconds)
        back_s = await _back(place)
    ordered = sorted(delays)
    return KafkaFigures(
        rate_per_s=rate_per_s,
        heard=len(ordered),
        delay_p50_ms=round(ordered[len(ordered) // 2], 1),
        delay_p99_ms=round(ordered[len(ordered) * 99 // 100], 1),
        drained=drain,
        drained_per_s=round(drain / drained_s),
        back_after_kill_s=round(back_s, 1),
    )


class _Place:
    """Guards what the handler has heard, with its clock at the call."""

    def __init__(self, kafka: TemporaryKafka, publisher: Publisher) -> None:
        self.kafka = kafka
        self.publisher = publisher
        place = kafka.place
        self._plan = Plan(place.bootstrap, place.connect_url, str(place.secrets), (publisher,))
        self._watching: asyncio.Task[None] | None = None
        self.delays_ms: list[float] = []
        self.heard = 0
        self.first_at = self.last_at = 0.0

    async def handle(self, conn: Conn, events: Sequence[Event]) -> None:
        """Write what came, as a consumer that keeps something of each fact."""
        now = clock.utc_now()
        self.delays_ms += [(now - event.occurred_at).total_seconds() * 1_000 for event in events]
        await conn.execute(
            "INSERT INTO effect (key, seq) SELECT * FROM unnest($1::text[], $2::bigint[])",
            [event.key for event in events],
            [event.seq for event in events],
        )
        self.heard += len(events)
        self.last_at = time.monotonic()
        self.first_at = self.first_at or self.last_at

    async def watch(self) -> None:
        """Watch the connector, and wait until it runs."""
        running = asyncio.Event()
        self._watching = asyncio.create_task(Watch(self.publisher, self._plan, lambda _: running.set()).run())
        async with asyncio.timeout(_WAIT_S):
            await running.wait()

    async def unwatch(self) -> None:
        """Leave the connector alone."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)

    def forget(self) -> None:
        """Begin to count anew."""
        self.delays_ms, self.heard, self.first_at = [], 0, 0.0

    async def until_heard(self, count: int) -> None:
        """Wait until so many were heard since the last `forget`."""
        async with asyncio.timeout(_WAIT_S):
            while self.heard < count:
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def _place(kafka: TemporaryKafka, server: PostgresServer) -> AsyncIterator[_Place]:
    host = str(server.socket_dir)
    admin = await asyncpg.connect(server.dsn())
    files = event_log.SCHEMA_FILES
    await migrate(admin, [DomainSchema("pub", "b_pub", "pw", files), DomainSchema("sub", "b_sub", "pw", files)])
    await admin.execute("CREATE TABLE sub.effect (key text NOT NULL, seq bigint NOT NULL)")
    await admin.execute("GRANT ALL ON sub.effect TO b_sub")
    publisher = Publisher("bench", DatabaseLogin(host, "postgres", "b_cdc", "pw"), (PUB,))
    await prepare_publisher(admin, publisher)
    await admin.close()
    logins = {PUB: DatabaseLogin(host, "postgres", "b_pub", "pw"), SUB: DatabaseLogin(host, "postgres", "b_sub", "pw")}
    settings.use(Settings(databases=logins, kafka=kafka.place.bootstrap, log_level="error"))
    place, log = _Place(kafka, publisher), KafkaEventLog()
    try:
        await place.watch()
        await log.start([Subscription(SUB, PUB, frozenset({"Happened"}), place.handle)])
        await _publish(200)  # a first round for everybody: classes, plans, connections, the group
        await place.until_heard(200)
        yield place
    finally:
        await log.stop()
        await place.unwatch()
        await db.close_all()


async def _publish(count: int) -> None:
    async with db.of(PUB).transaction() as conn:
        await event_log.publish(conn, [Fact(PUB, f"key-{n % 997}", "Happened", 1, n, _PAYLOAD) for n in range(count)])


async def _delays(place: _Place, rate_per_s: int, seconds: float) -> list[float]:
    """One fact in each transaction, at a steady rate, from a few sessions."""
    place.forget()
    began, count = time.monotonic(), int(rate_per_s * seconds)

    async def session(number: int) -> None:
        for turn in range(number, count, _SESSIONS):
            await asyncio.sleep(max(0.0, began + turn / rate_per_s - time.monotonic()))
            await _publish(1)

    await asyncio.gather(*(session(number) for number in range(_SESSIONS)))
    await place.until_heard(count)
    return place.delays_ms


async def _drain(place: _Place, count: int) -> float:
    """Seconds from the first effect to the last, of facts that were there when the connector began again."""
    api = ConnectApi(place.kafka.place.connect_url)
    try:
        await place.unwatch()  # or it would have the connector run again at once
        await api.stop(place.publisher.slot)
        place.forget()
        for first in range(0, count, _PAGE):
            await _publish(min(_PAGE, count - first))
        await api.resume(place.publisher.slot)
    finally:
        await api.close()
    await place.until_heard(count)
    await place.watch()
    return place.last_at - place.first_at


async def _back(place: _Place) -> float:
    place.forget()
    began = time.monotonic()
    assert place.kafka.signal("connect", signal.SIGKILL), "Connect runs"
    await _publish(1)
    await place.until_heard(1)
    return place.last_at - began


def main() -> int:
    """Measure and print."""
    telemetry.configure("error")
    try:
        figures = uvloop.run(measure())
    except StartError as error:
        print(f"{error.message}\n{error.hint}", file=sys.stderr)
        return 1
    print(msgspec.json.format(msgspec.json.encode(figures)).decode())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
