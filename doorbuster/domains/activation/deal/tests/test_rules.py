"""Deals' pure decisions: windows, prices, states."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from doorbuster.domains.activation import deal
from doorbuster.domains.activation.deal import rules
from doorbuster.domains.item.price import OptionPrice
from doorbuster.platform.errors import InvalidRequest

T0 = datetime(2026, 11, 27, 9, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
OPTION = uuid4()


def draft(**change: Any) -> deal.DealDraft:
    made = deal.DealDraft(
        title="Doorbuster", item_id=uuid4(), opens_at=T0, closes_at=T0 + HOUR, price_minor=500,
        allotment=(deal.DealLine(OPTION, 10),),
    )  # fmt: skip
    return msgspec.structs.replace(made, **change)


def test_a_window_that_never_opens_or_is_past_is_refused() -> None:
    rules.check_draft(draft(), T0 - HOUR)
    rules.check_draft(draft(), T0 + HOUR - timedelta(microseconds=1))
    with pytest.raises(deal.WindowPast):
        rules.check_draft(draft(), T0 + HOUR)
    for closes in (T0, T0 - HOUR, T0 + timedelta(days=367)):
        with pytest.raises(InvalidRequest):
            rules.check_draft(draft(closes_at=closes), T0 - 2 * HOUR)
    with pytest.raises(InvalidRequest):
        rules.check_draft(draft(allotment=(deal.DealLine(OPTION, 1), deal.DealLine(OPTION, 2))), T0)


def test_a_deal_is_cheaper_than_the_list_for_every_option() -> None:
    def listed(list_minor: int) -> dict[Any, OptionPrice]:
        return {OPTION: OptionPrice(OPTION, list_minor, None, list_minor, None, 1)}

    (line,) = rules.price_lines(draft(), listed(501))
    assert (line.price_minor, line.list_minor) == (500, 501)
    (line,) = rules.price_lines(draft(allotment=(deal.DealLine(OPTION, 1, 300),)), listed(501))
    assert line.price_minor == 300
    for list_minor in (500, 499):
        with pytest.raises(deal.NotCheaper):
            rules.price_lines(draft(), listed(list_minor))
    with pytest.raises(deal.NoListPrice):
        rules.price_lines(draft(), {})


@pytest.mark.parametrize(
    ("at", "remaining", "state"),
    [
        (T0 - timedelta(microseconds=1), [1], "scheduled"),
        (T0, [1], "open"),
        (T0, [0, 1], "open"),
        (T0, [0, 0], "sold_out"),
        (T0 + HOUR - timedelta(microseconds=1), [1], "open"),
        (T0 + HOUR, [1], "closed"),
        (T0 + HOUR, [0], "closed"),
    ],
)
def test_the_states_of_a_deal(at: datetime, remaining: list[int], state: str) -> None:
    assert rules.state_at(T0, T0 + HOUR, remaining, at) == state
