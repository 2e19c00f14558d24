"""The watch as a supervised child."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import msgspec

from doorbuster.engines.embedded.child import Child
from doorbuster.engines.event_log.kafka.watch import Plan


def watch_child(plan: Plan, file: Path) -> Child:
    """The watch, named `kafka-watch`, with its plan kept in `file` (0600); ready when every connector has run.

    At the first start that is after whatever stood in the outboxes has been replayed into the topics.
    """
    ready_file = file.with_suffix(".ready")
    told = msgspec.structs.replace(plan, ready_file=str(ready_file))

    async def write() -> None:
        ready_file.unlink(missing_ok=True)
        part = file.with_suffix(".part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(msgspec.json.encode(told))
        part.replace(file)

    async def ready() -> bool:
        return ready_file.exists()

    return Child(
        name="kafka-watch",
        argv=[sys.executable, "-m", "doorbuster.engines.event_log.kafka", str(file)],
        ready=ready,
        address=plan.connect_url,
        ready_within_s=300.0,
        before_start=write,
    )
