"""A KakaoPay simulator for most tests of a file; each test has orders of its own."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from doorbuster.simulators.host.tests.processes import SECRET, Response, Simulator

_orders = itertools.count(1)


class Kakao(Simulator):
    """Guards one process that speaks KakaoPay."""

    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__("kakaopay", folder, *options)

    def post(self, path: str, body: object, **options: Any) -> Response:
        return self.call(
            "POST", f"/online/v1/payment/{path}", body, {"Authorization": f"SECRET_KEY {SECRET}"}, **options
        )

    def ready(self, total_amount: int = 2_200, cid: str = "TC0ONETIME", **fields: object) -> Any:
        """What was asked, and the answer's tid."""
        body = {
            "cid": cid,
            "partner_order_id": f"order-{next(_orders)}.1",
            "partner_user_id": "user-1",
            "item_name": "초코파이",
            "quantity": 1,
            "total_amount": total_amount,
            "tax_free_amount": 0,
            "approval_url": "https://shop.test/ok?order=1",
            "cancel_url": "https://shop.test/cancel",
            "fail_url": "https://shop.test/fail",
            **fields,
        }
        answer = self.post("ready", body)
        assert answer.status == 200, answer.raw
        return {**body, "tid": answer.json["tid"]}

    def bought(self, total_amount: int = 2_200, cid: str = "TC0ONETIME", **buyer: object) -> Any:
        """The buyer agreed in the window: what an approval asks for."""
        asked = self.ready(total_amount, cid)
        went = self.admin("POST", "buyer", {"tid": asked["tid"], **buyer})
        names = ("cid", "tid", "partner_order_id", "partner_user_id")
        return {**{name: asked[name] for name in names}, "pg_token": went["pg_token"]}

    def approve(self, bought: Any, **options: Any) -> Response:
        return self.post("approve", bought, **options)

    def paid(self, total_amount: int = 2_200, cid: str = "TC0ONETIME", **buyer: object) -> Any:
        answer = self.approve(self.bought(total_amount, cid, **buyer))
        assert answer.status == 200, answer.raw
        return answer.json

    def order(self, payment: Any) -> Any:
        answer = self.post("order", {"cid": payment["cid"], "tid": payment["tid"]})
        assert answer.status == 200, answer.raw
        return answer.json

    def cancel(self, payment: Any, amount: int, **fields: object) -> Response:
        body = {"cid": payment["cid"], "tid": payment["tid"], "cancel_amount": amount, "cancel_tax_free_amount": 0}
        return self.post("cancel", {**body, **fields})


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kakao]:
    kakao = Kakao(tmp_path_factory.mktemp("kakaopay"))
    yield kakao
    assert kakao.end() == 0


@pytest.fixture
def kakao(process: Kakao) -> Kakao:
    """The process of this file, with no fault set."""
    process.faults()
    process.admin("PUT", "rules", {})
    return process


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Kakao]:
    """A process of the test's own, to be killed or moved in time."""
    kakao = Kakao(tmp_path)
    yield kakao
    if kakao.process.poll() is None:
        assert kakao.end() == 0
