"""Order's routes: what clients see, and that every bad input has a code and changes nothing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest

from doorbuster.domains.commerce.order.routes import LEAN_ROUTES
from doorbuster.domains.commerce.order.tests import story
from doorbuster.domains.item import price, stock
from doorbuster.platform import ids
from doorbuster.platform.calls import SYSTEM
from doorbuster.platform.lean import with_lean_routes
from doorbuster.platform.rsgi import serve_asgi
from doorbuster.platform.tests.serving import served as served_by

ORDER = "/api/v1/order"
JSON = "application/json"
PAY = {"method": "card", "instrument": "tok_visa"}
Wish = dict[str, Any]


@pytest.fixture
async def served(api: Any) -> AsyncIterator[Any]:
    """The API as a worker serves it: the hot route leanly, all else by the framework."""
    async with served_by(with_lean_routes(serve_asgi(api._client._transport.app, 1_000_000), LEAN_ROUTES)) as client:
        yield type(api)(client, {})


@pytest.fixture
def buyer(served: Any) -> Any:
    return served.as_user().with_headers(idempotency_key=uuid4().hex)


def wish_of(here: story.Shelf, **more: Any) -> Wish:
    return {"lines": [{"option_id": str(here.option_ids[0]), "quantity": 1}], **more}


def line(**change: Any) -> Callable[[Wish], Wish]:
    """The wish with its line changed."""
    return lambda wish: wish | {"lines": [wish["lines"][0] | change]}


def wish(**change: Any) -> Callable[[Wish], Wish]:
    return lambda given: given | change


def without(name: str) -> Callable[[Wish], Wish]:
    return lambda given: {key: value for key, value in given.items() if key != name}


HERE = {"name": "A", "line1": "B", "city": "C", "postal_code": "1", "country": "KR"}

BAD_WISHES: list[tuple[str, Callable[[Wish], Any], int, str]] = [
    ("an unknown option", line(option_id=str(uuid4())), 404, "unknown_option"),
    ("an option that is no id", line(option_id="runner-230"), 400, "invalid_request"),
    ("quantity 0", line(quantity=0), 400, "invalid_request"),
    ("quantity -1", line(quantity=-1), 400, "invalid_request"),
    ("quantity 10^12", line(quantity=10**12), 400, "invalid_request"),
    ("quantity 10^30", line(quantity=10**30), 400, "invalid_request"),
    ("a quantity that is text", line(quantity="x"), 400, "invalid_request"),
    ("a quantity that is a number in quotes", line(quantity="1"), 400, "invalid_request"),
    ("quantity 1.5", line(quantity=1.5), 400, "invalid_request"),
    ("quantity null", line(quantity=None), 400, "invalid_request"),
    ("quantity true", line(quantity=True), 400, "invalid_request"),
    ("the same option twice", lambda given: given | {"lines": given["lines"] * 2}, 400, "invalid_request"),
    ("no lines", wish(lines=[]), 400, "invalid_request"),
    ("51 lines", lambda given: given | {"lines": given["lines"] * 51}, 400, "invalid_request"),
    ("lines missing", without("lines"), 400, "invalid_request"),
    ("lines that are no list", wish(lines={}), 400, "invalid_request"),
    ("an unknown field", wish(coupon="X"), 400, "invalid_request"),
    ("an unknown field in a line", line(discount=1), 400, "invalid_request"),
    ("more than there is", line(quantity=4), 409, "sold_out"),
    ("a price seen lower", line(unit_price_minor=story.PRICE - 1), 409, "price_changed"),
    ("a price seen as 0", line(unit_price_minor=0), 409, "price_changed"),
    ("a price below 0", line(unit_price_minor=-1), 400, "invalid_request"),
    ("another currency", wish(currency="EUR"), 409, "currency_mismatch"),
    ("a currency that is none", wish(currency="usd"), 400, "invalid_request"),
    ("a currency with a line break", wish(currency="USD\n"), 400, "invalid_request"),
    ("an unknown deal", wish(deal_id=str(uuid4())), 409, "not_in_deal"),
    ("a deal that is no id", wish(deal_id="friday"), 400, "invalid_request"),
    ("another method", wish(payment={"method": "cash", "instrument": "tok_visa"}), 400, "invalid_request"),
    ("an instrument with blanks", wish(payment={"method": "card", "instrument": "4111 1111"}), 400, "invalid_request"),
    ("no instrument", wish(payment={"method": "card"}), 400, "invalid_request"),
    ("an address without a name", wish(ship_to=HERE | {"name": ""}), 400, "invalid_request"),
    ("a country that is none", wish(ship_to=HERE | {"country": "Korea"}), 400, "invalid_request"),
    ("a NUL in the address", wish(ship_to=HERE | {"name": "A\x00B"}), 400, "invalid_request"),
    ("a body that is a list", lambda given: [given], 400, "invalid_request"),
    ("a body that is a word", lambda given: "order", 400, "invalid_request"),
]


async def refused(answer: Any, status: int, code: str) -> Any:
    """The answer is a problem document with this code; returns it."""
    assert answer.headers["content-type"].startswith("application/problem+json"), answer.text
    problem = answer.json()
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code), answer.text
    assert problem["title"] and problem["detail"] and problem["request_id"]
    return problem


async def nothing_changed(buyer: Any, here: story.Shelf) -> None:
    assert (await buyer.get(ORDER)).json()["data"] == []
    for level in await stock.levels(SYSTEM, here.option_ids):
        assert (level.reserved, level.sold, level.version) == (0, 0, 2)


@pytest.mark.parametrize(
    ("change", "status", "code"), [row[1:] for row in BAD_WISHES], ids=[row[0] for row in BAD_WISHES]
)
async def test_a_wish_that_makes_no_sense_is_refused(
    buyer: Any, change: Callable[[Wish], Any], status: int, code: str
) -> None:
    here = await story.shelf(3)
    problem = await refused(await buyer.post(ORDER, json=change(wish_of(here))), status, code)
    await nothing_changed(buyer, here)
    if code == "price_changed":
        assert problem["quote"]["lines"] == [{"option_id": str(here.option_ids[0]), "unit_price_minor": story.PRICE}]
    again = await buyer.post(ORDER, json=wish_of(here))
    assert again.status_code == 201, "a refusal before any effect stores nothing: the key is free"


@pytest.mark.parametrize(
    ("body", "media", "status", "code"),
    [
        (b'{"lines": [', "application/json", 400, "broken_json"),
        (b"", "application/json", 400, "broken_json"),
        (b"hello", "application/json", 400, "broken_json"),
        (b'{"\xff', "application/json", 400, "broken_json"),
        (b'{"lines":[{"option_id":"\xff"}]}', "application/json", 400, "invalid_request"),
        (b"null", "application/json", 400, "invalid_request"),
        (b"[" * 10_000, "application/json", 400, "invalid_request"),
        (b'{"lines":' * 5_000, "application/json", 400, "invalid_request"),
        (b"lines=1", "application/x-www-form-urlencoded", 415, "unsupported_media_type"),
        (b"{}", "text/plain", 415, "unsupported_media_type"),
        (b"{" + b" " * 70_000 + b"}", "application/json", 413, "body_too_large"),
    ],
)
async def test_a_body_that_is_no_json_is_refused(buyer: Any, body: bytes, media: str, status: int, code: str) -> None:
    await refused(await buyer.post(ORDER, content=body, headers={"content-type": media}), status, code)


@pytest.mark.parametrize(
    ("key", "code"),
    [
        (None, "idempotency_key_required"),
        (b"", "idempotency_key_required"),
        (b"x" * 256, "invalid_request"),
        ("schlüssel".encode(), "invalid_request"),
        (b"a\tb", "invalid_request"),
    ],
)
@pytest.mark.parametrize("path", ["", "/{id}/pay", "/{id}/cancel"])
async def test_a_key_is_required_and_must_be_plain(
    api: Any, buyer: Any, key: bytes | None, code: str, path: str
) -> None:
    here = await story.shelf(3)
    placed = (await buyer.post(ORDER, json=wish_of(here))).json()
    caller = api.as_user(UUID(placed_by(buyer)))
    headers = {} if key is None else {"idempotency-key": key}
    body = {"": wish_of(here), "/{id}/pay": PAY, "/{id}/cancel": {}}[path]
    answer = await caller.post(ORDER + path.format(id=placed["id"]), json=body, headers=headers)
    await refused(answer, 400, code)
    assert (await caller.get(f"{ORDER}/{placed['id']}")).json() == placed


def placed_by(buyer: Any) -> str:
    return str(buyer._headers["x-door-sub"])


@pytest.mark.parametrize(
    "body",
    [
        b"{}", b"{", b'{"lines":[]}', b'{"lines":[{"option_id":"x","quantity":1}]}', b"null", b"\xff", b'"x"', b"nul",
        b'{"lines":[{"option_id":"01a2053d-879e-7acd-88ea-a1b2c2219ed6","quantity":1}]}',
        b'{"lines":[{"option_id":"01a2053d-879e-7acd-88ea-a1b2c2219ed6","quantity":0}]}',
    ],
)  # fmt: skip
async def test_the_lean_route_refuses_as_the_framework_does(api: Any, buyer: Any, body: bytes) -> None:
    described = api.as_user().with_headers(idempotency_key="k")
    answers = [await one.post(ORDER, content=body, headers={"content-type": JSON}) for one in (described, buyer)]
    assert len({(answer.status_code, answer.json()["code"]) for answer in answers}) == 1
    assert {answer.headers["content-type"] for answer in answers} == {"application/problem+json"}


@pytest.mark.parametrize("path", ["/pay", "/cancel"])
async def test_other_media_are_refused_by_the_framework_too(buyer: Any, path: str) -> None:
    here = await story.shelf(3)
    placed = (await buyer.post(ORDER, json=wish_of(here))).json()
    answer = await buyer.post(
        f"{ORDER}/{placed['id']}{path}", content=json.dumps(PAY if path == "/pay" else {}),
        headers={"content-type": "text/plain"},
    )  # fmt: skip
    await refused(answer, 415, "unsupported_media_type")
    assert (await buyer.get(f"{ORDER}/{placed['id']}")).json() == placed


async def test_a_key_with_255_signs_is_fine(api: Any) -> None:
    here = await story.shelf(3)
    answer = await api.as_user().post(ORDER, json=wish_of(here), headers={"idempotency-key": "~" * 255})
    assert answer.status_code == 201


async def test_another_body_under_the_same_key_is_422(buyer: Any) -> None:
    here = await story.shelf(3)
    assert (await buyer.post(ORDER, json=wish_of(here))).status_code == 201
    await refused(await buyer.post(ORDER, json=wish_of(here, payment=PAY)), 422, "idempotency_key_reused")
    assert await story.counts(here) == [(2, 1, 0)]


async def test_a_deal_before_and_after_its_window_is_refused(buyer: Any) -> None:
    here = await story.shelf(3)
    now = datetime.now(UTC)
    for opens, closes, code in (
        (now + story.HOUR, now + 2 * story.HOUR, "deal_not_open"),
        (now - 2 * story.HOUR, now - story.HOUR, "deal_closed"),
    ):  # fmt: skip
        deal_id = ids.uuid7()
        await price.schedule_deal(SYSTEM, price.DealPrices(deal_id, ((here.option_ids[0], 100),), opens, closes))
        await stock.open_allotment(
            SYSTEM, stock.OpenAllotment(deal_id, (stock.Line(here.option_ids[0], 1),), opens, closes)
        )
        await refused(await buyer.post(ORDER, json=wish_of(here, deal_id=str(deal_id))), 409, code)
    assert (await buyer.get(ORDER)).json()["data"] == []


async def test_over_the_limit_is_refused_with_what_is_left(api: Any, buyer: Any) -> None:
    here = await story.shelf(9, limit=2)
    assert (await buyer.post(ORDER, json=wish_of(here, deal_id=str(here.deal_id)))).status_code == 201
    more = wish_of(here, deal_id=str(here.deal_id))
    more["lines"][0]["quantity"] = 2
    answer = await buyer.post(ORDER, json=more, headers={"idempotency-key": uuid4().hex})
    problem = await refused(answer, 409, "limit_exceeded")
    assert (problem["limit"], problem["taken"], problem["left"]) == (2, 1, 1)
    assert await story.counts(here) == [(8, 1, 0)]


async def test_an_order_of_the_outlet_option_and_the_deal_is_all_or_nothing(buyer: Any) -> None:
    here, elsewhere = await story.shelf(5, limit=5), await story.shelf(5)
    both = wish_of(here, deal_id=str(here.deal_id))
    both["lines"].append({"option_id": str(elsewhere.option_ids[0]), "quantity": 1})
    await refused(await buyer.post(ORDER, json=both), 409, "not_in_deal")
    assert await story.counts(here) == [(5, 0, 0)]


async def test_placing_answers_201_202_and_says_where(buyer: Any, sandbox: Any) -> None:
    await sandbox.faults()
    here = await story.shelf(9)
    for card, status, state in (
        (None, 201, "awaiting_payment"), ("tok_visa", 201, "paid"), ("tok_declined", 201, "awaiting_payment"),
        ("tok_malformed", 202, "payment_unknown"),
    ):  # fmt: skip
        body = wish_of(here, **({"payment": {"method": "card", "instrument": card}} if card else {}))
        headers = {"idempotency-key": uuid4().hex}
        answer = await buyer.post(ORDER, json=body, headers=headers)
        assert (answer.status_code, answer.json()["state"]) == (status, state)
        assert answer.headers["location"] == f"{ORDER}/{answer.json()['id']}"
        again = await buyer.post(ORDER, json=body, headers=headers)
        assert (again.status_code, again.content) == (answer.status_code, answer.content)


async def test_paying_answers_200_402_409(buyer: Any) -> None:
    here = await story.shelf(9)
    placed = (await buyer.post(ORDER, json=wish_of(here))).json()
    path = f"{ORDER}/{placed['id']}/pay"
    declined = await buyer.post(path, json=PAY | {"instrument": "tok_declined"}, headers={"idempotency-key": "1"})
    problem = await refused(declined, 402, "payment_declined")
    assert (problem["decline_code"], problem["order_id"]) == ("card_declined", placed["id"])
    paid = await buyer.post(path, json=PAY, headers={"idempotency-key": "2"})
    assert (paid.status_code, paid.json()["state"]) == (200, "paid")
    await refused(await buyer.post(path, json=PAY, headers={"idempotency-key": "3"}), 409, "order_not_payable")
    reused = await buyer.post(path, json=PAY | {"instrument": "tok_other"}, headers={"idempotency-key": "2"})
    await refused(reused, 422, "idempotency_key_reused")
    await refused(await buyer.post(path, json={"method": "card"}), 400, "invalid_request")


async def test_cancelling_takes_a_reason_or_nothing_and_one_key_has_one_body(buyer: Any) -> None:
    here = await story.shelf(9)
    placed = (await buyer.post(ORDER, json=wish_of(here))).json()
    path = f"{ORDER}/{placed['id']}/cancel"
    await refused(await buyer.post(path, json={"reason": "a\x00b"}), 400, "invalid_request")
    await refused(await buyer.post(path, json={"why": "no"}), 400, "invalid_request")
    answer = await buyer.post(path, json={"reason": "too big"})
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    assert (await buyer.post(path, json={"reason": "too big"})).json() == answer.json()
    await refused(await buyer.post(path, json={"reason": "other"}), 422, "idempotency_key_reused")
    steps = (await buyer.get(f"{ORDER}/{placed['id']}/timeline")).json()["data"]
    assert [step["state"] for step in steps] == ["awaiting_payment", "cancelling", "cancelled"]
    assert steps[1]["code"] == "too big"
    bare = (await buyer.post(ORDER, json=wish_of(here), headers={"idempotency-key": "bare"})).json()
    assert (await buyer.post(f"{ORDER}/{bare['id']}/cancel")).json()["state"] == "cancelled"


@pytest.mark.parametrize("path", ["", "/timeline"])
async def test_anothers_order_is_not_there(api: Any, buyer: Any, path: str) -> None:
    here = await story.shelf(9)
    placed = (await buyer.post(ORDER, json=wish_of(here))).json()
    stranger = api.as_user().with_headers(idempotency_key="x")
    await refused(await stranger.get(f"{ORDER}/{placed['id']}{path}"), 404, "not_found")
    await refused(await stranger.post(f"{ORDER}/{placed['id']}/cancel"), 404, "not_found")
    await refused(await stranger.post(f"{ORDER}/{placed['id']}/pay", json=PAY), 404, "not_found")
    await refused(await buyer.get(f"{ORDER}/{uuid4()}{path}"), 404, "not_found")
    await refused(await buyer.get(f"{ORDER}/not-an-id{path}"), 404, "not_found")
    await refused(await api.get(f"{ORDER}/{placed['id']}{path}"), 401, "unauthenticated")


async def test_orders_are_paged_newest_first(buyer: Any) -> None:
    here = await story.shelf(9)
    made = [
        (await buyer.post(ORDER, json=wish_of(here), headers={"idempotency-key": str(number)})).json()["id"]
        for number in range(5)
    ]
    seen: list[str] = []
    cursor = ""
    while True:
        page = (await buyer.get(ORDER, params={"limit": 2} | ({"cursor": cursor} if cursor else {}))).json()
        seen += [one["id"] for one in page["data"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert seen == made[::-1]
    for bad in ({"limit": 0}, {"limit": 101}, {"limit": "x"}, {"cursor": "x"}, {"cursor": "é"}, {"cursor": "W10"}):
        await refused(await buyer.get(ORDER, params=bad), 400, "invalid_request")


async def test_a_refusal_says_no_more_than_it_must(buyer: Any) -> None:
    """Instruments are never echoed: neither in a refusal nor in the order."""
    here = await story.shelf(9)
    secret = "tok_secret_" + uuid4().hex
    answers = [
        await buyer.post(ORDER, json=wish_of(here, payment={"method": "card", "instrument": secret})),
        await buyer.post(ORDER, json=wish_of(here, payment={"method": "card", "instrument": secret + "!"})),
    ]
    for answer in answers:
        assert secret not in answer.text
    assert "tok_secret" not in json.dumps((await buyer.get(ORDER)).json())
