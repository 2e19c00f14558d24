"""Price rules, without anything."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doorbuster.domains.item import price
from doorbuster.domains.item.price import Ask, DealPrices, ImportPrice, ListPrice, Quote, Sale, rules
from doorbuster.domains.item.price.rules import Priced
from doorbuster.platform import ids

NOW = datetime(2026, 11, 27, 9, tzinfo=UTC)
SECOND = timedelta(seconds=1)
DEAL = ids.uuid7()


def listed(list_minor: int = 1_000, currency: str = "USD") -> ListPrice:
    return ListPrice(ids.uuid7(), ids.uuid7(), currency, list_minor, None, 1)


def sale(of: ListPrice, minor: int, start: datetime, end: datetime, deal_id: UUID | None = None) -> Sale:
    return Sale(ids.uuid7(), of.option_id, deal_id, minor, start, end)


def shelf_of(*priced: Priced) -> dict[UUID, Priced]:
    return {one[0].option_id: one for one in priced}


def unit(answer: object) -> int:
    assert isinstance(answer, Quote), answer
    return answer.lines[0].unit_price_minor


def test_sale_holds_from_its_start_until_just_before_its_end() -> None:
    one = listed()
    shelf = shelf_of((one, [sale(one, 800, NOW, NOW + 10 * SECOND)]))
    tick = timedelta(microseconds=1)
    for moment, expected in (
        (NOW - tick, 1_000),
        (NOW, 800),
        (NOW + 10 * SECOND - tick, 800),
        (NOW + 10 * SECOND, 1_000),
    ):
        assert unit(rules.quoted(Ask((one.option_id,)), shelf, moment)) == expected


@given(st.lists(st.tuples(st.integers(1, 2_000), st.integers(-5, 5), st.integers(1, 5), st.booleans()), max_size=8))
def test_price_is_the_lowest_sale_for_everybody_that_holds_now(drawn: list[tuple[int, int, int, bool]]) -> None:
    one = listed()
    sales = [
        sale(one, minor, NOW + start * SECOND, NOW + (start + length) * SECOND, ids.uuid7() if deal else None)
        for minor, start, length, deal in drawn
    ]
    here = [minor for minor, start, length, deal in drawn if not deal and start <= 0 < start + length]
    assert unit(rules.quoted(Ask((one.option_id,)), shelf_of((one, sales)), NOW)) == min([1_000, *here])
    assert rules.todays((one, sales), NOW).price_minor == min([1_000, *here])


def test_under_a_deal_only_its_own_price_counts() -> None:
    one = listed()
    sales = [sale(one, 500, NOW, NOW + SECOND), sale(one, 700, NOW, NOW + SECOND, DEAL)]
    assert unit(rules.quoted(Ask((one.option_id,), DEAL), shelf_of((one, sales)), NOW)) == 700
    assert unit(rules.quoted(Ask((one.option_id,)), shelf_of((one, sales)), NOW)) == 500


def test_deal_is_judged_by_its_window() -> None:
    one = listed()
    shelf = shelf_of((one, [sale(one, 700, NOW, NOW + SECOND, DEAL)]))
    ask = Ask((one.option_id,), DEAL)
    assert isinstance(rules.quoted(ask, shelf, NOW - SECOND), price.DealNotOpen)
    assert unit(rules.quoted(ask, shelf, NOW)) == 700
    assert isinstance(rules.quoted(ask, shelf, NOW + SECOND), price.DealClosed)


def test_option_outside_the_deal_is_refused() -> None:
    inside, outside = listed(), listed()
    shelf = shelf_of((inside, [sale(inside, 700, NOW, NOW + SECOND, DEAL)]), (outside, []))
    ask = Ask((inside.option_id, outside.option_id), DEAL)
    refusal = rules.quoted(ask, shelf, NOW)
    assert isinstance(refusal, price.NotInDeal)
    assert refusal.members["option_id"] == str(outside.option_id)


def test_every_unknown_option_is_named() -> None:
    one, strange = listed(), ids.uuid7()
    refusal = rules.quoted(Ask((one.option_id, strange)), shelf_of((one, [])), NOW)
    assert isinstance(refusal, price.UnknownOption)
    assert refusal.members["option_ids"] == [str(strange)]


def test_one_quote_has_one_currency() -> None:
    dollars, won = listed(), listed(currency="KRW")
    shelf = shelf_of((dollars, []), (won, []))
    for ask in (Ask((dollars.option_id, won.option_id)), Ask((dollars.option_id,), currency="KRW")):
        assert isinstance(rules.quoted(ask, shelf, NOW), price.CurrencyMismatch)


def test_lines_come_in_the_order_asked() -> None:
    prices = [listed(number) for number in range(1, 6)]
    asked = tuple(one.option_id for one in reversed(prices))
    answer = rules.quoted(Ask(asked), shelf_of(*((one, []) for one in prices)), NOW)
    assert isinstance(answer, Quote)
    assert tuple(line.option_id for line in answer.lines) == asked


def test_sale_is_not_shown_when_the_list_price_fell_below_it() -> None:
    one = listed(400)
    shown = rules.todays((one, [sale(one, 500, NOW, NOW + SECOND)]), NOW)
    assert (shown.price_minor, shown.sale) == (400, None)


def test_same_list_price_keeps_its_version() -> None:
    wanted = ImportPrice(ids.uuid7(), ids.uuid7(), "USD", 100, 120)
    first = rules.becomes(wanted, None)
    assert first.version == 1
    assert rules.becomes(wanted, first) is not None
    assert rules.becomes(wanted, first).version == 1
    assert rules.becomes(ImportPrice(wanted.option_id, wanted.item_id, "USD", 100), first).version == 2


@pytest.mark.parametrize(
    ("starts_at", "ends_at"),
    [(NOW, NOW), (NOW, NOW - SECOND), (NOW.replace(year=1999), NOW), (NOW, NOW.replace(year=9999))],
)
def test_window_that_never_holds_is_refused(starts_at: datetime, ends_at: datetime) -> None:
    with pytest.raises(price.InvalidPrice):
        rules.sale_is_sound(listed(), 1, starts_at, ends_at)


def test_sale_above_the_list_price_is_refused() -> None:
    rules.sale_is_sound(listed(), 1_000, NOW, NOW + SECOND)
    with pytest.raises(price.SaleAboveList):
        rules.sale_is_sound(listed(), 1_001, NOW, NOW + SECOND)


@pytest.mark.parametrize("minors", [(), (0,), (-1,), (10**15 + 1,)])
def test_deal_with_unsound_prices_is_refused(minors: tuple[int, ...]) -> None:
    prices = tuple((ids.uuid7(), minor) for minor in minors)
    with pytest.raises(price.InvalidPrice):
        rules.deal_is_sound(DealPrices(DEAL, prices, NOW, NOW + SECOND))


def test_deal_that_names_an_option_twice_is_refused() -> None:
    twice = (ids.uuid7(), 5)
    with pytest.raises(price.InvalidPrice):
        rules.deal_is_sound(DealPrices(DEAL, (twice, twice), NOW, NOW + SECOND))
