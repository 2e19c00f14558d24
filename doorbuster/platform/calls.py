"""One verb, two distances: `@query` and `@command` mark what other domains may call.

Near: the function runs. Far: the domain has an address elsewhere, and `platform.remote` carries the call there. Looped:
arguments, result and refusals are encoded and decoded on the way, as if the domain were elsewhere, so that tests prove
that no verb relies on sharing memory. To keep the distances alike, a verb takes only frozen values and a `Ctx`, a
command names an idempotency key or an id of its own, and no call is made while a transaction is open.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from inspect import Signature, signature
from typing import Any, Concatenate, ParamSpec, TypeVar, get_type_hints
from uuid import UUID

import msgspec

from doorbuster.platform import tracing
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
        self.domain = f"{group}.{domain}"
        self.wire_id = f"{self.domain}.{function.__name__}"

    @functools.cached_property
    def _signature(self) -> Signature:
        return signature(self.function)

    @functools.cached_property
    def _arguments(self) -> msgspec.json.Decoder[msgspec.Struct]:
        hints = get_type_hints(self.function)
        fields = [(name, hints[name]) for name in self._signature.parameters]
        return msgspec.json.Decoder(msgspec.defstruct(f"{self.wire_id} arguments", fields))

    @functools.cached_property
    def _result(self) -> msgspec.json.Decoder[Any]:
        return msgspec.json.Decoder(get_type_hints(self.function)["return"])

    def encode_arguments(self, ctx: Ctx, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """All arguments by name, as they travel."""
        bound = self._signature.bind(ctx, *args, **kwargs)
        bound.apply_defaults()
        return _ENCODER.encode(bound.arguments)

    def decode_arguments(self, wire: bytes) -> dict[str, Any]:
        """The arguments by name. Raises msgspec.MsgspecError when they are not what this verb takes."""
        return msgspec.structs.asdict(self._arguments.decode(wire))

    def decode_result(self, wire: bytes) -> Any:
        """What the verb returned. Raises msgspec.MsgspecError when it is not what this verb returns."""
        return self._result.decode(wire)


VERBS: dict[str, Verb] = {}
Carrier = Callable[[Verb, Ctx, bytes], Awaitable[Any]]
"""Takes one call with its encoded arguments to another process and returns the decoded result, or raises."""
_ENCODER = msgspec.json.Encoder()
_looped = False
_far: dict[str, Carrier] = {}


def use_far(carriers: Mapping[str, Carrier]) -> None:
    """Send the calls of these domains (`group.domain`) elsewhere; all others stay near."""
    _far.clear()
    _far.update(carriers)


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
        if _far and (carry := _far.get(verb.domain)) is not None:
            work = carry(verb, ctx, verb.encode_arguments(ctx, args, kwargs))
            distance = tracing.CLIENT
        else:
            work = _call_looped(verb, ctx, args, kwargs) if _looped else function(ctx, *args, **kwargs)
            distance = tracing.INTERNAL
        if not tracing.is_on():
            return work
        return tracing.call(verb.wire_id, sys._getframe(1).f_globals["__name__"], work, distance)

    return call  # type: ignore[return-value]  # the type checker takes wraps() for another callable


def query(function: Callable[Concatenate[Ctx, P], Awaitable[R]]) -> Callable[Concatenate[Ctx, P], Awaitable[R]]:
    """Mark a verb that changes nothing: it may be retried freely."""
    return _verb(function, "query")


def command(function: Callable[Concatenate[Ctx, P], Awaitable[R]]) -> Callable[Concatenate[Ctx, P], Awaitable[R]]:
    """Mark a verb that changes something: running it twice with the same ids has the effect of running it once."""
    return _verb(function, "command")


async def _call_looped(verb: Verb, ctx: Ctx, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Encode, decode, run, encode, decode: what a call over HTTP does to values and refusals, without the socket."""
    arguments = verb.decode_arguments(verb.encode_arguments(ctx, args, kwargs))
    try:
        result = await verb.function(**arguments)
    except Refusal as refusal:
        raise decode_refusal(encode_refusal(refusal)) from None
    return verb.decode_result(_ENCODER.encode(result))


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
