"""HTTP of stock: a merchant reads and sets how many units there are."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request, Response, get, post, put
from litestar.params import FromPath, JSONBody

from doorbuster.domains.item import catalog
from doorbuster.domains.item.stock import errors, service
from doorbuster.domains.item.stock.models import Level, SetOnHand
from doorbuster.platform import ids
from doorbuster.platform.http import ctx_from, etag_of, require_role

OnHand = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]


class StockBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Units in the shop that are not sold, held ones included."""

    on_hand: OnHand


class StockLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    option_id: UUID
    on_hand: OnHand


class StockImport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Many options at once, all in one transaction or none."""

    stock: Annotated[tuple[StockLine, ...], msgspec.Meta(min_length=1, max_length=5_000)]


class Levels(msgspec.Struct, frozen=True):
    data: tuple[Level, ...]


@get("/api/v1/stock/{option_id:uuid}", summary="One option's stock")
async def get_stock(request: Request[Any, Any, Any], option_id: FromPath[UUID]) -> Response[Level]:
    ctx = ctx_from(request)
    require_role(ctx, "merchant")
    level = await service.level(ctx, option_id)
    return Response(level, headers={"etag": etag_of(level.version)})


@put("/api/v1/stock/{option_id:uuid}", summary="Set one option's stock")
async def put_stock(
    request: Request[Any, Any, Any], option_id: FromPath[UUID], data: JSONBody[StockBody]
) -> Response[Level]:
    """If-Match is honoured when sent: 412 when the stock changed since (a sale changes it too)."""
    ctx = ctx_from(request)
    require_role(ctx, "merchant")
    known = {ref.option_id: ref for ref in await catalog.options_of(ctx, (option_id,))}
    if option_id not in known:
        raise errors.UnknownOption(f"There is no option {option_id} in the catalogue", option_id=option_id)
    wish = SetOnHand(
        entry_id=ids.uuid7(),
        option_id=option_id,
        item_id=known[option_id].item_id,
        on_hand=data.on_hand,
        if_version=_if_match(request),
        by_whom=ctx.subject,
    )
    (level,) = await service.set_on_hand(ctx, (wish,))
    return Response(level, headers={"etag": etag_of(level.version)})


@post("/api/v1/stock/import", status_code=200, summary="Set the stock of many options in one transaction")
async def import_stock(request: Request[Any, Any, Any], data: JSONBody[StockImport]) -> Levels:
    ctx = ctx_from(request)
    require_role(ctx, "merchant")
    option_ids = tuple(line.option_id for line in data.stock)
    known = {ref.option_id: ref for ref in await catalog.options_of(ctx, option_ids)}
    for option_id in option_ids:
        if option_id not in known:
            raise errors.UnknownOption(f"There is no option {option_id} in the catalogue", option_id=option_id)
    wishes = tuple(
        SetOnHand(ids.uuid7(), line.option_id, known[line.option_id].item_id, line.on_hand, 0, ctx.subject)
        for line in data.stock
    )
    return Levels(await service.set_on_hand(ctx, wishes))


def _if_match(request: Request[Any, Any, Any]) -> int:
    """The version in If-Match, or 0 for none; a value that is no ETag of ours (-1) matches nothing."""
    sent = (request.headers.get("if-match") or "*").strip()
    if sent == "*":
        return 0
    number = sent.strip('"').removeprefix("v")
    return int(number) if number.isdecimal() and len(number) < 19 and int(number) else -1


ROUTES = [get_stock, put_stock, import_stock]
