"""The map's routes against what is served: the same methods on the same paths, each under its domain's name."""

from __future__ import annotations

import re
from collections.abc import Iterator

from doorbuster.map import Domain, Route
from tests.architecture.rules.source import Breach

_SHOP_PATH = re.compile(r"/|/livez|/readyz|/metrics|/api/v\d+/((open|async)api\.json|docs|docs/\{name\})")


def served(on_map: tuple[Route, ...], answered: set[tuple[str, str]]) -> Iterator[Breach]:
    """Every (method, path) on the map is answered, and nothing else is."""
    known = {(route.method, route.path) for route in on_map}
    for method, path in sorted(known - answered):
        yield Breach("doorbuster/map.py", 1, f"{method} {path} is on the map and nobody answers it")
    for method, path in sorted(answered - known):
        yield Breach("doorbuster/app.py", 1, f"{method} {path} is answered and not on the map: the edge denies it")
    if len(known) != len(on_map):
        yield Breach("doorbuster/map.py", 1, "the map names a route twice")


def paths(domains: tuple[Domain, ...], of_the_shop: tuple[Route, ...]) -> Iterator[Breach]:
    """A domain answers under /api/v1/its-name; the shop as a whole at its page, its documents and its probes."""
    for domain in domains:
        own = re.compile(rf"/api/v\d+/{re.escape(domain.name)}(/[a-z0-9_{{}}-]+)*")
        for route in domain.routes:
            if not own.fullmatch(route.path):
                yield Breach("doorbuster/map.py", 1, f"{route.method} {route.path} is not under {domain.id}'s name")
    for route in of_the_shop:
        if not _SHOP_PATH.fullmatch(route.path):
            yield Breach("doorbuster/map.py", 1, f"{route.method} {route.path} belongs to no domain")
