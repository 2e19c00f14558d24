"""Writing to the log: one statement inside the transaction that makes the facts true."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from doorbuster.engines.event_log.fact import Fact
from doorbuster.engines.event_log.partition import partition_of
from doorbuster.platform import db, ids
from doorbuster.platform.db import Conn

_PUBLISH = """
INSERT INTO outbox (partition, topic, key, id, type, version, aggregate_version, payload)
SELECT * FROM json_to_recordset($1::json) AS n(partition int, topic text, key text, id uuid, type text, version int,
       aggregate_version bigint, payload json)
"""


async def publish(conn: Conn, facts: Sequence[Fact]) -> None:
    """Put facts into this domain's outbox, in their order. Call it after the aggregates' rows are locked: the sequence
    numbers that are drawn here are what consumers order a key's events by."""
    if facts:
        await conn.execute(_PUBLISH, db.rows([_row(fact) for fact in facts]))


def _row(fact: Fact) -> dict[str, object]:
    return {
        "partition": partition_of(fact.key), "topic": fact.topic, "key": fact.key, "id": ids.uuid7(),
        "type": fact.type, "version": fact.version, "aggregate_version": fact.aggregate_version,
        "payload": msgspec.Raw(fact.payload),
    }  # fmt: skip
