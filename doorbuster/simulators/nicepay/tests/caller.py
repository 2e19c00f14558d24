"""The shop as a caller of a NICEPAY simulator process: real requests, as the vendor's manual has them."""

import base64
import itertools
import time
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from doorbuster.simulators.host.tests.processes import Response, Simulator
from doorbuster.simulators.nicepay.__main__ import CLIENT_KEY
from doorbuster.simulators.nicepay.views import day

_orders = itertools.count(1)

REFUND_ACCOUNT = {"refundAccount": "12345678901", "refundBankCode": "088", "refundHolder": "Kim"}


class Nicepay(Simulator):
    """Guards one process that speaks NICEPAY."""

    # The secret key of the manual's encryption examples: 32 characters, as AES-256 needs them.
    secret = "2dcc2a0d63bf469490bb19a201be3735"

    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__("nicepay", folder, *options)

    def basic(self, client: str = CLIENT_KEY, secret: str | None = None) -> dict[str, str]:
        pair = f"{client}:{self.secret if secret is None else secret}"
        return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}

    def post(self, path: str, body: object, headers: dict[str, str] | None = None) -> Response:
        return self.call("POST", path, body, self.basic() if headers is None else headers)

    def get(self, path: str) -> Response:
        return self.call("GET", path, None, self.basic())

    def buy(self, amount: int = 10_000, **fields: object) -> Any:
        """The buyer authenticates in the window: the form fields posted to returnUrl."""
        return self.admin("POST", "buyer", {"orderId": new_order(), "amount": amount, **fields})

    def approve(self, bought: Any, **fields: object) -> Response:
        return self.post(f"/v1/payments/{bought['tid']}", {"amount": int(bought["amount"]), **fields})

    def paid(self, amount: int = 10_000, **fields: object) -> Any:
        """A payment that is paid, or an account that waits."""
        answer = self.approve(self.buy(amount, **fields))
        assert (answer.status, answer.json["resultCode"]) == (200, "0000"), answer.raw
        return answer.json

    def cancel(self, payment: Any, **fields: object) -> Response:
        body = {"reason": "why", "orderId": payment["orderId"], **fields}
        return self.post(f"/v1/payments/{payment['tid']}/cancel", body)

    def part(self, payment: Any, amount: int, **fields: object) -> Response:
        return self.cancel(payment, **{"orderId": new_order(), "cancelAmt": amount, **fields})

    def net_cancel(self, order_id: str, **fields: object) -> Response:
        return self.post("/v1/payments/netcancel", {"orderId": order_id, **fields})

    def look(self, bought: Any) -> Any:
        answer = self.get(f"/v1/payments/{bought['tid']}")
        assert answer.status == 200, answer.raw
        return answer.json

    def find(self, order_id: str, order_date: str | None = None) -> Response:
        now_ms = self.admin("GET", "clock")["now_ms"]
        return self.get(f"/v1/payments/find/{order_id}?orderDate={order_date or day(now_ms)}")

    def register(self, card_no: str = "1234567890123456", expires: str = "4912", **fields: object) -> Response:
        enc_data = encrypted(f"cardNo={card_no}&expYear={expires[:2]}&expMonth={expires[2:]}", self.secret)
        return self.post("/v1/subscribe/regist", {"encData": enc_data, "orderId": new_order(), **fields})

    def bid(self, card_no: str = "1234567890123456", **fields: Any) -> str:
        return str(self.register(card_no, **fields).json["bid"])

    def charge(self, bid: str, amount: int = 10_000, **fields: object) -> Response:
        body = {"orderId": new_order(), "amount": amount, "goodsName": "goods"}
        body |= {"cardQuota": 0, "useShopInterest": False, **fields}
        return self.post(f"/v1/subscribe/{bid}/payments", body)


def new_order() -> str:
    return f"order-{next(_orders)}-{time.monotonic_ns()}.1"


def encrypted(plain: str, secret: str, key_bytes: int = 16) -> str:
    """hex(AES-CBC(plain)) with PKCS5 padding; the IV is the first 16 bytes of the secret key."""
    key = secret.encode()
    padder = padding.PKCS7(128).padder()
    padded = padder.update(plain.encode()) + padder.finalize()
    encryptor = Cipher(algorithms.AES(key[:key_bytes]), modes.CBC(key[:16])).encryptor()
    return (encryptor.update(padded) + encryptor.finalize()).hex()
