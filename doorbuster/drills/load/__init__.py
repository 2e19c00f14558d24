"""A lean HTTPS load generator: a plan of requests in, every outcome and honest latencies out."""

from doorbuster.drills.load.dialer import LoadFailed
from doorbuster.drills.load.generator import run
from doorbuster.drills.load.plan import BadPlan, Plan, Request, RetrySameKey, Route, read_plan, write_plan
from doorbuster.drills.load.process import RunningLoad, run_process
from doorbuster.drills.load.result import (
    CONNECTION_ERROR,
    NOT_SENT,
    SHED,
    TIMEOUT,
    Latency,
    Progress,
    Result,
    Tally,
    TryRow,
    in_flight_at,
    read_result,
)

__all__ = [
    "CONNECTION_ERROR",
    "NOT_SENT",
    "SHED",
    "TIMEOUT",
    "BadPlan",
    "Latency",
    "LoadFailed",
    "Plan",
    "Progress",
    "Request",
    "Result",
    "RetrySameKey",
    "Route",
    "RunningLoad",
    "Tally",
    "TryRow",
    "in_flight_at",
    "read_plan",
    "read_result",
    "run",
    "run_process",
    "write_plan",
]
