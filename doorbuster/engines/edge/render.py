"""Makes Envoy's files from the model: pure, so that the same model always gives the same bytes."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from doorbuster.engines.edge.listener import CERTIFICATE, LOG_BUCKET, LOG_LINES_PER_S, file_source, listener
from doorbuster.engines.edge.model import EDGE_HEADER, IDENTITY_HEADERS, EdgeModel, Service
from doorbuster.engines.edge.refusals import TYPE_PREFIX, set_header
from doorbuster.engines.edge.routes import JWT_FILTER, ROUTE_CONFIG, route_configuration
from doorbuster.engines.edge.tracing import collector_clusters

JWT = f"{TYPE_PREFIX}extensions.filters.http.jwt_authn.v3.JwtAuthentication"
HTTP_OPTIONS = f"{TYPE_PREFIX}extensions.upstreams.http.v3.HttpProtocolOptions"
HEAP_LIMIT_BYTES = 402_653_184
MAX_CONNECTIONS = 10_000
MAX_CONCURRENT = 4_096
"""Requests on their way to the workers at once; Envoy's own default of 1,024 would refuse a crowd at the door."""
UPSTREAM_IDLE_S = 10
"""Shorter than a worker keeps an idle connection (30 s), so a request never meets a connection that is closing."""
TOKEN_CACHE = 4_096


def render(model: EdgeModel) -> dict[str, bytes]:
    """File name → content, in the order in which they must be published: what routes need comes before routes."""
    return {
        "sds.json": _discovery(f"{TYPE_PREFIX}extensions.transport_sockets.tls.v3.Secret", _certificate(model)),
        "cds.json": _discovery(
            f"{TYPE_PREFIX}config.cluster.v3.Cluster", *(_cluster(service) for service in model.clusters)
        ),
        "ecds.json": _discovery(
            f"{TYPE_PREFIX}config.core.v3.TypedExtensionConfig", {"name": JWT_FILTER, "typed_config": _jwt(model)}
        ),
        "rds.json": _discovery(f"{TYPE_PREFIX}config.route.v3.RouteConfiguration", _routes(model)),
        "log.json": _log_bucket(),
        "bootstrap.json": _encode(_bootstrap(model)),
    }


def _routes(model: EdgeModel) -> dict[str, Any]:
    table = route_configuration(model.routes, model.cluster_of)
    if model.edge_secret:
        table["request_headers_to_add"] = [set_header(EDGE_HEADER, model.edge_secret)]
    return table


def render_whole(model: EdgeModel) -> bytes:
    """One bootstrap with everything inlined: what `validate` shows to Envoy, which does not read the other files."""
    static = _bootstrap(model)
    certificate = _certificate(model)["tls_certificate"]
    whole = listener(
        model,
        routes={"route_config": _routes(model)},
        jwt={"typed_config": _jwt(model)},
        sds={"tls_certificates": [certificate]},
    )
    clusters = [_cluster(service) for service in model.clusters]
    static["static_resources"] = {"listeners": [whole], "clusters": [*clusters, *collector_clusters(model)]}
    del static["dynamic_resources"]
    return _encode(static)


def _encode(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False).encode()


def _discovery(kind: str, *resources: dict[str, Any]) -> bytes:
    tagged = [{"@type": kind} | resource for resource in resources]
    version = hashlib.sha256(json.dumps(tagged).encode()).hexdigest()[:16]
    return _encode({"version_info": version, "resources": tagged})


def _log_bucket() -> bytes:
    bucket = {
        "@type": f"{TYPE_PREFIX}type.v3.TokenBucket",
        "max_tokens": 10 * LOG_LINES_PER_S,
        "tokens_per_fill": LOG_LINES_PER_S,
        "fill_interval": "1s",
    }
    return _discovery(f"{TYPE_PREFIX}service.discovery.v3.Resource", {"name": LOG_BUCKET, "resource": bucket})


def _certificate(model: EdgeModel) -> dict[str, Any]:
    pair = {
        "certificate_chain": {"filename": model.certificate_path},
        "private_key": {"filename": model.key_path},
    }
    return {"name": CERTIFICATE, "tls_certificate": pair}


def _jwt(model: EdgeModel) -> dict[str, Any]:
    """The token filter. The keys stand inline: a file named here is never read again, a new ECDS file is."""
    door = {
        "issuer": model.issuer,
        "audiences": [model.audience],
        "require_expiration": True,
        "clock_skew_seconds": 5,
        "forward": False,
        # Naming the place turns off Envoy's other default, a token in the query string, where logs would keep it.
        "from_headers": [{"name": "authorization", "value_prefix": "Bearer "}],
        "claim_to_headers": [
            {"header_name": header, "claim_name": claim} for claim, header in IDENTITY_HEADERS.items()
        ],
        "local_jwks": {"inline_string": model.jwks},
        # Safe only because withdrawn keys arrive by ECDS, which replaces the filter and its cache with it.
        "jwt_cache_config": {"jwt_cache_size": TOKEN_CACHE},
    }
    return {
        "@type": JWT,
        "providers": {"door": door},
        "requirement_map": {"required": {"provider_name": "door"}},
        # Whatever forgets to say otherwise needs a token.
        "rules": [{"match": {"prefix": "/"}, "requirement_name": "required"}],
    }


def _cluster(service: Service) -> dict[str, Any]:
    groups = [{"priority": 0, "lb_endpoints": _endpoints(service.upstreams)}]
    if service.standby:
        groups.append({"priority": 1, "lb_endpoints": _endpoints(service.standby)})
    limits = {
        "max_connections": MAX_CONCURRENT,
        "max_pending_requests": MAX_CONCURRENT,
        "max_requests": MAX_CONCURRENT,
        # The default of 3 would let three requests survive the death of a worker with hundreds in flight.
        "max_retries": 1_024,
    }
    return {
        "name": service.name,
        "type": "STATIC",
        "connect_timeout": "0.5s",
        "lb_policy": "LEAST_REQUEST",
        "load_assignment": {"cluster_name": service.name, "endpoints": groups},
        "circuit_breakers": {"thresholds": [limits]},
        # When no worker is ready, ask one all the same: its own answer says more than ours could.
        "common_lb_config": {"healthy_panic_threshold": {"value": 1}},
        "health_checks": [_health_check()],
        "outlier_detection": _outliers(),
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": HTTP_OPTIONS,
                "common_http_protocol_options": {"idle_timeout": f"{UPSTREAM_IDLE_S}s"},
                "explicit_http_config": {"http_protocol_options": {}},
            }
        },
    }


def _endpoints(sockets: tuple[str, ...]) -> list[dict[str, Any]]:
    return [{"endpoint": {"address": {"pipe": {"path": path}}}} for path in sockets]


def _health_check() -> dict[str, Any]:
    return {
        # Generous, because a worker that is merely busy must not be declared dead while its load moves to the others.
        "timeout": "2s",
        "interval": "1s",
        # Envoy checks an unused cluster once a minute by default, and a shop just started is unused.
        "no_traffic_interval": "1s",
        "no_traffic_healthy_interval": "1s",
        "unhealthy_threshold": 2,
        "healthy_threshold": 1,
        "reuse_connection": True,
        "http_health_check": {"path": "/readyz", "host": "worker"},
    }


def _outliers() -> dict[str, Any]:
    """A worker that cannot be connected to is left alone before its health checks have failed.

    Without this a dead worker attracts the traffic: it always has the fewest requests in flight. What a worker
    answers, be it 500, never counts; a successful health check takes it back at once.
    """
    return {
        "split_external_local_origin_errors": True,
        "consecutive_local_origin_failure": 3,
        "enforcing_consecutive_local_origin_failure": 100,
        "enforcing_local_origin_success_rate": 0,
        "enforcing_consecutive_5xx": 0,
        "enforcing_consecutive_gateway_failure": 0,
        "enforcing_success_rate": 0,
        "interval": "1s",
        "base_ejection_time": "2s",
        "max_ejection_time": "5s",
        "max_ejection_percent": 50,
    }


def _bootstrap(model: EdgeModel) -> dict[str, Any]:
    jwt = {"config_discovery": {"config_source": file_source(model, "ecds.json"), "type_urls": [JWT]}}
    routes = {"rds": {"route_config_name": ROUTE_CONFIG, "config_source": file_source(model, "rds.json")}}
    secret = {"name": CERTIFICATE, "sds_config": file_source(model, "sds.json")}
    https = listener(model, routes=routes, jwt=jwt, sds={"tls_certificate_sds_secret_configs": [secret]})
    return {
        "node": {"id": "edge-1", "cluster": "doorbuster-edge"},
        "admin": {"address": {"pipe": {"path": model.admin_socket, "mode": 0o600}}},
        "dynamic_resources": {"cds_config": file_source(model, "cds.json")},
        "static_resources": {"listeners": [https], "clusters": collector_clusters(model)},
        "overload_manager": _overload(),
        "stats_config": {"stats_matcher": {"inclusion_list": {"patterns": _kept_stats()}}},
    }


def _overload() -> dict[str, Any]:
    heap = "envoy.resource_monitors.fixed_heap"
    connections = "envoy.resource_monitors.global_downstream_max_connections"
    monitors = f"{TYPE_PREFIX}extensions.resource_monitors"

    def at(action: str, value: float) -> dict[str, Any]:
        return {"name": f"envoy.overload_actions.{action}", "triggers": [{"name": heap, "threshold": {"value": value}}]}

    return {
        "refresh_interval": "0.25s",
        "resource_monitors": [
            {
                "name": connections,
                "typed_config": {
                    "@type": f"{monitors}.downstream_connections.v3.DownstreamConnectionsConfig",
                    "max_active_downstream_connections": MAX_CONNECTIONS,
                },
            },
            {
                "name": heap,
                "typed_config": {
                    "@type": f"{monitors}.fixed_heap.v3.FixedHeapConfig",
                    "max_heap_size_bytes": HEAP_LIMIT_BYTES,
                },
            },
        ],
        "actions": [
            at("shrink_heap", 0.85),
            at("disable_http_keepalive", 0.90),
            at("stop_accepting_requests", 0.95),
        ],
    }


def _kept_stats() -> list[dict[str, Any]]:
    """What an operator reads; each metric left out is memory and a lock saved on the hot path."""
    prefixes = ["server.", "listener_manager.", "overload."]
    pattern = (
        r"(http\.edge\.(downstream_(rq|cx)_(active|total|[1-5]xx|timeout|header_timeout)|jwt_authn\..*"
        r"|rds\..*\.update_.*|no_route)|cluster\.[a-z0-9-]+\.(upstream_(rq|cx)_(active|total|[1-5]xx|retry|retry_.*|timeout"
        r"|connect_fail|pending_overflow)|membership_.*|health_check\..*)|cluster_manager\..*"
        r"|edge\.http_local_rate_limit\..*|extension_config_discovery\..*)"
    )
    return [{"prefix": prefix} for prefix in prefixes] + [{"safe_regex": {"regex": pattern}}]
