"""The event log's figures on both transports, as rows, as JSON and as BENCHMARKS-events.md."""

from __future__ import annotations

from pathlib import Path

import msgspec

from doorbuster.drills.bench import events, kafka_events
from doorbuster.drills.bench.events import EventFigures, Tell
from doorbuster.drills.bench.kafka_events import KafkaFigures
from doorbuster.drills.timedeal.findings import Mark
from doorbuster.engines.embedded import StartError

KAFKA_P50_MS, KAFKA_P99_MS = 80.0, 250.0
KAFKA_DRAIN_PER_S = 8_000.0
KAFKA_BACK_S = 20.0


class Figures(msgspec.Struct, frozen=True):
    """Both transports; `kafka` is None where there is no Java or Maven, and `why_not` says so."""

    machine: str
    at: str
    postgres: EventFigures
    kafka: KafkaFigures | None
    why_not: str = ""


async def measure(machine: str, at: str, tell: Tell, off_s: float = 60.0) -> Figures:
    """About eight minutes on two cores; `off_s` is how long a consumer is off."""
    found = await events.measure(off_s=off_s, tell=tell)
    tell("Kafka and Debezium")
    try:
        return Figures(machine, at, found, await kafka_events.measure())
    except StartError as error:
        return Figures(machine, at, found, None, error.message)


def marks(found: Figures) -> tuple[Mark, ...]:
    """What must hold."""
    kafka = found.kafka
    if kafka is None:
        return events.marks(found.postgres)
    return (
        *events.marks(found.postgres),
        Mark(
            "kafka_delivered_in_time",
            kafka.delay_p50_ms <= KAFKA_P50_MS and kafka.delay_p99_ms <= KAFKA_P99_MS,
            f"p50 {kafka.delay_p50_ms:.0f} ms, p99 {kafka.delay_p99_ms:.0f} ms at {kafka.rate_per_s}/s",
        ),
        Mark(
            "kafka_drained_fast", kafka.drained_per_s >= KAFKA_DRAIN_PER_S,
            f"{kafka.drained_per_s:,.0f}/s from the outbox to handlers that write a row for each",
        ),
        Mark(
            "kafka_comes_back", kafka.back_after_kill_s <= KAFKA_BACK_S,
            f"{kafka.back_after_kill_s:.1f} s from kill -9 of Connect to the next fact handled",
        ),
    )  # fmt: skip


def write_markdown(found: Figures, path: Path) -> None:
    """The file, whole or not at all."""
    lines = [
        "# Benchmarks of the event log",
        "",
        f"Measured by `make bench` on {found.at}: {found.machine}, everything on the same cores, fsync on.",
        "",
        "| what | figure | holds |",
        "|---|---|---|",
        *(f"| {_words(mark.name)} | {mark.detail} | {'✓' if mark.passed else '✗'} |" for mark in marks(found)),
        "",
        *([f"Kafka was not measured: {found.why_not}", ""] if found.kafka is None else []),
        "Delivery is from the commit to the call of the handler, at 1,000 facts a second (over Kafka 500). A worker"
        " drains a backlog of facts of one domain. What a fact costs is one UPDATE by 32 clients with and without its"
        " row in the outbox, in pairs of neighbouring rounds. The long transaction writes in another database of the"
        " same server.",
        "",
    ]
    part = path.with_suffix(".part")
    part.write_text("\n".join(lines))
    part.replace(path)


def _words(name: str) -> str:
    return name.replace("_", " ")
