"""A drill's result as files: JSON for programs, and one HTML page with charts drawn here and nothing loaded."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import msgspec

from doorbuster.drills.timedeal.findings import Mark

FOLDER = Path("reports")
_PAGES = jinja2.Environment(loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True)
_TEMPLATE = "page.html.j2"


class Written(msgspec.Struct, frozen=True):
    """Where the two files are."""

    html: Path
    json: Path


class Chart(msgspec.Struct, frozen=True):
    """One chart of the page. `svg` is markup of our own making; everything else is escaped."""

    title: str
    note: str
    svg: str
    legend: tuple[tuple[str, str], ...] = ()


class Table(msgspec.Struct, frozen=True):
    """One table of the page; `numbers` are the columns set to the right."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int] = frozenset()
    note: str = ""


def render(*, marks: Sequence[Mark], **fields: Any) -> str:
    """The page: `title`, `subtitle`, `tiles`, `charts`, `tables`, `footer`, and the marks with their verdict."""
    missed = sum(not mark.passed for mark in marks)
    return _PAGES.get_template(_TEMPLATE).render(marks=marks, missed=missed, passed=not missed, **fields)


def write(name: str, html: Path | None, result: Any, page: str) -> Written:
    """Both files, into ./reports unless told otherwise."""
    target = html or FOLDER / f"{name}.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_suffix(".json")
    beside.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1))
    target.write_text(page)
    return Written(target, beside)


def keep_logs(logs: Path, drill: str) -> Path:
    """Copy the logs of a shop that is about to be removed; a mark was missed and somebody will ask why."""
    kept = FOLDER / f"{drill}-logs"
    shutil.copytree(logs, kept, dirs_exist_ok=True)
    return kept
