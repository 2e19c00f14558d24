"""Fixtures of order's tests."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", autouse=True)
def _books_stay_sound(sound_books: None) -> None:
    """Whatever a file's tests killed on the way."""
