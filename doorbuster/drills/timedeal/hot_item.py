"""Puts one hot item into a running shop, as its merchant and through its API, with a time deal on it; and tells the
provider's simulator how to behave."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from doorbuster.client import Client
from doorbuster.drills.temporary_shop import DrilledShop
from doorbuster.drills.timedeal.crowd_plan import CURRENCY, DEAL_PRICE_MINOR, LIST_PRICE_MINOR, Crowd, Sale

_TIMEOUT = aiohttp.ClientTimeout(total=20)
_PAGE = 1_000
MAX_PAGES = 2_000

CALM: Mapping[str, object] = {"latency_ms": 10, "jitter_ms": 15}
"""A provider on a good day."""
STORMY: Mapping[str, object] = {
    "latency_ms": 10,
    "jitter_ms": 40,
    "hold_ms": 4_000,
    "timeout_after_capture_rate": 0.01,
    "reset_after_capture_rate": 0.005,
    "error_after_capture_rate": 0.005,
    "error_rate": 0.003,
}
"""A provider that takes money and loses the answer for one payment in fifty."""


async def put_on_sale(shop: DrilledShop, crowd: Crowd, currency: str = CURRENCY) -> Sale:
    """The item with its options, prices, stock and an open deal. Raises client.ShopRefused."""
    name = secrets.token_hex(4)
    async with Client(shop.as_client(), "merchant") as merchant:
        item = await merchant.call("POST", "/api/v1/catalog", _item(name, len(crowd.stock)))
        option_ids = tuple(option["id"] for option in item["options"])
        prices = [
            {"option_id": option, "item_id": item["id"], "currency": currency, "list_minor": LIST_PRICE_MINOR}
            for option in option_ids
        ]
        await merchant.call("POST", "/api/v1/price/import", {"prices": prices})
        for option, units in zip(option_ids, crowd.stock, strict=True):
            await merchant.call("PUT", f"/api/v1/stock/{option}", {"on_hand": units})
        now = datetime.now(UTC)
        deal = {
            "title": f"Door-buster {name}",
            "item_id": item["id"],
            "opens_at": (now - timedelta(seconds=1)).isoformat(),
            "closes_at": (now + timedelta(hours=1)).isoformat(),
            "price_minor": DEAL_PRICE_MINOR,
            "per_customer_limit": crowd.per_customer_limit,
            "allotment": [
                {"option_id": option, "quantity": units}
                for option, units in zip(option_ids, crowd.allotment, strict=True)
            ],
        }
        made = await merchant.call("POST", "/api/v1/deal", deal, {"idempotency-key": f"drill {name}"})
    return Sale(item["id"], option_ids, made["id"], crowd.stock, crowd.allotment, crowd.per_customer_limit)


def _item(name: str, options: int) -> dict[str, Any]:
    return {
        "handle": f"door-buster-{name}",
        "title": f"Door-buster {name}",
        "description": "Everybody wants it, in every colour.",
        "status": "active",
        "option_names": ["Colour"],
        "options": [{"values": [f"Colour {number}"], "sku": f"{name}-{number}"} for number in range(1, options + 1)],
    }


class Provider:
    """The provider's simulator of a shop, seen by whoever runs it: its faults and its whole ledger."""

    def __init__(self, shop: DrilledShop) -> None:
        where = msgspec.json.decode((shop.paths.run / "psp-sandbox.json").read_bytes())
        self.url = f"http://{where['host']}:{where['port']}"
        secret = Path(shop.paths.keys / "psp-sandbox").read_text().strip()
        self._headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}

    async def behave(self, faults: Mapping[str, object]) -> None:
        """Replace its faults; what is not named goes back to none."""
        await self.call("PUT", "/admin/faults", faults)

    async def charges(self) -> list[dict[str, Any]]:
        """Every charge in the order it was recorded, captured and declined."""
        found: list[dict[str, Any]] = []
        after: int | None = 0
        for _ in range(MAX_PAGES):
            page = await self.call("GET", f"/v1/ledger/charges?after={after}&limit={_PAGE}")
            found += page["data"]
            after = page["next_after"]
            if after is None:
                return found
        raise RuntimeError(f"the provider's ledger has more than {MAX_PAGES * _PAGE} charges")

    async def call(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """One request; raises aiohttp.ClientResponseError for any refusal."""
        content = None if body is None else msgspec.json.encode(body)
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT, headers=self._headers | dict(headers or {})) as session,
            session.request(method, self.url + path, data=content) as answer,
        ):
            answer.raise_for_status()
            decoded: dict[str, Any] = await answer.json()
            return decoded
