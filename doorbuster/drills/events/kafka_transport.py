"""Kafka as the drill's transport: broker and Connect for one run, a publisher of its own, and what of it is killed."""

from __future__ import annotations

import asyncio
import secrets
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition

from doorbuster.drills.events.history import CursorSample
from doorbuster.drills.events.parts import HEARS, PUBLISHER, Ears
from doorbuster.drills.events.place import DATABASE_OF, Place, connect
from doorbuster.drills.events.refusal import CannotCarry
from doorbuster.engines.embedded import StartError
from doorbuster.engines.embedded.kafka_jars import ensure_jars
from doorbuster.engines.embedded.kafka_temporary import TemporaryKafka, temporary_kafka
from doorbuster.engines.embedded.paths import prepare, remove_socket_dir, socket_dir
from doorbuster.engines.embedded.process_table import send
from doorbuster.engines.embedded.supervisor import Supervisor
from doorbuster.engines.event_log import PARTITIONS, retention
from doorbuster.engines.event_log.kafka import (
    LISTENER,
    Plan,
    Publisher,
    dismantle,
    group_of,
    prepare_publisher,
    watch_child,
)
from doorbuster.engines.event_log.kafka.connect_api import ConnectApi, Refused
from doorbuster.engines.event_log.kafka.topics import admin_of
from doorbuster.platform.db import LOST
from doorbuster.platform.errors import Unavailable
from doorbuster.platform.settings import DatabaseLogin

CONNECT, BROKER, WATCH = "connect", "broker", "watch"
_CHILD_OF = {CONNECT: "connect", BROKER: "kafka", WATCH: "kafka-watch"}
_FLOWS_WITHIN_S = 90.0
_LOOK_S = 0.1
_OFFSETS_EVERY_S = 0.3
_ASK_TIMEOUT_S = 2.0
_NOT_YET = (Unavailable, Refused, *LOST, asyncpg.PostgresError)


def check() -> None:
    """Raise CannotCarry when Kafka cannot run here: no Java, no Maven, no jars."""
    try:
        ensure_jars()
    except StartError as error:
        raise CannotCarry(f"{error.message} {error.hint}") from error


class KafkaCarrier:
    """Guards the pipeline of one run: Connect tails the outbox into a topic, the watch keeps it going."""

    # Connect stands there more than once: it is drawn so much oftener than the others.
    kinds: tuple[str, ...] = (CONNECT, CONNECT, CONNECT, BROKER, WATCH)

    def __init__(self, place: Place, kafka: TemporaryKafka, plan: Plan, watch: Supervisor) -> None:
        self._place = place
        self._kafka = kafka
        self._plan = plan
        self._watch = watch
        self._api = ConnectApi(plan.connect_url)
        # One client for all looks: each has threads and connections of its own.
        self._admin = admin_of(plan.bootstrap)
        self._offsets: dict[str, dict[int, int]] = {}

    @property
    def ears(self) -> Ears:
        return Ears(bootstrap=self._plan.bootstrap, topic_prefix=self._publisher.topic_prefix)

    @property
    def _publisher(self) -> Publisher:
        return self._plan.publishers[0]

    async def kill(self, kind: str) -> float:
        """kill -9; its supervisor starts it again. Returns after how many seconds facts flow again."""
        began = time.monotonic()
        supervisor, name = self._keeper(kind), _CHILD_OF[kind]
        before = _restarts(supervisor, name)
        child = next(one for one in supervisor.state().children if one.name == name)
        if child.process is None or not send(child.process, signal.SIGKILL):
            raise TimeoutError(f"{name} did not run when it was to be killed")
        while _restarts(supervisor, name) == before or not _is_ready(supervisor, name):
            if time.monotonic() - began > _FLOWS_WITHIN_S:
                raise TimeoutError(f"{name} has not come back within {_FLOWS_WITHIN_S:g} s")
            await asyncio.sleep(_LOOK_S)
        await self.flows()
        return time.monotonic() - began

    def _keeper(self, kind: str) -> Supervisor:
        return self._watch if kind == WATCH else self._kafka.supervisor

    async def flows(self) -> None:
        """Wait until the connector runs and reads its slot. TimeoutError after 90 s."""
        began = time.monotonic()
        while time.monotonic() - began < _FLOWS_WITHIN_S:
            with suppress(*_NOT_YET):
                if await self._runs() and await self._is_read():
                    return
            await asyncio.sleep(_LOOK_S)
        raise TimeoutError(f"the connector has not run again within {_FLOWS_WITHIN_S:g} s")

    async def _runs(self) -> bool:
        status = await self._api.status(self._publisher.slot)
        if status is None or not status.tasks:
            return False
        return {status.connector.state, *(task.state for task in status.tasks)} == {"RUNNING"}

    async def _is_read(self) -> bool:
        admin = await self._place.superuser(PUBLISHER)
        try:
            asked = "SELECT active FROM pg_replication_slots WHERE slot_name = $1"
            return bool(await admin.fetchval(asked, self._publisher.slot))
        finally:
            admin.terminate()

    async def look(self, admin: asyncpg.Connection[asyncpg.Record], consumer: str) -> list[CursorSample]:
        """Owners and epochs from the consumer's schema, and as `last_seq` the offset that its group has committed."""
        rows = await admin.fetch("SELECT partition, owner, epoch FROM inbox_owner WHERE source = $1", PUBLISHER)
        offsets = self._offsets.get(consumer, {})
        # One and the same snapshot: a cursor that goes back is then one whose offset does.
        return [
            CursorSample(consumer, partition, owner, epoch, "1:1:", "1:1:", offsets.get(partition, 0))
            for partition, owner, epoch in rows
        ]

    async def follow_offsets(self) -> None:
        """Ask again and again how far the groups are, also while the broker is away. Cancel to stop."""
        while True:
            for consumer in HEARS:
                with suppress(KafkaException, TimeoutError):
                    self._offsets[consumer] = await asyncio.to_thread(self._committed, consumer)
            await asyncio.sleep(_OFFSETS_EVERY_S)

    def _committed(self, consumer: str) -> dict[int, int]:
        topic = self._publisher.topic(PUBLISHER)
        group = group_of(consumer, PUBLISHER, self._publisher.topic_prefix)
        asked = [ConsumerGroupTopicPartitions(group, [TopicPartition(topic, n) for n in range(PARTITIONS)])]
        (future,) = self._admin.list_consumer_group_offsets(asked, request_timeout=_ASK_TIMEOUT_S).values()
        found = future.result(_ASK_TIMEOUT_S).topic_partitions
        # A partition in which nothing was ever committed answers with a negative number.
        return {one.partition: max(0, one.offset) for one in found if one.error is None}

    async def remove(self) -> None:
        """Remove all of this run from the servers; the watch must be stopped, or it would make it again."""
        admin = await self._place.superuser(PUBLISHER)
        try:
            groups = [group_of(consumer, PUBLISHER, self._publisher.topic_prefix) for consumer in HEARS]
            await dismantle(admin, self._plan, self._publisher, groups)
        finally:
            admin.terminate()

    async def close(self) -> None:
        """End the session to Connect."""
        await self._api.close()


def _restarts(supervisor: Supervisor, name: str) -> int:
    return next(child.restarts for child in supervisor.state().children if child.name == name)


def _is_ready(supervisor: Supervisor, name: str) -> bool:
    return any(child.name == name and child.state == "ready" for child in supervisor.state().children)


@asynccontextmanager
async def open_kafka(place: Place) -> AsyncIterator[KafkaCarrier]:
    """Put the whole pipeline up for one run, about 15 s; at its end everything is removed again."""
    async with temporary_kafka(place.folder, short_lived=True) as kafka:
        plan = await _publish_to(place, kafka)
        home = prepare(place.folder / "watch")
        sockets = socket_dir(home.run)
        watch = Supervisor(home, sockets)
        carrier = KafkaCarrier(place, kafka, plan, watch)
        following = asyncio.create_task(carrier.follow_offsets())
        try:
            try:
                await watch.start(watch_child(plan, home.run / "plan.json"))
                await carrier.flows()
                yield carrier
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
                await watch.stop()
                remove_socket_dir(sockets, home.run)
            # Only after a run that went well: after another one the servers go, with all that is in them.
            await carrier.remove()
        finally:
            await carrier.close()


async def _publish_to(place: Place, kafka: TemporaryKafka) -> Plan:
    """The outbox of the run, ready to be tailed under names of its own."""
    name = f"drill_{secrets.token_hex(4)}"
    server = place.server.postgres
    login = DatabaseLogin(str(server.socket_dir), DATABASE_OF[PUBLISHER], f"{name}_cdc", secrets.token_urlsafe(16))
    publisher = Publisher(name, login, (PUBLISHER,), topic_prefix=f"{name}-")
    admin = await place.superuser(PUBLISHER)
    try:
        await retention.prepare(admin, {LISTENER: sorted(frozenset[str]().union(*HEARS.values()))})
        await admin.execute("RESET search_path")
    finally:
        await admin.close()
    admin = await connect(server, DATABASE_OF[PUBLISHER])
    try:
        await prepare_publisher(admin, publisher)
    finally:
        await admin.close()
    return Plan(
        kafka.place.bootstrap, kafka.place.connect_url, str(kafka.place.secrets), (publisher,), log_level="warning"
    )
