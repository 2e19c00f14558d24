"""Taking a publisher away again, after a drill or a test: connector, slot, publication, topics and consumer groups."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from doorbuster.engines.event_log.kafka import database, topics
from doorbuster.engines.event_log.kafka.connect_api import ConnectApi
from doorbuster.engines.event_log.kafka.connector import Publisher
from doorbuster.engines.event_log.kafka.database import Admin
from doorbuster.engines.event_log.kafka.watch import Plan
from doorbuster.platform.errors import Unavailable

_TIMEOUT_S = 10.0
_TRIES = 30
_GROUPS_EMPTY_WITHIN_S = 30.0
_GONE = (KafkaError.GROUP_ID_NOT_FOUND, KafkaError.UNKNOWN_TOPIC_OR_PART)


async def dismantle(admin: Admin, plan: Plan, publisher: Publisher, groups: Sequence[str] = ()) -> None:
    """Remove what `prepare_publisher` and the watch have made; the watch and the consumers must have stopped. Twice is
    once. `Unavailable` when Connect or the broker stays away for a minute."""
    api = ConnectApi(plan.connect_url)
    try:
        for number in range(_TRIES):
            try:
                await _remove_connector(api, publisher)
                break
            except Unavailable:
                if number == _TRIES - 1:
                    raise
                await asyncio.sleep(2)
    finally:
        await api.close()
    await database.remove_publisher(admin, publisher)
    client = topics.admin_of(plan.bootstrap)
    mine = [*(publisher.topic(source) for source in publisher.sources), publisher.heartbeat_topic]
    await asyncio.to_thread(topics.remove_topics, client, mine)
    await asyncio.to_thread(_remove_groups, client, groups)


async def _remove_connector(api: ConnectApi, publisher: Publisher) -> None:
    if await api.status(publisher.slot) is not None:
        await api.stop(publisher.slot)
        await api.forget_offsets(publisher.slot)
        await api.remove(publisher.slot)


def _remove_groups(client: AdminClient, groups: Sequence[str]) -> None:
    """A member that was killed is in its group until its session ends; that is waited for."""
    deadline, left = time.monotonic() + _GROUPS_EMPTY_WITHIN_S, list(groups)
    while left:
        asked, left = client.delete_consumer_groups(left, request_timeout=_TIMEOUT_S), []
        for group, future in asked.items():
            try:
                future.result(_TIMEOUT_S)
            except KafkaException as error:
                code = error.args[0].code()
                if code == KafkaError.NON_EMPTY_GROUP and time.monotonic() < deadline:
                    left.append(group)
                elif code not in _GONE:
                    raise
        if left:
            time.sleep(0.5)
