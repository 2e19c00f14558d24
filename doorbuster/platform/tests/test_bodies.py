"""A body is taken as it is written: text is no number, a number is no text, and only JSON is JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

ID = "791794a2-5d7e-41aa-846f-4146768dd08f"
WINDOW = {"opens_at": "2026-01-01T00:00:00Z", "closes_at": "2026-01-02T00:00:00Z"}
BODIES: list[tuple[str, str, dict[str, Any], str]] = [
    ("POST", "/api/v1/account/signup", {"email": "a@b.example", "password": 123456789012}, "$.password"),
    ("POST", "/api/v1/catalog", {"handle": "a", "title": 5, "options": [{"values": []}]}, "$.title"),
    ("POST", "/api/v1/catalog/import", {"items": [{"handle": "a", "title": 5}]}, "$.items[0].title"),
    ("PUT", f"/api/v1/price/option/{ID}", {"currency": "USD", "list_minor": "5"}, "$.list_minor"),
    ("POST", "/api/v1/price/import", {"prices": [{"option_id": ID, "item_id": ID, "list_minor": "5"}]}, "$.prices[0]"),
    ("PUT", f"/api/v1/stock/{ID}", {"on_hand": "5"}, "$.on_hand"),
    ("POST", "/api/v1/stock/import", {"stock": [{"option_id": ID, "on_hand": True}]}, "$.stock[0]"),
    ("POST", "/api/v1/deal", {"title": "a", "item_id": ID, "price_minor": "5", "allotment": [], **WINDOW}, "$."),
    ("POST", "/api/v1/order", {"lines": [{"option_id": ID, "quantity": "5"}]}, "$.lines[0].quantity"),
    ("POST", f"/api/v1/order/{ID}/pay", {"method": "card", "instrument": 5}, "$.instrument"),
    ("POST", f"/api/v1/order/{ID}/cancel", {"reason": 5}, "$.reason"),
]


@pytest.mark.parametrize(("method", "path", "body", "field"), BODIES, ids=[f"{m} {p}" for m, p, _, _ in BODIES])
async def test_a_value_of_another_kind_is_refused_and_named(
    api: Any, method: str, path: str, body: dict[str, Any], field: str
) -> None:
    caller = api.as_user(roles="admin").with_headers(idempotency_key="k")
    answer = await caller.request(method, path, json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert field in answer.json()["detail"]


@pytest.mark.parametrize("media", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""])
async def test_what_does_not_call_itself_json_is_refused(api: Any, media: str) -> None:
    body = {"content": json.dumps({"on_hand": 5}), "headers": {"content-type": media}}
    answer = await api.as_user(roles="admin").put(f"/api/v1/stock/{ID}", **body)
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("body", ["{", '{"on_hand": 5', '{"on_hand": nul}', "nul", "\x00", ""])
async def test_broken_json_is_refused(api: Any, body: str) -> None:
    answer = await api.as_user(roles="admin").put(
        f"/api/v1/stock/{ID}", content=body, headers={"content-type": "application/json"}
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "broken_json")


async def test_path_and_query_are_text_by_nature(api: Any) -> None:
    assert (await api.as_user().get("/api/v1/order?limit=5")).status_code == 200
    refused = await api.as_user().get("/api/v1/order?limit=many")
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid_request")
