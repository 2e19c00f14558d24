"""Writing to the log: one statement inside the transaction that makes the facts true."""

from __future__ import annotations

from collections.abc import Sequence

from doorbuster.engines.event_log.fact import Fact
from doorbuster.engines.event_log.partition import partition_of
from doorbuster.platform import ids
from doorbuster.platform.db import Conn


def insert_facts(parameter: str, where: str = "true") -> str:
    """The SQL that puts the facts of `parameter` (`$1`, made by `as_parameter`) into the outbox, those that satisfy
    `where`. For a part of a larger write, `WITH facts AS (...)`: it saves a round trip while rows are locked.

    Give it a parameter whose rows are locked, or made by the same statement: the sequence numbers that are drawn here
    are what consumers order a key's events by.
    """
    return (
        "INSERT INTO outbox (partition, topic, key, id, type, version, aggregate_version, payload, traceparent)"
        f" SELECT * FROM unnest({parameter}::outbox_fact[]) AS fact WHERE {where}"
    )


_PUBLISH = insert_facts("$1")


def as_parameter(facts: Sequence[Fact]) -> list[tuple[object, ...]]:
    """Facts as `insert_facts` takes them, each with its partition and an id.

    Rows of a type of their own travel in binary: parsing the same from JSON took the server half as long again."""
    return [
        (
            partition_of(fact.key), fact.topic, fact.key, ids.uuid7(), fact.type, fact.version, fact.aggregate_version,
            fact.payload.decode(), fact.traceparent or None,
        )
        for fact in facts
    ]  # fmt: skip


async def publish(conn: Conn, facts: Sequence[Fact]) -> None:
    """Put facts into this domain's outbox, in their order. Call it after the aggregates' rows are locked."""
    if facts:
        await conn.execute(_PUBLISH, as_parameter(facts))
