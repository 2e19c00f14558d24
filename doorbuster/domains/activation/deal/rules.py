"""Pure decisions of deals. No await, no SQL, no clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

from doorbuster.domains.activation.deal import errors
from doorbuster.domains.activation.deal.models import DealDraft, DealLine, State, StoredLine
from doorbuster.domains.item.price import OptionPrice
from doorbuster.platform.errors import InvalidRequest

LONGEST_S = 366 * 86_400


def check_draft(draft: DealDraft, now: datetime) -> None:
    """Refuse a window that is empty, past, longer than a year or centuries away, and an option named twice."""
    if not (draft.opens_at.year >= 2000 and draft.closes_at.year <= 2200):
        raise InvalidRequest("The window must lie between the years 2000 and 2200")
    if draft.opens_at >= draft.closes_at:
        raise InvalidRequest("opens_at must lie before closes_at")
    if draft.closes_at <= now:
        raise errors.WindowPast(f"It is {now.isoformat()} now")
    if (draft.closes_at - draft.opens_at).total_seconds() > LONGEST_S:
        raise InvalidRequest("A deal lasts a year at most")
    if len({line.option_id for line in draft.allotment}) != len(draft.allotment):
        raise InvalidRequest("Each option may be named once; add up its quantity")


def price_lines(draft: DealDraft, prices: Mapping[UUID, OptionPrice]) -> tuple[StoredLine, ...]:
    """Lines with deal and list prices. Every deal price must be below the option's list price."""
    return tuple(_price(line, draft, prices) for line in draft.allotment)


def _price(line: DealLine, draft: DealDraft, prices: Mapping[UUID, OptionPrice]) -> StoredLine:
    option = prices.get(line.option_id)
    if option is None:
        raise errors.NoListPrice(
            f"Set a price for option {line.option_id} of this item first", option_id=line.option_id
        )
    price_minor = line.price_minor or draft.price_minor
    if price_minor >= option.list_minor:
        raise errors.NotCheaper(f"Option {line.option_id} costs {option.list_minor}", list_minor=option.list_minor)
    return StoredLine(line.option_id, draft.item_id, line.quantity, price_minor, option.list_minor)


def state_at(opens_at: datetime, closes_at: datetime, remaining: Sequence[int], now: datetime) -> State:
    """What a deal is at a moment. Sold out means that nothing is left to hold; a hold that ends opens it again."""
    if now < opens_at:
        return "scheduled"
    if now >= closes_at:
        return "closed"
    return "open" if any(remaining) else "sold_out"
