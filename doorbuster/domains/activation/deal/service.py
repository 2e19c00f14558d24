"""Public verbs of deal: make one, read one, list them, finish what a crash left half made."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from doorbuster.domains.activation.deal import rules, store
from doorbuster.domains.activation.deal.models import Deal, DealDraft, DealOption, DealRow
from doorbuster.domains.item import price, stock
from doorbuster.platform import ids
from doorbuster.platform.calls import SYSTEM, Ctx, command, decode_refusal, encode_refusal, query
from doorbuster.platform.errors import IdempotencyKeyReused, NotFound, Refusal

_PATIENCE_S = 10.0


@command
async def make(ctx: Ctx, draft: DealDraft) -> Deal:
    """Schedule a deal: its row, then its allotment in stock, then its prices, each step safe to repeat.

    With an Idempotency-Key the same request gives the same deal. Refuses with WindowPast, NoListPrice, NotCheaper,
    stock's SoldOut (not that many free) and UnknownOption; a refused deal has taken nothing.
    """
    assert ctx.subject is not None, "a deal is made by somebody"
    key = ctx.idempotency_key
    deal_id = ids.derived_id("deal", str(ctx.subject), key) if key else ids.uuid7()
    request_hash = ids.request_hash(msgspec.json.encode(draft)).hex()
    row = await store.read(deal_id)
    if row is None:
        now = await store.clock()
        rules.check_draft(draft, now)
        prices = await price.item_prices(ctx, draft.item_id)
        row = DealRow(
            id=deal_id,
            merchant_id=ctx.subject,
            title=draft.title,
            request_hash=request_hash,
            currency=prices.currency,
            per_customer_limit=draft.per_customer_limit,
            opens_at=draft.opens_at,
            closes_at=draft.closes_at,
            lines=rules.price_lines(draft, {option.option_id: option for option in prices.options}),
            phase="preparing",
            refusal=None,
        )
        await store.insert(row, _PATIENCE_S)
        # Two requests at once with one key: only the first one's row stands, and both go on from that.
        row = await store.read(deal_id)
        assert row is not None, "a deal just written is there"
    if row.request_hash != request_hash:
        raise IdempotencyKeyReused()
    if row.phase == "preparing":
        await _prepare(ctx, row)
    return await get_deal(ctx, deal_id)


@query
async def get_deal(ctx: Ctx, deal_id: UUID) -> Deal:
    """One deal. A deal that was refused while it was prepared is refused again in the same words."""
    row = await store.read(deal_id)
    if row is None or row.phase == "preparing":
        raise NotFound("There is no such deal")
    if row.refusal is not None:
        raise decode_refusal(row.refusal)
    (deal,) = await _render(ctx, [row], await store.clock())
    return deal


@query
async def list_deals(
    ctx: Ctx, before: tuple[datetime, UUID] | None, limit: int, closed: bool = False
) -> tuple[Deal, ...]:
    """Deals that are scheduled, open or sold out (with `closed` also past ones), latest close first."""
    now = await store.clock()
    return tuple(await _render(ctx, await store.read_page(now, before, limit, closed), now))


@command
async def sweep(ctx: Ctx, limit: int) -> int:
    """Finish deals that a crash left half made; returns how many."""
    rows = await store.take_unprepared(limit)
    for row in rows:
        await _prepare(SYSTEM, row)
    return len(rows)


async def _prepare(ctx: Ctx, row: DealRow) -> None:
    """Prices, then allotment, then ready: a price alone sells nothing, and can be taken back when stock refuses."""
    allotment = stock.OpenAllotment(
        deal_id=row.id,
        lines=tuple(stock.Line(line.option_id, line.quantity) for line in row.lines),
        opens_at=row.opens_at,
        closes_at=row.closes_at,
        per_customer_limit=row.per_customer_limit,
    )
    prices = price.DealPrices(
        deal_id=row.id,
        prices=tuple((line.option_id, line.price_minor) for line in row.lines),
        starts_at=row.opens_at,
        ends_at=row.closes_at,
    )
    try:
        await price.schedule_deal(ctx, prices)
        await stock.open_allotment(ctx, allotment)
    except Refusal as refusal:
        await price.clear_deal(ctx, row.id)
        await store.finish(row.id, "refused", encode_refusal(refusal).decode())
        return
    await store.finish(row.id, "ready", None)


async def _render(ctx: Ctx, rows: Sequence[DealRow], now: datetime) -> list[Deal]:
    levels = {
        (level.deal_id, level.option_id): level for level in await stock.allotments(ctx, tuple(row.id for row in rows))
    }
    deals = []
    for row in rows:
        options = tuple(
            DealOption(
                option_id=line.option_id,
                price_minor=line.price_minor,
                list_minor=line.list_minor,
                quantity=line.quantity,
                remaining=levels[(row.id, line.option_id)].remaining,
                sold=levels[(row.id, line.option_id)].sold,
            )
            for line in row.lines
        )
        deals.append(
            Deal(
                id=row.id,
                title=row.title,
                item_id=row.lines[0].item_id,
                state=rules.state_at(row.opens_at, row.closes_at, [o.remaining for o in options], now),
                currency=row.currency,
                opens_at=row.opens_at,
                closes_at=row.closes_at,
                per_customer_limit=row.per_customer_limit,
                options=options,
                as_of=now,
            )
        )
    return deals
