"""Stock's routes: a merchant reads and sets; bad input has a code and changes nothing."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from doorbuster.domains.item import catalog, stock
from doorbuster.platform import ids
from doorbuster.platform.calls import SYSTEM

STOCK = "/api/v1/stock"


@pytest.fixture
def merchant(api: Any) -> Any:
    return api.as_user(roles="merchant")


@pytest.fixture
async def options() -> list[str]:
    made = await catalog.create_item(
        SYSTEM,
        catalog.ItemDraft(
            f"item-{ids.uuid7()}", "Cap", status="active", option_names=("Size",),
            options=(catalog.OptionDraft(("S",)), catalog.OptionDraft(("L",))),
        ),
    )  # fmt: skip
    return [str(option.id) for option in made.options]


async def test_stock_is_set_and_read_with_its_etag(merchant: Any, options: list[str]) -> None:
    path = f"{STOCK}/{options[0]}"
    answer = await merchant.put(path, json={"on_hand": 5})
    assert (answer.status_code, answer.json()["available"]) == (200, 5)
    shown = await merchant.get(path)
    assert (shown.json(), shown.headers["etag"]) == (answer.json(), answer.headers["etag"])
    later = await merchant.put(path, json={"on_hand": 7}, headers={"if-match": answer.headers["etag"]})
    assert later.json()["available"] == 7
    for stale in (answer.headers["etag"], '"v0"', '"0"', "0", '"x"', 'W/"v2"', '"v99999999999999999999999"'):
        refused = await merchant.put(path, json={"on_hand": 9}, headers={"if-match": stale})
        assert (refused.status_code, refused.json()["code"]) == (412, "precondition_failed"), stale
    assert (await merchant.put(path, json={"on_hand": 9}, headers={"if-match": "*"})).status_code == 200


@pytest.mark.parametrize(
    "body",
    [{}, {"on_hand": -1}, {"on_hand": 10**12}, {"on_hand": "many"}, {"on_hand": 1.5}, {"on_hand": None},
     {"on_hand": 1, "extra": 1}, []],
)  # fmt: skip
async def test_a_level_that_makes_no_sense_is_refused(merchant: Any, options: list[str], body: Any) -> None:
    answer = await merchant.put(f"{STOCK}/{options[0]}", json=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert (await merchant.get(f"{STOCK}/{options[0]}")).status_code == 404


async def test_an_option_that_is_not_in_the_catalogue_is_refused(merchant: Any, options: list[str]) -> None:
    unknown = str(uuid4())
    answer = await merchant.put(f"{STOCK}/{unknown}", json={"on_hand": 5})
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_option")
    lines = [{"option_id": options[0], "on_hand": 5}, {"option_id": unknown, "on_hand": 5}]
    answer = await merchant.post(f"{STOCK}/import", json={"stock": lines})
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_option")
    assert await stock.levels(SYSTEM, (options[0],)) == ()  # type: ignore[arg-type]


async def test_an_import_is_all_or_none(merchant: Any, options: list[str]) -> None:
    lines = [{"option_id": option, "on_hand": 5} for option in options]
    answer = await merchant.post(f"{STOCK}/import", json={"stock": lines})
    assert [level["on_hand"] for level in answer.json()["data"]] == [5, 5]
    again = await merchant.post(f"{STOCK}/import", json={"stock": lines})
    assert again.json() == answer.json()
    wish = stock.Reserve(ids.uuid7(), ids.uuid7(), (stock.Line(stock_id(options[1]), 4),), 60)
    await stock.reserve(SYSTEM, wish)
    lower = [{"option_id": option, "on_hand": 2} for option in options]
    refused = await merchant.post(f"{STOCK}/import", json={"stock": lower})
    assert (refused.status_code, refused.json()["code"], refused.json()["promised"]) == (409, "below_reserved", 4)
    assert (await merchant.get(f"{STOCK}/{options[0]}")).json()["on_hand"] == 5


def stock_id(text: str) -> Any:
    return type(uuid4())(text)


async def test_only_merchants_see_and_set_stock(api: Any, options: list[str]) -> None:
    for caller, status, code in ((api.as_user(), 403, "forbidden"), (api, 401, "unauthenticated")):
        for answer in (
            await caller.get(f"{STOCK}/{options[0]}"),
            await caller.put(f"{STOCK}/{options[0]}", json={"on_hand": 5}),
            await caller.post(f"{STOCK}/import", json={"stock": [{"option_id": options[0], "on_hand": 5}]}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (status, code)
