"""Kafka's files, ports and archives of classes, before anything runs (running ones: event_log/kafka/tests)."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import pytest

from doorbuster.engines.embedded import StartError, kafka_archive, kafka_jars
from doorbuster.engines.embedded.kafka import Ports, connect_child, kafka_child, prepare_kafka
from doorbuster.engines.embedded.kafka_jars import Jars


@pytest.fixture(scope="module")
def jars() -> Jars:
    """What Maven has fetched. Without Java the tests say so and are skipped; in CI that is a failure."""
    try:
        return kafka_jars.ensure_jars()
    except StartError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI runs the Kafka tests: {error.message} {error.hint}")
        pytest.skip(f"{error.message} {error.hint}")


def test_everything_listens_on_the_loopback_only(jars: Jars, tmp_path: Path) -> None:
    place = prepare_kafka(tmp_path / "kafka")
    for name in ("server.properties", "connect.properties"):
        text = (place.folder / name).read_text()
        told = [line for line in text.splitlines() if "listeners=" in line or line.startswith("rest.adv")]
        assert told
        assert all("127.0.0.1" in line for line in told), told
        assert "$" not in text.replace("$Value", "")
    assert jars == place.jars


def test_ports_are_kept_while_they_are_free_and_others_are_taken_when_not(jars: Jars, tmp_path: Path) -> None:
    first = prepare_kafka(tmp_path / "kafka")
    assert prepare_kafka(tmp_path / "kafka").ports == first.ports
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", first.ports.broker))
        taken.listen()
        assert prepare_kafka(tmp_path / "kafka").ports != first.ports
        with pytest.raises(StartError, match=str(first.ports.broker)):
            prepare_kafka(tmp_path / "kafka", Ports(first.ports.broker, 0, 0))
    assert jars.lib.is_dir()


def test_what_the_shell_says_does_not_reach_java(jars: Jars, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Xmx16g")
    monkeypatch.setenv("KAFKA_OPTS", "-Dsomebody=else")
    place = prepare_kafka(tmp_path / "kafka")
    for child in (kafka_child(place), connect_child(place)):
        assert child.env is not None
        assert set(child.env) == {"PATH", "LC_ALL", "TZ"}
        assert "-Xmx512m" in child.argv
        assert f"{jars.lib}/*" in child.argv


def test_half_an_archive_of_classes_is_not_taken_over(jars: Jars, tmp_path: Path) -> None:
    (tmp_path / "jars").mkdir()
    (tmp_path / "jars" / "lib").symlink_to(jars.lib)
    other = Jars(tmp_path / "jars" / "lib", jars.plugins)
    written = tmp_path / f"{kafka_archive.STORAGE_TOOL}.jsa"
    written.write_bytes(b"not an archive" * 1_000)
    kafka_archive.adopt(other, tmp_path)
    assert not written.exists()
    assert not list((tmp_path / "jars").glob("*.jsa"))
    assert not kafka_archive.are_complete(other)


def test_without_java_or_maven_it_is_said_in_one_line(
    jars: Jars, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = shutil.which("java")
    assert program is not None
    (tmp_path / "java").symlink_to(Path(program).resolve())
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    kafka_jars.java.cache_clear()
    with pytest.raises(StartError, match="Maven"):
        kafka_jars.ensure_jars(tmp_path / "fresh")
    (tmp_path / "java").unlink()
    kafka_jars.java.cache_clear()
    with pytest.raises(StartError, match="Java"):
        kafka_jars.ensure_jars(tmp_path / "fresh")
    kafka_jars.java.cache_clear()
    assert jars.lib.is_dir()
