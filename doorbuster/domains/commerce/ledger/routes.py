"""HTTP of ledger, for admins: balances, settlement files, reports, cases."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Request, get, post
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from doorbuster.domains.commerce.ledger import service
from doorbuster.domains.commerce.ledger.models import Balance, Case, CaseClass, Close, Reading, Report
from doorbuster.platform.calls import Ctx
from doorbuster.platform.http import ctx_from, make_cursor, parse_cursor, require_role

AnyRequest = Request[Any, Any, Any]
Account = Annotated[str, QueryParameter(min_length=1, max_length=64)]
MAX_DAYS = 100


class Balances(msgspec.Struct, frozen=True):
    data: tuple[Balance, ...]


class Reports(msgspec.Struct, frozen=True):
    data: tuple[Report, ...]


class Cases(msgspec.Struct, frozen=True):
    data: tuple[Case, ...]
    next_cursor: str | None


@get("/api/v1/ledger/account", summary="The accounts of the books and their balances")
async def list_accounts(request: AnyRequest) -> Balances:
    """Debits are positive. Over all accounts of a currency the balances sum to nothing."""
    return Balances(await service.balances(_admin(request)))


@get("/api/v1/ledger/reconciliation", summary="How days of providers were reconciled")
async def list_reports(
    request: AnyRequest,
    provider: Annotated[str, QueryParameter(max_length=64)] = "",
    day: FromQuery[dt.date | None] = None,
) -> Reports:
    """One day of one provider, or the newest days that were read."""
    ctx = _admin(request)
    if provider and day is not None:
        return Reports((await service.report(ctx, provider, day),))
    return Reports(await service.reports(ctx, provider, MAX_DAYS))


@post("/api/v1/ledger/settlement", status_code=200, summary="Take a provider's settlement file")
async def post_settlement(request: AnyRequest, provider: Account, day: FromQuery[dt.date | None] = None) -> Reading:
    """The body is the file as the provider gives it (CSV). With `day` it is taken for all rows of that day.

    The same file again changes nothing.
    """
    ctx = _admin(request)
    return await service.take_file(ctx, provider, day, await request.body())


@get("/api/v1/ledger/case", summary="Cases: what providers say and we do not, or the other way round")
async def list_cases(
    request: AnyRequest,
    limit: Annotated[int, QueryParameter(ge=1, le=100)] = 20,
    cursor: FromQuery[str | None] = None,
    closed: FromQuery[bool] = False,
    provider: Annotated[str, QueryParameter(max_length=64)] = "",
    kind: FromQuery[CaseClass | None] = None,
) -> Cases:
    """Open ones; with `closed=true` those that were closed."""
    before = parse_cursor(cursor, tuple[dt.datetime, UUID])
    state = "closed" if closed else "open"
    found = await service.cases(_admin(request), state, provider, kind or "", before, limit + 1)
    page = found[:limit]
    return Cases(page, make_cursor((page[-1].opened_at, page[-1].id)) if len(found) > limit else None)


@post("/api/v1/ledger/case/{case_id:uuid}/close", status_code=200, summary="Close a case")
async def post_close(request: AnyRequest, case_id: FromPath[UUID], data: JSONBody[Close]) -> Case:
    """For good, with your name and why."""
    return await service.close_case(_admin(request), case_id, data)


def _admin(request: AnyRequest) -> Ctx:
    ctx = ctx_from(request)
    require_role(ctx, "admin")
    return ctx


ROUTES = [list_accounts, list_reports, post_settlement, list_cases, post_close]
