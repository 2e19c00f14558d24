"""A NICEPAY simulator for most tests of a file, with a shop for its webhooks; each test has orders of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from doorbuster.simulators.host.tests.processes import Shop, open_shop
from doorbuster.simulators.nicepay.tests.caller import Nicepay


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    with open_shop() as shop:
        yield shop


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory, shop: Shop) -> Iterator[Nicepay]:
    nicepay = Nicepay(tmp_path_factory.mktemp("nicepay"), "--webhook-url", shop.url)
    yield nicepay
    assert nicepay.end() == 0


@pytest.fixture
def nicepay(process: Nicepay, shop: Shop) -> Nicepay:
    """The process of this file, with no fault set and no webhook taken yet."""
    process.faults()
    process.admin("PUT", "rules", {})
    process.admin("PUT", "webhooks", {})
    reset(shop)
    process.settled_webhooks()
    shop.got.clear()
    return process


@pytest.fixture
def own(tmp_path: Path, shop: Shop) -> Iterator[Nicepay]:
    """A process of the test's own, to be killed or moved in time."""
    nicepay = Nicepay(tmp_path, "--webhook-url", shop.url)
    reset(shop)
    shop.got.clear()
    yield nicepay
    if nicepay.process.poll() is None:
        assert nicepay.end() == 0


def reset(shop: Shop) -> None:
    shop.status, shop.content_type, shop.answer = 200, "text/html", b"OK"
