"""The thinnest story: a merchant opens a deal, a shopper buys, pays and cancels."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4


async def make_item(
    api: Any, *, quantity: int = 10, price_minor: int = 5_000, values: tuple[str, ...] = ("230", "240")
) -> dict[str, Any]:
    """An active item with a price and stock for each option; returns the item."""
    merchant = api.as_user(roles="merchant")
    handle = f"item-{uuid4().hex[:12]}"
    body = {
        "handle": handle,
        "title": "Runner",
        "description": "Light.",
        "brand": "Tarn",
        "category": "Shoes",
        "status": "active",
        "option_names": ["Size"],
        "options": [{"values": [value]} for value in values],
    }
    answer = await merchant.post("/api/v1/catalog", json=body)
    assert answer.status_code == 201, answer.text
    item = dict(answer.json())
    for option in item["options"]:
        answer = await merchant.put(
            f"/api/v1/price/option/{option['id']}", json={"currency": "USD", "list_minor": price_minor}
        )
        assert answer.status_code == 200, answer.text
        answer = await merchant.put(f"/api/v1/stock/{option['id']}", json={"on_hand": quantity})
        assert answer.status_code == 200, answer.text
    return item


async def test_a_shopper_buys_at_the_deal_price_and_cancels(api: Any) -> None:
    item = await make_item(api)
    first, second = (option["id"] for option in item["options"])
    now = datetime.now(UTC)
    deal = {
        "title": "Doorbuster",
        "item_id": item["id"],
        "price_minor": 3_000,
        "per_customer_limit": 3,
        "opens_at": (now - timedelta(seconds=1)).isoformat(),
        "closes_at": (now + timedelta(hours=1)).isoformat(),
        "allotment": [{"option_id": first, "quantity": 5}, {"option_id": second, "quantity": 5}],
    }
    answer = await api.as_user(roles="merchant").post("/api/v1/deal", json=deal)
    assert answer.status_code == 201, answer.text
    deal_id = answer.json()["id"]

    shopper = api.as_user().with_headers(idempotency_key=uuid4().hex)
    wish = {
        "lines": [{"option_id": second, "quantity": 2}, {"option_id": first, "quantity": 1}],
        "deal_id": deal_id,
        "payment": {"method": "card", "instrument": "tok_visa"},
    }
    answer = await shopper.post("/api/v1/order", json=wish)
    assert answer.status_code == 201, answer.text
    order = answer.json()
    assert order["state"] == "paid"
    assert order["total_minor"] == 9_000

    again = await shopper.post("/api/v1/order", json=wish)
    assert (again.status_code, again.json()) == (201, order)

    more = await shopper.with_headers(idempotency_key=uuid4().hex).post(
        "/api/v1/order", json={"lines": [{"option_id": first, "quantity": 1}], "deal_id": deal_id}
    )
    assert (more.status_code, more.json()["code"]) == (409, "limit_exceeded")

    answer = await shopper.post(f"/api/v1/order/{order['id']}/cancel")
    assert answer.status_code == 200, answer.text
    assert answer.json()["state"] == "cancelled"
    shown = (await api.get(f"/api/v1/deal/{deal_id}")).json()
    assert [option["remaining"] for option in shown["options"]] == [5, 5]
    timeline = (await shopper.get(f"/api/v1/order/{order['id']}/timeline")).json()["data"]
    assert [step["state"] for step in timeline] == ["paying", "captured", "paid", "cancelling", "cancelled"]


async def test_an_archived_item_is_not_sold_any_more(api: Any) -> None:
    item = await make_item(api, quantity=1_000)
    wish = {"lines": [{"option_id": item["options"][0]["id"], "quantity": 1}]}
    answer = await api.as_user().with_headers(idempotency_key=uuid4().hex).post("/api/v1/order", json=wish)
    assert answer.status_code == 201, answer.text
    draft = {
        "handle": item["handle"],
        "title": item["title"],
        "status": "archived",
        "option_names": ["Size"],
        "options": [{"id": option["id"], "values": option["values"]} for option in item["options"]],
    }
    archived = await api.as_user(roles="merchant").put(
        f"/api/v1/catalog/{item['id']}", json=draft, headers={"if-match": '"v1"'}
    )
    assert archived.status_code == 200, archived.text
    for _ in range(300):
        answer = await api.as_user().with_headers(idempotency_key=uuid4().hex).post("/api/v1/order", json=wish)
        if answer.status_code != 201:
            break
        await asyncio.sleep(0.05)
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_option")
