"""The event log: facts in the publisher's commit, effects in the consumer's commit, per-key order, nothing lost."""

from pathlib import Path

from doorbuster.engines.event_log.consume import EventLog, nudge
from doorbuster.engines.event_log.dead_letters import DeadLetter, list_dead_letters, requeue
from doorbuster.engines.event_log.fact import Event, Fact, Handler, Subscription
from doorbuster.engines.event_log.partition import PARTITIONS, murmur2, partition_of
from doorbuster.engines.event_log.publish import as_parameter, insert_facts, publish

SCHEMA_FILE = Path(__file__).parent / "schema.sql"
"""Applied by the migration runner inside every built domain's schema."""

__all__ = [
    "PARTITIONS", "SCHEMA_FILE", "DeadLetter", "Event", "EventLog", "Fact", "Handler", "Subscription",
    "as_parameter", "insert_facts", "list_dead_letters", "murmur2", "nudge", "partition_of", "publish", "requeue",
]  # fmt: skip
