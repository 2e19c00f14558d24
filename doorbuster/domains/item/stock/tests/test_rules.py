"""Stock's decisions under random sequences of operations: nothing is promised twice, and twice is once."""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doorbuster.domains.item import stock
from doorbuster.domains.item.stock import rules
from doorbuster.domains.item.stock.books import Books, Count
from doorbuster.domains.item.stock.models import (
    Abandon,
    Claim,
    CloseAllotment,
    Expire,
    Extend,
    Line,
    OpenAllotment,
    Operation,
    Release,
    Reserve,
    SetOnHand,
)
from doorbuster.platform.errors import IdempotencyKeyReused, InvalidRequest, PreconditionFailed, Refusal

T0 = datetime(2026, 11, 27, 9, 0, tzinfo=UTC)
ITEMS = [UUID(int=1), UUID(int=2)]
OPTIONS = {UUID(int=10): ITEMS[0], UUID(int=11): ITEMS[0], UUID(int=12): ITEMS[1]}
DEALS = [UUID(int=100), UUID(int=101)]
CUSTOMERS = [UUID(int=200), UUID(int=201)]
RESERVATIONS = [UUID(int=300 + number) for number in range(6)]
LIMIT = 3


def books_of(on_hand: int = 10) -> Books:
    options = {option: Count(on_hand, 0, 0, 0, 1, item) for option, item in OPTIONS.items()}
    items = {
        item: Count(on_hand * sum(owner == item for owner in OPTIONS.values()), 0, 0, 0, 1, item) for item in ITEMS
    }
    return Books(now=T0, options=options, items=items, allotments={}, counters={}, reservations={})


def lines_of(*pairs: tuple[int, int]) -> tuple[Line, ...]:
    return tuple(Line(UUID(int=option), quantity) for option, quantity in pairs)


def reserve(number: int = 0, *pairs: tuple[int, int], deal: UUID | None = None, customer: int = 0) -> Reserve:
    lines = lines_of(*(pairs or ((10, 1),)))
    return Reserve(RESERVATIONS[number], CUSTOMERS[customer], lines, 60, deal, "hash")


def open_deal(*pairs: tuple[int, int], limit: int | None = LIMIT, deal: int = 0) -> OpenAllotment:
    return OpenAllotment(DEALS[deal], lines_of(*pairs), T0, T0 + timedelta(seconds=100), limit)


def audit(books: Books) -> None:
    """What must hold after every operation, whatever it was."""
    for item, count in books.items.items():
        mine = [option for option in books.options.values() if option.item_id == item]
        for name in ("on_hand", "reserved", "allotted", "sold"):
            assert getattr(count, name) == sum(getattr(option, name) for option in mine), name
    held: dict[UUID, int] = dict.fromkeys(OPTIONS, 0)
    claimed: dict[UUID, int] = dict.fromkeys(OPTIONS, 0)
    taken: dict[tuple[UUID, UUID], int] = {}
    for row in books.reservations.values():
        for option, quantity in zip(row.option_ids, row.quantities, strict=True):
            held[option] += quantity * (row.state == "held")
            claimed[option] += quantity * (row.state == "claimed")
            if row.deal_id is not None and row.state in ("held", "claimed"):
                key = (row.deal_id, row.customer_id)
                taken[key] = taken.get(key, 0) + quantity
    put_in = dict.fromkeys(OPTIONS, 10)
    for entry in books.entries:
        put_in[entry.option_id] += entry.delta
    for option, count in books.options.items():
        assert min(count.on_hand, count.reserved, count.allotted, count.sold, count.available) >= 0
        assert (count.reserved, count.sold) == (held[option], claimed[option])
        assert count.on_hand + count.sold == put_in[option]
        mine_allotted = [deal[option].remaining for deal in books.allotments.values() if option in deal]
        assert count.allotted == sum(mine_allotted)
    for deal in books.allotments.values():
        for allotment in deal.values():
            assert allotment.remaining + allotment.reserved + allotment.sold + allotment.returned == allotment.quantity
            assert min(allotment.remaining, allotment.reserved, allotment.sold, allotment.returned) >= 0
    for key, count_taken in books.counters.items():
        assert count_taken == taken.get(key, 0)
        assert count_taken <= LIMIT


lines = st.lists(st.tuples(st.sampled_from([10, 11, 12]), st.integers(1, 4)), min_size=1, max_size=3).map(
    lambda pairs: lines_of(*dict(pairs).items())
)
reservation_ids = st.sampled_from(RESERVATIONS)
operations = st.one_of(
    st.builds(
        Reserve, reservation_ids, st.sampled_from(CUSTOMERS), lines, st.integers(1, 60),
        st.sampled_from([None, *DEALS]), st.sampled_from(["a", "b"]),
    ),
    st.builds(Claim, reservation_ids),
    st.builds(Release, reservation_ids),
    st.builds(Abandon, reservation_ids, st.sampled_from([None, T0])),
    st.builds(Expire, reservation_ids),
    st.builds(Extend, reservation_ids, st.integers(1, 60)),
    st.builds(
        lambda option, on_hand, number, version: SetOnHand(UUID(int=number), option, OPTIONS[option], on_hand, version),
        st.sampled_from(list(OPTIONS)), st.integers(0, 20), st.integers(1000, 1010), st.integers(0, 3),
    ),
    st.builds(
        lambda deal, wished, start, length: OpenAllotment(
            deal, wished, T0 + timedelta(seconds=start), T0 + timedelta(seconds=start + length), LIMIT),
        st.sampled_from(DEALS), lines, st.integers(0, 20), st.integers(1, 40),
    ),
    st.builds(CloseAllotment, st.sampled_from(DEALS)),
)  # fmt: skip
steps = st.lists(st.tuples(st.integers(0, 10), operations), max_size=40)


@settings(max_examples=300, deadline=None)
@given(steps)
def test_books_add_up_a_refusal_leaves_no_trace_and_twice_is_once(sequence: list[tuple[int, Operation]]) -> None:
    books = books_of()
    for wait_s, operation in sequence:
        books.now += timedelta(seconds=wait_s)
        before = deepcopy(books)
        first = rules.decide(operation, books)
        audit(books)
        if isinstance(first, Refusal):
            assert books == before, "a refused operation changed the books"
        else:
            after = deepcopy(books)
            again = rules.decide(operation, books)
            assert not isinstance(again, Refusal) or isinstance(operation, SetOnHand), "the repeat was refused"
            assert books == after, "the second time changed something"


def test_the_last_unit_sells_once() -> None:
    books = books_of(on_hand=1)
    assert not isinstance(rules.decide(reserve(0), books), Refusal)
    assert isinstance(rules.decide(reserve(1), books), stock.SoldOut)


def test_all_lines_or_none() -> None:
    books = books_of(on_hand=2)
    before = deepcopy(books)
    assert isinstance(rules.decide(reserve(0, (10, 1), (12, 3)), books), stock.SoldOut)
    assert books == before


def test_a_window_opens_at_its_start_and_is_closed_at_its_end() -> None:
    books = books_of()
    rules.decide(open_deal((10, 5)), books)
    for second, outcome in ((-1, stock.DealNotOpen), (0, None), (99, None), (100, stock.DealClosed)):
        at = deepcopy(books)
        at.now = T0 + timedelta(seconds=second)
        answer = rules.decide(reserve(0, deal=DEALS[0]), at)
        assert isinstance(answer, outcome) if outcome else not isinstance(answer, Refusal)


def test_units_of_a_deal_are_not_sold_outside_it() -> None:
    books = books_of(on_hand=5)
    rules.decide(open_deal((10, 5)), books)
    assert isinstance(rules.decide(reserve(0), books), stock.SoldOut)
    assert not isinstance(rules.decide(reserve(0, deal=DEALS[0]), books), Refusal)


def test_the_limit_counts_across_orders_and_options_and_is_given_back() -> None:
    books = books_of()
    rules.decide(open_deal((10, 5), (11, 5)), books)
    assert not isinstance(rules.decide(reserve(0, (10, 1), (11, 1), deal=DEALS[0]), books), Refusal)
    refused = rules.decide(reserve(1, (11, 2), deal=DEALS[0]), books)
    assert isinstance(refused, stock.LimitExceeded)
    assert refused.members == {"limit": 3, "taken": 2, "left": 1}
    rules.decide(Claim(RESERVATIONS[0]), books)
    assert isinstance(rules.decide(reserve(1, (11, 2), deal=DEALS[0]), books), stock.LimitExceeded)
    rules.decide(Release(RESERVATIONS[0]), books)
    assert not isinstance(rules.decide(reserve(1, (11, 3), deal=DEALS[0]), books), Refusal)


def test_what_comes_back_after_the_close_is_free_stock() -> None:
    books = books_of(on_hand=5)
    rules.decide(open_deal((10, 5)), books)
    rules.decide(reserve(0, (10, 2), deal=DEALS[0]), books)
    books.now = T0 + timedelta(seconds=100)
    rules.decide(Release(RESERVATIONS[0]), books)
    assert books.options[UUID(int=10)].available == 2
    rules.decide(CloseAllotment(DEALS[0]), books)
    assert books.options[UUID(int=10)].available == 5


def test_a_hold_made_anew_is_not_abandoned_for_the_old_one() -> None:
    books = books_of()
    first = rules.decide(reserve(0), books)
    assert not isinstance(first, Refusal) and first is not None
    rules.decide(Abandon(RESERVATIONS[0], T0), books)
    books.now += timedelta(seconds=30)
    rules.decide(reserve(0), books)
    rules.decide(Abandon(RESERVATIONS[0], T0), books)
    assert books.reservations[RESERVATIONS[0]].state == "held"


@pytest.mark.parametrize("other", [reserve(0, (11, 1)), reserve(0, (10, 2)), reserve(0, customer=1)])
def test_one_id_is_one_request(other: Reserve) -> None:
    books = books_of()
    rules.decide(reserve(0), books)
    for prepare in ((), (Abandon(RESERVATIONS[0]),)):
        for operation in prepare:
            rules.decide(operation, books)
        assert isinstance(rules.decide(other, books), IdempotencyKeyReused)


def test_stock_is_never_set_below_what_is_promised_nor_over_a_version_that_moved() -> None:
    books = books_of()
    rules.decide(open_deal((10, 4)), books)
    rules.decide(reserve(0, (10, 3)), books)
    option = UUID(int=10)
    assert isinstance(rules.decide(SetOnHand(UUID(int=1), option, ITEMS[0], 6), books), stock.BelowReserved)
    version = books.options[option].version
    assert not isinstance(rules.decide(SetOnHand(UUID(int=2), option, ITEMS[0], 7, version), books), Refusal)
    assert isinstance(rules.decide(SetOnHand(UUID(int=3), option, ITEMS[0], 8, version), books), PreconditionFailed)
    assert isinstance(rules.decide(SetOnHand(UUID(int=4), option, ITEMS[1], 8), books), stock.WrongItem)


def test_an_import_that_is_run_again_after_a_sale_changes_nothing() -> None:
    books = books_of()
    wish = SetOnHand(UUID(int=5), UUID(int=10), ITEMS[0], 20)
    rules.decide(wish, books)
    rules.decide(reserve(0, (10, 2)), books)
    rules.decide(Claim(RESERVATIONS[0]), books)
    rules.decide(wish, books)
    assert books.options[UUID(int=10)].on_hand == 18


@pytest.mark.parametrize("lines", [(), ((10, 0),), ((10, -1),), ((10, 10**12),), ((10, 1), (10, 1)), ((10, 1),) * 51])
def test_lines_that_make_no_sense_are_refused(lines: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(InvalidRequest):
        rules.check_lines(lines_of(*lines))
