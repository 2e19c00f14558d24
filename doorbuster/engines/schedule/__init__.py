"""Run-once batches: each tick of a job completes exactly once, by the database's clock, however many processes try."""

from pathlib import Path

from doorbuster.engines.schedule.history import (
    JobLine,
    NotPossible,
    RunLine,
    list_jobs,
    list_runs,
    retry_run,
    run_now,
)
from doorbuster.engines.schedule.job import Daily, Every, Job, Sweep
from doorbuster.engines.schedule.ledger import Fenced
from doorbuster.engines.schedule.run import Run
from doorbuster.engines.schedule.scheduler import Scheduler

SCHEMA_FILES = (Path(__file__).parent / "schedule_0001.sql",)
"""Applied by the migration runner inside every built domain's schema, in this order."""

__all__ = [
    "SCHEMA_FILES", "Daily", "Every", "Fenced", "Job", "JobLine", "NotPossible", "Run", "RunLine", "Scheduler",
    "Sweep", "list_jobs", "list_runs", "retry_run", "run_now",
]  # fmt: skip
