"""The catalogue over HTTP: open reads with ETags, merchant writes with If-Match, pictures of the demo shop."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request, Response, get, post, put
from litestar.params import FromPath, JSONBody, QueryParameter

from doorbuster.domains.item.catalog import service
from doorbuster.domains.item.catalog.errors import UnknownItem, UnknownMedia
from doorbuster.domains.item.catalog.models import (
    ImportedItem,
    Item,
    ItemCard,
    ItemDraft,
    ItemFilter,
    ItemImport,
    PageStart,
)
from doorbuster.platform import settings
from doorbuster.platform.http import ctx_from, etag_of, make_cursor, parse_cursor, require_if_match, require_role

AnyRequest = Request[Any, Any, Any]
_MEDIA_NAME = re.compile(r"[a-z0-9-]{1,100}\.(svg|png|jpg|webp)", re.ASCII)
_MEDIA_TYPES = {"svg": "image/svg+xml", "png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}
_MAX_MEDIA_BYTES = 4 * 1024 * 1024
_Filter = Annotated[str | None, QueryParameter(max_length=255, pattern=r"^[^\u0000]*$")]


class ItemPage(msgspec.Struct, frozen=True):
    """One page of items."""

    data: list[ItemCard]
    next_cursor: str | None


class ImportAnswer(msgspec.Struct, frozen=True):
    """What became of each item, in the order sent."""

    data: list[ImportedItem]


@get("/api/v1/catalog", summary="List items")
async def list_items(
    request: AnyRequest,
    category: _Filter = None,
    brand: _Filter = None,
    handle: _Filter = None,
    limit: Annotated[int, QueryParameter(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, QueryParameter(max_length=512)] = None,
) -> ItemPage:
    """Active items, newest first; narrowed by category, brand or handle."""
    ctx = ctx_from(request, authenticated=False)
    after = parse_cursor(cursor, PageStart)
    cards = await service.list_items(ctx, ItemFilter(category, brand, handle), after, limit)
    last = cards[-1] if len(cards) == limit else None
    return ItemPage(cards, make_cursor(PageStart(last.created_at, last.id)) if last else None)


@get("/api/v1/catalog/{item_id:uuid}", summary="Read an item")
async def get_item(request: AnyRequest, item_id: FromPath[UUID]) -> Response[Item | None]:
    """One active item with the options that are sold; 304 when If-None-Match names its ETag."""
    item = await service.get_item(ctx_from(request, authenticated=False), item_id)
    if item.status != "active":
        raise UnknownItem(item_id=str(item_id))
    headers = {"etag": etag_of(item.version), "cache-control": "no-cache"}
    sent = request.headers.get("if-none-match", "")
    if sent.strip() == "*" or headers["etag"] in (part.strip().removeprefix("W/") for part in sent.split(",")):
        return Response(None, status_code=304, headers=headers)
    return Response(_visible(item), headers=headers)


@post("/api/v1/catalog", status_code=201, summary="Make an item")
async def post_item(request: AnyRequest, data: JSONBody[ItemDraft]) -> Response[Item]:
    """A new item; the answer's ETag is what the first PUT sends as If-Match."""
    ctx = ctx_from(request)
    require_role(ctx, "merchant")
    item = await service.create_item(ctx, data)
    headers = {"etag": etag_of(item.version), "location": f"/api/v1/catalog/{item.id}"}
    return Response(item, status_code=201, headers=headers)


@put("/api/v1/catalog/{item_id:uuid}", summary="Replace an item")
async def put_item(request: AnyRequest, item_id: FromPath[UUID], data: JSONBody[ItemDraft]) -> Response[Item]:
    """Replace an item whole. Needs If-Match; an option that is left out is no longer sold, but keeps its id."""
    ctx = ctx_from(request)
    require_role(ctx, "merchant")
    before = await service.get_item(ctx, item_id)
    require_if_match(request, before.version)
    item = await service.replace_item(ctx, item_id, before.version, data)
    return Response(item, headers={"etag": etag_of(item.version)})


@post("/api/v1/catalog/import", status_code=200, summary="Make or replace many items")
async def import_items(request: AnyRequest, data: JSONBody[ItemImport]) -> ImportAnswer:
    """Up to 2,000 items by handle, all or none; sending it again changes nothing."""
    ctx = ctx_from(request)
    require_role(ctx, "merchant")
    return ImportAnswer(await service.import_items(ctx, data.items))


@get("/api/v1/catalog/media/{name:str}", summary="A picture")
async def get_media(name: FromPath[str]) -> Response[bytes]:
    """A picture of the demo shop, by the name that an item's media links to."""
    folder = settings.current().demo_media_dir
    if not folder or not _MEDIA_NAME.fullmatch(name):
        raise UnknownMedia()
    content = await asyncio.to_thread(_read, Path(folder) / name)
    headers = {
        "cache-control": "public, max-age=86400, immutable",
        "x-content-type-options": "nosniff",
        # An SVG opened by itself is a document: it must not run or load anything.
        "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
    }
    return Response(content, headers=headers, media_type=_MEDIA_TYPES[name.rpartition(".")[2]])


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            content = opened.read(_MAX_MEDIA_BYTES + 1)
    except OSError as error:
        raise UnknownMedia() from error
    if len(content) > _MAX_MEDIA_BYTES:
        raise UnknownMedia(f"{file.name} is larger than {_MAX_MEDIA_BYTES} bytes")
    return content


def _visible(item: Item) -> Item:
    return msgspec.structs.replace(item, options=tuple(option for option in item.options if option.active))


ROUTES: list[Any] = [list_items, get_item, post_item, put_item, import_items, get_media]
