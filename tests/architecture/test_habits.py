"""Limits of size, telling names, no swallowed errors, nothing of one machine: on the project and against plants."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.architecture.plant import REAL, plant, told
from tests.architecture.rules import habits
from tests.architecture.rules.source import ROOT

_LONG = "def f() -> None:\n" + "    print()\n" * 60


def test_files_and_functions_keep_their_limits() -> None:
    assert told(habits.sizes(ROOT, REAL, habits.LONGER)) == []


def test_names_of_modules_say_something() -> None:
    assert told(habits.names(ROOT)) == []


def test_no_error_is_swallowed() -> None:
    assert told(habits.swallowed_errors(REAL)) == []


def test_nothing_committed_names_a_machine_or_where_packages_came_from() -> None:
    names = habits.committed(ROOT)
    assert {"requirements.lock", "doorbuster/map.py", "tests/architecture/test_habits.py"} <= set(names)
    assert told(habits.machine_paths(ROOT, names)) == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("doorbuster/platform/a.py", _LONG),
        ("doorbuster/platform/a.py", "class A:\n    async def g(self) -> None:\n" + "        print()\n" * 60),
        ("doorbuster/platform/a.py", "\n" * 401),
        ("doorbuster/engines/x/schema.sql", "SELECT 1;\n" * 401),
        ("tests/journeys/test_a.py", "\n" * 401),
    ],
)
def test_a_file_or_function_over_its_limit_is_caught(tmp_path: Path, path: str, text: str) -> None:
    assert len(told(habits.sizes(tmp_path, plant(tmp_path, {path: text}), {}))) == 1


def test_what_just_fits_is_no_breach(tmp_path: Path) -> None:
    fits = {"doorbuster/a.py": _LONG.removesuffix("    print()\n"), "doorbuster/b.py": "\n" * 400}
    assert told(habits.sizes(tmp_path, plant(tmp_path, fits), {})) == []


@pytest.mark.parametrize(
    ("allowed", "breach"), [(60, "61 lines, 60 are allowed"), (61, ""), (62, "its entry must follow")]
)
def test_a_listed_function_may_only_shrink_and_its_entry_follows(tmp_path: Path, allowed: int, breach: str) -> None:
    found = plant(tmp_path, {"doorbuster/a.py": _LONG})
    lines = told(habits.sizes(tmp_path, found, {"doorbuster/a.py::f": (allowed, "old")}))
    assert [breach in line for line in lines] == ([True] if breach else [])


def test_a_listed_offender_that_has_gone_is_caught(tmp_path: Path) -> None:
    found = plant(tmp_path, {"doorbuster/a.py": ""})
    assert "take it off" in told(habits.sizes(tmp_path, found, {"doorbuster/a.py::f": (70, "old")}))[0]


@pytest.mark.parametrize("name", sorted(habits.BANNED))
def test_a_name_that_says_nothing_is_caught(tmp_path: Path, name: str) -> None:
    plant(tmp_path, {f"doorbuster/platform/{name}.py": "", f"doorbuster/engines/{name}/__init__.py": ""})
    assert len(told(habits.names(tmp_path))) == 2


@pytest.mark.parametrize(
    "handler",
    [
        "except Exception: pass",
        "except: pass",
        "except BaseException: return False",
        "except (ValueError, Exception): continue",
        "except Exception as error: return None",
        "except Exception:\n            log.warning('odd')",
    ],
)
def test_a_swallowed_error_is_caught(tmp_path: Path, handler: str) -> None:
    text = f"def f():\n    while True:\n        try: g()\n        {handler}\n"
    assert len(told(habits.swallowed_errors(plant(tmp_path, {"doorbuster/a.py": text})))) == 1


def test_a_suppressed_exception_is_caught(tmp_path: Path) -> None:
    found = plant(tmp_path, {"doorbuster/a.py": "with contextlib.suppress(OSError, Exception): f()\n"})
    assert len(told(habits.swallowed_errors(found))) == 1


@pytest.mark.parametrize(
    "handler",
    [
        "except ValueError: pass",
        "except Exception: raise",
        "except Exception as error: answer(error)",
        "except: raise X",
    ],
)
def test_an_error_that_is_expected_or_used_is_no_breach(tmp_path: Path, handler: str) -> None:
    text = f"def f():\n    try: g()\n    {handler}\n"
    assert told(habits.swallowed_errors(plant(tmp_path, {"doorbuster/a.py": text}))) == []


@pytest.mark.parametrize(
    "line",
    [
        "see .." + "/shared/STYLE.md",
        "/wo" + "rk/main/x",
        "cd /tmp/pro" + "be1",
        "https://py" + "pi.org/simple",
        "--index-" + "url https://mirror.example/a",
        "https://files.pythonho" + "sted.org/x.whl",
        "https://mirror.example/a/sim" + "ple/",
        "https://registry.npm" + "js.org/x",
    ],
)
def test_a_path_of_one_machine_or_a_registry_is_caught(tmp_path: Path, line: str) -> None:
    (tmp_path / "requirements.lock").write_text(f"aiohttp==3\n{line}\n")
    found = told(habits.machine_paths(tmp_path, ["requirements.lock"]))
    assert len(found) == 1
    assert found[0].startswith("requirements.lock:2: mentions")


def test_ordinary_text_names_no_machine(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("docs/work/plan.md https://example.com/a-simple-page shared/ at-work/\n")
    assert told(habits.machine_paths(tmp_path, ["README.md"])) == []


def test_new_files_are_scanned_before_they_are_committed_and_ignored_ones_are_not(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True, timeout=10)
    plant(tmp_path, {".gitignore": "/out/\n", "new.py": "", "out/a.py": ""})
    assert habits.committed(tmp_path) == [".gitignore", "new.py"]
