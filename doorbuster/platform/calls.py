"""One verb, two distances: `@query` and `@command` mark what other domains may call.

Near: the function runs. Looped: arguments, result and refusals are encoded and decoded on the way, as if the domain
were elsewhere, so that tests prove that no verb relies on sharing memory. To keep the distances alike, a verb takes
only frozen values and a `Ctx`, a command names an idempotency key or an id of its own, and no call is made while a
transaction is open.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from inspect import signature
from typing import Any, Concatenate, ParamSpec, TypeVar, get_type_hints
from uuid import UUID

import msgspec

from doorbuster.platform.errors import Refusal, Unavailable, refusal_class

P = ParamSpec("P")
R = TypeVar("R")

open_transaction: ContextVar[str] = ContextVar("open_transaction", default="")
"""The domain whose transaction is open in this task, or empty. Set by platform.db alone."""


class Ctx(msgspec.Struct, frozen=True):
    """Who calls, until when, under which key: the first argument of every verb."""

    subject: UUID | None = None
    roles: frozenset[str] = frozenset()
    deadline: float = 0.0
    """Unix seconds after which the caller no longer waits; 0 means the callee's own limit."""
    idempotency_key: str = ""
    request_id: str = ""

    def remaining_s(self, at_most: float) -> float:
        """Seconds left until the deadline, never more than `at_most` and never below zero."""
        if not self.deadline:
            return at_most
        return max(0.0, min(at_most, self.deadline - time.time()))


SYSTEM = Ctx(roles=frozenset({"system"}))
"""The shop itself: sweepers, consumers and batches."""


class Verb:
    """What the registry knows of a verb: its wire id and how to encode its arguments."""

    def __init__(self, function: Callable[..., Awaitable[Any]], kind: str) -> None:
        _, _, group, domain, *_ = function.__module__.split(".")
        self.function = function
        self.kind = kind
        self.wire_id = f"{group}.{domain}.{function.__name__}"

    @functools.cached_property
    def argument_types(self) -> dict[str, Any]:
        hints = get_type_hints(self.function)
        return {name: hints[name] for name in signature(self.function).parameters}

    @functools.cached_property
    def result_type(self) -> Any:
        return get_type_hints(self.function)["return"]


VERBS: dict[str, Verb] = {}
_looped = False


def use_looped(on: bool) -> None:
    """Send every call of this process through the wire codec (tests), or not."""
    global _looped
    _looped = on


def _verb(
    function: Callable[Concatenate[Ctx, P], Awaitable[R]], kind: str
) -> Callable[Concatenate[Ctx, P], Awaitable[R]]:
    verb = Verb(function, kind)
    assert verb.wire_id not in VERBS, f"two verbs are called {verb.wire_id}"
    VERBS[verb.wire_id] = verb

    @functools.wraps(function)
    def call(ctx: Ctx, *args: P.args, **kwargs: P.kwargs) -> Awaitable[R]:
        holder = open_transaction.get()
        assert not holder, f"{verb.wire_id} was called inside a transaction of {holder}: nothing leaves a transaction"
        return _call_looped(verb, ctx, args, kwargs) if _looped else function(ctx, *args, **kwargs)

    return call  # type: ignore[return-value]  # the type checker takes wraps() for another callable


def query(function: Callable[Concatenate[Ctx, P], Awaitable[R]]) -> Callable[Concatenate[Ctx, P], Awaitable[R]]:
    """Mark a verb that changes nothing: it may be retried freely."""
    return _verb(function, "query")


def command(function: Callable[Concatenate[Ctx, P], Awaitable[R]]) -> Callable[Concatenate[Ctx, P], Awaitable[R]]:
    """Mark a verb that changes something: running it twice with the same ids has the effect of running it once."""
    return _verb(function, "command")


async def _call_looped(verb: Verb, ctx: Ctx, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Encode, decode, run, encode, decode: what a call over HTTP does to values and refusals, without the socket."""
    bound = signature(verb.function).bind(ctx, *args, **kwargs)
    bound.apply_defaults()
    wire = msgspec.json.encode(bound.arguments)
    raw = msgspec.json.decode(wire, type=dict[str, msgspec.Raw])
    arguments = {name: msgspec.json.decode(raw[name], type=kind) for name, kind in verb.argument_types.items()}
    try:
        result = await verb.function(**arguments)
    except Refusal as refusal:
        raise decode_refusal(encode_refusal(refusal)) from None
    return msgspec.json.decode(msgspec.json.encode(result), type=verb.result_type)


def encode_refusal(refusal: Refusal) -> bytes:
    """A refusal as it travels between services."""
    return msgspec.json.encode({"code": refusal.code, "detail": refusal.detail, "members": refusal.members})


def decode_refusal(wire: bytes) -> Exception:
    """The same refusal class again; a code this process does not know means that the versions do not fit."""
    content = msgspec.json.decode(wire)
    kind = refusal_class(content["code"])
    if kind is None:
        return Unavailable(f"The other service refused with an unknown code {content['code']!r}")
    return kind(content["detail"], **content["members"])
