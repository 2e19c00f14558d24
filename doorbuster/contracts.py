"""The contract of events: every kind of fact with its payload, who tells and who hears it, as AsyncAPI 3.

What is promised to those who listen is recorded in tests/contracts/events; adding a field is allowed, removing or
retyping one needs a new version beside the old.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from doorbuster import __version__, map
from doorbuster.domains.commerce import order, payment
from doorbuster.domains.item import catalog, price, stock
from doorbuster.engines.event_log import FactType

FACT_TYPES: tuple[FactType, ...] = (*catalog.FACTS, *price.FACTS, *stock.FACTS, *payment.FACTS, *order.FACTS)
_SCHEMA_DRAFT = "https://json-schema.org/draft/2020-12/schema"


def hearers(kind: FactType) -> tuple[str, ...]:
    """The domains that subscribe to a kind of fact."""
    return tuple(domain.id for domain in map.BUILT if f"{kind.topic}.{kind.name}" in domain.hears)


def schema_of(kind: FactType) -> dict[str, Any]:
    """The JSON Schema of a fact's payload, references resolved inside it."""
    (top,), components = msgspec.json.schema_components([kind.content], ref_template="#/$defs/{name}")
    name = top["$ref"].rsplit("/", 1)[1]
    own: dict[str, Any] = components.pop(name)
    return {"$schema": _SCHEMA_DRAFT, "title": kind.name} | own | ({"$defs": components} if components else {})


def asyncapi() -> dict[str, Any]:
    """The whole contract as an AsyncAPI 3.0 document."""
    contents = [kind.content for kind in FACT_TYPES]
    references, schemas = msgspec.json.schema_components(contents, ref_template="#/components/schemas/{name}")
    payloads = dict(zip(FACT_TYPES, references, strict=True))
    publishers = [domain for domain in map.BUILT if domain.publishes]
    operations: dict[str, Any] = {}
    for domain in publishers:
        operations[f"{domain.id}.tells"] = {
            "action": "send",
            "channel": {"$ref": f"#/channels/{domain.id}"},
            "summary": f"{domain.id} tells what became true, in the commit that made it true",
        }
    for kind in FACT_TYPES:
        for hearer in hearers(kind):
            operations[f"{hearer}.hears.{kind.name}"] = {
                "action": "receive",
                "channel": {"$ref": f"#/channels/{kind.topic}"},
                "summary": f"{hearer} hears {kind.name} of {kind.topic}",
                "messages": [{"$ref": f"#/channels/{kind.topic}/messages/{kind.name}"}],
            }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Doorbuster's facts",
            "version": __version__,
            "description": (
                "What the services tell each other: at least once, in order for each key. CloudEvents 1.0: on Kafka in"
                " binary mode, as headers; on PostgreSQL as columns of each schema's outbox."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {domain.id: _channel(domain, payloads) for domain in publishers},
        "operations": operations,
        "components": {
            "messageTraits": {"cloudEvent": {"headers": _HEADERS}},
            "schemas": schemas,
        },
    }


def _channel(domain: map.Domain, payloads: Mapping[FactType, Any]) -> dict[str, Any]:
    return {
        "address": domain.id,
        "title": domain.purpose,
        "messages": {kind.name: _message(kind, payloads[kind]) for kind in FACT_TYPES if kind.topic == domain.id},
        "bindings": {"kafka": {"topic": domain.id, "bindingVersion": "0.5.0"}},
    }


def _message(kind: FactType, payload: Any) -> dict[str, Any]:
    return {
        "name": kind.name,
        "title": f"{kind.name}, version {kind.version}",
        "summary": " ".join((kind.content.__doc__ or "").split()),
        "contentType": "application/json",
        "traits": [{"$ref": "#/components/messageTraits/cloudEvent"}],
        "payload": payload,
    }


_HEADERS: dict[str, Any] = {
    "type": "object",
    "required": ["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "ce_dataversion", "ce_sequence"],
    "properties": {
        "ce_specversion": {"const": "1.0"},
        "ce_id": {"type": "string", "format": "uuid", "description": "Unique; the same when delivered again"},
        "ce_source": {"type": "string", "description": "The domain that tells, as group.domain"},
        "ce_type": {"type": "string"},
        "ce_time": {"type": "string", "format": "date-time"},
        "ce_dataversion": {"type": "string", "description": "The version of the payload's shape"},
        "ce_sequence": {"type": "string", "description": "Rises along each key"},
        "ce_aggregateversion": {"type": "string", "description": "The version of the thing the fact is about"},
        "traceparent": {"type": "string", "description": "W3C trace context of the request that made it true"},
        "content-type": {"const": "application/json"},
    },
}
