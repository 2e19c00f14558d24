"""The catalogue's routes: what clients see."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from doorbuster.platform import ids, settings


def body(**changes: Any) -> dict[str, Any]:
    return {
        "handle": f"item-{ids.uuid7()}",
        "title": "Tote",
        "status": "active",
        "option_names": ["Color"],
        "options": [{"values": ["Sand"]}, {"values": ["Ink"], "sku": "T-INK"}],
    } | changes


@pytest.fixture
def merchant(api: Any) -> Any:
    return api.as_user(ids.uuid7(), "merchant")


async def test_merchant_makes_an_item_that_everybody_reads(api: Any, merchant: Any) -> None:
    made = await merchant.post("/api/v1/catalog", json=body())
    assert made.status_code == 201
    read = await api.get(made.headers["location"])
    assert read.json() == made.json()
    assert read.headers["etag"] == made.headers["etag"] == '"v1"'


async def test_reader_with_the_current_etag_gets_304(api: Any, merchant: Any) -> None:
    made = await merchant.post("/api/v1/catalog", json=body())
    again = await api.get(made.headers["location"], headers={"if-none-match": 'W/"v1"'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", '"v1"')
    assert (await api.get(made.headers["location"], headers={"if-none-match": '"v2"'})).status_code == 200


@pytest.mark.parametrize("status", ["draft", "archived"])
async def test_item_that_is_not_sold_is_not_found(api: Any, merchant: Any, status: str) -> None:
    made = await merchant.post("/api/v1/catalog", json=body(status=status))
    answer = await api.get(made.headers["location"])
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_item")


async def test_stale_edit_is_refused_and_a_fresh_one_hides_the_option_left_out(api: Any, merchant: Any) -> None:
    wanted = body()
    made = await merchant.post("/api/v1/catalog", json=wanted)
    where = made.headers["location"]
    fewer = wanted | {"options": wanted["options"][:1]}
    missing = await merchant.put(where, json=fewer)
    assert (missing.status_code, missing.json()["code"]) == (428, "precondition_required")
    stale = await merchant.put(where, json=fewer, headers={"if-match": '"v7"'})
    assert (stale.status_code, stale.json()["code"], stale.json()["current"]) == (412, "precondition_failed", 1)
    done = await merchant.put(where, json=fewer, headers={"if-match": '"v1"'})
    assert (done.status_code, done.headers["etag"]) == (200, '"v2"')
    options = (await api.get(where)).json()["options"]
    assert [option["id"] for option in options] == [made.json()["options"][0]["id"]]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"handle": "No Good"}, "invalid_item"),
        ({"title": ""}, "invalid_request"),
        ({"title": "a\x00b"}, "invalid_request"),
        ({"color": "red"}, "invalid_request"),
        ({"options": [{"values": ["a"]}, {"values": ["a"]}]}, "duplicate_option"),
        ({"options": [{"values": ["a", "b"]}]}, "invalid_item"),
        ({"options": [{"values": ["a"], "id": str(ids.uuid7())}]}, "invalid_item"),
        ({"media": [{"url": "javascript:alert(1)"}]}, "invalid_request"),
        ({"media": [{"url": "http://example.com/a.png"}]}, "invalid_request"),
        ({"media": [{"url": 'https://example.com/"onload="x'}]}, "invalid_request"),
        ({"status": "sold"}, "invalid_request"),
        ({"description": "x" * 65_537}, "invalid_request"),
    ],
)
async def test_bad_item_is_refused_with_a_code(merchant: Any, changes: dict[str, Any], code: str) -> None:
    answer = await merchant.post("/api/v1/catalog", json=body(**changes))
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert answer.headers["content-type"].startswith("application/problem+json")


async def test_taken_handle_is_a_conflict(merchant: Any) -> None:
    wanted = body()
    await merchant.post("/api/v1/catalog", json=wanted)
    answer = await merchant.post("/api/v1/catalog", json=wanted)
    assert (answer.status_code, answer.json()["code"]) == (409, "handle_taken")


async def test_shopper_may_not_write(api: Any) -> None:
    shopper = api.as_user(ids.uuid7(), "shopper")
    for path, sent in (("/api/v1/catalog", body()), ("/api/v1/catalog/import", {"items": [body()]})):
        answer = await shopper.post(path, json=sent)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    answer = await shopper.put(f"/api/v1/catalog/{ids.uuid7()}", json=body(), headers={"if-match": '"v1"'})
    assert answer.status_code == 403


async def test_import_answers_ids_per_item(merchant: Any) -> None:
    sent = {"items": [body(), body()]}
    first = await merchant.post("/api/v1/catalog/import", json=sent)
    assert first.status_code == 200
    assert [row["outcome"] for row in first.json()["data"]] == ["created", "created"]
    again = (await merchant.post("/api/v1/catalog/import", json=sent)).json()["data"]
    assert [row["outcome"] for row in again] == ["unchanged", "unchanged"]
    assert [row["options"] for row in again] == [row["options"] for row in first.json()["data"]]
    assert again[0]["options"][1]["values"] == ["Ink"]


async def test_list_pages_by_cursor(api: Any, merchant: Any) -> None:
    brand = f"B{ids.uuid7()}"
    for _ in range(3):
        await merchant.post("/api/v1/catalog", json=body(brand=brand))
    first = (await api.get("/api/v1/catalog", params={"brand": brand, "limit": 2})).json()
    assert len(first["data"]) == 2
    rest = await api.get("/api/v1/catalog", params={"brand": brand, "limit": 2, "cursor": first["next_cursor"]})
    assert len(rest.json()["data"]) == 1
    assert rest.json()["next_cursor"] is None


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=101", "limit=x", "cursor=zzz", "cursor=WyIwMDAxLTAxLTAxVDAwOjAwOjAwWiIsMV0", "brand=%00"],
)
async def test_bad_list_parameters_are_refused(api: Any, query: str) -> None:
    answer = await api.get(f"/api/v1/catalog?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


@pytest.fixture
def pictures(tmp_path: Path) -> Iterator[Path]:
    before = settings.current()
    folder = tmp_path / "media"
    folder.mkdir()
    (folder / "drift-slide.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (tmp_path / "secret.svg").write_text("secret")
    settings.use(msgspec.structs.replace(before, demo_media_dir=str(folder)))
    yield folder
    settings.use(before)


@pytest.mark.usefixtures("pictures")
async def test_picture_is_served_harmless(api: Any) -> None:
    answer = await api.get("/api/v1/catalog/media/drift-slide.svg")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("image/svg+xml")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize(
    "name",
    [
        "..%2fsecret.svg",
        "..%2f..%2fmap.py",
        "%2e%2e",
        "none.svg",
        "a.html",
        "drift-slide.svg%00.png",
        "DRIFT-SLIDE.svg",
        "a.svg.gz",
    ],
)
async def test_no_other_file_is_served(api: Any, name: str) -> None:
    assert (await api.get(f"/api/v1/catalog/media/{name}")).status_code == 404
