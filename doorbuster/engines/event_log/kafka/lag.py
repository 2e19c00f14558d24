"""How far a consumer is behind on Kafka: what stands in the topic beyond what its group has committed."""

from __future__ import annotations

import asyncio

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from doorbuster.engines.event_log.kafka.consume import group_of
from doorbuster.engines.event_log.kafka.topics import admin_of
from doorbuster.engines.event_log.partition import PARTITIONS
from doorbuster.platform.errors import Unavailable

_TIMEOUT_S = 10.0


async def waiting(bootstrap: str, consumer: str, source: str) -> int:
    """How many records of any type wait for a consumer. Raises Unavailable when Kafka does not answer."""
    return await asyncio.to_thread(_waiting, admin_of(bootstrap), group_of(consumer, source), source)


def _waiting(admin: AdminClient, group: str, topic: str) -> int:
    partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    try:
        latest: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        asked_ends = admin.list_offsets(dict.fromkeys(partitions, latest), request_timeout=_TIMEOUT_S)
        ends = {place.partition: future.result(_TIMEOUT_S).offset for place, future in asked_ends.items()}
        asked = [ConsumerGroupTopicPartitions(group, partitions)]
        (future,) = admin.list_consumer_group_offsets(asked, request_timeout=_TIMEOUT_S).values()
        committed = {place.partition: place.offset for place in future.result(_TIMEOUT_S).topic_partitions}
    except (KafkaException, TimeoutError) as error:
        raise Unavailable("Kafka does not say how far its consumers are") from error
    # A group that has never committed in a partition begins at its first record.
    return sum(end - max(0, committed.get(number, 0)) for number, end in ends.items())
