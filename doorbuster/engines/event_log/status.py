"""How far a consumer is behind, whatever carries its facts."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

import structlog

from doorbuster.engines.event_log import lag
from doorbuster.engines.event_log.fact import Subscription
from doorbuster.engines.event_log.kafka import lag as kafka_lag
from doorbuster.engines.event_log.lag import Lag
from doorbuster.platform import db, settings
from doorbuster.platform.errors import Unavailable

_EVERY_S = 15.0
_LOG = structlog.get_logger("event_log")


async def watch(subscriptions: Sequence[Subscription]) -> None:
    """Keep the metrics of these consumers' lag true, also while a consumer stands still; cancel to stop."""
    while True:
        for one in subscriptions:
            try:
                lag.show(await look(one.consumer, one.source, one.types))
            except Unavailable as error:
                _LOG.warning("lag_unknown", consumer=one.consumer, source=one.source, why=str(error))
        await asyncio.sleep(_EVERY_S)


async def look(consumer: str, source: str, types: Collection[str]) -> Lag:
    """One consumer's lag behind one source. Over Kafka records of every type count, and no age is known."""
    now = settings.current()
    if now.events != "kafka":
        return await lag.look(consumer, source, types)
    waiting = await kafka_lag.waiting(now.kafka, consumer, source)
    async with db.of(consumer).connection() as conn:
        owners = await conn.fetchval("SELECT count(DISTINCT owner) FROM inbox_owner WHERE source = $1", source)
        parked = await conn.fetchval("SELECT count(*) FROM dead_letter WHERE source = $1", source)
    return Lag(consumer, source, waiting, 0.0, int(parked), int(owners))
