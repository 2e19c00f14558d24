"""Writing to the log: one statement inside the transaction that makes the facts true."""

from __future__ import annotations

from collections.abc import Sequence

from doorbuster.engines.event_log.fact import Fact
from doorbuster.engines.event_log.partition import partition_of
from doorbuster.platform import ids
from doorbuster.platform.db import Conn


async def publish(conn: Conn, facts: Sequence[Fact]) -> None:
    """Put facts into this domain's outbox, in their order. Call it after the aggregates' rows are locked: the sequence
    numbers that are drawn here are what consumers order a key's events by."""
    if not facts:
        return
    await conn.execute(
        "INSERT INTO outbox (partition, topic, key, id, type, version, aggregate_version, payload)"
        " SELECT * FROM unnest($1::int[], $2::text[], $3::text[], $4::uuid[], $5::text[], $6::int[], $7::bigint[],"
        " $8::json[])",
        [partition_of(fact.key) for fact in facts],
        [fact.topic for fact in facts],
        [fact.key for fact in facts],
        [ids.uuid7() for _ in facts],
        [fact.type for fact in facts],
        [fact.version for fact in facts],
        [fact.aggregate_version for fact in facts],
        [fact.payload.decode() for fact in facts],
    )
