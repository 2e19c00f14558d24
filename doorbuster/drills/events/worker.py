"""A consumer process: hears the publisher and writes each event into `effect`, in the transaction it is handed.

`python -m doorbuster.drills.events.worker SETTINGS EARS`, where EARS is a `parts.Ears` as JSON. It runs until its stdin
ends.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import msgspec
import uvloop

from doorbuster.drills.events import hooks, kafka_worker, plants
from doorbuster.drills.events.parts import HEARS, PUBLISHER, Ears
from doorbuster.engines.event_log import Event, EventLog, Handler, Subscription
from doorbuster.engines.event_log.kafka import KafkaEventLog
from doorbuster.platform import clock, settings, telemetry
from doorbuster.platform.db import Conn

_GATHER_S = 0.04

# Who may handle a partition is read from the cursor's row inside the same transaction: the fence, seen from outside.
# What stands in `state` is a sum: an event taken in twice is seen there even if nobody looks at `effect`.
_TAKE_IN = (
    "WITH heard AS (SELECT * FROM unnest($1::uuid[], $2::int[], $3::text[], $4::bigint[]) WITH ORDINALITY"
    " AS e(id, partition, key, version, n)), noted AS ("
    " INSERT INTO effect (event_id, partition, key, version, worker, owner, at)"
    " SELECT h.id, h.partition, h.key, h.version, $5, c.owner, $7"
    " FROM heard h LEFT JOIN {owners} c ON c.source = $6 AND c.partition = h.partition ORDER BY h.n)"
    " INSERT INTO state (key, version, events) SELECT key, max(version), count(*) FROM heard GROUP BY key ORDER BY key"
    " ON CONFLICT (key) DO UPDATE SET version = excluded.version, events = state.events + excluded.events"
)


def taker(worker: str, owners: str) -> Handler:
    """The handler of one worker. `owners` is the table that says whose a partition is."""

    async def take_in(conn: Conn, events: Sequence[Event]) -> None:
        await note(conn, worker, owners, events)
        hooks.trap.writes()

    return take_in


async def note(conn: Conn, worker: str, owners: str, events: Sequence[Event]) -> None:
    """Write the effects of these events. Nothing there stops a second copy, nor a wrong order."""
    await conn.execute(
        _TAKE_IN.format(owners=owners),
        [event.id for event in events],
        [event.partition for event in events],
        [event.key for event in events],
        [event.aggregate_version for event in events],
        worker,
        PUBLISHER,
        clock.utc_now(),
    )


async def main(ears: Ears) -> None:
    """Hear until the drill is gone."""
    hooks.install()
    log, handle = over_kafka(ears) if ears.bootstrap else over_postgres(ears)
    await log.start([Subscription(ears.consumer, PUBLISHER, HEARS[ears.consumer], handle, _GATHER_S)])
    await hooks.listen()
    os._exit(0)


def over_postgres(ears: Ears) -> tuple[EventLog, Handler]:
    """The log that reads the outbox itself."""
    handle = taker(ears.name, "event_cursor")
    if ears.plant:
        handle = plants.plant(ears.plant, ears.consumer, handle)
    return EventLog(lease_s=ears.lease_s), handle


def over_kafka(ears: Ears) -> tuple[KafkaEventLog, Handler]:
    """The log that reads a topic."""
    kafka_worker.install()
    if ears.plant:
        kafka_worker.plant(ears.plant)
    return KafkaEventLog(ears.bootstrap, ears.lease_s, ears.topic_prefix), taker(ears.name, "inbox_owner")


if __name__ == "__main__":
    telemetry.configure(settings.load(sys.argv[1]).log_level)
    uvloop.run(main(msgspec.json.decode(sys.argv[2], type=Ears)))
