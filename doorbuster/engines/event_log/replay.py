"""Hearing again: a consumer's cursors moved back, to a time or the beginning, never skipping what was not heard."""

from __future__ import annotations

from datetime import datetime

import msgspec

from doorbuster.engines.event_log import cursors, dead_letters, retention
from doorbuster.engines.event_log.cursors import BEGINNING, Position
from doorbuster.engines.event_log.kafka import inbox
from doorbuster.engines.event_log.lag import outbox_of
from doorbuster.platform import db, settings
from doorbuster.platform.db import Conn


class Replay(msgspec.Struct, frozen=True):
    """What will be heard again: the first number, and how many facts of any type there are from there on.

    Over Kafka the first number is not known, and only facts count that were handled before.
    """

    from_seq: int | None
    facts: int


async def replay(consumer: str, source: str, since: datetime | None, *, actor: str, note: str = "") -> Replay:
    """Have a consumer hear a source's facts again: those from a time on, or all that the log still has (None).

    Whoever holds the cursors is fenced: what it has under way is rolled back. Handlers are idempotent, so the effects
    of what was heard already stay as they are. What was not handled yet is never skipped, however old.
    Over Kafka, facts up to a minute older may be heard again too, and "all" is what the topic still has.
    """
    since_text = f"from {since.isoformat() if since else 'the beginning'}. {note}".strip()
    if settings.current().events == "kafka":
        async with db.of(consumer).transaction() as conn:
            await inbox.join(conn, source)
            facts = await inbox.lock_and_go_back(conn, source, since)
            await dead_letters.audit(conn, actor, "replay", source, None, None, since_text)
        return Replay(None, facts)
    async with db.of(consumer).transaction() as conn:
        await cursors.join(conn, source)
        now, _ = await cursors.read_positions(conn, source)
    async with db.log_of(source).connection() as reader:
        target, snapshot = await _target(reader, source, since, now)
        facts = await reader.fetchval(f"SELECT count(*) FROM {outbox_of(source)} WHERE seq > $1", target)
        place = Position(BEGINNING, snapshot, target) if target else Position(BEGINNING)
        places = dict.fromkeys(now, place)
        # First, so that the publisher keeps the days that are needed again.
        await retention.report(reader, source.split(".")[1], consumer, places)
    async with db.of(consumer).transaction() as conn:
        await cursors.lock_and_move(conn, source, places)
        await dead_letters.audit(conn, actor, "replay", source, None, target + 1, since_text)
    return Replay(target + 1, int(facts))


async def _target(reader: Conn, source: str, since: datetime | None, now: dict[int, Position]) -> tuple[int, str]:
    """(the last number not to be heard again, a snapshot that sees what is there). 0: everything is heard."""
    outbox = outbox_of(source)
    row = await reader.fetchrow(
        "SELECT pg_current_snapshot()::text, least("
        f" (SELECT min(seq) FROM {outbox} WHERE occurred_at >= $1),"
        " (SELECT min(o.seq) FROM unnest($2::int[], $3::text[], $4::text[], $5::bigint[])"
        f" AS p(partition, old, upto, last_seq) JOIN {outbox} o ON o.partition = p.partition"
        " WHERE NOT pg_visible_in_snapshot(o.txid, p.old::pg_snapshot)"
        " AND NOT coalesce(pg_visible_in_snapshot(o.txid, p.upto::pg_snapshot) AND o.seq <= p.last_seq, false)),"
        f" (SELECT max(seq) + 1 FROM {outbox}))",
        since,
        list(now),
        [position.old for position in now.values()],
        [position.upto for position in now.values()],
        [position.last_seq for position in now.values()],
    )
    assert row is not None
    if since is None or row[1] is None:
        return 0, row[0]
    return int(row[1]) - 1, row[0]
