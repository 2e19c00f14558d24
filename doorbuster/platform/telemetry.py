"""Logs as JSON lines on stderr, metrics for Prometheus, and the lag of the event loop. Secrets never reach a log."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import MutableMapping
from typing import Any

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Gauge, generate_latest

_SECRET_WORDS = ("password", "token", "secret", "authorization", "instrument", "cookie")
_LAG = Gauge("doorbuster_event_loop_lag_seconds", "How late the event loop woke up at its last look")
METRICS_TYPE = CONTENT_TYPE_LATEST
_PROBE_EVERY_S = 0.5


def _hide_secrets(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key in event:
        if any(word in key.lower() for word in _SECRET_WORDS):
            event[key] = "***"
    return event


def configure(level: str) -> None:
    """Set up logging for this process; call once at its start."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _hide_secrets,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def metrics() -> bytes:
    """This process's metrics in Prometheus' text format."""
    return generate_latest(REGISTRY)


class LoopProbe:
    """Guards one number: how late the event loop wakes up. A worker that is saturated says so on /readyz."""

    def __init__(self) -> None:
        self.lag_s = 0.0

    async def run(self) -> None:
        """Measure for ever; cancel to stop."""
        while True:
            due = time.monotonic() + _PROBE_EVERY_S
            await asyncio.sleep(_PROBE_EVERY_S)
            self.lag_s = max(0.0, time.monotonic() - due)
            _LAG.set(self.lag_s)
