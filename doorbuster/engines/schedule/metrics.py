"""What is measured of jobs and sweeps, for Prometheus."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

RUNS = Counter("doorbuster_job_runs_total", "Attempts by how they ended", ["job", "outcome"])
SECONDS = Histogram(
    "doorbuster_job_seconds", "How long attempts took", ["job"],
    buckets=(0.005, 0.02, 0.1, 0.5, 2, 10, 60, 300, 1_800, float("inf")),
)  # fmt: skip
SINCE = Gauge("doorbuster_job_since_success_seconds", "Since the last success, as last seen by this process", ["job"])
