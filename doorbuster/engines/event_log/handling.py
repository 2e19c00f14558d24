"""What a consumer does with events inside its transaction, whatever transport brought them: handle, set aside, retry.

A transport locks what fences it, moves its cursor or notes its inbox, and calls one of these in the same transaction.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection, Sequence

import asyncpg
import structlog

from doorbuster.engines.event_log import dead_letters
from doorbuster.engines.event_log.fact import Event, Subscription
from doorbuster.platform import tracing
from doorbuster.platform.db import Conn
from doorbuster.platform.errors import Unavailable

_LOG = structlog.get_logger("event_log")
_ERROR_LENGTH = 2_000

# What the connection of a handler says when it is the connection that failed, and not the handler.
_CONNECTION_GONE = (asyncpg.OperatorInterventionError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError)


class Refused(Exception):
    """A handler raised; the events it was given have no effect."""


NOT_KEPT = (Refused, AssertionError)
"""What a transaction with `together` raises when its events must be handled one by one: a refusal, or the assertion of
COMMIT, because the handler has swallowed an error of PostgreSQL and nothing was kept."""


def page_span(sub: Subscription, events: Sequence[Event]) -> tracing.Span:
    """The span of handling these events together: a part of the trace that made the first of them true, linked with
    the traces of the others."""
    if not tracing.is_on():
        return tracing.NOTHING
    attributes: dict[str, tracing.Value] = {
        "door.consumer": sub.consumer, "door.source": sub.source, "door.types": sorted({one.type for one in events}),
        "messaging.system": "doorbuster", "messaging.operation.type": "process", "messaging.operation.name": "handle",
        "messaging.destination.name": sub.source, "messaging.consumer.group.name": sub.consumer,
        "messaging.batch.message_count": len(events),
    }  # fmt: skip
    name = f"handle {sub.source} in {sub.consumer}"
    return tracing.joined(name, tracing.CONSUMER, [event.traceparent for event in events], attributes)


class Handling:
    """Guards when one subscription's keys that were set aside are to be tried again."""

    def __init__(self, subscription: Subscription) -> None:
        self._sub = subscription
        self._source = subscription.source
        self.retry_at = math.inf
        """Time of the event loop at which `retry` has something to do."""

    async def together(self, conn: Conn, events: Sequence[Event]) -> int:
        """The usual way: one call of the handler for all; returns how many were set aside behind their key."""
        ready, behind = await self._split(conn, events)
        if behind:
            await dead_letters.park(conn, self._source, behind, dead_letters.WAITS)
        if ready:
            await self._call(conn, ready)
        return len(behind)

    async def one_by_one(self, conn: Conn, events: Sequence[Event]) -> int:
        """After a refusal: each event under a savepoint of its own, to find those whose key has to be set aside."""
        parked = 0
        _, behind = await self._split(conn, events)
        keys = {event.key for event in behind}
        for event in events:
            error = dead_letters.WAITS if event.key in keys else await self._try(conn, event)
            if error is None:
                continue
            parked += 1
            await dead_letters.park(conn, self._source, [event], error)
            if event.key not in keys:
                keys.add(event.key)
                await self._count_failure(conn, event, 1, error)
        return parked

    async def retry(self, conn: Conn, key: str) -> None:
        """Try the waiting events of one key in order, and leave the key at its first refusal."""
        for event, tries in await dead_letters.waiting(conn, self._source, key):
            with page_span(self._sub, [event]):
                error = await self._try(conn, event)
            if error is not None:
                await self._count_failure(conn, event, tries + 1, error)
                return
            await dead_letters.handled(conn, self._source, event)
        await dead_letters.resume(conn, self._source, key)

    async def look_ahead(self, conn: Conn, partitions: Collection[int]) -> None:
        """Note when the next key of these partitions is to be tried again."""
        pause = await dead_letters.next_due_s(conn, self._source, partitions)
        self.retry_at = math.inf if pause is None else asyncio.get_running_loop().time() + pause

    async def _split(self, conn: Conn, events: Sequence[Event]) -> tuple[list[Event], list[Event]]:
        """The events to handle, and those whose key is set aside already."""
        keys = await dead_letters.parked_keys(conn, self._source, {event.key for event in events})
        return [e for e in events if e.key not in keys], [e for e in events if e.key in keys]

    async def _try(self, conn: Conn, event: Event) -> str | None:
        """Handle one event under a savepoint; what the handler said against it, or None when it is done."""
        await conn.execute("SAVEPOINT one")
        try:
            await self._call(conn, [event])
            # Fails when the handler has swallowed an error of PostgreSQL: then nothing it wrote can be kept either.
            await conn.execute("RELEASE SAVEPOINT one")
        except (Refused, asyncpg.InFailedSQLTransactionError) as refused:
            await conn.execute("ROLLBACK TO SAVEPOINT one")
            cause = refused.__cause__ or refused
            return f"{type(cause).__name__}: {cause}"[:_ERROR_LENGTH]
        return None

    async def _call(self, conn: Conn, events: Sequence[Event]) -> None:
        try:
            await self._sub.handle(conn, events)
        except (Unavailable, *_CONNECTION_GONE):
            raise
        except Exception as error:
            # Whatever a handler does wrong is its refusal of these events; only a lost connection is not its doing.
            if conn.is_closed():
                raise
            _LOG.warning("handler_failed", consumer=self._sub.consumer, events=len(events), exc_info=error)
            raise Refused from error

    async def _count_failure(self, conn: Conn, event: Event, tries: int, error: str) -> None:
        pause = await dead_letters.failed(conn, self._source, event, tries, error)
        if pause is not None:
            self.retry_at = min(self.retry_at, asyncio.get_running_loop().time() + pause)
        else:
            _LOG.error("key_given_up", consumer=self._sub.consumer, source=self._source, key=event.key, why=error)
