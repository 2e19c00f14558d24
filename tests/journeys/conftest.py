"""Journeys run near and looped, and leave books that are sound."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from doorbuster.platform import calls


@pytest.fixture(params=["near", "looped"], autouse=True)
def distance(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every journey runs twice: verbs called as functions, and with everything encoded and decoded on the way."""
    calls.use_looped(request.param == "looped")
    yield request.param
    calls.use_looped(False)


@pytest.fixture(scope="module", autouse=True)
def _books_stay_sound(sound_books: None) -> None:
    """Whatever a file's journeys cut or killed."""
