"""The event log: facts in the publisher's commit, effects in the consumer's commit, per-key order, nothing lost."""

from pathlib import Path

from doorbuster.engines.event_log.consume import EventLog, nudge
from doorbuster.engines.event_log.dead_letters import DeadLetter, NoSuchDeadLetter
from doorbuster.engines.event_log.fact import Event, Fact, FactType, Handler, Subscription
from doorbuster.engines.event_log.lag import Lag
from doorbuster.engines.event_log.partition import PARTITIONS, murmur2, partition_of
from doorbuster.engines.event_log.publish import as_parameter, insert_facts, publish
from doorbuster.engines.event_log.replay import Replay, replay

SCHEMA_FILES = tuple(
    Path(__file__).parent / name
    for name in (
        "schema.sql",
        "schema_0002_days.sql",
        "schema_0003_inbox.sql",
        "schema_0004_rewind.sql",
        "schema_0005_holds.sql",
    )
)
"""Applied by the migration runner inside every built domain's schema, in this order."""

READER_GRANTS = (
    ("SELECT", "outbox"),
    ("SELECT", "outbox_home"),
    ("SELECT, UPDATE", "outbox_reader"),
)
"""What the login may do that reads a group's outboxes for whoever listens."""

__all__ = [
    "PARTITIONS", "READER_GRANTS", "SCHEMA_FILES", "DeadLetter", "Event", "EventLog", "Fact", "FactType", "Handler",
    "Lag", "NoSuchDeadLetter", "Replay", "Subscription", "as_parameter", "insert_facts", "murmur2", "nudge",
    "partition_of", "publish", "replay",
]  # fmt: skip
