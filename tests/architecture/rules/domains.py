"""What the inside of a domain looks like: its files, its facts, pure rules, and SQL in one place."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from doorbuster.map import Domain, may_see
from tests.architecture.rules.source import Breach, Source

STANDARD = frozenset({
    "__init__.py", "service.py", "models.py", "events.py", "errors.py", "routes.py", "consumers.py", "rules.py",
    "store.py", "migrations", "invariants.sql", "tests",
})  # fmt: skip
"""The files of a domain. Any may be absent, none has another name."""

EXTRA: dict[str, str] = {
    "item/stock/books.py": "the rows of one batch as values: rules decide on them, store writes what changed",
    "commerce/order/journal.py": "one writer: every transition of orders as one shared transaction",
    "commerce/payment/desk.py": "what operators see and steer, apart from the verbs that move money",
    "commerce/payment/refunding.py": "money back: owed, sent, asked about, confirmed",
    "commerce/payment/resolving.py": "what is open is asked about until it is settled, or a person is told",
    "commerce/payment/sessions.py": "paying in a provider's window: open, confirm, close",
    "commerce/payment/settling.py": "the two batches: how payments begin, and what becomes of their attempts",
    "commerce/payment/store_desk.py": "store.py would be too long: what is looked at, and kept cards",
    "commerce/payment/store_refunds.py": "store.py would be too long: refunds and matters for a person",
    "commerce/payment/store_sessions.py": "store.py would be too long: payments in a window",
    "commerce/payment/store_webhooks.py": "store.py would be too long: what providers told",
    "commerce/payment/webhooks.py": "what providers tell by themselves: verified, counted once, never believed",
    "commerce/ledger/reconciliation.py": "the steps of a day's reconciliation, as a job's chunks or one by one",
    "commerce/order/process.py": "the steps after placing, and their undoing, as a sweeper takes them up again",
    "user/account/keys.py": "the key that signs access tokens, which the edge and the command line need too",
    "user/account/passwords.py": "argon2id in threads with a bounded queue, which is neither a rule nor SQL",
}
"""Files beside the standard ones, each with its reason. An entry whose file has gone is a breach too."""

FOR_UPDATE_ELSEWHERE: dict[str, str] = {
    "doorbuster/domains/user/account/store.py::drop_expired_families": "skips what is locked, deletes in one statement",
    "doorbuster/domains/user/account/store.py::drop_old_attempts": "skips what is locked, deletes in one statement",
    "doorbuster/engines/event_log/cursors.py::leave": "gives the leases up",
    "doorbuster/drills/timedeal/stages.py::_sell_batch": "a stage of a drill that compares ways to lock a hot row",
}
"""`path::function` that locks rows under another name, with its reason."""

_SQL = re.compile(
    r"\s*(SELECT\s|INSERT\s+INTO\s|UPDATE\s+\S+\s+(\w+\s+)?SET\s|DELETE\s+FROM\s|WITH\s+\w+\s*(\([^)]*\)\s*)?AS\s)"
)
_HOLDS_SQL = re.compile(r"store(_[a-z]+)?\.py|rules\.py")
_LOCKS = re.compile(r"\bFOR\s+(NO\s+KEY\s+UPDATE|UPDATE|KEY\s+SHARE|SHARE)\b")
_MAY_LOCK = re.compile(r"_?(lock|take)(_\w+)?|nudge")
_MIGRATION = re.compile(r"\d{4}_[a-z0-9_]+\.sql")
_CLOCK = re.compile(r"(.*\.)?(utc_now|utcnow|now|today|time|time_ns|monotonic|monotonic_ns|perf_counter)")


def files(root: Path, known: tuple[Domain, ...], extra: dict[str, str]) -> Iterator[Breach]:
    """Every folder is a domain of the map, and every domain has the same files."""
    place = root / "doorbuster" / "domains"
    expected = {f"{domain.group}/{domain.name}": domain for domain in known}
    found = set()
    for folder in sorted(f for f in place.glob("*/*") if f.is_dir() and f.name != "__pycache__"):
        name = folder.relative_to(place).as_posix()
        found.add(name)
        if name not in expected or not expected[name].built:
            yield _at(root, folder, f"{name} is not a built domain of the map")
        for file in sorted(folder.iterdir()):
            inside = f"{name}/{file.name}"
            if file.name not in STANDARD and inside not in extra and file.name != "__pycache__":
                yield _at(root, file, f"{file.name} is none of a domain's files")
        for file in sorted((folder / "migrations").glob("*")):
            if not _MIGRATION.fullmatch(file.name):
                yield _at(root, file, "a migration is called 0001_what_it_adds.sql")
    for file in sorted(f for f in (*place.glob("*.*"), *place.glob("*/*.*")) if f.is_file()):
        if file.name != "__init__.py" and "__pycache__" not in file.parts:
            yield _at(root, file, "a file that belongs to no domain")
    for name, domain in expected.items():
        if domain.built and name not in found:
            yield Breach(f"doorbuster/domains/{name}", 1, "is built on the map and has no folder")
    for inside in extra:
        if not (place / inside).exists():
            yield Breach(f"doorbuster/domains/{inside}", 1, "is listed as an extra file and has gone: take it off")


def hears(known: tuple[Domain, ...]) -> Iterator[Breach]:
    """A domain hears only facts that exist, from domains that it could call."""
    by_id = {domain.id: domain for domain in known}
    for domain in known:
        for heard in domain.hears:
            publisher, _, fact = heard.rpartition(".")
            if publisher not in by_id:
                yield Breach("doorbuster/map.py", 1, f"{domain.id} hears {heard}: there is no domain {publisher!r}")
            elif not may_see(domain.id, publisher):
                yield Breach("doorbuster/map.py", 1, f"{domain.id} hears {heard} against the arrows")
            elif fact not in by_id[publisher].publishes:
                yield Breach("doorbuster/map.py", 1, f"{domain.id} hears {heard}, which {publisher} does not publish")


def subscriptions(known: tuple[Domain, ...], made: set[tuple[str, str]]) -> Iterator[Breach]:
    """What is subscribed, as (hearer, `group.domain.Fact`), is what the map says is heard."""
    said = {(domain.id, heard) for domain in known if domain.built for heard in domain.hears}
    for hearer, heard in sorted(said ^ made):
        why = "hears on the map but does not subscribe to" if (hearer, heard) in said else "subscribes off the map to"
        yield Breach("doorbuster/background.py", 1, f"{hearer} {why} {heard}")


def publishes(sources: tuple[Source, ...], known: tuple[Domain, ...]) -> Iterator[Breach]:
    """Each fact on the map is declared in its domain's events.py, and no other is; nobody makes one by hand."""
    for domain in known:
        folder = f"doorbuster/domains/{domain.group}/{domain.name}/"
        own = [source for source in sources if source.path.startswith(folder) and not source.is_test]
        made: dict[str, tuple[str, int]] = {}
        for source in own:
            for line, kind in _facts_declared(source):
                if kind is None:
                    yield Breach(source.path, line, "a fact whose type is not spelt out: declare a FactType")
                elif source.path != folder + "events.py":
                    yield Breach(source.path, line, "a fact that is declared outside events.py")
                else:
                    made[kind] = (source.path, line)
        for fact in domain.publishes:
            if domain.built and fact not in made:
                yield Breach(folder + "events.py", 1, f"{domain.id} publishes {fact} on the map and never declares it")
        for kind, (path, line) in made.items():
            if kind not in domain.publishes:
                yield Breach(path, line, f"{domain.id} declares {kind}, which is not on the map")


def pure_rules(sources: tuple[Source, ...]) -> Iterator[Breach]:
    """rules.py decides: it does not wait, ask a database, or read a clock."""
    for source in sources:
        if not re.fullmatch(r"doorbuster/domains/\w+/\w+/rules\.py", source.path):
            continue
        for node in source.nodes:
            if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
                yield Breach(source.path, node.lineno, "rules do not wait")
            elif isinstance(node, ast.Call) and _CLOCK.fullmatch(ast.unparse(node.func)):
                yield Breach(source.path, node.lineno, "rules do not read a clock: time comes as an argument")
        for wanted in source.imports:
            if wanted.module in {"time", "asyncio", "asyncpg", "doorbuster.platform.clock", "doorbuster.platform.db"}:
                yield Breach(source.path, wanted.line, f"rules do not need {wanted.module}")
        for line, text in source.strings():
            if _SQL.match(text) or _LOCKS.search(text):
                yield Breach(source.path, line, "rules hold no SQL")


def sql_in_store(sources: tuple[Source, ...]) -> Iterator[Breach]:
    """A domain's SQL is in its store.py, where every statement and every lock can be read in one place."""
    for source in sources:
        parts = source.path.split("/")
        # Platform and engines own tables without a store.py; drills and tests look at the tables from outside.
        bound = parts[:2] in (["doorbuster", "domains"], ["doorbuster", "surfaces"]) or parts[-1] == "app.py"
        if bound and not source.is_test and not _HOLDS_SQL.fullmatch(parts[-1]):
            for line, text in source.strings():
                if _SQL.match(text):
                    yield Breach(source.path, line, "SQL outside store.py")


def locks_are_named(sources: tuple[Source, ...], elsewhere: dict[str, str]) -> Iterator[Breach]:
    """Rows are locked only in functions whose name says so, so that the order of locks can be reviewed."""
    seen = set()
    for source in sources:
        if source.is_test or not source.path.startswith("doorbuster/"):
            continue
        for line, text in source.strings():
            if not _LOCKS.search(text):
                continue
            for name in _users_of(source, line):
                if f"{source.path}::{name}" in elsewhere:
                    seen.add(f"{source.path}::{name}")
                elif not _MAY_LOCK.fullmatch(name):
                    yield Breach(source.path, line, f"{name or 'the module'} locks rows: call it lock_… or take_…")
    for stale in sorted(set(elsewhere) - seen):
        yield Breach(stale.split("::")[0], 1, f"{stale} is listed as an exception and locks nothing: take it off")


def _at(root: Path, file: Path, why: str) -> Breach:
    return Breach(file.relative_to(root).as_posix(), 1, why)


def _facts_declared(source: Source) -> Iterator[tuple[int, str | None]]:
    """(line, name) of every FactType; without a name for one that is not spelt out, and for a Fact made by hand."""
    for node in source.nodes:
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func).split(".")[-1]
        if called == "FactType":
            given: list[ast.expr] = [keyword.value for keyword in node.keywords if keyword.arg == "name"]
            given += node.args[1:2]
            kind = given[0].value if given and isinstance(given[0], ast.Constant) else None
            yield node.lineno, kind if isinstance(kind, str) else None
        elif called == "Fact":
            yield node.lineno, None


def _users_of(source: Source, line: int) -> Iterator[str]:
    """The functions that use the string at a line: the innermost around it, or all that name its constant."""
    around = [f for f in source.functions() if f.lineno <= line <= (f.end_lineno or f.lineno)]
    if around:
        yield max(around, key=lambda function: function.lineno).name
        return
    names = set()
    for statement in source.tree.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.lineno <= line <= (
            statement.end_lineno or 0
        ):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            names |= {ast.unparse(target) for target in targets}
    users = [f.name for f in source.functions() if names & {n.id for n in ast.walk(f) if isinstance(n, ast.Name)}]
    yield from users or [""]
