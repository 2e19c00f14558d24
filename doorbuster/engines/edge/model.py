"""What the edge is told: where it listens, whom it trusts, which workers stand behind it and which routes exist."""

from __future__ import annotations

import json

import msgspec

from doorbuster.map import Route

IDENTITY_HEADERS = {"sub": "x-door-sub", "roles": "x-door-roles"}
"""Claim of the verified token → header a worker believes. `roles` is one string, separated by spaces."""

IDENTITY_PREFIX = "x-door-"
"""Every header that starts so is taken off each request before anything looks at it; only the token can set one."""

CLUSTER = "shop"
PRIVATE_JWK_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


class AmbiguousRoutes(ValueError):
    """Two routes of the map claim the same path and method and neither is the more exact one."""


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
    certificate_path: str
    key_path: str
    jwks: str
    """The public keys that sign access tokens, as a JWKS document."""
    issuer: str
    access_log_path: str
    admin_socket: str
    """Envoy's admin interface: a Unix socket that must stand in a directory of mode 0700."""
    host: str = "127.0.0.1"
    audience: str = "doorbuster"
    concurrency: int = 1
    request_timeout_s: float = 15.0
    """How long a client may take to send one whole request."""
    headers_timeout_s: float = 5.0

    def __post_init__(self) -> None:
        if not self.upstreams:
            raise ValueError("the edge needs at least one upstream socket")
        for path in (self.directory, self.certificate_path, self.key_path, self.access_log_path, *self.sockets):
            if not path.startswith("/"):
                raise ValueError(f"the edge needs absolute paths, got {path!r}")
        for path in self.sockets:
            # The kernel's sockaddr_un holds 108 bytes with the final NUL; Envoy would only say "path too long".
            if len(path.encode()) > 107:
                raise ValueError(f"the socket path is longer than 107 bytes: {path}")
        keys = json.loads(self.jwks)["keys"]
        if any(PRIVATE_JWK_MEMBERS & key.keys() for key in keys):
            raise ValueError("the JWKS for the edge holds private key material")

    @property
    def sockets(self) -> tuple[str, ...]:
        """All Unix sockets of the model."""
        return (*self.upstreams, *self.standby, self.admin_socket)
