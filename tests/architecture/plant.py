"""Plants files into a temporary tree, so that a rule can be seen to catch its breach."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.architecture.rules.source import Breach, Source, read

REAL = read()
"""The project itself, read once for all tests."""


def plant(root: Path, files: dict[str, str]) -> tuple[Source, ...]:
    """Write the files (path from the root: text) and read the tree."""
    for path, text in files.items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    return read(root)


def told(breaches: Iterable[Breach]) -> list[str]:
    """Breaches as a reader sees them: `path:line: why`."""
    return [str(breach) for breach in breaches]
