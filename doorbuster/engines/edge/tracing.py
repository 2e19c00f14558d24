"""The edge's part in tracing: it begins every trace, draws which are kept, and tells workers by `traceparent`.

Envoy would let a client decide: by a `traceparent` that says "keep", or by `x-client-trace-id`. Both are taken off
every request, so that nobody outside can fill the collector, or stay out of it.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from doorbuster.engines.edge.model import EdgeModel
from doorbuster.engines.edge.refusals import TYPE_PREFIX

COLLECTOR = "collector"
CONTEXT_HEADERS = ("traceparent", "tracestate", "baggage", "x-client-trace-id")
"""What says which trace a request belongs to. From outside nobody's word is taken, tracing or not."""

_TRACER = f"{TYPE_PREFIX}config.trace.v3.OpenTelemetryConfig"
_SEND_TIMEOUT_S = 2


def connection_tracing(model: EdgeModel) -> dict[str, Any]:
    """What the connection manager is told; nothing while tracing is off."""
    if not model.otlp_endpoint:
        return {}
    collector = {
        "uri": f"{model.otlp_endpoint.rstrip('/')}/v1/traces",
        "cluster": COLLECTOR,
        "timeout": f"{_SEND_TIMEOUT_S}s",
    }
    tracer = {"@type": _TRACER, "http_service": {"http_uri": collector}, "service_name": "doorbuster-edge"}
    return {
        "tracing": {
            "client_sampling": {"value": 0},
            "random_sampling": {"value": model.trace_percent},
            "overall_sampling": {"value": 100},
            # The path as it was sent has a query string, and whoever put a token there would find it in the collector.
            "max_path_tag_length": 0,
            "operation": "%ROUTE_NAME%",
            "custom_tags": [
                {"tag": "http.request.method", "value": "%REQ(:METHOD)%"},
                {"tag": "http.response.status_code", "value": "%RESPONSE_CODE%"},
                {"tag": "door.request_id", "value": "%REQ(X-REQUEST-ID)%"},
                # Envoy's own tags of these names hold words that the client chose: its Host and its User-Agent.
                {"tag": "http.url", "literal": {"value": "-"}},
                {"tag": "user_agent", "literal": {"value": "-"}},
            ],
            "provider": {"name": "envoy.tracers.opentelemetry", "typed_config": tracer},
        }
    }


def collector_clusters(model: EdgeModel) -> list[dict[str, Any]]:
    """Where spans are sent; it stands in the bootstrap, so that the tracer finds it at its start."""
    if not model.otlp_endpoint:
        return []
    address = urlsplit(model.otlp_endpoint)
    place = {"socket_address": {"address": address.hostname, "port_value": address.port or 80}}
    return [
        {
            "name": COLLECTOR,
            "type": "STRICT_DNS",
            "connect_timeout": "1s",
            "load_assignment": {
                "cluster_name": COLLECTOR,
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": place}}]}],
            },
            # A collector that is away or slow costs the edge spans, and neither memory nor connections.
            "circuit_breakers": {"thresholds": [{"max_connections": 4, "max_pending_requests": 64, "max_retries": 0}]},
        }
    ]
