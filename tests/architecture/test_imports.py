"""The import rules hold on the project, and each catches what is planted against it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.architecture.plant import REAL, plant, told
from tests.architecture.rules import imports

STOCK = "doorbuster/domains/item/stock/"
ORDER = "doorbuster/domains/commerce/order/"
STOCK_FILES = {
    STOCK + "__init__.py": "from doorbuster.domains.item.stock.service import reserve\n__all__ = ['reserve']\n",
    STOCK + "service.py": "from doorbuster.domains.item.stock import store\ndef reserve() -> None: ...\n",
    STOCK + "store.py": "X = 1\n",
    STOCK + "routes.py": "ROUTES = ()\n",
}


def test_imports_point_left() -> None:
    assert told(imports.layers(REAL, imports.TESTS_FROM_ABOVE)) == []


def test_domains_see_only_what_the_map_allows_and_only_public_names() -> None:
    assert told(imports.domains(REAL)) == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert told(imports.cycles(REAL)) == []


def test_imports_stand_at_the_top_of_the_file() -> None:
    assert told(imports.top_of_file(REAL, imports.LATE)) == []


def test_the_rules_read_the_whole_project() -> None:
    layers = {imports.layer_of(source.module) for source in REAL}
    assert layers >= set(imports.MAY_IMPORT)
    assert len(REAL) > 150


@pytest.mark.parametrize(
    ("path", "text", "breach"),
    [
        ("doorbuster/platform/db.py", "from doorbuster.engines import event_log\n", "platform may not import"),
        ("doorbuster/platform/db.py", "import doorbuster.domains.item.stock\n", "platform may not import"),
        ("doorbuster/platform/db.py", "from doorbuster import map\n", "platform may not import doorbuster.map"),
        ("doorbuster/engines/event_log/log.py", "from doorbuster.domains.item import stock\n", "engines may not"),
        ("doorbuster/engines/event_log/log.py", "from doorbuster.map import ROUTES\n", "may not import doorbuster.map"),
        ("doorbuster/engines/log.py", "def f():\n    from doorbuster.surfaces import cli\n", ":2: engines may not"),
        (ORDER + "service.py", "from doorbuster.surfaces.cli import main\n", "domains may not"),
        (ORDER + "service.py", "from doorbuster.map import BY_ID\n", "domains may not"),
        (ORDER + "service.py", "from .....doorbuster.drills import load\n", "domains may not"),
        ("doorbuster/app.py", "from doorbuster.drills import load\n", "composition may not"),
        ("doorbuster/simulators/psp.py", "from doorbuster.platform import ids\n", "simulators may not"),
        ("doorbuster/drills/a.py", "from doorbuster.surfaces import cli\n", "drills may not"),
        ("doorbuster/surfaces/cli/up.py", "from doorbuster.simulators import psp\n", "surfaces may not"),
        ("tests/journeys/test_a.py", "from doorbuster.simulators import psp\n", "tests may not"),
        ("conftest.py", "import doorbuster.simulators\n", "tests may not"),
        ("doorbuster/demo/__init__.py", "import httpx\n", "not the standard library"),
        ("doorbuster/demo/__init__.py", "from doorbuster.platform import money\n", "demo may not"),
        ("doorbuster/map.py", "from doorbuster.platform import money\n", "map may not"),
        ("doorbuster/map.py", "import pydantic\n", "not the standard library"),
        ("doorbuster/shared_things.py", "X = 1\n", "stands in no layer"),
        ("doorbuster/platform/tests/test_db.py", "from doorbuster.domains.item import stock\n", "platform may not"),
        (ORDER + "tests/test_a.py", "from doorbuster.surfaces.cli import main\n", "domains may not"),
    ],
)
def test_an_import_that_points_right_is_caught(tmp_path: Path, path: str, text: str, breach: str) -> None:
    found = plant(tmp_path, {"doorbuster/surfaces/__init__.py": "", "doorbuster/map.py": "", path: text})
    assert [line for line in told(imports.layers(found, {})) if line.startswith(path) and breach in line]


def test_what_the_layers_allow_is_not_a_breach(tmp_path: Path) -> None:
    found = plant(tmp_path, {
        "doorbuster/__init__.py": "__version__ = '1'\n",
        "doorbuster/engines/edge/model.py": "from doorbuster.map import Route\nfrom doorbuster.platform import ids\n",
        "doorbuster/app.py": "from doorbuster import __version__, map\nfrom doorbuster.domains.item import stock\n",
        "doorbuster/demo/__init__.py": "import json\nimport msgspec\nfrom doorbuster.demo import deals\n",
        "doorbuster/drills/a.py": "from doorbuster import client\nimport aiohttp\n",
        ORDER + "tests/conftest.py": "from doorbuster import invariants\n",
    })  # fmt: skip
    assert told(imports.layers(found, {})) == []


def test_an_exception_that_is_not_needed_is_caught(tmp_path: Path) -> None:
    found = plant(tmp_path, {"doorbuster/platform/tests/test_a.py": "import json\n"})
    listed = {("doorbuster/platform/tests/test_a.py", "domains"): "once upon a time"}
    assert "take it off" in told(imports.layers(found, listed))[0]


@pytest.mark.parametrize(
    ("path", "text", "breach"),
    [
        ("doorbuster/domains/item/price/service.py", "from doorbuster.domains.item import stock\n", "may not see"),
        (STOCK + "service.py", "from doorbuster.domains.commerce import order\n", "may not see commerce.order"),
        (ORDER + "service.py", "from doorbuster.domains.activation import deal\n", "may not see activation.deal"),
        ("doorbuster/domains/search/query/service.py", "import doorbuster.domains.review.rating\n", "may not see"),
        ("doorbuster/domains/item/nowhere/service.py", "from doorbuster.domains.user import account\n", "may not see"),
        (ORDER + "service.py", "from doorbuster.domains.item.stock import store\n", "store is inside item.stock"),
        (ORDER + "service.py", "from doorbuster.domains.item.stock.store import X\n", "store is inside item.stock"),
        (ORDER + "service.py", "import doorbuster.domains.item.stock.store as s\n", "store is inside item.stock"),
        (ORDER + "service.py", "from doorbuster.domains.item.stock import hidden\n", "hidden is inside item.stock"),
        (ORDER + "service.py", "from ...item.stock.service import reserve\n", "service is inside item.stock"),
        (ORDER + "service.py", "from doorbuster.domains.item import stock\nstock.store.X\n", ":2: store is inside"),
        ("doorbuster/surfaces/cli/a.py", "from doorbuster.domains.item.stock import routes\n", "routes is inside"),
        ("doorbuster/app.py", "from doorbuster.domains.item.stock import store\n", "store is inside"),
        ("tests/journeys/test_a.py", "from doorbuster.domains.item.stock import store\n", "store is inside"),
        (ORDER + "service.py", "from doorbuster.domains.item.stock.tests import story\n", "tests.story is inside"),
    ],
)
def test_reaching_against_the_map_or_inside_a_domain_is_caught(
    tmp_path: Path, path: str, text: str, breach: str
) -> None:
    others = {
        "doorbuster/domains/commerce/order/__init__.py": "__all__ = []\n",
        "doorbuster/domains/activation/deal/__init__.py": "__all__ = []\n",
        "doorbuster/domains/user/account/__init__.py": "",
        "doorbuster/domains/item/stock/tests/story.py": "",
    }
    found = plant(tmp_path, STOCK_FILES | others | {path: text})
    assert [line for line in told(imports.domains(found)) if line.startswith(path) and breach in line]


def test_public_names_along_the_arrows_are_no_breach(tmp_path: Path) -> None:
    found = plant(tmp_path, STOCK_FILES | {
        ORDER + "service.py": "from doorbuster.domains.item import stock\nstock.reserve\n",
        ORDER + "process.py": "from doorbuster.domains.item.stock import reserve\n",
        "doorbuster/app.py": "from doorbuster.domains.item.stock import routes\n",
    })  # fmt: skip
    assert told(imports.domains(found)) == []


@pytest.mark.parametrize("length", [2, 3])
def test_a_circle_is_caught_once(tmp_path: Path, length: int) -> None:
    files = {
        f"doorbuster/platform/m{n}.py": f"from doorbuster.platform import m{(n + 1) % length}\n" for n in range(length)
    }
    found = told(imports.cycles(plant(tmp_path, files)))
    assert len(found) == 1
    assert found[0].count(" -> ") == length


def test_a_package_that_lists_its_parts_is_no_circle(tmp_path: Path) -> None:
    assert told(imports.cycles(plant(tmp_path, STOCK_FILES))) == []


@pytest.mark.parametrize(
    "text",
    [
        "def f() -> None:\n    import json\n",
        "X = 1\nimport json\n",
        "try:\n    import json\nexcept ImportError:\n    pass\n",
        "import importlib\nimportlib.import_module('json')\n",
        "__import__('json')\n",
    ],
)
def test_an_import_further_down_is_caught(tmp_path: Path, text: str) -> None:
    assert len(told(imports.top_of_file(plant(tmp_path, {"doorbuster/platform/a.py": text}), {}))) == 1


def test_a_late_import_needs_a_reason_and_a_reason_needs_a_late_import(tmp_path: Path) -> None:
    late = {"doorbuster/platform/a.py": "because"}
    found = plant(tmp_path, {"doorbuster/platform/a.py": "import importlib\nimportlib.import_module('json')\n"})
    assert told(imports.top_of_file(found, late)) == []
    found = plant(tmp_path, {"doorbuster/platform/a.py": "X = 1\n"})
    assert "take it off" in told(imports.top_of_file(found, late))[0]
