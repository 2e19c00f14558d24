"""A shop whose facts go over Kafka: which databases are tailed, by whom, and the processes that do it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import asyncpg

from doorbuster import map, provision
from doorbuster.engines.embedded import DataPaths, PostgresServer, Supervisor
from doorbuster.engines.embedded.kafka import KafkaPlace, connect_child, kafka_child, prepare_kafka
from doorbuster.engines.event_log.kafka import Plan, Publisher, prepare_publisher, watch_child
from doorbuster.platform.settings import DatabaseLogin


def publishers(host: str, passwords: Mapping[str, str], *, apart: bool) -> tuple[Publisher, ...]:
    """One for each database in which somebody publishes: `shop` for the one of all, else the name of its group."""
    where = provision.databases(apart=apart)
    sources: dict[str, list[str]] = {}
    for domain in map.BUILT:
        if domain.publishes:
            sources.setdefault(domain.group if apart else "shop", []).append(domain.id)
    return tuple(
        Publisher(
            name=name,
            login=DatabaseLogin(
                host=host, database=where[domains[0]], user=f"door_cdc_{name}", password=passwords["cdc"]
            ),
            sources=tuple(domains),
        )
        for name, domains in sources.items()
    )


async def start_broker(supervisor: Supervisor, paths: DataPaths) -> KafkaPlace:
    """A broker, then Connect; StartError without Java or Maven."""
    place = prepare_kafka(paths.root / "kafka")
    await supervisor.start(kafka_child(place))
    await supervisor.start(connect_child(place))
    return place


async def start_feeds(
    supervisor: Supervisor, place: KafkaPlace, server: PostgresServer, passwords: Mapping[str, str], *, apart: bool
) -> None:
    """Roles and publications in each publishing database, then the watch; returns when every connector runs."""
    found = publishers(str(server.socket_dir), passwords, apart=apart)
    for publisher in found:
        admin = await asyncpg.connect(server.dsn(database=publisher.login.database), timeout=10)
        try:
            await prepare_publisher(admin, publisher)
        finally:
            await admin.close()
    plan = Plan(place.bootstrap, place.connect_url, str(place.secrets), found)
    await supervisor.start(watch_child(plan, Path(supervisor.paths.run) / "kafka-watch.json"))
