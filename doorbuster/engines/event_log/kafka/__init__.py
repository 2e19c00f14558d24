"""Facts over Kafka: a connector per publishing database, consumers with an inbox, and a watch that repairs.

await prepare_publisher(admin, publisher)          # role, rights, publication: with the migrations
watch_child(plan, file)                            # the process that keeps the connectors running
log = KafkaEventLog(); await log.start(SUBSCRIPTIONS)      # in each worker, instead of EventLog
"""

from doorbuster.engines.event_log.kafka.connector import Publisher, render
from doorbuster.engines.event_log.kafka.consume import KafkaEventLog, group_of
from doorbuster.engines.event_log.kafka.database import LISTENER, prepare_publisher
from doorbuster.engines.event_log.kafka.dismantle import dismantle
from doorbuster.engines.event_log.kafka.watch import Plan, Watch, watch
from doorbuster.engines.event_log.kafka.watch_child import watch_child

__all__ = [
    "LISTENER", "KafkaEventLog", "Plan", "Publisher", "Watch", "group_of", "dismantle", "prepare_publisher",
    "render", "watch", "watch_child",
]  # fmt: skip
