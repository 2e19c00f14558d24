"""Deal's routes: merchants make, anybody reads, and bad input has a code."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from doorbuster.domains.activation.deal.tests.test_service import item_of
from doorbuster.domains.item import stock
from doorbuster.platform.calls import SYSTEM

DEAL = "/api/v1/deal"


@pytest.fixture
def merchant(api: Any) -> Any:
    return api.as_user(roles="merchant")


async def body_of() -> dict[str, Any]:
    item_id, (option,) = await item_of(10)
    now = datetime.now(UTC)
    return {
        "title": "Friday",
        "item_id": str(item_id),
        "opens_at": (now - timedelta(hours=1)).isoformat(),
        "closes_at": (now + timedelta(hours=1)).isoformat(),
        "price_minor": 700,
        "allotment": [{"option_id": str(option), "quantity": 4}],
        "per_customer_limit": 2,
    }


async def test_a_merchant_makes_a_deal_that_everybody_reads(api: Any, merchant: Any) -> None:
    answer = await merchant.post(DEAL, json=await body_of())
    assert answer.status_code == 201
    made = answer.json()
    assert answer.headers["location"] == f"{DEAL}/{made['id']}"
    assert (made["state"], made["options"][0]["remaining"]) == ("open", 4)
    shown = (await api.get(f"{DEAL}/{made['id']}")).json()
    assert {**shown, "as_of": None} == {**made, "as_of": None}
    listed = (await api.get(DEAL, params={"limit": 100})).json()["data"]
    assert made["id"] in {one["id"] for one in listed}


FAR = "9999-12-31T23:59:59-23:59"
BAD: list[tuple[str, dict[str, Any], int, str]] = [
    ("no title", {"title": ""}, 400, "invalid_request"),
    ("a NUL in the title", {"title": "a\x00b"}, 400, "invalid_request"),
    ("a price of 0", {"price_minor": 0}, 400, "invalid_request"),
    ("a price of 10^30", {"price_minor": 10**30}, 400, "invalid_request"),
    ("a price that is not lower", {"price_minor": 1_000}, 422, "not_cheaper"),
    ("a limit of 0", {"per_customer_limit": 0}, 400, "invalid_request"),
    ("no allotment", {"allotment": []}, 400, "invalid_request"),
    ("a quantity of 0", {"allotment": [{"option_id": str(uuid4()), "quantity": 0}]}, 400, "invalid_request"),
    ("a quantity of 10^12", {"allotment": [{"option_id": str(uuid4()), "quantity": 10**12}]}, 400, "invalid_request"),
    ("an unknown option", {"allotment": [{"option_id": str(uuid4()), "quantity": 1}]}, 409, "no_list_price"),
    ("an unknown item", {"item_id": str(uuid4())}, 404, "unknown_price"),
    ("a time without a zone", {"opens_at": "2026-01-01T00:00:00"}, 400, "invalid_request"),
    ("a window that ends before it begins", {"closes_at": "2020-01-01T00:00:00Z"}, 400, "invalid_request"),
    ("a window of 8,000 years", {"closes_at": FAR}, 400, "invalid_request"),
    ("a window in the far past", {"opens_at": "0001-01-01T00:00:00+23:59"}, 400, "invalid_request"),
    ("a window in the far future", {"opens_at": "9999-12-31T23:00:00-23:59", "closes_at": FAR}, 400, "invalid_request"),
    ("a field nobody knows", {"colour": "red"}, 400, "invalid_request"),
]


@pytest.mark.parametrize(("change", "status", "code"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
async def test_a_deal_that_makes_no_sense_is_refused(
    merchant: Any, change: dict[str, Any], status: int, code: str
) -> None:
    body = await body_of()
    answer = await merchant.post(DEAL, json=body | change)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    option = body["allotment"][0]["option_id"]
    (level,) = await stock.levels(SYSTEM, (option,))
    assert level.allotted == 0


async def test_only_merchants_make_deals(api: Any) -> None:
    body = await body_of()
    for caller, status, code in ((api.as_user(), 403, "forbidden"), (api, 401, "unauthenticated")):
        answer = await caller.post(DEAL, json=body)
        assert (answer.status_code, answer.json()["code"]) == (status, code)


async def test_more_than_is_free_is_refused_and_the_same_key_says_so_again(merchant: Any) -> None:
    body = await body_of()
    body["allotment"][0]["quantity"] = 11
    for _ in range(2):
        answer = await merchant.post(DEAL, json=body, headers={"idempotency-key": "k"})
        assert (answer.status_code, answer.json()["code"]) == (409, "sold_out")


async def test_a_deal_that_is_not_there_is_404(api: Any) -> None:
    for path in (str(uuid4()), "not-an-id"):
        answer = await api.get(f"{DEAL}/{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
