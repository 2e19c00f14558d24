"""HTTP of order: place, pay, cancel, list, detail, timeline. Owners only."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request, Response, get, post
from litestar.params import FromPath, FromQuery, HeaderParameter, JSONBody, QueryParameter

from doorbuster.domains.commerce.order import service
from doorbuster.domains.commerce.order.models import Cancel, Order, Pay, Place, Step
from doorbuster.platform.calls import Ctx
from doorbuster.platform.http import ctx_from, make_cursor, parse_cursor, require_key
from doorbuster.platform.lean import LeanRoute

Key = Annotated[
    str | None,
    HeaderParameter(name="Idempotency-Key", required=False, description="Required: a fresh random value per intent"),
]
_OPEN = frozenset({"payment_unknown", "cancel_pending", "cancelling", "paying", "captured", "refunding"})


class Orders(msgspec.Struct, frozen=True):
    data: tuple[Order, ...]
    next_cursor: str | None


class Timeline(msgspec.Struct, frozen=True):
    data: tuple[Step, ...]


async def place(ctx: Ctx, wish: Place) -> tuple[int, Order, dict[str, str]]:
    """(status, order, headers) of a placing request."""
    require_key(ctx)
    order = await service.place(ctx, wish)
    return 202 if order.state in _OPEN else 201, order, {"location": f"/api/v1/order/{order.id}"}


@post("/api/v1/order", summary="Place an order", raises=[])
async def post_order(
    request: Request[Any, Any, Any], data: JSONBody[Place], idempotency_key: Key = None
) -> Response[Order]:
    """201 with the order: `paid` with an instrument that worked, `awaiting_payment` without one or after a decline
    (see `payment`); 202 while the outcome of the payment is unknown. Repeat with the same Idempotency-Key for the
    same answer."""
    status, order, headers = await place(ctx_from(request), data)
    return Response(order, status_code=status, headers=headers)


@get("/api/v1/order", summary="Your orders, newest first")
async def list_orders(
    request: Request[Any, Any, Any],
    limit: Annotated[int, QueryParameter(ge=1, le=100)] = 20,
    cursor: FromQuery[str | None] = None,
) -> Orders:
    ctx = ctx_from(request)
    orders = await service.list_orders(ctx, parse_cursor(cursor, tuple[datetime, UUID]), limit + 1)
    page = orders[:limit]
    more = len(orders) > limit
    return Orders(page, make_cursor((page[-1].created_at, page[-1].id)) if more else None)


@get("/api/v1/order/{order_id:uuid}", summary="One of your orders")
async def get_order(request: Request[Any, Any, Any], order_id: FromPath[UUID]) -> Order:
    return await service.get_order(ctx_from(request), order_id)


@get("/api/v1/order/{order_id:uuid}/timeline", summary="Everything that happened to one of your orders")
async def get_timeline(request: Request[Any, Any, Any], order_id: FromPath[UUID]) -> Timeline:
    return Timeline(await service.timeline(ctx_from(request), order_id))


@post("/api/v1/order/{order_id:uuid}/pay", status_code=200, summary="Pay an order")
async def pay_order(
    request: Request[Any, Any, Any], order_id: FromPath[UUID], data: JSONBody[Pay], idempotency_key: Key = None
) -> Response[Order]:
    """200 when paid; 202 while the outcome is unknown; 402 `payment_declined`: try another card with a new key; 503
    `payment_unavailable`: nothing was taken, try again with a new key."""
    ctx = ctx_from(request)
    require_key(ctx)
    order = await service.pay(ctx, order_id, data)
    return Response(order, status_code=202 if order.state in _OPEN else 200)


@post("/api/v1/order/{order_id:uuid}/cancel", status_code=200, summary="Cancel an order before it is shipped")
async def cancel_order(
    request: Request[Any, Any, Any],
    order_id: FromPath[UUID],
    data: JSONBody[Cancel | None] = None,
    idempotency_key: Key = None,
) -> Response[Order]:
    """200 when cancelled; 202 while money is still on its way back or a payment's outcome is unknown."""
    ctx = ctx_from(request)
    require_key(ctx)
    order = await service.cancel(ctx, order_id, data or Cancel())
    return Response(order, status_code=202 if order.state in _OPEN else 200)


LEAN_ROUTES = (LeanRoute("/api/v1/order", Place, place, body_limit=65_536),)
ROUTES = [post_order, list_orders, get_order, get_timeline, pay_order, cancel_order]
