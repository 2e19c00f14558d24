"""A whole shop that traces everything, with a collector beside it."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from doorbuster.drills.span_receiver import Received, receiver
from doorbuster.drills.temporary_shop import DrilledShop, temporary_shop


class Traced(msgspec.Struct, frozen=True):
    """A running shop and what its collector got."""

    shop: DrilledShop
    collector: Received


@pytest.fixture(scope="session")
def traced() -> Iterator[Traced]:
    with receiver() as collector:
        overrides = {"otlp_endpoint": collector.endpoint, "payment_timeout_s": 2.0}
        with temporary_shop(workers=1, overrides=overrides) as shop:
            yield Traced(shop, collector)
