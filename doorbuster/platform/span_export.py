"""Spans by the OpenTelemetry SDK, sent in batches over HTTP by a thread of its own. Loaded only while tracing is on."""

from __future__ import annotations

import functools
import logging
import math
import os
import time
from collections.abc import Sequence
from contextvars import ContextVar, Token
from types import TracebackType

import requests
import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.trace import Span as OtelSpan
from prometheus_client import Counter

from doorbuster import __version__
from doorbuster.platform import tracing
from doorbuster.platform.errors import Refusal
from doorbuster.platform.tracing import NOTHING, Attributes, Span, Value, refusal_code

QUEUE = 8_192
_BATCH = 512
_EVERY_MS = 1_000
_SEND_TIMEOUT_S = 2.0
_STOP_WITHIN_S = 3.0
_MAX_LINKS = 128
_MAX_VALUE = 200
_KINDS = {kind.name.lower(): kind for kind in SpanKind}
_LOG = structlog.get_logger("tracing")
DROPPED = Counter("doorbuster_spans_dropped_total", "Spans that never reached the collector", ["why"])

_current: ContextVar[OtelSpan] = ContextVar("current_span", default=INVALID_SPAN)
_request: ContextVar[_Recorded | None] = ContextVar("request_span", default=None)


class Exporting:
    """Guards the queue to one collector."""

    def __init__(self, endpoint: str, service: str, percent: float) -> None:
        # Its own words about each lost batch would fill the log of a shop whose collector is away.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        resource = Resource({
            "service.name": f"doorbuster-{service}", "service.namespace": "doorbuster",
            "service.version": __version__, "service.instance.id": str(os.getpid()),
        })  # fmt: skip
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(max(0.0, min(1.0, percent / 100)))),
            resource=resource,
            shutdown_on_exit=False,
            span_limits=SpanLimits(max_links=_MAX_LINKS, max_span_attribute_length=_MAX_VALUE),
        )
        self._provider.add_span_processor(_Bounded(_Counting(f"{endpoint.rstrip('/')}/v1/traces")))
        self._tracer = self._provider.get_tracer("doorbuster", __version__)

    def span(self, name: str, kind: str, attributes: Attributes | None) -> Span:
        current = _current.get()
        if not current.is_recording() and not _is_kept(current):
            return NOTHING
        return self._start(name, kind, current, attributes)

    def begin(self, name: str, kind: str, parent: str, attributes: Attributes | None) -> Span:
        remote = _remote(parent)
        if remote is not INVALID_SPAN and not _is_kept(remote):
            # Most requests of a busy shop: whoever began them has drawn, and the SDK need not be asked again.
            return _Attached(remote)
        return self._start(name, kind, remote, attributes)

    def joined(self, name: str, kind: str, parts: Sequence[str], attributes: Attributes | None) -> Span:
        told = [part for part in dict.fromkeys(parts) if part]
        kept = [remote for part in told if tracing.trace_id_of(part) and _is_kept(remote := _remote(part))]
        if told and not kept:
            return NOTHING
        parent = kept[0] if kept else INVALID_SPAN
        links = [Link(one.get_span_context()) for one in kept[:_MAX_LINKS]]
        return self._start(name, kind, parent, attributes, links)

    def continued(self, traceparent: str) -> Span:
        return _Attached(_remote(traceparent))

    def current_traceparent(self) -> str:
        return _traceparent(_current.get().get_span_context())

    def name_route(self, template: str) -> None:
        request = _request.get()
        if request is not None:
            request.set("http.route", template)
            request.rename(f"{request.first_name} {template}")

    def stop(self) -> None:
        self._provider.shutdown()

    def _start(
        self, name: str, kind: str, parent: OtelSpan, attributes: Attributes | None, links: Sequence[Link] = ()
    ) -> Span:
        # An invalid parent must stand in the context too: without one the SDK takes its own current span.
        started = self._tracer.start_span(
            name,
            context=set_span_in_context(parent),
            kind=_KINDS[kind],
            attributes=attributes,
            links=links,
            record_exception=False,
            set_status_on_exception=False,
        )
        return _Recorded(started, name, is_request=kind == "server")


class _Attached:
    """Guards what is current while it is entered."""

    def __init__(self, span: OtelSpan) -> None:
        self.span = span
        self._token: Token[OtelSpan] | None = None

    def __enter__(self) -> Span:
        self._token = _current.set(self.span)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._token is not None:
            _current.reset(self._token)

    def set(self, name: str, value: Value) -> None:
        return None

    def rename(self, name: str) -> None:
        return None

    def fail(self, why: str) -> None:
        return None


class _Recorded(_Attached):
    """Guards one span until it ends."""

    def __init__(self, span: OtelSpan, name: str, *, is_request: bool) -> None:
        super().__init__(span)
        self.first_name = name
        self._is_request = is_request
        self._outer: Token[_Recorded | None] | None = None

    def __enter__(self) -> Span:
        super().__enter__()
        if self._is_request:
            self._outer = _request.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if self._outer is not None:
            _request.reset(self._outer)
        if isinstance(error, Refusal):
            # A no that was expected is an answer, not a failure.
            self.set("door.refusal", refusal_code(error))
        elif error is not None:
            self.fail(refusal_code(error))
        self.span.end()

    def set(self, name: str, value: Value) -> None:
        self.span.set_attribute(name, value)

    def rename(self, name: str) -> None:
        self.span.update_name(name)

    def fail(self, why: str) -> None:
        self.span.set_attribute("error.type", why)
        self.span.set_status(Status(StatusCode.ERROR))


class _Bounded(BatchSpanProcessor):
    """The SDK's batches, with a count of what finds the queue full; the SDK itself would drop the oldest silently."""

    def __init__(self, exporter: _Counting) -> None:
        super().__init__(exporter, QUEUE, _EVERY_MS, _BATCH, int(_SEND_TIMEOUT_S * 1_000))
        self._taken = exporter
        self._put = 0

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is None or not span.context.trace_flags.sampled:
            return
        # One number is written by the event loop's thread and one by the sender's, so neither needs a lock.
        if self._put - self._taken.count >= QUEUE:
            DROPPED.labels("queue full").inc()
            return
        self._put += 1
        super().on_end(span)

    def shutdown(self) -> None:
        self._taken.give_up_at = time.monotonic() + _STOP_WITHIN_S
        super().shutdown()  # type: ignore[no-untyped-call]


class _Counting(SpanExporter):
    """Sends a batch once or, after a refused connection, twice; what does not arrive is counted and forgotten."""

    def __init__(self, url: str) -> None:
        session = requests.Session()
        # The address is the one of the settings; a proxy of the environment has no say in it.
        session.trust_env = False
        self._inner = OTLPSpanExporter(endpoint=url, timeout=_SEND_TIMEOUT_S, session=session)
        self._is_away = False
        self.count = 0
        self.give_up_at = math.inf
        """Time of the monotonic clock after which nothing is sent any more."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        late = time.monotonic() > self.give_up_at
        result = SpanExportResult.FAILURE if late else self._inner.export(spans)
        self.count += len(spans)
        away = result is not SpanExportResult.SUCCESS
        if away:
            DROPPED.labels("collector away").inc(len(spans))
        if away != self._is_away:
            _LOG.warning("collector_away" if away else "collector_back")
        self._is_away = away
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()  # type: ignore[no-untyped-call]

    def force_flush(self, timeout_millis: int = 3_000) -> bool:
        return True


def _is_kept(span: OtelSpan) -> bool:
    return span.get_span_context().trace_flags.sampled


def _traceparent(context: SpanContext) -> str:
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags & 1:02x}"


@functools.lru_cache(maxsize=4_096)
def _remote(traceparent: str) -> OtelSpan:
    """The span that a W3C traceparent names; what is none is as if nothing had been sent."""
    parts = traceparent.split("-")
    if len(parts) < 4 or [len(part) for part in parts[:4]] != [2, 32, 16, 2] or parts[0] == "ff":
        return INVALID_SPAN
    try:
        trace_id, span_id, flags = (int(part, 16) for part in parts[1:4])
    except ValueError:
        return INVALID_SPAN
    return NonRecordingSpan(SpanContext(trace_id, span_id, True, TraceFlags(flags & 1)))
