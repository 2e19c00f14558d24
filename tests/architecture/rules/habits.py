"""Habits of every file: limits of size, names that say something, no swallowed errors, nothing of one machine."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.architecture.rules.source import Breach, Source

FILE_LINES = 400
FUNCTION_LINES = 60
SIZED = frozenset({".py", ".sql", ".css", ".js", ".html", ".j2"})

LONGER: dict[str, tuple[int, str]] = {}
"""`path` or `path::function`: (its lines today, why). The number may only shrink; the entry follows it."""

BANNED = frozenset({"utils", "helpers", "common", "core", "manager", "base", "data", "info"})

# Written in pieces, so that this file does not mention what it forbids.
_MACHINE = re.compile(
    "|".join(
        [
            r"\.\./sha" + "red",
            r"(?<![\w.-])/wo" + r"rk/",
            r"/tmp/pro" + "be",
            r"py" + r"pi\.(org|python)",
            r"pythonho" + r"sted\.org",
            r"npm" + r"(js\.(org|com)|mirror)",
            r"--(extra-)?index-" + "url",
            r"--trusted-" + "host",
            r"PIP_(EXTRA_)?INDEX_" + "URL",
            r"https?://\S*(artifac" + r"tory|nex" + r"us)\S*",
            r"https?://[^\s/]+(/[^\s/]+)*/sim" + r"ple\b",
        ]
    )
)


def sizes(root: Path, sources: tuple[Source, ...], longer: dict[str, tuple[int, str]]) -> Iterator[Breach]:
    """No file over 400 lines, no function over 60, but for listed ones that may only shrink."""
    measured: dict[str, tuple[int, int, int]] = {}
    for source in sources:
        for function in source.functions():
            lines = (function.end_lineno or function.lineno) - function.lineno + 1
            key = f"{source.path}::{function.name}"
            measured[key] = max(measured.get(key, (0, 0, 0)), (lines, function.lineno, FUNCTION_LINES))
    for place in ("doorbuster", "tests"):
        for file in sorted((root / place).rglob("*")):
            if file.suffix in SIZED and file.is_file():
                lines = len(file.read_text().splitlines())
                measured[file.relative_to(root).as_posix()] = (lines, 1, FILE_LINES)
    for name, (lines, at, limit) in measured.items():
        allowed = longer[name][0] if name in longer else limit
        if lines > allowed:
            yield Breach(name.split("::")[0], at, f"{name} has {lines} lines, {allowed} are allowed")
        elif name in longer and lines < allowed:
            yield Breach(name.split("::")[0], at, f"{name} shrank to {lines} lines: its entry must follow")
    for name in sorted(set(longer) - set(measured)):
        yield Breach(name.split("::")[0], 1, f"{name} is listed as long and has gone: take it off")


def names(root: Path) -> Iterator[Breach]:
    """No module or folder whose name could be anything's."""
    for place in ("doorbuster", "tests"):
        for file in sorted((root / place).rglob("*")):
            if (file.is_dir() or file.suffix == ".py") and file.stem in BANNED:
                yield Breach(file.relative_to(root).as_posix(), 1, f"{file.stem} says nothing")


def swallowed_errors(sources: tuple[Source, ...]) -> Iterator[Breach]:
    """Whoever catches everything raises it again or does something with the error."""
    for source in sources:
        for node in source.nodes:
            if isinstance(node, ast.ExceptHandler) and _is_broad(node.type) and not _is_used(node):
                yield Breach(source.path, node.lineno, "swallows every error: catch what is expected, or use the error")
            elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "suppress":
                for _ in filter(_is_broad, node.args):
                    yield Breach(source.path, node.lineno, "suppresses every error")


def machine_paths(root: Path, files: Iterable[str]) -> Iterator[Breach]:
    """Nothing that is committed names a folder of one machine, or where its packages came from."""
    for name in files:
        try:
            text = (root / name).read_text()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            found = _MACHINE.search(line)
            if found:
                yield Breach(name, number, f"mentions {found.group()}")


def committed(root: Path) -> list[str]:
    """What git has, or would take: tracked files and new ones that are not ignored."""
    asked = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    answer = subprocess.run(asked, cwd=root, capture_output=True, text=True, timeout=10, check=True)
    return sorted(name for name in set(answer.stdout.split("\0")) if name and (root / name).is_file())


def _is_broad(caught: ast.expr | None) -> bool:
    if caught is None:
        return True
    parts = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(ast.unparse(part).split(".")[-1] in {"Exception", "BaseException"} for part in parts)


def _is_used(handler: ast.ExceptHandler) -> bool:
    inside = [node for statement in handler.body for node in ast.walk(statement)]
    if any(isinstance(node, ast.Raise) for node in inside):
        return True
    if any(isinstance(n, ast.Attribute) and n.attr in {"print_exc", "format_exc", "exception"} for n in inside):
        return True
    return handler.name is not None and any(isinstance(n, ast.Name) and n.id == handler.name for n in inside)
