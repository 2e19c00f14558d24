"""The recorded shapes of facts still hold: whoever listens today understands what is told tomorrow.

After adding a fact or a field: `RECORD=1 make test ARGS=tests/contracts`, look at the difference, commit it.
"""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest

from doorbuster import contracts, map
from doorbuster.engines.event_log import FactType
from tests.contracts.compare import breaks

RECORDED = Path(__file__).parent / "events"


def _file(kind: FactType) -> Path:
    return RECORDED / f"{kind.topic}.{kind.name}.v{kind.version}.json"


@pytest.mark.parametrize("kind", contracts.FACT_TYPES, ids=lambda kind: kind.name)
def test_a_fact_still_keeps_what_was_promised(kind: FactType) -> None:
    text = json.dumps(contracts.schema_of(kind), indent=1, sort_keys=True) + "\n"
    file = _file(kind)
    if os.environ.get("RECORD") and not (file.exists() and breaks(json.loads(file.read_text()), json.loads(text))):
        file.write_text(text)
    assert file.exists(), f"{file.name} is not recorded: see the first lines of this file"
    assert breaks(json.loads(file.read_text()), json.loads(text)) == [], "keep the field, or raise the version"
    assert file.read_text() == text, "the shape has grown: record it (see the first lines of this file)"


def test_nothing_recorded_has_gone_without_a_higher_version() -> None:
    newest = {(kind.topic, kind.name): kind.version for kind in contracts.FACT_TYPES}
    for file in RECORDED.glob("*.json"):
        group, domain, name, version = file.stem.split(".")
        assert newest.get((f"{group}.{domain}", name), 0) >= int(version[1:]), f"{file.stem} is not told any more"


def test_every_fact_of_the_map_has_a_contract() -> None:
    declared = {f"{kind.topic}.{kind.name}" for kind in contracts.FACT_TYPES}
    assert declared == {f"{domain.id}.{fact}" for domain in map.BUILT for fact in domain.publishes}


_SHAPE: dict[str, Any] = {
    "type": "object",
    "required": ["id", "lines"],
    "properties": {
        "id": {"type": "string", "format": "uuid"},
        "note": {"type": "string"},
        "deal": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/Line"}},
    },
    "$defs": {"Line": {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}},
}


def _changed(*path: str, to: Any) -> dict[str, Any]:
    shape = copy.deepcopy(_SHAPE)
    place = shape
    for part in path[:-1]:
        place = place[part]
    if to is None:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return shape


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (_changed("properties", "note", to=None), "payload.note has gone"),
        (_changed("required", to=["lines"]), "payload.id may be missing now"),
        (_changed("properties", "id", to={"type": "integer"}), "type was 'string'"),
        (_changed("properties", "id", to={"type": "string"}), "format was 'uuid'"),
        (_changed("properties", "deal", to={"type": "string"}), "other kinds"),
        (_changed("$defs", "Line", "properties", "n", to={"type": "number"}), "payload.lines[].n"),
        (_changed("$defs", "Line", "properties", to={}), "payload.lines[].n has gone"),
        (_changed("properties", "lines", "items", to={"type": "string"}), "payload.lines[]"),
    ],
)
def test_a_planted_breach_of_a_contract_is_found(now: dict[str, Any], why: str) -> None:
    assert [line for line in breaks(_SHAPE, now) if why in line]


@pytest.mark.parametrize(
    "now",
    [
        _SHAPE,
        _changed("properties", "more", to={"type": "integer"}),
        _changed("required", to=["id", "lines", "note"]),
        _changed("properties", "id", "description", to="words"),
        _changed("$defs", "Line", "properties", "m", to={"type": "integer"}),
    ],
)
def test_growing_is_no_breach(now: dict[str, Any]) -> None:
    assert breaks(_SHAPE, now) == []


def test_a_payload_validates_against_its_own_contract() -> None:
    kind = next(kind for kind in contracts.FACT_TYPES if kind.name == "AllotmentChanged")
    level: dict[str, object] = {"quantity": 5, "remaining": 3, "reserved": 1, "sold": 1}
    level |= {"deal_id": "6f0d4c1e-6d0b-4a53-9f0e-d00b57e40000", "option_id": "6f0d4c1e-6d0b-4a53-9f0e-d00b57e40001"}
    told = msgspec.convert({"deal_id": level["deal_id"], "closed": False, "options": [level]}, kind.content)
    wire = json.loads(kind.of("k", 1, told).payload)
    assert jsonschema_rs.is_valid(contracts.schema_of(kind), wire)
    assert not jsonschema_rs.is_valid(contracts.schema_of(kind), wire | {"closed": "no"})


def test_the_document_names_every_channel_message_and_hearer() -> None:
    document = contracts.asyncapi()
    told = {(topic, name) for topic, channel in document["channels"].items() for name in channel["messages"]}
    assert told == {(kind.topic, kind.name) for kind in contracts.FACT_TYPES}
    heard = {name for name in document["operations"] if ".hears." in name}
    assert heard == {f"{d.id}.hears.{fact.rsplit('.', 1)[1]}" for d in map.BUILT for fact in d.hears}
    references = _references(document)
    assert references
    for reference in references:
        place: Any = document
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if "$ref" in value else []
        return own + [found for inner in value.values() for found in _references(inner)]
    return [found for inner in value for found in _references(inner)] if isinstance(value, list) else []
