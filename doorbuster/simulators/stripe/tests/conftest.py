"""A Stripe simulator for most tests of a file, with a shop that takes its webhooks; each test has orders of its own."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from doorbuster.simulators.host.tests.processes import SECRET, Response, Shop, Simulator, open_shop

WEBHOOK_SECRET = "whsec_of_the_tests"
AUTH = {"Authorization": f"Bearer {SECRET}"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_orders = itertools.count(1)


def flat(fields: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Python values in bracket notation."""
    pairs: list[tuple[str, str]] = []
    for name, value in fields.items():
        key = f"{prefix}[{name}]" if prefix else name
        if isinstance(value, dict):
            pairs += flat(value, key)
        elif isinstance(value, list):
            pairs += [(f"{key}[]", str(item)) for item in value]
        else:
            pairs.append((key, str(value).lower() if isinstance(value, bool) else str(value)))
    return pairs


class Stripe(Simulator):
    """Guards one process that speaks Stripe."""

    def __init__(self, folder: Path, *options: str) -> None:
        secret = folder / "webhook-secret"
        secret.write_text(WEBHOOK_SECRET + "\n")
        super().__init__("stripe", folder, "--webhook-secret-file", str(secret), *options)

    def post(self, path: str, fields: dict[str, Any] | None = None, key: str | None = None, **more: Any) -> Response:
        headers = {**AUTH, **FORM, **({"Idempotency-Key": key} if key is not None else {}), **more.pop("headers", {})}
        body = urlencode(flat(fields or {})).encode()
        return self.call("POST", f"/v1/{path}", body, headers, **more)

    def get(self, path: str, **fields: Any) -> Response:
        query = urlencode(flat(fields))
        return self.call("GET", f"/v1/{path}{'?' if query else ''}{query}", None, AUTH)

    def order(self, amount: int = 10_000, **fields: Any) -> dict[str, Any]:
        """What a card payment confirmed at once asks for."""
        return {
            "amount": amount,
            "currency": "krw",
            "payment_method": "pm_card_visa",
            "payment_method_types": ["card"],
            "confirm": True,
            "metadata": {"order_id": f"order-{next(_orders)}.1"},
            **fields,
        }

    def pay(self, amount: int = 10_000, key: str | None = None, **fields: Any) -> Response:
        return self.post("payment_intents", self.order(amount, **fields), key)

    def paid(self, amount: int = 10_000, **fields: Any) -> Any:
        answer = self.pay(amount, **fields)
        assert (answer.status, answer.json["status"]) == (200, "succeeded"), answer.raw
        return answer.json

    def opened(self, amount: int = 10_000, **fields: Any) -> Any:
        """An intent nobody tried to pay yet."""
        order = self.order(amount, **fields)
        order = {name: value for name, value in order.items() if name not in ("payment_method", "confirm")}
        answer = self.post("payment_intents", {**order, **fields})
        assert answer.status == 200, answer.raw
        return answer.json

    def refund(self, intent: Any, amount: int | None = None, key: str | None = None, **fields: Any) -> Response:
        asked = {"payment_intent": intent["id"], **fields, **({} if amount is None else {"amount": amount})}
        return self.post("refunds", asked, key)

    def look(self, intent: Any, *expand: str) -> Any:
        answer = self.get(f"payment_intents/{intent['id']}", expand=list(expand))
        assert answer.status == 200, answer.raw
        return answer.json

    def captured(self) -> list[Any]:
        return list(self.admin("GET", "ledger/captures")["data"])


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    with open_shop() as shop:
        yield shop


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory, shop: Shop) -> Iterator[Stripe]:
    stripe = Stripe(tmp_path_factory.mktemp("stripe"), "--webhook-url", shop.url)
    yield stripe
    assert stripe.end() == 0


@pytest.fixture
def stripe(process: Stripe, shop: Shop) -> Stripe:
    """The process of this file, with no fault set and no webhook taken yet; search finds what is there."""
    process.faults()
    process.admin("PUT", "rules", {"search_delay_ms": 0, "searches_per_second": 100_000})
    process.admin("PUT", "webhooks", {})
    shop.status = 200
    process.settled_webhooks()
    shop.got.clear()
    shop.raw.clear()
    return process


@pytest.fixture
def own(tmp_path: Path, shop: Shop) -> Iterator[Stripe]:
    """A process of the test's own, to be killed or moved in time."""
    stripe = Stripe(tmp_path, "--webhook-url", shop.url)
    shop.status = 200
    shop.got.clear()
    shop.raw.clear()
    yield stripe
    if stripe.process.poll() is None:
        assert stripe.end() == 0
