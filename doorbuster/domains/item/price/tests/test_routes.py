"""Price's routes: what clients see."""

from __future__ import annotations

from typing import Any

import pytest

from doorbuster.platform import ids

LATER = {"starts_at": "2030-01-01T00:00:00Z", "ends_at": "2030-01-02T00:00:00+09:00"}


@pytest.fixture
def merchant(api: Any) -> Any:
    return api.as_user(ids.uuid7(), "merchant")


@pytest.fixture
async def item(merchant: Any) -> dict[str, Any]:
    sent = {
        "handle": f"item-{ids.uuid7()}",
        "title": "Lamp",
        "status": "active",
        "option_names": ["Color"],
        "options": [{"values": ["Sand"]}, {"values": ["Ink"]}],
    }
    made: dict[str, Any] = (await merchant.post("/api/v1/catalog", json=sent)).json()
    return made


def prices_of(item: dict[str, Any], list_minor: int = 1_000) -> dict[str, Any]:
    rows = [
        {"option_id": option["id"], "item_id": item["id"], "currency": "USD", "list_minor": list_minor}
        for option in item["options"]
    ]
    return {"prices": rows}


async def test_everybody_reads_an_items_prices(api: Any, merchant: Any, item: dict[str, Any]) -> None:
    assert (await api.get(f"/api/v1/price/{item['id']}")).json()["code"] == "unknown_price"
    done = await merchant.post("/api/v1/price/import", json=prices_of(item))
    assert (done.status_code, done.json()) == (200, {"created": 2, "updated": 0, "unchanged": 0})
    shown = (await api.get(f"/api/v1/price/{item['id']}")).json()
    assert (shown["item_id"], shown["currency"]) == (item["id"], "USD")
    assert {one["option_id"] for one in shown["options"]} == {option["id"] for option in item["options"]}
    assert [(one["list_minor"], one["price_minor"], one["sale"]) for one in shown["options"]] == [
        (1_000, 1_000, None)
    ] * 2


async def test_open_sale_is_shown(api: Any, merchant: Any, item: dict[str, Any]) -> None:
    await merchant.post("/api/v1/price/import", json=prices_of(item))
    option_id = item["options"][0]["id"]
    window = {"starts_at": "2020-01-01T00:00:00Z", "ends_at": "2199-01-01T00:00:00Z"}
    made = await merchant.post(f"/api/v1/price/option/{option_id}/sale", json={"price_minor": 750} | window)
    assert made.status_code == 201
    shown = (await api.get(f"/api/v1/price/{item['id']}")).json()["options"]
    mine = next(one for one in shown if one["option_id"] == option_id)
    assert (mine["price_minor"], mine["list_minor"], mine["sale"]["id"]) == (750, 1_000, made.json()["id"])


async def test_if_match_is_honoured_where_it_is_sent(merchant: Any, item: dict[str, Any]) -> None:
    where = f"/api/v1/price/option/{item['options'][0]['id']}"
    wanted = {"currency": "USD", "list_minor": 900, "compare_at_minor": 1_200}
    early = await merchant.put(where, json=wanted, headers={"if-match": '"v1"'})
    assert (early.status_code, early.json()["code"]) == (412, "precondition_failed")
    first = await merchant.put(where, json=wanted)
    assert (first.status_code, first.headers["etag"], first.json()["compare_at_minor"]) == (200, '"v1"', 1_200)
    second = await merchant.put(where, json=wanted | {"list_minor": 950}, headers={"if-match": '"v1"'})
    assert (second.status_code, second.headers["etag"]) == (200, '"v2"')
    stale = await merchant.put(where, json=wanted, headers={"if-match": '"v1"'})
    assert (stale.status_code, stale.json()["current"]) == (412, 2)


async def test_sale_sent_twice_with_a_key_is_one(merchant: Any, item: dict[str, Any]) -> None:
    await merchant.post("/api/v1/price/import", json=prices_of(item))
    where, headers = f"/api/v1/price/option/{item['options'][0]['id']}/sale", {"idempotency-key": str(ids.uuid7())}
    first = await merchant.post(where, json={"price_minor": 5} | LATER, headers=headers)
    again = await merchant.post(where, json={"price_minor": 5} | LATER, headers=headers)
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json()
    other = await merchant.post(where, json={"price_minor": 6} | LATER, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"list_minor": 0}, "invalid_request"),
        ({"list_minor": -1}, "invalid_request"),
        ({"list_minor": 10**15 + 1}, "invalid_request"),
        ({"list_minor": 1.5}, "invalid_request"),
        ({"compare_at_minor": 0}, "invalid_request"),
        ({"currency": "usd"}, "invalid_request"),
        ({"currency": "XXX"}, "invalid_price"),
        ({"note": "x"}, "invalid_request"),
    ],
)
async def test_bad_list_price_is_refused(
    merchant: Any, item: dict[str, Any], changes: dict[str, Any], code: str
) -> None:
    sent = {"currency": "USD", "list_minor": 900} | changes
    answer = await merchant.put(f"/api/v1/price/option/{item['options'][0]['id']}", json=sent)
    assert (answer.status_code, answer.json()["code"]) == (400, code)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"starts_at": "2030-01-01T00:00:00"}, "invalid_request"),
        ({"starts_at": "tomorrow"}, "invalid_request"),
        ({"ends_at": "2030-01-01T00:00:00Z"}, "invalid_price"),
        ({"starts_at": "0001-01-01T00:00:00+14:00"}, "invalid_price"),
        ({"ends_at": "9999-12-31T23:59:59-12:00"}, "invalid_price"),
        ({"price_minor": 0}, "invalid_request"),
    ],
)
async def test_bad_sale_is_refused(merchant: Any, item: dict[str, Any], changes: dict[str, Any], code: str) -> None:
    await merchant.post("/api/v1/price/import", json=prices_of(item))
    sent = {"price_minor": 5} | LATER | changes
    answer = await merchant.post(f"/api/v1/price/option/{item['options'][0]['id']}/sale", json=sent)
    assert (answer.status_code, answer.json()["code"]) == (400, code)


async def test_unknown_option_is_not_found(merchant: Any) -> None:
    unknown = await merchant.put(f"/api/v1/price/option/{ids.uuid7()}", json={"currency": "USD", "list_minor": 1})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_option")
    sale = await merchant.post(f"/api/v1/price/option/{ids.uuid7()}/sale", json={"price_minor": 5} | LATER)
    assert (sale.status_code, sale.json()["code"]) == (404, "unknown_option")


async def test_shopper_may_not_set_prices(api: Any, item: dict[str, Any]) -> None:
    shopper, option_id = api.as_user(ids.uuid7(), "shopper"), item["options"][0]["id"]
    answers = (
        await shopper.put(f"/api/v1/price/option/{option_id}", json={"currency": "USD", "list_minor": 1}),
        await shopper.post(f"/api/v1/price/option/{option_id}/sale", json={"price_minor": 5} | LATER),
        await shopper.post("/api/v1/price/import", json=prices_of(item)),
    )
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(403, "forbidden")] * 3
