"""The storefront's pages on a small web application: real values, and a database that can be away."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Literal
from uuid import UUID, uuid4

import pytest
from litestar import Litestar
from litestar.datastructures import State
from litestar.testing import TestClient

from doorbuster.demo import MEDIA_PATH
from doorbuster.domains.activation import deal
from doorbuster.domains.activation.deal import Deal, DealOption
from doorbuster.domains.item import catalog
from doorbuster.domains.item.catalog import Item, ItemCard, ItemFilter, Media, Option, PageStart
from doorbuster.platform import settings
from doorbuster.platform.calls import Ctx
from doorbuster.platform.errors import Unavailable
from doorbuster.platform.http import render_error
from doorbuster.platform.settings import Settings
from doorbuster.surfaces.storefront import Check, Health, docs, front_page, routes

NOW = datetime(2026, 11, 27, 9, 0, tzinfo=UTC)
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'{{ 7 * 7 }}"
WELL = Health((Check("PostgreSQL", True, "answers in 1 ms"), Check("Workers", True, "2 of 2 ready")))
DealState = Literal["scheduled", "open", "sold_out", "closed"]
# Names inside SVG markup; no browser asks for them.
NAMESPACES = {"http://www.w3.org/2000/svg"}


class Shelf:
    """Guards what the shop holds in one test."""

    def __init__(self) -> None:
        self.deals: tuple[Deal, ...] = ()
        self.items: dict[UUID, Item] = {}
        self.failure: Exception | None = None
        self.health: Callable[[], Awaitable[Health]] | None = None

    def add_item(self, title: str = "Kiln Mug", url: str = MEDIA_PATH + "kiln-mug.svg", **changes: str) -> Item:
        """An item with two options."""
        options = tuple(Option(uuid4(), (value,), f"SKU-{value}", None, True) for value in ("Tide", "Ember"))
        texts = {"brand": "Kilnmoor", "category": "Kitchen", "description": "", "alt": "A mug"} | changes
        item = Item(
            uuid4(), f"item-{len(self.items)}", title, texts["description"], texts["brand"], texts["category"], (),
            "active", ("Glaze",), options, (Media(url, texts["alt"], 1),), 1, NOW, NOW,
        )  # fmt: skip
        self.items[item.id] = item
        return item

    def add_deal(self, item: Item, state: DealState = "open", title: str = "The drop", **changes: int) -> Deal:
        """A deal on both options of an item: 50 units each, of which `sold` and `held` are gone."""
        sold, held = changes.get("sold", 20), changes.get("held", 5)
        options = tuple(
            DealOption(option.id, changes.get("price", 1_200), 2_400, 50, 50 - sold - held, sold)
            for option in item.options
        )
        opens = NOW + timedelta(minutes=30) if state == "scheduled" else NOW - timedelta(hours=1)
        made = Deal(
            uuid4(), title, item.id, state, "USD", opens, NOW + timedelta(days=2, hours=3), 3, options, NOW,
        )  # fmt: skip
        self.deals += (made,)
        return made


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Shelf:
    """The public verbs that the page calls, answering from a shelf."""
    held = Shelf()

    async def list_deals(ctx: Ctx, before: object, limit: int) -> tuple[Deal, ...]:
        if held.failure:
            raise held.failure
        return held.deals[:limit]

    async def list_items(ctx: Ctx, wanted: ItemFilter, after: PageStart | None, limit: int) -> list[ItemCard]:
        if held.failure:
            raise held.failure
        return [
            ItemCard(item.id, item.handle, item.title, item.brand, item.category, (), item.media[0], 1, NOW)
            for item in held.items.values()
        ][:limit]

    async def get_items(ctx: Ctx, item_ids: tuple[UUID, ...]) -> tuple[Item, ...]:
        return tuple(held.items[item_id] for item_id in item_ids if item_id in held.items)

    monkeypatch.setattr(deal, "list_deals", list_deals)
    monkeypatch.setattr(catalog, "list_items", list_items)
    monkeypatch.setattr(catalog, "get_items", get_items)
    monkeypatch.setattr(settings, "_current", Settings(shop_name="Tarn & Timber"))
    return held


@pytest.fixture
def client(shelf: Shelf) -> Iterator[TestClient[Litestar]]:
    """A browser at a small application that holds the storefront's routes."""

    async def health() -> Health:
        return await shelf.health() if shelf.health else WELL

    app = Litestar(
        route_handlers=[*routes.ROUTES],
        exception_handlers={Exception: render_error},
        state=State({"health": health}),
        openapi_config=None,
    )
    with TestClient(app, base_url="https://shop.local:8443") as browser:
        yield browser


class Outline(HTMLParser):
    """Reads a page as a browser would: its elements with their attributes, and its visible text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of every element of this kind."""
        return [attributes for name, attributes in self.elements if name == tag]


def read(client: TestClient[Litestar], path: str = "/") -> tuple[str, Outline]:
    """A page that must be there."""
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return answer.text, Outline(answer.text)


def urls_in(page: str) -> set[str]:
    """Every absolute or protocol-relative address in a page."""
    return set(re.findall(r"https?://[^\s\"'<>)]+", page)) | set(re.findall(r"(?:src|href)=\"(//[^\"]+)", page))


def test_open_deal_shows_price_stock_options_and_end(client: TestClient[Litestar], shelf: Shelf) -> None:
    shelf.add_deal(shelf.add_item())
    page, outline = read(client)
    text = " ".join(outline.text.split())
    assert "Open now" in text and "50% off" in text
    assert "12.00USD" in text and "24.00" in text and "<s>24.00</s>" in page
    assert "50 of 100 left" in text and "10 being paid" in text
    assert "<li>Tide</li><li>Ember</li>" in page
    assert "Closes in 2 d 3 h" in text and "Sun 29 Nov 12:00 UTC" in text
    assert {"src": MEDIA_PATH + "kiln-mug.svg", "alt": "A mug", "width": "800", "height": "800"} in outline.of("img")


def test_stock_bar_is_as_wide_as_what_is_sold_and_held(client: TestClient[Litestar], shelf: Shelf) -> None:
    shelf.add_deal(shelf.add_item())
    _, outline = read(client)
    widths = {bar["class"]: bar["width"] for bar in outline.of("rect") if bar.get("class")}
    assert widths == {"rest": "1000", "held": "500", "sold": "400"}


def test_open_deals_come_before_planned_and_sold_out_ones(client: TestClient[Litestar], shelf: Shelf) -> None:
    item = shelf.add_item()
    shelf.add_deal(item, "sold_out", "Third", sold=50, held=0)
    shelf.add_deal(item, "scheduled", "Second", sold=0, held=0)
    shelf.add_deal(item, "open", "First")
    shelf.add_deal(item, "closed", "Over")
    _, outline = read(client)
    text = " ".join(outline.text.split())
    assert text.index("First") < text.index("Second") < text.index("Third")
    assert "Scheduled" in text and "Opens in 30 min" in text and "100 set aside" in text
    assert "Sold out" in text and "All 100 taken" in text
    assert "Over" not in text.replace("over: reload", "")


def test_percent_off_is_never_rounded_up(client: TestClient[Litestar], shelf: Shelf) -> None:
    shelf.add_deal(shelf.add_item(), price=1_201)
    assert "49% off" in read(client)[1].text


def test_hostile_text_stays_text_everywhere(client: TestClient[Litestar], shelf: Shelf) -> None:
    item = shelf.add_item(HOSTILE, brand=HOSTILE, category=HOSTILE, alt=HOSTILE, description=HOSTILE)
    shelf.add_deal(item, title=HOSTILE)

    async def health() -> Health:
        return Health((Check(HOSTILE, False, HOSTILE),))

    shelf.health = health
    page, outline = read(client)
    assert len(outline.of("script")) == 1
    assert not [name for _, attributes in outline.elements for name in attributes if name.startswith("on")]
    assert "alert(1)</script>" not in page and "<img src=x" not in page
    assert all(str(image["src"]).startswith(MEDIA_PATH) for image in outline.of("img"))
    assert "{{ 7 * 7 }}" in outline.text and HOSTILE in outline.text


@pytest.mark.parametrize("host", ["evil.example$(id)", "evil.example;id", "user@evil.example", "x" * 300, ""])
def test_commands_believe_only_a_plain_host(client: TestClient[Litestar], shelf: Shelf, host: str) -> None:
    answer = client.get("/", headers={"host": host})
    assert "https://localhost:8443/api/v1/deal" in answer.text
    assert not host or host not in answer.text


def test_shop_without_deals_and_items_says_what_to_do(client: TestClient[Litestar]) -> None:
    _, outline = read(client)
    assert "No deal is open or planned" in outline.text
    assert "doorbuster import FILE.csv" in outline.text
    assert "OPTION_ID" in outline.text


@pytest.mark.parametrize("failure", [Unavailable("The database of activation.deal is away"), TimeoutError()])
def test_page_is_honest_while_the_database_is_away(
    client: TestClient[Litestar], shelf: Shelf, failure: Exception
) -> None:
    shelf.add_deal(shelf.add_item())
    shelf.failure = failure
    _, outline = read(client)
    text = " ".join(outline.text.split())
    assert "The deals cannot be read right now" in text and "The catalogue cannot be read right now" in text
    assert "2 of 4 need attention" in text and "all 2 parts well" not in text
    assert "PostgreSQL is well: answers in 1 ms" in text
    assert "Deals needs attention: cannot be read right now" in text


def test_slow_database_does_not_hold_the_page(client: TestClient[Litestar], monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(ctx: Ctx, before: object, limit: int) -> tuple[Deal, ...]:
        await asyncio.sleep(60)
        return ()

    monkeypatch.setattr(deal, "list_deals", never)
    monkeypatch.setattr(front_page, "READ_S", 0.05)
    text = " ".join(read(client)[1].text.split())
    assert "The deals cannot be read right now" in text and "Nothing is on the shelf yet" in text


def test_bug_in_a_verb_is_not_hidden_behind_the_page(client: TestClient[Litestar], shelf: Shelf) -> None:
    shelf.failure = KeyError("a bug")
    answer = client.get("/")
    assert answer.status_code == 500 and answer.json()["code"] == "internal_error"


def test_health_report_that_never_comes_is_named(
    client: TestClient[Litestar], shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never() -> Health:
        await asyncio.sleep(60)
        return WELL

    shelf.health = never
    monkeypatch.setattr(routes, "HEALTH_S", 0.05)
    assert "Health report needs attention: no answer within" in " ".join(read(client)[1].text.split())


def test_application_without_health_report_says_so(shelf: Shelf) -> None:
    with TestClient(Litestar(route_handlers=[*routes.ROUTES], openapi_config=None)) as browser:
        text = " ".join(read(browser)[1].text.split())
    assert "Health is not known" in text and "parts well" not in text


def test_commands_buy_from_the_open_deal(client: TestClient[Litestar], shelf: Shelf) -> None:
    made = shelf.add_deal(shelf.add_item())
    _, outline = read(client)
    assert f'"deal_id": "{made.id}"' in outline.text
    assert f'"option_id": "{made.options[0].option_id}"' in outline.text
    for word in (
        "--cacert",
        "TOKEN=$(doorbuster token)",
        "Idempotency-Key: $KEY",
        "doorbuster drill timedeal --before",
    ):
        assert word in outline.text


def test_commands_buy_an_item_while_no_deal_is_open(client: TestClient[Litestar], shelf: Shelf) -> None:
    item = shelf.add_item()
    shelf.add_deal(item, "scheduled")
    _, outline = read(client)
    assert f'"option_id": "{item.options[0].id}"' in outline.text and '"deal_id"' not in outline.text


def test_pages_name_no_other_host(client: TestClient[Litestar], shelf: Shelf) -> None:
    shelf.add_deal(shelf.add_item("From elsewhere", "https://cdn.example/mug.jpg"))
    shelf.add_deal(shelf.add_item(), "scheduled")
    front, outline = read(client)
    assert {url for url in urls_in(front) if not url.startswith("https://shop.local:8443/api/v1/")} <= NAMESPACES
    assert [image["src"] for image in outline.of("img")].count(MEDIA_PATH + "kiln-mug.svg") == 2
    assert urls_in(read(client, "/api/v1/docs")[0]) <= NAMESPACES
    for name in ("docs.css", "docs.js"):
        assert urls_in(client.get(f"/api/v1/docs/{name}").text) == set()


def test_policy_allows_the_inline_parts_by_hash_and_nothing_else(client: TestClient[Litestar]) -> None:
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy and "http" not in policy
    for tag in ("style", "script"):
        (inline,) = re.findall(rf"<{tag}>(.*?)</{tag}>", answer.text, re.S)
        assert f"{tag}-src {front_page.hash_source(inline)};" in policy
    assert not [attributes for _, attributes in Outline(answer.text).elements if "style" in attributes]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-cache"


def test_page_has_landmarks_and_one_title(client: TestClient[Litestar], shelf: Shelf) -> None:
    shelf.add_deal(shelf.add_item())
    _, outline = read(client)
    for tag in ("header", "nav", "main", "footer", "h1", "title"):
        assert len(outline.of(tag)) == 1, tag
    ids = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    named = {
        str(attributes["aria-labelledby"]) for _, attributes in outline.elements if "aria-labelledby" in attributes
    }
    targets = {str(link["href"])[1:] for link in outline.of("a") if str(link["href"]).startswith("#")}
    assert named <= set(ids) and targets <= set(ids)
    assert {"/api/v1/docs", "/api/v1/openapi.json"} <= {link["href"] for link in outline.of("a")}


def test_docs_page_needs_only_files_that_are_served(client: TestClient[Litestar]) -> None:
    page, outline = read(client, "/api/v1/docs")
    assert "unsafe" not in client.get("/api/v1/docs").headers["content-security-policy"]
    wanted = [str(script["src"]) for script in outline.of("script")]
    wanted += [str(link["href"]) for link in outline.of("link") if link["rel"] == "stylesheet"]
    assert len(wanted) == 4 and "VERSION" not in page
    for path in wanted:
        answer = client.get(path)
        assert answer.status_code == 200 and answer.content
        assert answer.headers["cache-control"] == "public, max-age=86400"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-type"] == f"text/{'css' if '.css' in path else 'javascript'}; charset=utf-8"
    assert "/" in {link["href"] for link in outline.of("a")} and "API documentation" in page


@pytest.mark.parametrize(
    "name",
    ["index.html", "VERSION", "LICENSE", "docs.html", "docs.py", "front_page.html", "swagger-ui.js", "DOCS.CSS",
     "..%2Fdocs.py", "%2e%2e%2froutes.py", "docs.css%00", "swagger-ui.css%2F..%2FVERSION", "oauth2-redirect.html"],
)  # fmt: skip
def test_only_named_assets_are_served(client: TestClient[Litestar], name: str) -> None:
    answer = client.get(f"/api/v1/docs/{name}")
    assert answer.status_code == 404 and answer.json()["code"] == "not_found"


def test_viewer_understands_openapi_3_1() -> None:
    content, media_type = docs.asset("swagger-ui-bundle.js") or (b"", "")
    assert media_type.startswith("text/javascript")
    # OpenAPI 3.1 is JSON Schema 2020-12, which Swagger UI draws since its version 5.
    assert b"json-schema-2020-12" in content
