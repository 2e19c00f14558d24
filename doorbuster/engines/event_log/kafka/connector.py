"""What Kafka Connect is told to tail the outboxes of one publishing database: rendered from values, compared as values.

Facts leave as CloudEvents 1.0 in binary mode: attributes in headers, the payload as it stands in the outbox, the key as
the record's key, and our own partition number as Kafka's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from doorbuster.platform.settings import DatabaseLogin

HEARTBEAT_MS = 1_000
"""How often the connector lets its slot follow WAL that is not about outboxes."""
_POLL_MS = 10
_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")
# Outbox column → where it goes. `id` is the router's own header too, which is dropped with Debezium's own.
_PLACED = (
    "id:header:ce_id", "topic:header:ce_source", "type:header:ce_type", "occurred_at:header:ce_time",
    "version:header:ce_dataversion", "seq:header:ce_sequence", "aggregate_version:header:ce_aggregateversion",
    "traceparent:header:traceparent", "partition:partition",
)  # fmt: skip
_DROPPED = (
    "id", "__debezium.context.connectorLogicalName", "__debezium.context.taskId", "__debezium.context.connectorName",
    "__debezium.context.connectorType", "__debezium.context.runId",
)  # fmt: skip


class Publisher(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One publishing database: who tails it, and whose facts it holds.

    `name` names the connector, the slot and the publication: `doorbuster_{name}`. Slots belong to the whole server, so
    two databases of one server need two names. `login` is the role that replicates. `topic_prefix` keeps a drill's
    topics apart from the shop's.
    """

    name: str
    login: DatabaseLogin
    sources: tuple[str, ...]
    topic_prefix: str = ""

    def __post_init__(self) -> None:
        assert _NAME.fullmatch(self.name), f"{self.name} is not a plain lower-case name"
        assert self.sources, f"{self.name} publishes nothing"

    @property
    def slot(self) -> str:
        """The replication slot; the connector and the publication have the same name."""
        return f"doorbuster_{self.name}"

    def topic(self, source: str) -> str:
        """Where the facts of a domain go."""
        return self.topic_prefix + source

    @property
    def heartbeat_topic(self) -> str:
        """Where Debezium says that it lives; it must exist."""
        return f"__debezium-heartbeat.{self.slot}"


def secrets_file(folder: Path, publisher: Publisher) -> Path:
    """Where the password of a publisher's login stands for Connect."""
    return folder / f"{publisher.slot}.properties"


def render(publisher: Publisher, secrets: Path) -> dict[str, str]:
    """The connector's configuration. `secrets` is the folder whose files Connect may read (mode 0700)."""
    return {
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "tasks.max": "1",
        "topic.prefix": publisher.slot,
        **_database(publisher, secrets),
        "plugin.name": "pgoutput",
        "slot.name": publisher.slot,
        "slot.drop.on.stop": "false",
        "publication.name": publisher.slot,
        "publication.autocreate.mode": "disabled",
        "snapshot.mode": "no_data",
        "table.include.list": ",".join(rf"{source.split('.')[1]}\.outbox" for source in publisher.sources),
        # Debezium knows no xid8; said once here rather than in its log at each start.
        "column.exclude.list": r".*\.outbox\.txid",
        "tombstones.on.delete": "false",
        "poll.interval.ms": str(_POLL_MS),
        # A slot only moves with what it is sent. A message in the WAL is enough to move it along with other databases;
        # a heartbeat table would need a topic and a place in the publication.
        "heartbeat.interval.ms": str(HEARTBEAT_MS),
        "heartbeat.action.query": "SELECT pg_logical_emit_message(false, 'heartbeat', now()::text)",
        "message.prefix.exclude.list": "heartbeat",
        # The watch restarts what fails and looks at the slot first; endless retries inside would hide a lost slot.
        "errors.max.retries": "2",
        "retriable.restart.connector.wait.ms": "1000",
        # A stream that does not start: by default a minute passes before the task fails and somebody looks.
        "slot.max.retries": "2",
        "slot.retry.delay.ms": "1000",
        **_transforms(publisher),
    }


def _database(publisher: Publisher, secrets: Path) -> dict[str, str]:
    login = publisher.login
    config = {
        "database.user": login.user,
        "database.password": f"${{file:{secrets_file(secrets, publisher)}:password}}",
        "database.dbname": login.database,
        "database.port": str(login.port),
    }
    if not login.host.startswith("/"):
        return {**config, "database.hostname": login.host}
    # A directory: the server listens on a Unix socket there and nowhere else.
    return {
        **config,
        "database.hostname": "localhost",
        "driver.socketFactory": "org.newsclub.net.unix.AFUNIXSocketFactory$FactoryArg",
        "driver.socketFactoryArg": f"{login.host}/.s.PGSQL.{login.port}",
        "driver.sslMode": "disable",
        "database.sslmode": "disable",
    }


def _transforms(publisher: Publisher) -> Mapping[str, str]:
    """The outbox event router for rows of an outbox, and for nothing else that passes; the fixed headers around it."""
    row, fact = {"predicate": "row"}, {"predicate": "fact"}
    steps: dict[str, dict[str, str]] = {
        # A header that is simply inserted is parsed first: 1.0 would become the number 1. So it goes as a field.
        "version": {
            "type": "org.apache.kafka.connect.transforms.InsertField$Value",
            "static.field": "specversion",
            "static.value": "1.0",
            **row,
        },
        "lift": {
            "type": "org.apache.kafka.connect.transforms.HeaderFrom$Value",
            "fields": "specversion",
            "headers": "ce_specversion",
            "operation": "move",
            **row,
        },
        "route": {
            "type": "io.debezium.transforms.outbox.EventRouter",
            "table.field.event.id": "id",
            "table.field.event.key": "key",
            "table.field.event.payload": "payload",
            "table.fields.additional.placement": ",".join(_PLACED),
            "route.by.field": "topic",
            "route.topic.replacement": f"{publisher.topic_prefix}${{routedByValue}}",
            # An outbox row never changes: an update is somebody's mistake, and not a fact.
            "table.op.invalid.behavior": "error",
            **row,
        },
        "content": {
            "type": "org.apache.kafka.connect.transforms.InsertHeader",
            "header": "content-type",
            "value.literal": "application/json",
            **fact,
        },
        "tidy": {
            "type": "org.apache.kafka.connect.transforms.DropHeaders",
            "headers": ",".join(_DROPPED),
            **fact,
        },
    }
    topics = "|".join(re.escape(publisher.topic(source)) for source in publisher.sources)
    matches = "org.apache.kafka.connect.transforms.predicates.TopicNameMatches"
    config = {
        "predicates": "row,fact",
        "predicates.row.type": matches,
        "predicates.row.pattern": rf"{re.escape(publisher.slot)}\..*\.outbox",
        "predicates.fact.type": matches,
        "predicates.fact.pattern": topics,
        "transforms": ",".join(steps),
    }
    for step, settings in steps.items():
        config |= {f"transforms.{step}.{key}": value for key, value in settings.items()}
    return config
