"""The default-deny route table: exact paths first, then templates by exactness, then 405, then 404 for all the rest."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from doorbuster.engines.edge.model import CLUSTER, AmbiguousRoutes
from doorbuster.engines.edge.refusals import TYPE_PREFIX, set_header
from doorbuster.map import Access, Route

ROUTE_CONFIG = "edge"
JWT_FILTER = "envoy.filters.http.jwt_authn"
RATE_FILTER = "envoy.filters.http.local_ratelimit"
BUFFER_FILTER = "envoy.filters.http.buffer"
BODYLESS = frozenset({"GET", "HEAD", "DELETE"})
BODYLESS_LIMIT = 1_024
"""Bytes a request may carry on a method that has no use for a body."""
BURST_S = 5
"""A bucket holds this many seconds of its rate."""
UNLIMITED = 1_000_000
LIMIT_METADATA = "doorbuster.limit"

PER_ROUTE_JWT = f"{TYPE_PREFIX}extensions.filters.http.jwt_authn.v3.PerRouteConfig"
PER_ROUTE_BUFFER = f"{TYPE_PREFIX}extensions.filters.http.buffer.v3.BufferPerRoute"
LOCAL_RATE_LIMIT = f"{TYPE_PREFIX}extensions.filters.http.local_ratelimit.v3.LocalRateLimit"
PREVIOUS_HOSTS = f"{TYPE_PREFIX}extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
PREVIOUS_PRIORITIES = f"{TYPE_PREFIX}extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"

_PARAMETER = re.compile(r"\{[^/{}]+\}")
_Shape = tuple[str, ...]


def route_configuration(
    routes: tuple[Route, ...], cluster_of: Callable[[Route], str] = lambda _: CLUSTER
) -> dict[str, Any]:
    """Envoy's RouteConfiguration for these routes, each to its cluster.

    Raises `AmbiguousRoutes` when the order could not decide.
    """
    by_shape = _by_shape(routes)
    shapes = sorted(by_shape, key=_exactness)
    _refuse_ambiguity(shapes)
    table: list[dict[str, Any]] = []
    for shape in shapes:
        for route in by_shape[shape]:
            table += _entries(route, cluster_of(route))
    table += [_wrong_method(shape, _allowed(shape, by_shape)) for shape in shapes]
    table.append(_direct("no tunnel", {"connect_matcher": {}}, 404))
    table.append(_direct("not found", {"prefix": "/"}, 404))
    host: dict[str, Any] = {"name": "shop", "domains": ["*"], "routes": table}
    limited = [route for route in routes if route.rate_per_s > 0]
    if limited:
        host["typed_per_filter_config"] = {RATE_FILTER: _buckets(limited)}
    return {
        "name": ROUTE_CONFIG,
        "validate_clusters": True,
        "virtual_hosts": [host],
        "response_headers_to_add": [set_header("x-content-type-options", "nosniff")],
        "response_headers_to_remove": ["x-envoy-upstream-service-time", "x-envoy-ratelimited", "x-envoy-overloaded"],
    }


def _by_shape(routes: Iterable[Route]) -> dict[_Shape, list[Route]]:
    """Routes grouped by their path with every parameter named alike."""
    groups: dict[_Shape, list[Route]] = {}
    for route in routes:
        group = groups.setdefault(_shape(route.path), [])
        if any(other.method == route.method for other in group):
            raise AmbiguousRoutes(f"{route.method} {route.path} is in the map twice")
        group.append(route)
    return groups


def _shape(path: str) -> _Shape:
    return tuple("{}" if _PARAMETER.fullmatch(part) else part for part in path.split("/"))


def _exactness(shape: _Shape) -> tuple[int, tuple[bool, ...], _Shape]:
    """Sort key: fewer parameters first, then the one whose first parameter stands later."""
    return shape.count("{}"), tuple(part == "{}" for part in shape), shape


def _covers(wide: _Shape, narrow: _Shape) -> bool:
    """Whether every path of `narrow` is also a path of `wide`."""
    return len(wide) == len(narrow) and all(a in ("{}", b) for a, b in zip(wide, narrow, strict=True))


def _refuse_ambiguity(shapes: list[_Shape]) -> None:
    for index, one in enumerate(shapes):
        for two in shapes[index + 1 :]:
            meet = len(one) == len(two) and all(a == b or "{}" in (a, b) for a, b in zip(one, two, strict=True))
            if meet and not _covers(two, one):
                raise AmbiguousRoutes(f"{'/'.join(one)} and {'/'.join(two)} overlap and neither is more exact")


def _allowed(shape: _Shape, by_shape: dict[_Shape, list[Route]]) -> str:
    """The Allow header of a path: the methods of every route that can answer it."""
    methods = {route.method for wide, routes in by_shape.items() if _covers(wide, shape) for route in routes}
    if "GET" in methods:
        methods.add("HEAD")
    return ", ".join(sorted(methods))


def _path_match(shape: _Shape) -> dict[str, Any]:
    if "{}" not in shape:
        return {"path": "/".join(shape)}
    pattern = "/".join("[^/]+" if part == "{}" else re.escape(part) for part in shape)
    return {"safe_regex": {"regex": pattern}}


def _entries(route: Route, cluster: str) -> list[dict[str, Any]]:
    """The table's lines for one route of the map: writes have one line with and one without an Idempotency-Key."""
    if route.method in BODYLESS:
        return [_entry(route, cluster, repeatable=route.method != "DELETE")]
    keyed = _entry(route, cluster, repeatable=True)
    keyed["match"]["headers"].append({"name": "idempotency-key", "present_match": True})
    return [keyed, _entry(route, cluster, repeatable=False)]


def _entry(route: Route, cluster: str, *, repeatable: bool) -> dict[str, Any]:
    name = _label(route)
    method = {"safe_regex": {"regex": "GET|HEAD"}} if route.method == "GET" else {"exact": route.method}
    action: dict[str, Any] = {
        "cluster": cluster,
        "timeout": f"{route.timeout_s:g}s",
        "retry_policy": _retry_policy(repeatable=repeatable),
    }
    limit = min(route.body_limit, BODYLESS_LIMIT) if route.method in BODYLESS else route.body_limit
    filters: dict[str, Any] = {
        BUFFER_FILTER: {"@type": PER_ROUTE_BUFFER, "buffer": {"max_request_bytes": limit}},
        JWT_FILTER: _jwt_per_route(required=route.access is not Access.OPEN),
    }
    entry = {
        "name": name,
        "match": _path_match(_shape(route.path)) | {"headers": [{"name": ":method", "string_match": method}]},
        "route": action,
        "typed_per_filter_config": filters,
    }
    if route.rate_per_s > 0:
        entry["metadata"] = {"filter_metadata": {LIMIT_METADATA: {"bucket": name}}}
    if route.access is Access.OPEN:
        # The filter that would take the token off is switched off here, and a worker has no use for it.
        entry["request_headers_to_remove"] = ["authorization"]
    return entry


def _jwt_per_route(*, required: bool) -> dict[str, Any]:
    return {"@type": PER_ROUTE_JWT} | ({"requirement_name": "required"} if required else {"disabled": True})


def _label(route: Route) -> str:
    return f"{route.method} {route.path}"


def _retry_policy(*, repeatable: bool) -> dict[str, Any]:
    """A request that may be repeated is retried when no answer began; any other only when no byte of it was sent."""
    return {
        "retry_on": "connect-failure,refused-stream" + (",reset" if repeatable else ""),
        "num_retries": 2,
        "retry_back_off": {"base_interval": "0.010s", "max_interval": "0.100s"},
        "retry_host_predicate": [
            {"name": "envoy.retry_host_predicates.previous_hosts", "typed_config": {"@type": PREVIOUS_HOSTS}}
        ],
        # After a failure a standby is asked, where there is one; without one this changes nothing.
        "retry_priority": {
            "name": "envoy.retry_priorities.previous_priorities",
            "typed_config": {"@type": PREVIOUS_PRIORITIES, "update_frequency": 1},
        },
        # The dice favour the worker with the fewest requests, which a dead one always is: 0.75 ** 32 is small enough.
        "host_selection_retry_max_attempts": 32,
    }


def _buckets(limited: list[Route]) -> dict[str, Any]:
    """One token bucket per limited route, found by the line's metadata, so that a route's lines share one bucket."""
    bucket_of_line = {
        "descriptor_key": "route",
        "metadata_key": {"key": LIMIT_METADATA, "path": [{"key": "bucket"}]},
        "source": "ROUTE_ENTRY",
    }
    descriptors = [
        {
            "entries": [{"key": "route", "value": _label(route)}],
            "token_bucket": {
                "max_tokens": BURST_S * route.rate_per_s,
                "tokens_per_fill": route.rate_per_s,
                "fill_interval": "1s",
            },
        }
        for route in limited
    ]
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    return {
        "@type": LOCAL_RATE_LIMIT,
        "stat_prefix": "edge",
        "filter_enabled": always,
        "filter_enforced": always,
        "rate_limits": [{"actions": [{"metadata": bucket_of_line}]}],
        "descriptors": descriptors,
        # Envoy demands a bucket for the routes that have no limit of their own: one that never runs dry.
        "token_bucket": {"max_tokens": UNLIMITED, "tokens_per_fill": UNLIMITED, "fill_interval": "1s"},
        "always_consume_default_token_bucket": False,
    }


def _wrong_method(shape: _Shape, allow: str) -> dict[str, Any]:
    entry = _direct("405 " + "/".join(shape), _path_match(shape), 405)
    entry["response_headers_to_add"] = [set_header("allow", allow)]
    return entry


def _direct(name: str, match: dict[str, Any], status: int) -> dict[str, Any]:
    return {
        "name": name,
        "match": match,
        "direct_response": {"status": status},
        "typed_per_filter_config": {
            JWT_FILTER: _jwt_per_route(required=False),
            # Otherwise the edge would wait for a body that nobody reads.
            BUFFER_FILTER: {"@type": PER_ROUTE_BUFFER, "disabled": True},
        },
    }
