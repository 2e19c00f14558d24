"""A shop whose services run apart, as `doorbuster up --split` starts it, shared by the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from doorbuster.drills.temporary_shop import DrilledShop, temporary_shop


@pytest.fixture(scope="session")
def apart() -> Iterator[DrilledShop]:
    """One process per group, a database for each group, empty."""
    with temporary_shop(workers=1, overrides={"payment_timeout_s": 2.0}, more=["--split"]) as running:
        yield running
