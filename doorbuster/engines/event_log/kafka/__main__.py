"""The watch as a program: `python -m doorbuster.engines.event_log.kafka PLAN.json`, until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
from pathlib import Path

import msgspec

from doorbuster.engines.event_log.kafka.watch import Plan, watch
from doorbuster.platform import telemetry


async def _until_told(plan: Plan) -> None:
    watching = asyncio.create_task(watch(plan))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, watching.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await watching


def main() -> None:
    """One watch process."""
    parser = argparse.ArgumentParser(description="Keeps the connectors of a shop on Kafka running.")
    parser.add_argument("plan", type=Path)
    plan = msgspec.json.decode(parser.parse_args().plan.read_bytes(), type=Plan)
    telemetry.configure(plan.log_level)
    asyncio.run(_until_told(plan))


if __name__ == "__main__":
    main()
