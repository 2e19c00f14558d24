"""deploy/compose.yaml says the same as the parts that are tested: versions, settings, and no port open to others."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from doorbuster.engines.embedded.postgres import CAPTURED

DEPLOY = Path(__file__).parents[2] / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
_PINNED = re.compile(r"[a-z/]+:\d[\w.-]*")


def _versions() -> dict[str, str]:
    properties = ET.parse(DEPLOY / "kafka" / "pom.xml").getroot().find("{http://maven.apache.org/POM/4.0.0}properties")
    assert properties is not None
    return {child.tag.split("}")[1]: child.text or "" for child in properties}


def _properties(text: str) -> dict[str, str]:
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def _of(properties: dict[str, str], names: set[str]) -> set[tuple[str, str]]:
    return {(name, value) for name, value in properties.items() if name in names}


def test_the_file_says_that_ci_does_not_run_it() -> None:
    assert "NOT RUN IN CI" in (DEPLOY / "compose.yaml").read_text()


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_pinned_checked_and_reached_from_this_machine_only(name: str) -> None:
    service = SERVICES[name]
    images = [service["image"]] if "image" in service else re.findall(
        r"^FROM (\S+)", service["build"]["dockerfile_inline"], re.MULTILINE
    )  # fmt: skip
    assert images
    assert all(_PINNED.fullmatch(image) for image in images), images
    assert service["healthcheck"]["test"]
    assert service["restart"] == "unless-stopped"
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_kafka_is_the_version_that_the_pom_fetches() -> None:
    version = _versions()["kafka.version"]
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{version}"
    assert f"FROM apache/kafka:{version}\n" in SERVICES["connect"]["build"]["dockerfile_inline"]


def test_the_worker_is_told_what_the_tested_one_is_told() -> None:
    tested = _properties((DEPLOY / "kafka" / "connect.properties").read_text())
    told = _properties(COMPOSE["configs"]["connect"]["content"])
    elsewhere = {"bootstrap.servers", "listeners", "rest.advertised.host.name", "plugin.path"}
    elsewhere |= {"config.providers.file.param.allowed.paths"}
    assert {key: told[key] for key in told.keys() - elsewhere} == {
        key: tested[key] for key in tested.keys() - elsewhere
    }


def test_postgresql_is_told_what_the_tested_one_is_told() -> None:
    told = dict(word.split("=", 1) for word in SERVICES["postgres"]["command"] if "=" in word)
    assert told == dict(CAPTURED)


def test_what_services_refer_to_is_there() -> None:
    for service in SERVICES.values():
        assert service.get("depends_on", {}).keys() <= SERVICES.keys()
        for kind in ("configs", "secrets"):
            assert {each["source"] for each in service.get(kind, [])} <= COMPOSE.get(kind, {}).keys()
        named = {volume.split(":")[0] for volume in service.get("volumes", []) if not volume.startswith((".", "/"))}
        assert named <= COMPOSE["volumes"].keys()
