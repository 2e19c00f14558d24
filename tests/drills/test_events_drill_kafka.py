"""Claims of the history checker over Kafka: it holds when Connect and consumers die, and finds a missing inbox."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest
import typer
from typer.testing import CliRunner

from doorbuster.drills.events import kafka_transport, kills, plants
from doorbuster.drills.events.findings import Report, Wanted, kills_in, pauses_in
from doorbuster.drills.events.kafka_transport import KafkaCarrier
from doorbuster.drills.events.refusal import CannotCarry
from doorbuster.drills.events.run import run
from doorbuster.engines.embedded import kafka_jars
from doorbuster.surfaces.cli import drills


@pytest.fixture
def kafka_runs_here() -> None:
    """Without Java the tests say so and are skipped; in CI that is a failure."""
    try:
        kafka_transport.check()
    except CannotCarry as refusal:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI runs the drill over Kafka: {refusal}")
        pytest.skip(str(refusal))


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """After the drill there is no process of it, no Java and no folder."""
    before = set(Path(tempfile.gettempdir()).glob("doorbuster-events-*"))
    yield
    left = [" ".join(one.cmdline()) for one in psutil.Process().children(recursive=True)]
    words = ("drills.events", "event_log.kafka", "org.apache.kafka", "kafka.Kafka")
    assert not [argv for argv in left if any(word in argv for word in words)]
    assert not set(Path(tempfile.gettempdir()).glob("doorbuster-events-*")) - before


def invoke(*arguments: str) -> tuple[int, str, str]:
    app = typer.Typer()
    drills.register(app)
    done = CliRunner().invoke(app, ["events", "--transport", "kafka", *arguments])
    return done.exit_code, done.stdout, done.stderr


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("kafka_runs_here", "nothing_left")
def test_five_thousand_events_and_three_kills_lose_and_double_nothing_over_kafka() -> None:
    code, stdout, stderr = invoke("--events", "5000", "--kills", "3", "--seed", "2", "--json")
    assert code == 0, stdout + stderr
    report = msgspec.json.decode(stdout, type=Report)
    assert all(mark.passed for mark in report.marks)
    assert (report.transport, report.events >= 5_000) == ("kafka", True)
    assert (report.lost, report.duplicated, report.inversions, report.cursor_regressions) == (0, 0, 0, 0)
    assert (kills_in(report.kills), pauses_in(report.kills)) == (3, 1)
    assert report.kills["transport_connect"] == 1
    assert {one.consumer for one in report.consumers} == {"drill.near", "drill.far"}
    assert all(one.expected > 1_000 and one.effects == one.expected for one in report.consumers)


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("kafka_runs_here", "nothing_left")
async def test_without_the_inbox_what_kafka_brings_again_is_found_as_duplicates() -> None:
    report = await run(Wanted(events=3_000, kills=0, seed=5, transport="kafka", plant=plants.NO_INBOX))
    assert report.duplicated > 0
    assert "nothing_twice" in {mark.name for mark in report.marks if not mark.passed}
    assert report.lost == 0


@pytest.mark.parametrize("plant", [plants.SEQ_CURSOR, plants.XMIN_CURSOR])
def test_a_plant_of_the_other_transport_is_refused_in_one_line(plant: str) -> None:
    code, _, stderr = invoke("--plant", plant)
    assert code == 2
    assert f"{plant} breaks nothing over kafka; these do: no-inbox, no-epoch." in stderr
    assert len(stderr.strip().splitlines()) == 1


def test_without_java_the_drill_says_so_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    kafka_jars.java.cache_clear()
    try:
        code, _, stderr = invoke()
    finally:
        kafka_jars.java.cache_clear()
    assert code == 2
    assert "Kafka needs Java, and there is none. Install a Java runtime" in stderr
    assert len(stderr.strip().splitlines()) == 1


def test_over_kafka_twenty_seeds_kill_connect_the_broker_and_the_watch() -> None:
    parts = KafkaCarrier.kinds
    planned = [blow for seed in range(20) for blow in kills.plan(Wanted(kills=8, seed=seed), parts)]
    count = {part: sum(blow.whom == kills.TRANSPORT and blow.where == part for blow in planned) for part in set(parts)}
    assert sum(count.values()) == 40
    assert count["connect"] > count["broker"] > 0
    assert count["connect"] > count["watch"] > 0
    assert not [blow for seed in range(20) for blow in kills.plan(Wanted(seed=seed)) if blow.whom == kills.TRANSPORT]
