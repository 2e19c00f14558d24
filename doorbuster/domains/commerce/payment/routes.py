"""HTTP of payment: what customers see of theirs, refunds, and the desk where operators see and steer."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from litestar import Request, Response, get, post, put
from litestar.params import FromPath, FromQuery, HeaderParameter, JSONBody, QueryParameter

from doorbuster.domains.commerce.payment import desk, service, webhooks
from doorbuster.domains.commerce.payment.models import (
    BankAccount,
    HandSettlement,
    Instrument,
    InstrumentWish,
    Matter,
    PaymentDetail,
    PaymentFilter,
    PaymentLine,
    Refund,
    RefundWish,
    Returned,
)
from doorbuster.engines.payment_router.router import AccountHealth
from doorbuster.engines.payment_router.routing import Decision, RoutingRules
from doorbuster.platform.calls import Ctx
from doorbuster.platform.http import ctx_from, make_cursor, parse_cursor, require_key, require_role

Key = Annotated[
    str | None,
    HeaderParameter(name="Idempotency-Key", required=False, description="Required: a fresh random value per intent"),
]
Limit = Annotated[int, QueryParameter(ge=1, le=100)]


class Payments(msgspec.Struct, frozen=True):
    data: tuple[PaymentLine, ...]
    next_cursor: str | None


class Matters(msgspec.Struct, frozen=True):
    data: tuple[Matter, ...]
    next_cursor: str | None


class Decisions(msgspec.Struct, frozen=True):
    data: tuple[Decision, ...]


class Instruments(msgspec.Struct, frozen=True):
    data: tuple[Instrument, ...]


class Forget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which card."""

    id: UUID


class Health(msgspec.Struct, frozen=True):
    data: tuple[AccountHealth, ...]


def _admin(request: Request[Any, Any, Any]) -> Ctx:
    ctx = ctx_from(request)
    require_role(ctx, "admin")
    return ctx


@get("/api/v1/payment/{payment_id:uuid}", summary="A payment of yours, with its attempts and refunds")
async def get_payment(request: Request[Any, Any, Any], payment_id: FromPath[UUID]) -> PaymentDetail:
    return await service.get_payment(ctx_from(request), payment_id)


@get("/api/v1/payment", summary="Payments of all customers, newest first")
async def list_payments(
    request: Request[Any, Any, Any],
    limit: Limit = 20,
    cursor: FromQuery[str | None] = None,
    of_state: Annotated[str | None, QueryParameter(name="state")] = None,
    provider: FromQuery[str | None] = None,
    order_id: FromQuery[UUID | None] = None,
) -> Payments:
    ctx = _admin(request)
    which = PaymentFilter(of_state or "", provider or "", order_id)
    found = await service.list_payments(ctx, which, parse_cursor(cursor, tuple[datetime, UUID]), limit + 1)
    page = found[:limit]
    more = len(found) > limit
    return Payments(page, make_cursor((page[-1].created_at, page[-1].id)) if more else None)


@post("/api/v1/payment/{payment_id:uuid}/refund", status_code=200, summary="Give back a part of a payment, or all")
async def post_refund(
    request: Request[Any, Any, Any], payment_id: FromPath[UUID], data: JSONBody[RefundWish], idempotency_key: Key = None
) -> Response[Refund]:
    """200 when the provider has given it back; 202 while it has not confirmed: it is repeated until it does. 409
    `refund_too_large` names what is left."""
    ctx = _admin(request)
    require_key(ctx)
    refund = await service.refund(ctx, payment_id, data)
    return Response(refund, status_code=200 if refund.state == "succeeded" else 202)


@post("/api/v1/payment/{payment_id:uuid}/confirm", status_code=200, summary="Pay with what the window brought back")
async def confirm(
    request: Request[Any, Any, Any], payment_id: FromPath[UUID], data: JSONBody[Returned], idempotency_key: Key = None
) -> Response[PaymentDetail]:
    """All fields with which the provider's window sent the buyer back, as they came. 200 with the payment: `succeeded`,
    `declined`, or `waiting` when the buyer came back without having paid, or for the transfer to `deposit`; 202 while
    the outcome is unknown. 409 `reselect_psp`: nothing was taken, pay the order again and another provider is asked."""
    ctx = ctx_from(request)
    require_key(ctx)
    paid = await service.confirm(ctx, payment_id, data)
    return Response(paid, status_code=202 if paid.state in ("processing", "unknown") else 200)


@put(
    "/api/v1/payment/{payment_id:uuid}/refund-account",
    status_code=204,
    summary="Where a transfer goes back to",
)
async def put_refund_account(
    request: Request[Any, Any, Any], payment_id: FromPath[UUID], data: JSONBody[BankAccount]
) -> None:
    """A card's money goes back by itself; a transfer needs an account. A refund that waits for it is sent at once."""
    await service.name_refund_account(ctx_from(request), payment_id, data)


@get("/api/v1/payment/{payment_id:uuid}/decision", summary="Why each attempt went where it went")
async def get_decisions(request: Request[Any, Any, Any], payment_id: FromPath[UUID]) -> Decisions:
    return Decisions(await service.decisions(_admin(request), payment_id))


@get("/api/v1/payment/case", summary="What a person must look at")
async def list_matters(
    request: Request[Any, Any, Any],
    limit: Limit = 20,
    cursor: FromQuery[str | None] = None,
    of_state: Annotated[Literal["open", "closed"], QueryParameter(name="state")] = "open",
) -> Matters:
    position = parse_cursor(cursor, tuple[datetime, UUID])
    found = await service.list_matters(_admin(request), of_state == "open", position, limit + 1)
    page = found[:limit]
    more = len(found) > limit
    return Matters(page, make_cursor((page[-1].opened_at, page[-1].id)) if more else None)


@post("/api/v1/payment/case/{case_id:uuid}/settle", status_code=200, summary="Settle a case by hand")
async def settle_matter(
    request: Request[Any, Any, Any], case_id: FromPath[UUID], data: JSONBody[HandSettlement]
) -> Matter:
    """Only what a person has seen at the provider: money that it took after all goes back by itself."""
    return await service.settle_matter(_admin(request), case_id, data)


@post("/api/v1/payment/instrument", status_code=201, summary="Keep a card, under its key at each provider account")
async def keep_instrument(
    request: Request[Any, Any, Any], data: JSONBody[InstrumentWish], idempotency_key: Key = None
) -> Instrument:
    ctx = ctx_from(request)
    require_key(ctx)
    return await service.keep_instrument(ctx, data)


@get("/api/v1/payment/instrument", summary="Your cards, never their keys")
async def list_instruments(request: Request[Any, Any, Any]) -> Instruments:
    return Instruments(await service.list_instruments(ctx_from(request)))


@post("/api/v1/payment/instrument/forget", status_code=204, summary="Forget a card")
async def forget_instrument(request: Request[Any, Any, Any], data: JSONBody[Forget]) -> None:
    await service.forget_instrument(ctx_from(request), data.id)


@get("/api/v1/payment/provider", summary="How each provider account does")
async def list_health(request: Request[Any, Any, Any]) -> Health:
    return Health(await desk.health(_admin(request)))


@post("/api/v1/payment/provider/{account:str}/force", status_code=200, summary="Say how an account stands, at once")
async def force(request: Request[Any, Any, Any], account: FromPath[str], data: JSONBody[desk.Force]) -> Health:
    """`open`: no payments go there; `closed`: they do, whatever its health; empty: its health decides again."""
    return Health(await desk.force(_admin(request), account, data))


@post(
    "/api/v1/payment/webhook/{account:str}/event", status_code=200, summary="For payment providers: something happened"
)
async def post_webhook(request: Request[Any, Any, Any], account: FromPath[str]) -> Response[bytes]:
    """Needs no token: what is signed is verified, what is not is only a hint to look. Answers when it is durable."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    reply = await webhooks.hear(account, headers, await request.body())
    return Response(reply.body, media_type=reply.content_type)


@get("/api/v1/payment/routing", summary="The routing rules in force")
async def get_rules(request: Request[Any, Any, Any]) -> Response[RoutingRules]:
    rules = await desk.rules_in_force(_admin(request))
    return Response(rules, headers={"etag": f'"{rules.version}"'})


@put("/api/v1/payment/routing", summary="Put other routing rules in force")
async def put_rules(request: Request[Any, Any, Any], data: JSONBody[desk.NewRules]) -> Response[RoutingRules]:
    """With `If-Match` of the version that they replace: 412 when somebody else was quicker. Takes effect in all workers
    within half a second."""
    rules = await desk.replace_rules(_admin(request), data, request.headers.get("if-match"))
    return Response(rules, headers={"etag": f'"{rules.version}"'})


@post("/api/v1/payment/routing/try", status_code=200, summary="Where payments would go, without sending any")
async def try_rules(request: Request[Any, Any, Any], data: JSONBody[desk.Trial]) -> desk.Tried:
    """With `rules`, by those, else by the rules in force. Nothing is stored or sent."""
    return await desk.try_rules(_admin(request), data)


ROUTES = [
    get_payment, list_payments, confirm, put_refund_account, post_refund, get_decisions, list_matters, settle_matter,
    keep_instrument, list_instruments, forget_instrument, list_health, force, post_webhook, get_rules, put_rules,
    try_rules,
]  # fmt: skip
