"""The edge: Envoy's files made from the map, published without a dropped request, and checked before they count.

`render` is pure: the same model gives the same bytes. `write` publishes them so that a running Envoy takes each file
whole. `validate` asks the real Envoy whether it would accept them. `command` is how Envoy is started on them.
"""

from doorbuster.engines.edge.model import IDENTITY_HEADERS, AmbiguousRoutes, EdgeModel, Service
from doorbuster.engines.edge.publish import EdgeRefused, command, validate, write
from doorbuster.engines.edge.render import render

__all__ = [
    "IDENTITY_HEADERS", "AmbiguousRoutes", "EdgeModel", "EdgeRefused", "Service", "command", "render", "validate",
    "write",
]  # fmt: skip
