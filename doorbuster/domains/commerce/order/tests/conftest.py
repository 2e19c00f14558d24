"""Fixtures of order's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from doorbuster import invariants
from doorbuster.engines.embedded import PostgresServer


@pytest.fixture(scope="session")
def dsn(postgres: PostgresServer) -> str:
    """The shop's database as its superuser."""
    return postgres.dsn(database="doorbuster")


@pytest.fixture(scope="module", autouse=True)
async def _books_are_sound(dsn: str, shop: Any, sandbox: Any) -> AsyncIterator[None]:
    """After all tests of a file every invariant holds, whatever it killed on the way."""
    yield
    await sandbox.faults()
    _, breaches = await invariants.check(dsn)
    assert breaches == []
