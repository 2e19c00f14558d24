"""The one listener: TLS, the HTTP limits, the short filter chain, and what is written to the access log."""

from __future__ import annotations

from typing import Any

from doorbuster.engines.edge.model import IDENTITY_PREFIX, EdgeModel
from doorbuster.engines.edge.refusals import TYPE_PREFIX, local_reply_config
from doorbuster.engines.edge.routes import BUFFER_FILTER, JWT_FILTER, RATE_FILTER
from doorbuster.engines.edge.tracing import CONTEXT_HEADERS, connection_tracing

HCM = f"{TYPE_PREFIX}extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
TLS = f"{TYPE_PREFIX}extensions.transport_sockets.tls.v3.DownstreamTlsContext"
FILE_LOG = f"{TYPE_PREFIX}extensions.access_loggers.file.v3.FileAccessLog"
LOG_LIMIT = f"{TYPE_PREFIX}extensions.access_loggers.filters.process_ratelimit.v3.ProcessRateLimitFilter"
HEADER_MUTATION = f"{TYPE_PREFIX}extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"
LOCAL_RATE_LIMIT = f"{TYPE_PREFIX}extensions.filters.http.local_ratelimit.v3.LocalRateLimit"
BUFFER = f"{TYPE_PREFIX}extensions.filters.http.buffer.v3.Buffer"
ROUTER = f"{TYPE_PREFIX}extensions.filters.http.router.v3.Router"

CERTIFICATE = "edge_certificate"
MAX_HEADERS_KB = 32
MAX_HEADERS = 100
FALLBACK_BODY_LIMIT = 1_024
"""Bytes of body for a request that no line of the route table gave a limit of its own."""
LOGGED_FLAGS = ["UH", "UF", "UO", "URX", "UC", "UT", "LR", "UR", "OM"]
"""Failures on the way to a worker. Refusals of clients (401, 404, 429) are not logged: a flood would fill the disk."""
LOG_BUCKET = "log_lines"
LOG_LINES_PER_S = 50


def listener(model: EdgeModel, *, routes: dict[str, Any], jwt: dict[str, Any], sds: dict[str, Any]) -> dict[str, Any]:
    """The TLS listener. `routes`, `jwt` and `sds` say where routes, token filter and certificate come from."""
    return {
        "name": "https",
        "address": {"socket_address": {"address": model.host, "port_value": model.port}},
        # A second shop on the same port must fail to bind instead of sharing the port's connections with the first.
        "enable_reuse_port": False,
        "tcp_backlog_size": 4096,
        "per_connection_buffer_limit_bytes": 262_144,
        "filter_chains": [
            {
                "transport_socket_connect_timeout": "5s",
                "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": _tls(sds)},
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": _connection(model, routes, jwt),
                    }
                ],
            }
        ],
    }


def file_source(model: EdgeModel, name: str) -> dict[str, Any]:
    """Where Envoy reads one of the published files, and reads it again whenever it is replaced."""
    return {"resource_api_version": "V3", "path_config_source": {"path": f"{model.directory}/{name}"}}


def _tls(sds: dict[str, Any]) -> dict[str, Any]:
    parameters = {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"}
    return {"@type": TLS, "common_tls_context": {"alpn_protocols": ["h2", "http/1.1"], "tls_params": parameters} | sds}


def _connection(model: EdgeModel, routes: dict[str, Any], jwt: dict[str, Any]) -> dict[str, Any]:
    longest_s = max((route.timeout_s for route in model.routes), default=model.request_timeout_s)
    return (
        {
            "@type": HCM,
            "stat_prefix": "edge",
            "codec_type": "AUTO",
            "server_name": "doorbuster",
            "use_remote_address": True,
            "always_set_request_id_in_response": True,
            "normalize_path": True,
            "merge_slashes": True,
            # No path of the map holds an encoded slash, and a redirect would only help somebody to probe.
            "path_with_escaped_slashes_action": "REJECT_REQUEST",
            "max_request_headers_kb": MAX_HEADERS_KB,
            "common_http_protocol_options": {
                "idle_timeout": "60s",
                "headers_with_underscores_action": "REJECT_REQUEST",
                "max_headers_count": MAX_HEADERS,
            },
            "request_timeout": f"{model.request_timeout_s:g}s",
            "request_headers_timeout": f"{model.headers_timeout_s:g}s",
            # Must outlast the slowest route, or it would cut a request that its route still allows.
            "stream_idle_timeout": f"{longest_s + model.request_timeout_s:g}s",
            "delayed_close_timeout": "1s",
            "http2_protocol_options": {
                "max_concurrent_streams": 100,
                "initial_stream_window_size": 65_536,
                "initial_connection_window_size": 1_048_576,
            },
            "early_header_mutation_extensions": [_drop_forged_headers()],
            "local_reply_config": local_reply_config(),
            "access_log": [_access_log(model)],
            "http_filters": [
                {"name": JWT_FILTER} | jwt,
                {"name": RATE_FILTER, "typed_config": {"@type": LOCAL_RATE_LIMIT, "stat_prefix": "edge"}},
                {"name": BUFFER_FILTER, "typed_config": {"@type": BUFFER, "max_request_bytes": FALLBACK_BODY_LIMIT}},
                {
                    "name": "envoy.filters.http.router",
                    "typed_config": {"@type": ROUTER, "suppress_envoy_headers": True, "dynamic_stats": False},
                },
            ],
        }
        | routes
        | connection_tracing(model)
    )


def _drop_forged_headers() -> dict[str, Any]:
    """Takes identity, forwarding and trace headers off every request before a route is chosen."""
    prefixes = [IDENTITY_PREFIX, "x-forwarded-", "x-envoy-"]
    by_prefix = [{"remove_on_match": {"key_matcher": {"prefix": prefix}}} for prefix in prefixes]
    by_name = [{"remove": name} for name in ("forwarded", "x-real-ip", "x-client-cert", *CONTEXT_HEADERS)]
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": {"@type": HEADER_MUTATION, "mutations": by_prefix + by_name},
    }


def _access_log(model: EdgeModel) -> dict[str, Any]:
    """Failures only, as JSON lines, without query strings, tokens or bodies, and a few lines a second at most."""
    server_error = {"comparison": {"op": "GE", "value": {"default_value": 500, "runtime_key": "doorbuster.log_from"}}}
    failed = {
        "or_filter": {
            "filters": [{"status_code_filter": server_error}, {"response_flag_filter": {"flags": LOGGED_FLAGS}}]
        }
    }
    line = {
        "time": "%START_TIME%",
        "request_id": "%REQ(X-REQUEST-ID)%",
        "route": "%ROUTE_NAME%",
        "method": "%REQ(:METHOD)%",
        "path": "%PATH(NQ)%",
        "status": "%RESPONSE_CODE%",
        "flags": "%RESPONSE_FLAGS%",
        "detail": "%RESPONSE_CODE_DETAILS%",
        "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
        "upstream": "%UPSTREAM_HOST%",
        "duration_ms": "%DURATION%",
    }
    # Envoy 1.40 takes this bucket from a file only.
    bucket = {"resource_name": LOG_BUCKET, "config_source": file_source(model, "log.json")}
    limit = {
        "extension_filter": {
            "name": "envoy.access_loggers.extension_filters.process_ratelimit",
            "typed_config": {"@type": LOG_LIMIT, "dynamic_config": bucket},
        }
    }
    return {
        "name": "envoy.access_loggers.file",
        "filter": {"and_filter": {"filters": [failed, limit]}},
        "typed_config": {"@type": FILE_LOG, "path": model.access_log_path, "log_format": {"json_format": line}},
    }
