"""Prices over HTTP: an item's prices for everybody; list prices, sales and imports for merchants."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from litestar import Request, Response, get, post, put
from litestar.params import FromPath, JSONBody

from doorbuster.domains.item.price import service
from doorbuster.domains.item.price.models import (
    ImportedPrices,
    ItemPrices,
    ListPrice,
    ListPriceDraft,
    PriceImport,
    Sale,
    SaleDraft,
)
from doorbuster.platform import ids
from doorbuster.platform.calls import Ctx
from doorbuster.platform.errors import PreconditionFailed
from doorbuster.platform.http import ctx_from, etag_of, require_if_match, require_key, require_role

AnyRequest = Request[Any, Any, Any]


@get("/api/v1/price/{item_id:uuid}", summary="An item's prices")
async def get_prices(request: AnyRequest, item_id: FromPath[UUID]) -> Response[ItemPrices]:
    """What each option of an item costs now, and the sale that makes it so."""
    prices = await service.item_prices(ctx_from(request, authenticated=False), item_id)
    return Response(prices, headers={"cache-control": "no-cache"})


@put("/api/v1/price/option/{option_id:uuid}", summary="Set a list price")
async def put_price(
    request: AnyRequest, option_id: FromPath[UUID], data: JSONBody[ListPriceDraft]
) -> Response[ListPrice]:
    """What an option costs without a sale. If-Match is not required, but honoured."""
    ctx = ctx_from(request)
    require_role(ctx, "merchant")
    expected = None
    if "if-match" in request.headers:
        before = await service.list_price(ctx, option_id)
        if before is None:
            raise PreconditionFailed("This option has no price yet; send no If-Match to set its first")
        require_if_match(request, before.version)
        expected = before.version
    price = await service.set_list_price(ctx, option_id, data, expected)
    return Response(price, headers={"etag": etag_of(price.version)})


@post("/api/v1/price/option/{option_id:uuid}/sale", status_code=201, summary="Schedule a sale")
async def post_sale(request: AnyRequest, option_id: FromPath[UUID], data: JSONBody[SaleDraft]) -> Sale:
    """A lower price for everybody for a time. With an Idempotency-Key it may be sent again safely."""
    ctx = ctx_from(request)
    require_role(ctx, "merchant")
    return await service.schedule_sale(ctx, option_id, _sale_id(ctx), data)


def _sale_id(ctx: Ctx) -> UUID:
    if not ctx.idempotency_key:
        return ids.uuid7()
    return ids.derived_id("item.price.sale", str(ctx.subject), require_key(ctx))


@post("/api/v1/price/import", status_code=200, summary="Set many list prices")
async def import_prices(request: AnyRequest, data: JSONBody[PriceImport]) -> ImportedPrices:
    """Up to 20,000 list prices, all or none; sending it again changes nothing."""
    ctx = ctx_from(request)
    require_role(ctx, "merchant")
    return await service.import_prices(ctx, data.prices)


ROUTES: list[Any] = [get_prices, put_price, post_sale, import_prices]
