"""The topics of the log: one per publishing domain, with as many partitions as the outbox counts, made by us alone."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from doorbuster.engines.event_log.kafka.connector import Publisher
from doorbuster.engines.event_log.partition import PARTITIONS
from doorbuster.platform.errors import Unavailable

_LOG = structlog.get_logger("event_log.kafka")
RETENTION_S = 7 * 86_400
"""How long a topic keeps a fact: the longest a consumer may be away."""
_TIMEOUT_S = 10.0
_HEARTBEATS_S = 3_600


class WrongPartitions(Exception):
    """A topic has another number of partitions than the outbox: keys would lose their order."""


def admin_of(bootstrap: str) -> AdminClient:
    """A client for topics; connects when it is used."""
    return AdminClient({"bootstrap.servers": bootstrap, "log_level": 0, "socket.timeout.ms": int(_TIMEOUT_S * 1_000)})


def ensure_topics(admin: AdminClient, publisher: Publisher, copies: int = 1) -> tuple[str, list[str]]:
    """Make the topics of a publisher that are not there; returns the cluster's id and the domains whose topic is new.

    Blocks for at most 30 s. `Unavailable` when the broker does not answer; `WrongPartitions` when somebody else made
    a topic.
    """
    wanted = {publisher.topic(source): source for source in publisher.sources}
    new = [
        NewTopic(topic, PARTITIONS, copies, config={"retention.ms": str(RETENTION_S * 1_000)}) for topic in wanted
    ] + [NewTopic(publisher.heartbeat_topic, 1, copies, config={"retention.ms": str(_HEARTBEATS_S * 1_000)})]
    made = []
    try:
        for topic, future in admin.create_topics(new, operation_timeout=_TIMEOUT_S).items():
            try:
                future.result(_TIMEOUT_S)
                made += [wanted[topic]] if topic in wanted else []
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
        cluster = admin.list_topics(timeout=_TIMEOUT_S)
    except (KafkaException, TimeoutError) as error:
        raise Unavailable(f"Kafka does not answer: {error}") from error
    for topic in wanted:
        found = cluster.topics.get(topic)
        if found is not None and found.partitions and len(found.partitions) != PARTITIONS:
            raise WrongPartitions(f"{topic} has {len(found.partitions)} partitions instead of {PARTITIONS}")
    if made:
        _LOG.info("topics_made", topics=made)
    return cluster.cluster_id or "", made


def remove_topics(admin: AdminClient, topics: Sequence[str]) -> None:
    """Remove topics of a drill or test, as far as they are there."""
    for future in admin.delete_topics(list(topics), operation_timeout=_TIMEOUT_S).values():
        try:
            future.result(_TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise
