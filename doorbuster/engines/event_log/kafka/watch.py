"""The watch: keeps a connector running for each publishing database, and repairs what cannot repair itself.

    python -m doorbuster.engines.event_log.kafka PLAN.json

Connect leaves a failed task alone, and knows nothing of a slot that the server gave up. One watch per publisher works
at a time (an advisory lock in the publisher's database), the others wait.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable
from pathlib import Path

import asyncpg
import msgspec
import structlog
from confluent_kafka import KafkaException

from doorbuster.engines.event_log.kafka import database, topics
from doorbuster.engines.event_log.kafka.connect_api import ConnectApi, Refused
from doorbuster.engines.event_log.kafka.connector import Publisher, render, secrets_file
from doorbuster.engines.event_log.kafka.database import Admin, Feed, Slot
from doorbuster.engines.event_log.kafka.refill import Refill
from doorbuster.platform.errors import Unavailable

_LOG = structlog.get_logger("event_log.kafka")
ROUND_S = 1.0
_SOON_S = 0.2
_MARK_EVERY_S = 5.0
_PAUSE_FIRST_S, _PAUSE_MOST_S = 1.0, 15.0
_TOPICS_EVERY_S = 30.0


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the watch is told (a file of mode 0600). `ready_file` is made once every connector runs."""

    bootstrap: str
    connect_url: str
    secrets: str
    publishers: tuple[Publisher, ...]
    copies: int = 1
    """Replicas of each topic: as many as there are brokers, up to 3."""
    ready_file: str = ""
    log_level: str = "info"


class Watch:
    """Guards what is known of one publisher between two looks."""

    def __init__(self, publisher: Publisher, plan: Plan, on_running: Callable[[Publisher], None]) -> None:
        self._publisher = publisher
        self._name = publisher.slot
        self._plan = plan
        self._config = render(publisher, Path(plan.secrets))
        self._on_running = on_running
        self._cluster = ""
        self._topics_at = 0.0
        self._new_topics: set[str] = set()
        self._pending: tuple[str, int] | None = None
        self._mark_at = self._restart_at = 0.0
        self._restarts = 0
        self.repairs = 0
        """How often facts were replayed from the table, the first start included."""

    async def run(self) -> None:
        """Watch until cancelled, through outages of everything it looks at."""
        pause = _PAUSE_FIRST_S
        while True:
            began = _now()
            try:
                await self._session()
            except (Unavailable, OSError, asyncpg.PostgresError, asyncpg.InterfaceError, KafkaException) as error:
                _LOG.warning("watch_waits", publisher=self._publisher.name, why=repr(error))
            except (Refused, topics.WrongPartitions) as error:
                # Somebody has to mend this; said again and again rather than given up.
                _LOG.error("watch_cannot", publisher=self._publisher.name, why=str(error))
            pause = _PAUSE_FIRST_S if _now() - began > _PAUSE_MOST_S else min(_PAUSE_MOST_S, pause * 2)
            await asyncio.sleep(pause)

    async def _session(self) -> None:
        """Look again and again over one connection to the publisher's database."""
        self._pending, self._topics_at = None, 0.0
        conn = await database.connect(self._publisher.login)
        api = ConnectApi(self._plan.connect_url)
        try:
            while not await database.is_only_watch(conn, self._publisher):
                await asyncio.sleep(ROUND_S)
            self._write_secret()
            while True:
                runs = await self._round(conn, api)
                await asyncio.sleep(ROUND_S if runs else _SOON_S)
        finally:
            await api.close()
            conn.terminate()

    def _write_secret(self) -> None:
        file = secrets_file(Path(self._plan.secrets), self._publisher)
        part = file.with_suffix(".part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as opened:
            opened.write(f"password={self._publisher.login.password}\n")
        part.replace(file)

    async def _round(self, conn: Admin, api: ConnectApi) -> bool:
        """One look, and what it calls for; whether the connector runs."""
        if _now() >= self._topics_at:
            admin = topics.admin_of(self._plan.bootstrap)
            ensure = functools.partial(topics.ensure_topics, admin, self._publisher, self._plan.copies)
            self._cluster, made = await asyncio.to_thread(ensure)
            # Kept until a repair has filled them: should it fail half-way, they are still new.
            self._new_topics |= set(made)
            self._topics_at = _now() + _TOPICS_EVERY_S
        slot = await database.slot_of(conn, self._publisher)
        feed = await database.feed_of(conn, self._publisher)
        why = await self._broken(conn, slot, feed)
        if why:
            await self._repair(conn, api, slot, why)
            return False
        assert slot is not None, "a publisher without a slot is broken"
        runs = await self._keep_running(api)
        if runs:
            self._on_running(self._publisher)
        if _now() >= self._mark_at:
            await self._mark(conn, slot)
        return runs

    async def _broken(self, conn: Admin, slot: Slot | None, feed: Feed | None) -> str:
        """Why facts may be missing in the topics that no slot will bring; "" when none can be."""
        if feed is None:
            return "it has never streamed"
        if not feed.streaming:
            return "a repair was not finished"
        if slot is None or slot.lost:
            return "the slot is lost" if slot else "the slot has gone"
        if feed.cluster != self._cluster:
            return "Kafka is another one"
        if feed.server != await database.server_of(conn):
            return "PostgreSQL is another one"
        if self._new_topics:
            return f"topics are new: {sorted(self._new_topics)}"
        if missing := set(self._publisher.sources) - (await database.marks_of(conn, self._publisher)).keys():
            return f"domains are new: {sorted(missing)}"
        return ""

    async def _repair(self, conn: Admin, api: ConnectApi, slot: Slot | None, why: str) -> None:
        """Bring what may be missing from the table into the topics, then let the connector go on behind it.

        First the connector stands still, then there is a slot that keeps what commits from now on, then comes the
        snapshot up to which is replayed. What commits between those two comes twice; nothing comes late, and nothing
        comes before what it follows. Killed anywhere, it is begun again: the feed says that it does not stream.
        """
        _LOG.warning("repair_begins", publisher=self._publisher.name, why=why)
        self._pending = None
        if await api.status(self._name) is None:
            await api.create_stopped(self._name, self._config)
        await api.stop(self._name)
        server = await database.server_of(conn)
        await database.begin_repair(conn, self._publisher, self._cluster, server, sorted(self._new_topics))
        self._new_topics = set()
        if slot is not None and slot.lost:
            await database.drop_slot(conn, self._publisher)
        if slot is None or slot.lost:
            await database.make_slot(conn, self._publisher)
        await api.forget_offsets(self._name)
        refill = Refill(self._plan.bootstrap)
        try:
            marks = await database.marks_of(conn, self._publisher)
            snapshot, count = await refill.run(conn, self._publisher, marks)
        finally:
            await asyncio.to_thread(refill.close)
        await database.end_repair(conn, self._publisher, snapshot)
        await api.resume(self._name)
        self.repairs += 1
        _LOG.warning("repair_ended", publisher=self._publisher.name, replayed=count)

    async def _keep_running(self, api: ConnectApi) -> bool:
        """Configure, resume and restart as needed; whether the connector runs."""
        if await api.configuration(self._name) != self._config | {"name": self._name}:
            await api.configure(self._name, self._config)
            return False
        status = await api.status(self._name)
        if status is None:
            return False
        if status.connector.state == "STOPPED":
            await api.resume(self._name)
            return False
        parts = [(status.connector.state, status.connector.trace), *((one.state, one.trace) for one in status.tasks)]
        failed = [trace for state, trace in parts if state == "FAILED"]
        if failed and _now() >= self._restart_at:
            pause = min(_PAUSE_MOST_S, _PAUSE_FIRST_S * 2.0 ** min(self._restarts, 10))
            self._restarts, self._restart_at, self._topics_at = self._restarts + 1, _now() + pause, 0.0
            _LOG.warning("connector_failed", publisher=self._publisher.name, why=failed[0][:500])
            await api.restart(self._name)
        running = bool(status.tasks) and all(state == "RUNNING" for state, _ in parts)
        if running and _now() > self._restart_at + _PAUSE_MOST_S:
            self._restarts = 0
        return running

    async def _mark(self, conn: Admin, slot: Slot) -> None:
        """Move the marks to the last snapshot whose place in the WAL the slot has confirmed, and take the next."""
        if self._pending is not None and slot.confirmed >= self._pending[1]:
            await database.write_marks(conn, self._publisher, self._pending[0])
            self._pending = None
            self._mark_at = _now() + _MARK_EVERY_S
        if self._pending is None:
            self._pending = await database.snapshot_and_position(conn)


async def watch(plan: Plan) -> None:
    """Watch every publisher of a plan until cancelled."""
    waiting = {publisher.name for publisher in plan.publishers}

    def on_running(publisher: Publisher) -> None:
        if publisher.name in waiting:
            waiting.remove(publisher.name)
            if not waiting and plan.ready_file:
                Path(plan.ready_file).touch(mode=0o600)

    async with asyncio.TaskGroup() as group:
        for publisher in plan.publishers:
            group.create_task(Watch(publisher, plan, on_running).run())


def _now() -> float:
    return asyncio.get_running_loop().time()
