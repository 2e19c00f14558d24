"""A Toss simulator for most tests of a file, with a shop that takes its webhooks; each test has orders of its own."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from doorbuster.simulators.host.tests.processes import Response, Shop, Simulator, basic, open_shop

_orders = itertools.count(1)


class Toss(Simulator):
    """Guards one process that speaks Toss."""

    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__("toss", folder, *options)

    def post(self, path: str, body: object, key: str | None = None, **headers: str) -> Response:
        extra = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.call("POST", path, body, {**basic(), **({"Idempotency-Key": key} if key else {}), **extra})

    def get(self, path: str) -> Response:
        return self.call("GET", path, None, basic())

    def buy(self, amount: int = 10_000, **fields: object) -> Any:
        """The buyer pays in the window: {paymentKey, orderId, amount, …}."""
        order_id = f"order-{next(_orders)}.1"
        return self.admin("POST", "buyer", {"orderId": order_id, "amount": amount, **fields})

    def confirm(self, bought: Any, key: str | None = None, **headers: str) -> Response:
        body = {name: bought[name] for name in ("paymentKey", "orderId", "amount")}
        return self.post("/v1/payments/confirm", body, key, **headers)

    def paid(self, amount: int = 10_000, **fields: object) -> Any:
        """A payment that is DONE."""
        answer = self.confirm(self.buy(amount, **fields))
        assert answer.status == 200, answer.raw
        return answer.json

    def cancel(self, payment: Any, key: str | None = None, **body: object) -> Response:
        return self.post(f"/v1/payments/{payment['paymentKey']}/cancel", {"cancelReason": "why", **body}, key)

    def look(self, bought: Any) -> Any:
        answer = self.get(f"/v1/payments/{bought['paymentKey']}")
        assert answer.status == 200, answer.raw
        return answer.json


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    with open_shop() as shop:
        yield shop


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory, shop: Shop) -> Iterator[Toss]:
    toss = Toss(tmp_path_factory.mktemp("toss"), "--webhook-url", shop.url)
    yield toss
    assert toss.end() == 0


@pytest.fixture
def toss(process: Toss, shop: Shop) -> Toss:
    """The process of this file, with no fault set and no webhook taken yet."""
    process.faults()
    process.admin("PUT", "rules", {})
    process.admin("PUT", "webhooks", {})
    shop.status = 200
    process.settled_webhooks()
    shop.got.clear()
    return process


@pytest.fixture
def own(tmp_path: Path, shop: Shop) -> Iterator[Toss]:
    """A process of the test's own, to be killed or moved in time."""
    toss = Toss(tmp_path, "--webhook-url", shop.url)
    shop.status = 200
    shop.got.clear()
    yield toss
    if toss.process.poll() is None:
        assert toss.end() == 0
