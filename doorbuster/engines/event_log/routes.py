"""HTTP for whoever operates a consumer: how far it is, what it has set aside, and what to do about it. Admins only."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
from litestar import Request, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from doorbuster.engines.event_log import dead_letters, status
from doorbuster.engines.event_log.dead_letters import DeadLetter
from doorbuster.engines.event_log.lag import Lag
from doorbuster.engines.event_log.replay import Replay, replay
from doorbuster.platform.errors import InvalidRequest
from doorbuster.platform.http import ctx_from, require_role

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=500, pattern=r"\A[^\x00]+\Z")]


class KeyOfSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key that was set aside, and why somebody decides about it."""

    source: Text
    key: Text
    note: Text


class Drop(KeyOfSource, frozen=True, forbid_unknown_fields=True):
    """With `whole_key` all that waits, else the first event only."""

    whole_key: bool = False


class ReplayFrom(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From when on to hear a source again; without `since`, all that the log still has."""

    source: Text
    note: Text
    since: datetime | None = None


class Lags(msgspec.Struct, frozen=True):
    data: tuple[Lag, ...]


class DeadLetters(msgspec.Struct, frozen=True):
    data: tuple[DeadLetter, ...]


class Affected(msgspec.Struct, frozen=True):
    """How many events it concerned."""

    events: int


def _admin(request: Request[Any, Any, Any]) -> str:
    """Who asks, for the audit. Refuses whoever is no admin."""
    ctx = ctx_from(request)
    require_role(ctx, "admin")
    return str(ctx.subject)


def routes(consumer: str, hears: Mapping[str, Collection[str]]) -> list[HTTPRouteHandler]:
    """The handlers of one consumer (`group.domain`), which hears these types of these sources."""
    path = f"/api/v1/{consumer.split('.')[1]}/event"

    def known(source: str) -> str:
        if source not in hears:
            raise InvalidRequest(f"{consumer} hears {', '.join(hears)}; {source!r} is none of them")
        return source

    @get(path, summary="How far behind this domain's consumers are")
    async def get_lag(request: Request[Any, Any, Any]) -> Lags:
        _admin(request)
        return Lags(tuple([await status.look(consumer, source, types) for source, types in hears.items()]))

    @get(f"{path}/dead-letter", summary="Events this domain has set aside")
    async def list_set_aside(
        request: Request[Any, Any, Any], limit: Annotated[int, QueryParameter(ge=1, le=1_000)] = 100
    ) -> DeadLetters:
        _admin(request)
        return DeadLetters(tuple(await dead_letters.list_dead_letters(consumer, limit)))

    @get(f"{path}/dead-letter/{{seq:int}}", summary="One event set aside, with its payload and its error")
    async def get_set_aside(request: Request[Any, Any, Any], seq: FromPath[int], source: FromQuery[str]) -> DeadLetter:
        _admin(request)
        return await dead_letters.inspect(consumer, known(source), seq)

    @post(f"{path}/dead-letter/requeue", status_code=200, summary="Try a key again, in order")
    async def requeue(request: Request[Any, Any, Any], data: JSONBody[KeyOfSource]) -> Affected:
        """The worker that owns the key's partition goes on with it within two seconds."""
        actor = _admin(request)
        waiting = await dead_letters.requeue(consumer, known(data.source), data.key, actor=actor, note=data.note)
        return Affected(waiting)

    @post(f"{path}/dead-letter/drop", status_code=200, summary="Give up an event, or all of a key")
    async def drop(request: Request[Any, Any, Any], data: JSONBody[Drop]) -> Affected:
        """What is dropped never has an effect in this domain. It is kept in the audit who did it."""
        actor = _admin(request)
        dropped = await dead_letters.drop(
            consumer, known(data.source), data.key, actor=actor, note=data.note, whole_key=data.whole_key
        )
        return Affected(dropped)

    @post(f"{path}/replay", status_code=200, summary="Hear a source again")
    async def start_replay(request: Request[Any, Any, Any], data: JSONBody[ReplayFrom]) -> Replay:
        """Handlers are idempotent: what had its effect keeps it, what is missing is made good."""
        actor = _admin(request)
        if data.since is not None and data.since.tzinfo is None:
            raise InvalidRequest("`since` needs a time zone, for example 2026-11-23T00:00:00Z")
        return await replay(consumer, known(data.source), data.since, actor=actor, note=data.note)

    handlers: Sequence[HTTPRouteHandler] = (get_lag, list_set_aside, get_set_aside, requeue, drop, start_replay)
    return list(handlers)
