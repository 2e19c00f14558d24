"""Bring products of a CSV into a running shop through its API, and load the demo shop on its first start."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from doorbuster import demo
from doorbuster.client import Client
from doorbuster.demo import deals
from doorbuster.surfaces.cli.shopify_csv import Product, read_products

_ITEMS_AT_ONCE = 2_000
_STOCK_AT_ONCE = 5_000


class Loaded(msgspec.Struct, frozen=True):
    """What an import did."""

    created: int
    updated: int
    unchanged: int
    options: int


async def load_products(
    client: Client, products: Sequence[Product], currency: str, on_progress: Callable[[int, int], None] | None = None
) -> Loaded:
    """Make or replace the products by handle, with prices and stock. The same file again changes nothing more."""
    tell = on_progress or (lambda done, total: None)
    steps = 3 * len(products)
    counts = {"created": 0, "updated": 0, "unchanged": 0}
    done = options = 0
    for part in _parts(products, _ITEMS_AT_ONCE):
        answer = await client.call("POST", "/api/v1/catalog/import", {"items": [_item(one) for one in part]})
        prices: list[dict[str, Any]] = []
        stock: list[dict[str, Any]] = []
        for product, made in zip(part, answer["data"], strict=True):
            counts[made["outcome"]] += 1
            for variant, option in zip(product.variants, made["options"], strict=True):
                price = {"option_id": option["option_id"], "item_id": made["item_id"], "currency": currency}
                compare = {} if variant.compare_at_minor is None else {"compare_at_minor": variant.compare_at_minor}
                prices.append(price | {"list_minor": variant.price_minor} | compare)
                stock.append({"option_id": option["option_id"], "on_hand": variant.quantity})
        options += len(stock)
        done += len(part)
        tell(done, steps)
        await client.call("POST", "/api/v1/price/import", {"prices": prices})
        done += len(part)
        tell(done, steps)
        for some in _parts(stock, _STOCK_AT_ONCE):
            await client.call("POST", "/api/v1/stock/import", {"stock": some})
        done += len(part)
        tell(done, steps)
    return Loaded(counts["created"], counts["updated"], counts["unchanged"], options)


async def load_demo(client: Client) -> Loaded:
    """The demo shop: its catalogue, and its deals relative to now."""
    read = read_products(demo.CATALOG, demo.CURRENCY)
    assert not read.problem_count, "the demo catalogue has problems"
    loaded = await load_products(client, read.products, demo.CURRENCY)
    by_handle = {product.handle: product for product in read.products}
    now = datetime.now(UTC)
    for one in deals.DEALS:
        await client.call(
            "POST",
            "/api/v1/deal",
            await _deal(client, one, by_handle[one.handle], now),
            {"idempotency-key": f"demo deal {one.handle}"},
        )
    return loaded


async def _deal(client: Client, one: deals.DemoDeal, product: Product, now: datetime) -> dict[str, Any]:
    page = await client.call("GET", f"/api/v1/catalog?handle={one.handle}&limit=1")
    item = await client.call("GET", f"/api/v1/catalog/{page['data'][0]['id']}")
    lines = [
        {
            "option_id": option["id"],
            "quantity": max(1, variant.quantity * one.allotment_percent // 100),
            "price_minor": deals.deal_price_minor(variant.price_minor, one.percent_off),
        }
        for option, variant in zip(item["options"], product.variants, strict=True)
        if variant.quantity > 0
    ]
    opens_at = now + timedelta(seconds=one.opens_after_s)
    return {
        "title": one.title,
        "item_id": item["id"],
        "price_minor": min(line["price_minor"] for line in lines),
        "opens_at": opens_at.isoformat(),
        "closes_at": (opens_at + timedelta(seconds=one.lasts_s)).isoformat(),
        "per_customer_limit": one.limit_per_customer,
        "allotment": lines,
    }


def _item(product: Product) -> dict[str, Any]:
    has_options = bool(product.option_names)
    return {
        "handle": product.handle,
        "title": product.title,
        "description": product.description_html,
        "brand": product.brand,
        "category": product.category,
        "tags": list(product.tags),
        "status": "active" if product.published else "draft",
        "option_names": list(product.option_names),
        "options": [
            {"values": list(variant.option_values) if has_options else [], "sku": variant.sku}
            | ({"barcode": variant.barcode} if variant.barcode else {})
            for variant in product.variants
        ],
        "media": [{"url": image.url, "alt": image.alt} for image in product.images],
    }


def _parts(values: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]
