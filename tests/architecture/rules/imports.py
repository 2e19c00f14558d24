"""Who may import what: the layers, the arrows between domains, no cycles, and imports at the top of the file."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator

from doorbuster import map
from tests.architecture.rules.source import Breach, Import, Source

COMPOSITION = frozenset({
    "app", "background", "client", "contracts", "invariants", "on_kafka", "provider_accounts", "provision", "services",
    "single_machine",
})  # fmt: skip
"""Modules directly under doorbuster/ that put the parts together, or speak with the whole."""

_BELOW = {"platform", "engines", "domains"}
_SHOP = {*_BELOW, "composition", "surfaces", "drills", "map", "demo"}
MAY_IMPORT: dict[str, set[str]] = {
    "platform": {"platform"},
    "engines": {"platform", "engines"},
    "engines.edge": {"platform", "engines", "map"},
    "domains": _BELOW,
    "composition": {*_BELOW, "composition", "surfaces", "map", "demo"},
    "surfaces": _SHOP,
    "drills": _SHOP - {"surfaces"},
    "tests": {*_SHOP, "tests"},
    "map": set(),
    "demo": {"demo"},
    "simulators": {"simulators"},
}
"""By layer, the layers of this project that it may import. Nobody else's `simulators`: they are the outside world."""

TESTS_FROM_ABOVE: dict[tuple[str, str], str] = {
    ("doorbuster/platform/tests/test_calls.py", "domains"): "verbs at two distances are shown on verbs that exist",
    ("doorbuster/drills/timedeal/tests/test_shop_drill.py", "surfaces"): "the drill is run by its command",
}
"""(test, layer) that reaches up beyond the fixtures, with its reason. An entry that is not needed is a breach too."""

LATE: dict[str, str] = {
    "doorbuster/platform/tracing.py": "the OpenTelemetry SDK is loaded only while tracing is on",
}
"""Files that import in a call, with their reason. An entry that is not needed is a breach too."""

ONLY_STDLIB = {"demo": {"msgspec"}, "map": {"msgspec"}}
"""Layers that any tool must be able to import, with what they may use besides the standard library."""

COMPOSED = frozenset({"routes", "consumers"})
"""What app.py and background.py alone take from inside a domain, to mount it and to have it hear."""

_COMPOSERS = frozenset({"doorbuster/app.py", "doorbuster/background.py"})


def layer_of(module: str) -> str:
    """The layer of a module of this project, "root" for the package itself, "" for a module of somebody else."""
    match module.split("."):
        case ["tests" | "conftest", *_]:
            return "tests"
        case ["doorbuster"]:
            return "root"
        case ["doorbuster", "engines", "edge", *_]:
            return "engines.edge"
        case ["doorbuster", top, *_]:
            return "composition" if top in COMPOSITION else top
    return ""


def layers(sources: tuple[Source, ...], from_above: dict[tuple[str, str], str]) -> Iterator[Breach]:
    """Imports point left: platform, engines, domains, surfaces and drills.

    A part's own tests keep to its layer. Those of domains stand on a composed shop, so they may use its composition.
    """
    used = set()
    for source in sources:
        here = layer_of(source.module)
        if here == "root":
            continue
        if here not in MAY_IMPORT:
            yield Breach(source.path, 1, f"{source.module} stands in no layer of the architecture")
            continue
        for wanted in source.imports:
            there = layer_of(wanted.module)
            if there == "" and here in ONLY_STDLIB:
                top = wanted.module.split(".")[0]
                if top not in sys.stdlib_module_names | ONLY_STDLIB[here]:
                    yield Breach(source.path, wanted.line, f"{here} imports {top}, which is not the standard library")
            elif there in {"", "root"} or there.split(".")[0] in MAY_IMPORT[here]:
                continue
            elif source.is_test and (source.path, there) in from_above:
                used.add((source.path, there))
            elif not (source.is_test and here == "domains" and there in {"composition", "map"}):
                yield Breach(source.path, wanted.line, f"{here} may not import {wanted.module} ({there})")
    for path, layer in sorted(set(from_above) - used):
        yield Breach(path, 1, f"is listed as a test that uses {layer} and does not: take it off")


def domain_of(module: str) -> tuple[str, tuple[str, ...]] | None:
    """(`group.domain`, what follows inside it) for a module of a domain."""
    match module.split("."):
        case ["doorbuster", "domains", group, name, *rest]:
            return f"{group}.{name}", tuple(rest)
    return None


def domains(sources: tuple[Source, ...]) -> Iterator[Breach]:
    """Between domains the map's arrows hold, and whoever is outside a domain sees only its public names."""
    public = {found[0]: _public(s) for s in sources if s.is_package and (found := domain_of(s.module)) and not found[1]}
    for source in sources:
        here = domain_of(source.module)
        bound: dict[str, str] = {}
        for wanted in source.imports:
            there = domain_of(wanted.module)
            if there is None or (here is not None and here[0] == there[0]):
                continue
            bound[there[0].split(".")[1]] = there[0]
            if here is not None and not _may_see(here[0], there[0]):
                yield Breach(source.path, wanted.line, f"{here[0]} may not see {there[0]}: map.may_see")
            inside = _inside(source, there, wanted, public.get(there[0], frozenset()))
            if inside is not None:
                yield Breach(source.path, wanted.line, f"{inside} is inside {there[0]}: use its public names")
        yield from _reached_inside(source, bound, sources, public)


def cycles(sources: tuple[Source, ...]) -> Iterator[Breach]:
    """No modules import each other in a circle. A package's list of names does not count as a user of its parts."""
    known = {source.module: source for source in sources if not source.is_test}
    edges = {
        module: {wanted.module for wanted in source.imports if wanted.module in known and wanted.module != module}
        for module, source in known.items()
    }
    for circle in _circles(edges):
        yield Breach(known[circle[0]].path, 1, "imports in a circle: " + " -> ".join([*circle, circle[0]]))


def top_of_file(sources: tuple[Source, ...], late: dict[str, str]) -> Iterator[Breach]:
    """Imports stand before everything else, where a reader sees what a file needs."""
    used = set()
    for source in sources:
        allowed = set()
        for statement in source.tree.body:
            if isinstance(statement, ast.Import | ast.ImportFrom):
                allowed.add(id(statement))
            elif isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
                allowed.update(id(inner) for inner in statement.body)
            elif not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
                break
        for node in source.nodes:
            if isinstance(node, ast.Import | ast.ImportFrom) and id(node) not in allowed:
                yield Breach(source.path, node.lineno, "an import that is not at the top of the file")
            elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"__import__", "importlib.import_module"}:
                if source.path in late:
                    used.add(source.path)
                    continue
                yield Breach(source.path, node.lineno, "an import hidden in a call")

    for path in sorted(set(late) - used):
        yield Breach(path, 1, "is listed as one that imports late and does not: take it off")


def _public(package: Source) -> frozenset[str]:
    for node in package.tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return frozenset(ast.literal_eval(node.value))
    return frozenset()


def _may_see(here: str, there: str) -> bool:
    return here in map.BY_ID and there in map.BY_ID and map.may_see(here, there)


def _inside(source: Source, there: tuple[str, tuple[str, ...]], wanted: Import, public: frozenset[str]) -> str | None:
    """The name that an import takes from inside the domain, or None where it takes only what is public."""
    _, rest = there
    if rest and rest[0] == "tests" and source.is_test:
        return None  # what tests lend each other promises nothing to the shop
    if rest and wanted.name is None and len(rest) == 1 and rest[0] in public:
        return None
    if rest:
        if source.path in _COMPOSERS and rest[0] in COMPOSED and len(rest) == 1:
            return None
        return ".".join(rest)
    return wanted.name if wanted.name is not None and wanted.name not in public else None


def _reached_inside(
    source: Source, bound: dict[str, str], sources: tuple[Source, ...], public: dict[str, frozenset[str]]
) -> Iterator[Breach]:
    """`stock.store.x` reaches inside too: an attribute of an imported domain that is one of its modules."""
    modules = {other.module for other in sources} if bound else set()
    for node in source.nodes if bound else ():
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in bound:
            domain = bound[node.value.id]
            if f"doorbuster.domains.{domain}.{node.attr}" in modules and node.attr not in public.get(domain, ()):
                yield Breach(source.path, node.lineno, f"{node.attr} is inside {domain}: use its public names")


def _circles(edges: dict[str, set[str]]) -> Iterator[list[str]]:
    """One circle for each knot of modules: from each start not yet in one, the shortest way back to itself."""
    told: set[str] = set()
    for start in sorted(edges):
        came_from: dict[str, str] = {}
        queue = [start]
        while queue and start not in came_from and start not in told:
            module = queue.pop(0)
            for wanted in sorted(edges[module]):
                if wanted not in came_from:
                    came_from[wanted] = module
                    queue.append(wanted)
        if start in came_from and start not in told:
            circle = [start]
            while came_from[circle[0]] != start:
                circle.insert(0, came_from[circle[0]])
            circle.insert(0, circle.pop())
            told.update(circle)
            yield circle
