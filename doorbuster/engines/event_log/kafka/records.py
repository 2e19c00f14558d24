"""A fact as a Kafka record: CloudEvents 1.0 in binary mode, read as the connector writes it and written the same."""

from __future__ import annotations

import datetime as dt
from typing import cast
from uuid import UUID

from confluent_kafka import Message

from doorbuster.engines.event_log.fact import Event

Headers = list[tuple[str, bytes]]


class Unreadable(Exception):
    """A record that is no fact of ours: an attribute is missing or is not what it should be."""


def type_of(message: Message) -> str:
    """The kind of fact, found without reading the rest; "" when the record has none."""
    for name, value in _headers(message):
        if name == "ce_type" and value is not None:
            return _text(value)
    return ""


def event_of(message: Message) -> Event:
    """The fact in a record; `Unreadable` when there is none."""
    headers = dict(_headers(message))
    partition, key, payload = message.partition() or 0, message.key(), message.value()
    try:
        return Event(
            seq=int(_text(headers["ce_sequence"])),
            partition=partition,
            key=_text(key),
            id=UUID(_text(headers["ce_id"])),
            type=_text(headers["ce_type"]),
            version=int(_text(headers["ce_dataversion"])),
            aggregate_version=int(_text(headers["ce_aggregateversion"])),
            occurred_at=dt.datetime.fromisoformat(_text(headers["ce_time"])),
            payload=payload.encode() if isinstance(payload, str) else bytes(payload or b""),
            traceparent=_text(headers.get("traceparent") or ""),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise Unreadable(f"{message.topic()}[{partition}]@{message.offset()}: {error!r}") from error


def headers_of(event: Event, source: str) -> Headers:
    """The attributes of a domain's fact as the connector writes them (here, one without a trace has no traceparent)."""
    text = {
        "ce_id": str(event.id),
        "ce_source": source,
        "ce_type": event.type,
        "ce_time": event.occurred_at.astimezone(dt.UTC).isoformat().replace("+00:00", "Z"),
        "ce_dataversion": str(event.version),
        "ce_sequence": str(event.seq),
        "ce_aggregateversion": str(event.aggregate_version),
        "ce_specversion": "1.0",
        "content-type": "application/json",
    }
    if event.traceparent:
        text["traceparent"] = event.traceparent
    return [(name, value.encode()) for name, value in text.items()]


def _headers(message: Message) -> list[tuple[str, bytes | None]]:
    return cast("list[tuple[str, bytes | None]]", message.headers() or [])


def _text(value: str | bytes | None) -> str:
    if value is None:
        raise ValueError("an attribute is empty")
    return value if isinstance(value, str) else value.decode()
