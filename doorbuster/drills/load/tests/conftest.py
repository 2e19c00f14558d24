"""A throw-away certificate for the scripted servers of these tests."""

from pathlib import Path

import pytest

from doorbuster.drills.load.tests.scripted_server import write_certificate


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificate")
    write_certificate(folder)
    return folder
