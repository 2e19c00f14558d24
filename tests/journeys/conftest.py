"""Journeys run near and looped, and leave books that are sound."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from doorbuster import invariants
from doorbuster.engines.embedded import PostgresServer
from doorbuster.platform import calls


@pytest.fixture(params=["near", "looped"], autouse=True)
def distance(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every journey runs twice: verbs called as functions, and with everything encoded and decoded on the way."""
    calls.use_looped(request.param == "looped")
    yield request.param
    calls.use_looped(False)


@pytest.fixture(scope="session")
def dsn(postgres: PostgresServer) -> str:
    """The shop's database as its superuser."""
    return postgres.dsn(database="doorbuster")


@pytest.fixture(scope="module", autouse=True)
async def _books_are_sound(dsn: str, shop: Any, sandbox: Any) -> AsyncIterator[None]:
    """After all journeys of a file every invariant holds, whatever was cut or killed."""
    yield
    await sandbox.faults()
    _, breaches = await invariants.check(dsn)
    assert breaches == []
