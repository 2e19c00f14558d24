"""Reads a tree of sources once, for the rules: every Python file with its syntax tree and what it imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[3]
PLACES = ("doorbuster", "tests", "conftest.py")
"""Where the project's Python lies, from the root of a tree."""


@dataclass(frozen=True)
class Breach:
    """One place that breaks a rule."""

    path: str
    line: int
    why: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.why}"


@dataclass(frozen=True)
class Import:
    """One imported module, or one name from it. `module` is the deepest module that is meant; `name` what is left."""

    line: int
    module: str
    name: str | None


class Source:
    """One Python file: its path from the root, its dotted module, its syntax tree."""

    def __init__(self, root: Path, file: Path) -> None:
        self.root = root
        self.path = file.relative_to(root).as_posix()
        parts = list(file.relative_to(root).with_suffix("").parts)
        self.is_package = parts[-1] == "__init__"
        self.module = ".".join(parts[:-1] if self.is_package else parts)
        self.text = file.read_text()
        self.tree = ast.parse(self.text, filename=self.path)

    @property
    def is_test(self) -> bool:
        """Whether it is a test, or stands among tests."""
        return "tests" in self.path.split("/")[:-1] or self.path == "conftest.py"

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        """Every node of the tree."""
        return tuple(ast.walk(self.tree))

    @cached_property
    def docstrings(self) -> frozenset[int]:
        """The ids of constants that only say something: strings that stand as statements."""
        return frozenset(
            id(node.value) for node in self.nodes if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        )

    @cached_property
    def imports(self) -> tuple[Import, ...]:
        """What it imports, anywhere in the file. `from package import submodule` counts as the submodule."""
        return tuple(self._imports())

    def strings(self, within: ast.AST | None = None) -> Iterator[tuple[int, str]]:
        """Every string that is used (no docstrings), with its line; an f-string yields its literal pieces."""
        for node in self.nodes if within is None else ast.walk(within):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in self.docstrings:
                yield node.lineno, node.value

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        """Every function, methods and inner ones too."""
        for node in self.nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node

    def _imports(self) -> Iterator[Import]:
        for node in self.nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield Import(node.lineno, alias.name, None)
            elif isinstance(node, ast.ImportFrom):
                start = self._absolute(node)
                for alias in node.names:
                    if _is_module(self.root, f"{start}.{alias.name}"):
                        yield Import(node.lineno, f"{start}.{alias.name}", None)
                    else:
                        yield Import(node.lineno, start, alias.name)

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.module.split(".")
        keep = len(parts) - node.level + (1 if self.is_package else 0)
        return ".".join([*parts[:keep], *([node.module] if node.module else [])])


def read(root: Path = ROOT) -> tuple[Source, ...]:
    """Every Python file of the project that lies under `root`, in the order of their paths."""
    files = [found for place in PLACES for found in _python_files(root / place)]
    return tuple(Source(root, file) for file in sorted(files))


def _python_files(place: Path) -> Iterator[Path]:
    if place.is_file():
        yield place
    elif place.is_dir():
        yield from (file for file in place.rglob("*.py") if "__pycache__" not in file.parts)


def _is_module(root: Path, dotted: str) -> bool:
    place = root.joinpath(*dotted.split("."))
    return place.with_suffix(".py").is_file() or place.is_dir()
