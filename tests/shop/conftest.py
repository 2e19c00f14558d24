"""A whole shop as `doorbuster up` starts it, shared by the tests of this folder."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from doorbuster.drills.temporary_shop import DrilledShop, temporary_shop

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def shop_up() -> Iterator[DrilledShop]:
    """PostgreSQL, two workers, provider and edge, empty."""
    with temporary_shop(workers=2, overrides={"payment_timeout_s": 2.0}) as running:
        yield running


@pytest.fixture
def doorbuster(shop_up: DrilledShop) -> Run:
    """The command line, aimed at the running shop."""

    def run(*arguments: str, timeout_s: float = 90) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "doorbuster.surfaces.cli.main", *arguments, "--data", str(shop_up.data)]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)

    return run


@pytest.fixture
def products(tmp_path: Path) -> Path:
    """A small catalogue as Shopify exports it."""
    file = tmp_path / "products.csv"
    file.write_text(
        "Handle,Title,Vendor,Option1 Name,Option1 Value,Variant Price,Variant Inventory Qty,Image Src,Mystery\n"
        "trail-shoe,Trail Shoe,Tarn,Size,230,50.00,5,https://example.com/a.jpg,x\n"
        "trail-shoe,,,,240,55.00,7,,\n"
        "trail-shoe,,,,,,,https://example.com/b.jpg,\n"
        "mug,Mug,Kiln,Title,Default Title,12.50,3,,\n"
    )
    return file
