"""What the edge is told: where it listens, whom it trusts, which workers stand behind it and which routes exist."""

from __future__ import annotations

import json
import re
from urllib.parse import urlsplit

import msgspec

from doorbuster.map import Route

IDENTITY_HEADERS = {"sub": "x-door-sub", "roles": "x-door-roles"}
"""Claim of the verified token → header a worker believes. `roles` is one string, separated by spaces."""

EDGE_HEADER = "x-door-edge"
IDENTITY_PREFIX = "x-door-"
"""Every header that starts so is taken off each request before anything looks at it; only the token can set one."""

CLUSTER = "shop"
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
PRIVATE_JWK_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


class AmbiguousRoutes(ValueError):
    """Two routes of the map claim the same path and method and neither is the more exact one."""


class Service(msgspec.Struct, frozen=True):
    """A part of the shop that runs apart: its name (letters, digits, dashes), its workers' sockets, its routes."""

    name: str
    upstreams: tuple[str, ...]
    routes: tuple[Route, ...]
    standby: tuple[str, ...] = ()


class EdgeModel(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the edge's files are made from. Paths are absolute; times are seconds.

    Raises ValueError for a model that would open a hole: no worker, a relative path, private keys in the JWKS.
    """

    directory: str
    """Where `write` puts the files; Envoy's bootstrap names them by this path."""
    port: int
    routes: tuple[Route, ...]
    upstreams: tuple[str, ...]
    """One Unix socket per worker."""
    standby: tuple[str, ...] = ()
    """Sockets of workers that get requests only while none of `upstreams` can be reached."""
    services: tuple[Service, ...] = ()
    """Parts of the shop that run apart; what none of them lists goes to `upstreams`."""
    certificate_path: str
    key_path: str
    jwks: str
    """The public keys that sign access tokens, as a JWKS document."""
    issuer: str
    access_log_path: str
    admin_socket: str
    """Envoy's admin interface: a Unix socket that must stand in a directory of mode 0700."""
    edge_secret: str = ""
    """Shown to services that listen on a network, so that they believe who the edge says is calling."""
    host: str = "127.0.0.1"
    audience: str = "doorbuster"
    concurrency: int = 1
    request_timeout_s: float = 15.0
    """How long a client may take to send one whole request."""
    headers_timeout_s: float = 5.0
    otlp_endpoint: str = ""
    """Where spans are sent, `http://host:port`; empty: the edge traces nothing."""
    trace_percent: float = 100.0

    def __post_init__(self) -> None:
        if not self.upstreams:
            raise ValueError("the edge needs at least one upstream socket")
        for path in (self.directory, self.certificate_path, self.key_path, self.access_log_path, *self.sockets):
            if not path.startswith("/"):
                raise ValueError(f"the edge needs absolute paths, got {path!r}")
        names = [CLUSTER, *(service.name for service in self.services)]
        if len(set(names)) != len(names) or not all(_NAME.fullmatch(name) for name in names):
            raise ValueError(f"services need different, plain names, got {names}")
        if not all(service.upstreams for service in self.services):
            raise ValueError("every service needs at least one upstream socket")
        for path in self.sockets:
            # The kernel's sockaddr_un holds 108 bytes with the final NUL; Envoy would only say "path too long".
            if len(path.encode()) > 107:
                raise ValueError(f"the socket path is longer than 107 bytes: {path}")
        collector = urlsplit(self.otlp_endpoint)
        if self.otlp_endpoint and (collector.scheme != "http" or not collector.hostname):
            raise ValueError(f"the edge sends spans to http://host:port, not to {self.otlp_endpoint!r}")
        keys = json.loads(self.jwks)["keys"]
        if any(PRIVATE_JWK_MEMBERS & key.keys() for key in keys):
            raise ValueError("the JWKS for the edge holds private key material")

    @property
    def sockets(self) -> tuple[str, ...]:
        """All Unix sockets of the model."""
        apart = [path for service in self.services for path in (*service.upstreams, *service.standby)]
        return (*self.upstreams, *self.standby, *apart, self.admin_socket)

    @property
    def clusters(self) -> tuple[Service, ...]:
        """Every cluster, that of all the rest first."""
        return (Service(CLUSTER, self.upstreams, (), self.standby), *self.services)

    def cluster_of(self, route: Route) -> str:
        """Which cluster answers a route."""
        return next((service.name for service in self.services if route in service.routes), CLUSTER)
