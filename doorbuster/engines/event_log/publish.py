"""Writing to the log: one statement inside the transaction that makes the facts true."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from doorbuster.engines.event_log.fact import Fact
from doorbuster.engines.event_log.partition import partition_of
from doorbuster.platform import db, ids
from doorbuster.platform.db import Conn


def insert_facts(parameter: str, where: str = "true") -> str:
    """The SQL that puts the facts of `parameter` (`$1`, made by `as_parameter`) into the outbox, those that satisfy
    `where`. For a part of a larger write, `WITH facts AS (...)`: it saves a round trip while rows are locked.

    Give it a parameter whose rows are locked, or made by the same statement: the sequence numbers that are drawn here
    are what consumers order a key's events by.
    """
    return (
        "INSERT INTO outbox (partition, topic, key, id, type, version, aggregate_version, payload)"
        f" SELECT * FROM json_to_recordset({parameter}::json) AS fact(partition int, topic text, key text, id uuid,"
        f" type text, version int, aggregate_version bigint, payload json) WHERE {where}"
    )


_PUBLISH = insert_facts("$1")


def as_parameter(facts: Sequence[Fact]) -> str:
    """Facts as `insert_facts` takes them, each with its partition and an id."""
    return db.rows([_row(fact) for fact in facts])


async def publish(conn: Conn, facts: Sequence[Fact]) -> None:
    """Put facts into this domain's outbox, in their order. Call it after the aggregates' rows are locked."""
    if facts:
        await conn.execute(_PUBLISH, as_parameter(facts))


def _row(fact: Fact) -> dict[str, object]:
    return {
        "partition": partition_of(fact.key), "topic": fact.topic, "key": fact.key, "id": ids.uuid7(),
        "type": fact.type, "version": fact.version, "aggregate_version": fact.aggregate_version,
        "payload": msgspec.Raw(fact.payload),
    }  # fmt: skip
