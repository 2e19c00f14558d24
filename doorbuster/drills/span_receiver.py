"""A collector of spans for tests and `doorbuster map --observed`: OTLP over HTTP on loopback, in memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

MAX_BODY = 33_554_432
MAX_BYTES = 268_435_456
"""What is kept in all; later spans are refused, so that nothing is judged on a part of what was seen."""
_KINDS = {1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}
_POLL_S = 0.02


class Seen(msgspec.Struct, frozen=True):
    """One span as it arrived; ids are lower-case hexadecimal, `parent_id` is empty for the first of a trace."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: str
    service: str
    attributes: dict[str, object]
    links: tuple[str, ...]
    """Trace ids of the linked spans."""
    is_failed: bool


class Received:
    """Guards what has arrived."""

    def __init__(self, port: int) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"
        """What the setting `otlp_endpoint` takes."""
        self._bodies: list[bytes] = []
        self._size = 0
        self._lock = threading.Lock()
        self.is_full = False

    def take(self, body: bytes) -> bool:
        """Keep one export, if there is room."""
        with self._lock:
            self.is_full = self.is_full or self._size + len(body) > MAX_BYTES
            if not self.is_full:
                self._bodies.append(body)
                self._size += len(body)
            return not self.is_full

    def raw(self) -> bytes:
        """Everything that arrived, as bytes: to look for what must never be in it."""
        with self._lock:
            return b"\n".join(self._bodies)

    def spans(self) -> list[Seen]:
        """Everything that arrived, decoded."""
        with self._lock:
            bodies = list(self._bodies)
        return [span for body in bodies for span in decode(body)]

    def wait_for(self, enough: Callable[[list[Seen]], bool], within_s: float) -> list[Seen]:
        """The spans once there are enough of them. Raises TimeoutError with what there was."""
        deadline, size = time.monotonic() + within_s, -1
        while True:
            if self._size != size:
                size, spans = self._size, self.spans()
                if enough(spans):
                    return spans
            if time.monotonic() > deadline:
                raise TimeoutError(f"these spans are not enough: {sorted({span.name for span in spans})}")
            time.sleep(_POLL_S)


@contextmanager
def receiver() -> Iterator[Received]:
    """A collector on a free port, until the end of the block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    received = Received(server.server_address[1])
    _Handler.by_port[server.server_address[1]] = received
    thread = threading.Thread(target=server.serve_forever, args=(_POLL_S,), daemon=True)
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
        del _Handler.by_port[server.server_address[1]]


class _Handler(BaseHTTPRequestHandler):
    """Takes POST /v1/traces and nothing else."""

    by_port: dict[int, Received] = {}  # noqa: RUF012  (of the class on purpose: handlers are made by the server)
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_POST(self) -> None:
        try:
            body = self._body()
        except ValueError:
            self.close_connection = True
            self._answer(413)
            return
        if self.path != "/v1/traces":
            self._answer(404)
            return
        received = self.by_port[self.server.server_address[1]]  # type: ignore[index]  # an address of the internet
        try:
            ExportTraceServiceRequest.FromString(body)
        except DecodeError:
            self._answer(400)
            return
        self._answer(200 if received.take(body) else 429)

    def _body(self) -> bytes:
        """The whole body; Envoy sends it in chunks. Raises ValueError for one that is too large or none."""
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            length = int(self.headers.get("content-length") or 0)
            if not 0 < length <= MAX_BODY:
                raise ValueError
            return self.rfile.read(length)
        body = bytearray()
        while length := int(self.rfile.readline(20).strip() or b"0", 16):
            if len(body) + length > MAX_BODY:
                raise ValueError
            body += self.rfile.read(length)
            self.rfile.readline(2)
        self.rfile.readline(2)
        return bytes(body)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: whoever asked for a receiver reads its spans."""


def decode(body: bytes) -> list[Seen]:
    """The spans of one export."""
    found = []
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        service = str(_attributes(resource.resource.attributes).get("service.name", ""))
        found += [_seen(span, service) for scope in resource.scope_spans for span in scope.spans]
    return found


def _seen(span: trace_pb2.Span, service: str) -> Seen:
    return Seen(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        name=span.name,
        kind=_KINDS.get(span.kind, ""),
        service=service,
        attributes=_attributes(span.attributes),
        links=tuple(link.trace_id.hex() for link in span.links),
        is_failed=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
    )


def _attributes(pairs: object) -> dict[str, object]:
    return {pair.key: _value(pair.value) for pair in pairs if isinstance(pair, KeyValue)}  # type: ignore[attr-defined]


def _value(value: AnyValue) -> object:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind) if kind else None
