"""Spans: what was done for one request, by whom and for how long. Off unless the settings name a collector, then free.

Everybody calls the functions of this file. The OpenTelemetry SDK stands behind them in span_export.py, which is
imported only by `start`, so that a shop without a collector neither loads nor runs any of it.
"""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar
from typing import Protocol as Interface

R = TypeVar("R")
Value = str | int | float | bool | Sequence[str]
Attributes = Mapping[str, Value]

INTERNAL, SERVER, CLIENT, PRODUCER, CONSUMER = "internal", "server", "client", "producer", "consumer"
_DOMAINS = "doorbuster.domains."


class Span(Interface):
    """One piece of work; a context manager that ends it. An exception that leaves it is noted by its class alone: its
    words may hold what a customer sent."""

    def __enter__(self) -> Span: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def set(self, name: str, value: Value) -> None:
        """Note an attribute: never a secret, a token, an instrument, a value of SQL or a query string."""

    def rename(self, name: str) -> None: ...
    def fail(self, why: str) -> None:
        """It did not do what it was for; `why` is a class or code."""


class Backend(Interface):
    """What span_export.py provides."""

    def span(self, name: str, kind: str, attributes: Attributes | None) -> Span: ...
    def begin(self, name: str, kind: str, parent: str, attributes: Attributes | None) -> Span: ...
    def joined(self, name: str, kind: str, parts: Sequence[str], attributes: Attributes | None) -> Span: ...
    def continued(self, traceparent: str) -> Span: ...
    def current_traceparent(self) -> str: ...
    def name_route(self, template: str) -> None: ...
    def stop(self) -> None: ...


class _Nothing:
    """The span while tracing is off: one object for everybody."""

    def __enter__(self) -> Span:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def set(self, name: str, value: Value) -> None:
        return None

    def rename(self, name: str) -> None:
        return None

    def fail(self, why: str) -> None:
        return None


NOTHING: Span = _Nothing()
_backend: Backend | None = None


def start(endpoint: str, service: str, percent: float) -> None:
    """Send spans to the collector at `endpoint` (http://host:port) from now on; with an empty one tracing stays off.

    `percent` of the traces that begin in this process are kept; one that began elsewhere brings its own decision.
    """
    global _backend
    assert _backend is None, "tracing was started already"
    if endpoint:
        # The one late import of the shop: the SDK costs every process time and memory that only tracing needs.
        _backend = importlib.import_module("doorbuster.platform.span_export").Exporting(endpoint, service, percent)


def stop() -> None:
    """Send what is waiting, for at most 3 s, and turn tracing off."""
    global _backend
    if _backend is not None:
        _backend.stop()
        _backend = None


def is_on() -> bool:
    """Whether spans are made. Ask before building attributes on a hot path."""
    return _backend is not None


def span(name: str, kind: str = INTERNAL, attributes: Attributes | None = None) -> Span:
    """A part of what is being traced; nothing, when nothing is."""
    return NOTHING if _backend is None else _backend.span(name, kind, attributes)


def begin(name: str, kind: str = INTERNAL, parent: str = "", attributes: Attributes | None = None) -> Span:
    """Work that somebody else began (`parent`, a traceparent), or that begins a trace of its own."""
    return NOTHING if _backend is None else _backend.begin(name, kind, parent, attributes)


def joined(name: str, kind: str, parts: Sequence[str], attributes: Attributes | None = None) -> Span:
    """Work done at once for several traces (`parts`, their traceparents): a part of the first that is kept, linked
    with the others. Nothing, when none of them is kept; a trace of its own, when there is none."""
    return NOTHING if _backend is None else _backend.joined(name, kind, parts, attributes)


def continued(traceparent: str) -> Span:
    """Whatever is traced inside belongs to this trace; makes no span itself."""
    return NOTHING if _backend is None else _backend.continued(traceparent)


def current_traceparent() -> str:
    """The W3C traceparent of what is being traced, to be given to whoever goes on with it; empty when nothing is."""
    return "" if _backend is None else _backend.current_traceparent()


def trace_id_of(traceparent: str) -> str | None:
    """The trace id, if the trace is kept: one that is not would be looked for in vain."""
    return traceparent[3:35] if traceparent.endswith("1") else None


def name_route(template: str) -> None:
    """The request that is being served came by this route."""
    if _backend is not None:
        _backend.name_route(template)


def domain_of(module: str) -> str:
    """`group.domain` of a module of a domain, else empty: for the surfaces, the sweepers and the tests."""
    if not module.startswith(_DOMAINS):
        return ""
    return ".".join(module[len(_DOMAINS) :].split(".", 2)[:2])


async def call(wire_id: str, caller_module: str, work: Awaitable[R], kind: str = INTERNAL) -> R:
    """Await the work of a verb inside its span, which says whose module called it. Call it only while tracing is on.

    What a domain asks of another always has a span. What the shop itself begins, such as a sweeper that looks every
    half second and finds nothing, has one only as a part of something that is traced.
    """
    caller, callee = domain_of(caller_module), wire_id.rpartition(".")[0]
    attributes = {"door.caller": caller, "door.callee": callee, "rpc.system.name": "doorbuster", "rpc.method": wire_id}
    alone = caller not in ("", callee) and not current_traceparent()
    with begin(wire_id, kind, "", attributes) if alone else span(wire_id, kind, attributes):
        return await work


def refusal_code(error: BaseException) -> str:
    """What a span says of an error: a refusal's code, or its class."""
    code: Any = getattr(error, "code", "")
    return code if isinstance(code, str) and code else type(error).__name__
