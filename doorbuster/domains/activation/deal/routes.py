"""HTTP of deal: anybody reads, merchants make."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request, Response, get, post
from litestar.params import FromPath, FromQuery, HeaderParameter, JSONBody, QueryParameter

from doorbuster.domains.activation.deal import service
from doorbuster.domains.activation.deal.models import Deal, DealDraft
from doorbuster.platform.http import ctx_from, make_cursor, parse_cursor, require_key, require_role


class Deals(msgspec.Struct, frozen=True):
    data: tuple[Deal, ...]
    next_cursor: str | None


@get("/api/v1/deal", summary="Deals: scheduled, open and sold out")
async def list_deals(
    request: Request[Any, Any, Any],
    limit: Annotated[int, QueryParameter(ge=1, le=100)] = 20,
    cursor: FromQuery[str | None] = None,
    closed: FromQuery[bool] = False,
) -> Deals:
    """With `closed=true` past deals too."""
    ctx = ctx_from(request, authenticated=False)
    deals = await service.list_deals(ctx, parse_cursor(cursor, tuple[datetime, UUID]), limit + 1, closed)
    page = deals[:limit]
    return Deals(page, make_cursor((page[-1].closes_at, page[-1].id)) if len(deals) > limit else None)


@get("/api/v1/deal/{deal_id:uuid}", summary="One deal, with what is left")
async def get_deal(request: Request[Any, Any, Any], deal_id: FromPath[UUID]) -> Deal:
    return await service.get_deal(ctx_from(request, authenticated=False), deal_id)


@post("/api/v1/deal", status_code=201, summary="Make a time deal")
async def post_deal(
    request: Request[Any, Any, Any],
    data: JSONBody[DealDraft],
    idempotency_key: Annotated[str | None, HeaderParameter(name="Idempotency-Key", required=False)] = None,
) -> Response[Deal]:
    """Cuts the allotment from free stock at once and schedules the deal price; the window's end is exclusive."""
    ctx = ctx_from(request)
    require_role(ctx, "merchant")
    if ctx.idempotency_key:
        require_key(ctx)
    deal = await service.make(ctx, data)
    return Response(deal, headers={"location": f"/api/v1/deal/{deal.id}"})


ROUTES = [list_deals, get_deal, post_deal]
