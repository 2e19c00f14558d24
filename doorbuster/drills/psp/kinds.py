"""The kinds of provider an account of the drill may be at: how each simulator is started, read, and given a card."""

from __future__ import annotations

import base64
import datetime as dt
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

SANDBOX = "sandbox"
WON = "KRW"
"""What the real kinds are paid in: the Korean ones take nothing else."""
_CLIENT_KEY = "S2_0123456789abcdef0123456789abcdef"

Call = Callable[[str, str, object, Mapping[str, str] | None], Awaitable[dict[str, Any]]]
"""One request at a simulator, as the account's owner: method, path, JSON body, further headers."""


class Card(msgspec.Struct, frozen=True):
    """By what an account knows a card, and who the buyer is there."""

    key: str
    customer: str = ""


class Kind(msgspec.Struct, frozen=True):
    """A simulator: its module, its own options, the client key of the login, and how the shop gets a card there."""

    module: str
    register: Callable[[Call, str], Awaitable[Card]]
    options: tuple[str, ...] = ()
    client_key: str = ""
    books: str = "/admin/ledger"
    """Where its summary is."""


async def _sandbox_card(call: Call, secret: str) -> Card:
    return Card("tok_visa")


async def _toss_card(call: Call, secret: str) -> Card:
    """The buyer registers a card in the window, and the shop turns the window's answer into a billing key."""
    customer = f"customer-{secrets.token_hex(8)}"
    opened = await call("POST", "/admin/card", {"customerKey": customer}, None)
    body = {"authKey": opened["auth_key"], "customerKey": customer}
    issued = await call("POST", "/v1/billing/authorizations/issue", body, _basic(f"{secret}:"))
    return Card(issued["billingKey"], customer)


async def _nicepay_card(call: Call, secret: str) -> Card:
    """The card is sent encrypted: AES-128-CBC, key and vector the first 16 of the secret key."""
    key = secret.encode()[:16]
    padder = padding.PKCS7(128).padder()
    plain = padder.update(b"cardNo=1234567890123456&expYear=49&expMonth=12") + padder.finalize()
    encryptor = Cipher(algorithms.AES(key), modes.CBC(key)).encryptor()
    body = {"encData": (encryptor.update(plain) + encryptor.finalize()).hex(), "orderId": secrets.token_hex(16)}
    made = await call("POST", "/v1/subscribe/regist", body, _basic(f"{_CLIENT_KEY}:{secret}"))
    return Card(made["bid"])


async def _stripe_card(call: Call, secret: str) -> Card:
    customer = (await call("POST", "/admin/customer", None, None))["id"]
    saved = await call("POST", "/admin/card", {"card": "pm_card_visa", "customer": customer}, None)
    return Card(saved["id"], customer)


def _basic(pair: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


KINDS: Mapping[str, Kind] = {
    SANDBOX: Kind("doorbuster.simulators.sandbox", _sandbox_card, books="/v1/ledger"),
    "toss": Kind("doorbuster.simulators.toss", _toss_card),
    "stripe": Kind("doorbuster.simulators.stripe", _stripe_card, ("--reference-key", "reference")),
    "nicepay": Kind("doorbuster.simulators.nicepay", _nicepay_card, ("--client-key", _CLIENT_KEY), _CLIENT_KEY),
}
"""Those that take a kept card. KakaoPay has only its window."""


def read_kinds(text: str) -> tuple[str, ...]:
    """`toss,stripe` as kinds. Raises ValueError for one that is none of KINDS, or more than four."""
    found = tuple(part.strip() for part in text.split(","))
    unknown = [kind for kind in found if kind not in KINDS]
    if unknown or len(found) > 4:
        raise ValueError(f"--kinds is one to four of {', '.join(KINDS)}, with commas between them, not {text!r}")
    return found


def as_charges(captures: Sequence[Mapping[str, Any]], declines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The ledger of a real kind in the words of the sandbox's: our reference with its dot, ISO times."""
    rows = [(row, "captured") for row in captures] + [(row, "declined") for row in declines]
    return [
        {
            "id": row["psp_key"],
            # Two of them take no dot in an order id; no reference of ours has an underscore.
            "reference": row["reference"].replace("_", "."),
            "amount_minor": row["amount_minor"],
            "currency": row["currency"],
            "created_at": dt.datetime.fromtimestamp(row["at_ms"] / 1_000, dt.UTC).isoformat(),
            "status": status,
            "refunded_minor": row.get("refunded_minor", 0),
        }
        for row, status in sorted(rows, key=lambda one: one[0]["at_ms"])
    ]
