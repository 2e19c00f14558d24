"""`doorbuster reconcile` against a real shop: what it prints, what it says to mistakes, and its exit code."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.shop.conftest import Run


def today() -> str:
    return datetime.now(UTC).date().isoformat()


def test_a_day_is_read_matched_and_printed(doorbuster: Run) -> None:
    said = doorbuster("reconcile", "--provider", "sandbox", "--day", "2026-01-05")
    assert said.returncode == 0, said.stderr
    assert "sandbox, 2026-01-05" in said.stdout and "0 rows read" in said.stdout
    answer = json.loads(doorbuster("reconcile", "--provider", "sandbox", "--day", "2026-01-05", "--json").stdout)
    assert answer["reading"]["rows"] == answer["report"]["rows"] == 0 and answer["cases"] == []


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--provider", "nobody", "--day", "2026-01-05"), "no account 'nobody'"),
        (("--provider", "sandbox", "--day", "2026-01-05", "--file", "no-such.csv"), "cannot be read"),
    ],
)
def test_what_cannot_be_reconciled_is_one_clear_line(doorbuster: Run, arguments: tuple[str, ...], why: str) -> None:
    said = doorbuster("reconcile", *arguments)
    assert said.returncode == 1 and why in said.stderr and "Traceback" not in said.stderr


def test_a_file_for_a_provider_without_files_is_refused(doorbuster: Run, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("a,b\n1,2\n")
    said = doorbuster("reconcile", "--provider", "sandbox", "--day", today(), "--file", str(file))
    assert said.returncode == 1 and "no settlement file" in said.stderr
