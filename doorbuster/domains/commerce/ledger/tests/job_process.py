"""A scheduler with the daily reconciliation as a process of its own, for tests that kill it.

`python -m doorbuster.domains.commerce.ledger.tests.job_process SETTINGS JOB`.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import sys

from doorbuster.domains.commerce import ledger
from doorbuster.engines.schedule import Daily, Job, Scheduler
from doorbuster.platform import settings, telemetry


def job_of(name: str) -> Job:
    """The shop's job under another name, with a lease that tests need not wait for."""
    return Job(name, "commerce.ledger", Daily(dt.time(4, 30)), ledger.run_daily, lease_s=1.0, backoff_s=0.1)


async def serve(name: str) -> None:
    """Until it is killed."""
    await Scheduler([job_of(name)]).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    settings.load(sys.argv[1])
    telemetry.configure("critical")
    asyncio.run(serve(sys.argv[2]))
