"""Writes a drill's result: JSON for programs and one HTML page, with charts drawn here and nothing loaded from afar."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from doorbuster.drills.timedeal.findings import BeforeReport, Mark
from doorbuster.drills.timedeal.shop_findings import ShopReport

FOLDER = Path("reports")


class Written(msgspec.Struct, frozen=True):
    """Where the two files are."""

    html: Path
    json: Path


def write_shop(found: ShopReport, html: Path | None) -> Written:
    """Part two: its JSON and its page."""
    name = f"timedeal-{'chaos' if found.chaos else 'calm'}-seed{found.seed}"
    return _write(name, html, found, "")


def write_before(found: BeforeReport, judged: Sequence[Mark], html: Path | None) -> Written:
    """Part one: its JSON and its page."""
    return _write(f"timedeal-before-seed{found.seed}", html, before_result(found, judged), "")


def before_result(found: BeforeReport, judged: Sequence[Mark]) -> dict[str, Any]:
    """Part one as the JSON of the command: the report's own fields, the marks, and whether all of them hold."""
    head = {"drill": "timedeal", "part": "before", "passed": all(mark.passed for mark in judged)}
    fields: dict[str, Any] = msgspec.to_builtins(found)
    return head | fields | {"marks": msgspec.to_builtins(list(judged))}


def keep_logs(logs: Path, found: ShopReport) -> Path:
    """Copy the logs of a shop that is about to be removed; a mark was missed and somebody will ask why."""
    kept = FOLDER / f"timedeal-seed{found.seed}-logs"
    shutil.copytree(logs, kept, dirs_exist_ok=True)
    return kept


def _write(name: str, html: Path | None, result: Any, page: str) -> Written:
    target = html or FOLDER / f"{name}.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_suffix(".json")
    beside.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1))
    target.write_text(page)
    return Written(target, beside)
