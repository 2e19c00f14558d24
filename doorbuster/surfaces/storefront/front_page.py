"""The front page: what runs here, is it well, the deals, a look at the catalogue, and what to try next."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import jinja2
import msgspec
import structlog
from markupsafe import Markup

from doorbuster import __version__
from doorbuster.demo import TAGLINE
from doorbuster.domains.activation import deal
from doorbuster.domains.activation.deal import Deal
from doorbuster.domains.item import catalog
from doorbuster.domains.item.catalog import Item, ItemCard, ItemFilter
from doorbuster.platform.calls import Ctx
from doorbuster.platform.clock import utc_now
from doorbuster.platform.errors import Unavailable
from doorbuster.surfaces.storefront import cards

MAX_DEALS = 12
MAX_TILES = 8
READ_S = 3.0
"""How long the page waits for the database before it says that it cannot be read."""
DEFAULT_ORIGIN = "https://localhost:8443"
DEFAULT_SHOP = "Doorbuster"

_LOG = structlog.get_logger("storefront")
_HERE = Path(__file__).parent
_T = TypeVar("_T")


class Check(msgspec.Struct, frozen=True):
    """One thing that runs here: its name, whether it is well, and a few words for people."""

    name: str
    ok: bool
    note: str


class Health(msgspec.Struct, frozen=True):
    """What runs here and whether it is well."""

    checks: tuple[Check, ...]


class Example(msgspec.Struct, frozen=True):
    """What the order in "Try it" buys."""

    option_id: UUID
    deal_id: UUID | None


def hash_source(text: str) -> str:
    """The CSP source that allows exactly this inline text (CSP level 3, section 2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


_STYLE = (_HERE / "front_page.css").read_text("utf-8")
_SCRIPT = (_HERE / "front_page.js").read_text("utf-8")
_TEMPLATE = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_HERE),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
).get_template("front_page.html")

POLICY = (
    f"default-src 'none'; style-src {hash_source(_STYLE)}; script-src {hash_source(_SCRIPT)}; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page's content-security-policy: its own style and script by hash, images of this shop, nothing else."""


async def render_front_page(
    ctx: Ctx, health: Health, *, origin: str = DEFAULT_ORIGIN, shop_name: str = DEFAULT_SHOP
) -> str:
    """The page as HTML. What cannot be read within READ_S is said to be unreadable, in its place and in the health row.

    `origin` is where the reader reached the shop; it stands in the commands to copy.
    """
    deals, listed = await asyncio.gather(
        _read("deals", deal.list_deals(ctx, None, MAX_DEALS)),
        _read("catalogue", catalog.list_items(ctx, ItemFilter(), None, MAX_TILES)),
    )
    items = await _read("pictures", _items_of(ctx, deals or (), listed or []))
    checks = list(health.checks)
    if deals is None:
        checks.append(Check("Deals", False, "cannot be read right now"))
    if listed is None:
        checks.append(Check("Catalogue", False, "cannot be read right now"))
    by_id = {item.id: item for item in items or ()}
    return _TEMPLATE.render(
        style=Markup(_STYLE),  # noqa: S704  our own file, allowed by its hash
        script=Markup(_SCRIPT),  # noqa: S704  our own file, allowed by its hash
        shop_name=shop_name,
        tagline=TAGLINE,
        version=__version__,
        origin=origin,
        now=utc_now().isoformat(),
        deals=None if deals is None else cards.deal_cards(deals, by_id),
        tiles=None if listed is None else cards.tiles(listed),
        checks=checks,
        troubles=sum(not check.ok for check in checks),
        example=_example(deals or (), listed or [], by_id),
        bar_units=cards.BAR_UNITS,
    )


async def _read(what: str, reading: Awaitable[_T]) -> _T | None:
    """The answer, or None when the shop's database does not give one in time: the page then says so."""
    try:
        async with asyncio.timeout(READ_S):
            return await reading
    except (Unavailable, TimeoutError) as error:
        _LOG.warning("front_page_cannot_read", what=what, why=str(error) or type(error).__name__)
        return None


async def _items_of(ctx: Ctx, deals: tuple[Deal, ...], listed: list[ItemCard]) -> tuple[Item, ...]:
    wanted = dict.fromkeys([one.item_id for one in deals] + [card.id for card in listed[:1]])
    return await catalog.get_items(ctx, tuple(wanted)) if wanted else ()


def _example(deals: tuple[Deal, ...], listed: list[ItemCard], items: dict[UUID, Item]) -> Example | None:
    """An option that can be bought now: of an open deal, else of the newest item."""
    for one in deals:
        if one.state == "open":
            return Example(max(one.options, key=lambda option: option.remaining).option_id, one.id)
    for card in listed[:1]:
        for option in items[card.id].options if card.id in items else ():
            if option.active:
                return Example(option.id, None)
    return None
