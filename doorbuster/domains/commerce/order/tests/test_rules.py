"""The order: every road ends, nothing leaves an end by itself, and money and units are where the state says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from doorbuster.domains.commerce.order import rules
from doorbuster.domains.commerce.order.errors import PriceChanged
from doorbuster.domains.commerce.order.models import OrderLine, OrderRow, WishedLine
from doorbuster.domains.item.price import Quote, QuotedLine
from doorbuster.platform.errors import InvalidRequest

T0 = datetime(2026, 11, 27, 9, 0, tzinfo=UTC)
WINDOW = timedelta(minutes=10)
EVENTS = sorted({event for _, event in rules.NEXT if not event.startswith("placed")})
STATES = sorted(set(rules.NEXT.values()))


def row_of(*, pays: bool) -> OrderRow:
    event = "placed_paying" if pays else "placed"
    return OrderRow(
        id=uuid4(), customer_id=uuid4(), state=rules.NEXT[("", event)], version=1, request_hash="h", deal_id=None,
        currency="USD", total_minor=100, lines=(), ship_to=None, pays_at_once=pays,
        payment_id=uuid4() if pays else None, answer_version=None, cancel_key=None, cancel_hash=None,
        pay_by=T0 + WINDOW, attempt=0, created_at=T0, updated_at=T0, event=event,
    )  # fmt: skip


class OrderMachine(RuleBasedStateMachine):
    """Throws every event at an order, in any order, at any time, also those of payments that are not its own."""

    def __init__(self) -> None:
        super().__init__()
        self.now = T0
        self.captured = False
        self.claimed = False

    @initialize(pays=st.booleans())
    def place(self, pays: bool) -> None:
        self.row = row_of(pays=pays)
        self.payments: list[UUID] = [self.row.payment_id] if self.row.payment_id else []

    @rule(event=st.sampled_from(EVENTS), mine=st.booleans(), wait_s=st.integers(0, 200))
    def happens(self, event: str, mine: bool, wait_s: int) -> None:
        self.now += timedelta(seconds=wait_s)
        if event == "pay":
            payment_id: UUID | None = uuid4()
        else:
            payment_id = self.row.payment_id if mine or not self.payments else self.payments[0]
        before, state = self.row, rules.decide(self.row, event, payment_id, self.now)
        if state is None:
            return
        assert before.state not in rules.AT_REST or (before.state, event) in (("paid", "cancel"), ("paid", "waiting"))
        if event in ("captured", "declined", "failed", "unknown", "waiting"):
            assert payment_id == before.payment_id, "a payment that is not the order's latest moved it"
        if event == "pay":
            assert self.now < before.pay_by
            assert not self.captured, "paid twice"
            self.payments.append(payment_id or uuid4())
        if event == "expire":
            assert self.now >= before.pay_by
        self.captured |= event == "captured"
        self.claimed |= event == "claimed"
        if event == "waiting":
            # Also after "captured" and "claimed": the bank took the transfer back.
            self.captured = self.claimed = False
        self.row = msgspec.structs.replace(
            before, state=state, event=event, version=before.version + 1,
            payment_id=payment_id if event == "pay" else before.payment_id,
        )  # fmt: skip

    @invariant()
    def money_and_units_are_where_the_state_says(self) -> None:
        if not hasattr(self, "row"):
            return
        state = self.row.state
        if self.captured:
            # Whoever's money was taken has the goods, is about to, or gets it back: never unpaid and never expired.
            assert state in {"captured", "paid", "refunding", "refunded_no_stock", "cancelling", "cancelled"}
        if state in ("captured", "paid", "refunding", "refunded_no_stock"):
            assert self.captured
        if state == "paid":
            assert self.claimed
        if self.claimed:
            assert state in {"paid", "cancelling", "cancelled"}
        assert rules.payment_summary(self.row) is None or self.row.payment_id is not None


OrderMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)
TestOrderMachine = OrderMachine.TestCase


@pytest.mark.parametrize("state", STATES)
def test_every_state_reaches_an_end(state: str) -> None:
    reached, frontier = {state}, [state]
    while frontier:
        here = frontier.pop()
        for (before, _), after in rules.NEXT.items():
            if before == here and after not in reached:
                reached.add(after)
                frontier.append(after)
    assert reached & rules.AT_REST


def test_nothing_leaves_an_end_but_what_was_paid_when_it_is_cancelled_or_its_transfer_is_taken_back() -> None:
    assert {key for key in rules.NEXT if key[0] in rules.AT_REST} == {("paid", "cancel"), ("paid", "waiting")}


def test_whatever_moves_by_itself_has_patience_and_a_deadline() -> None:
    waiting = set(STATES) - rules.AT_REST - {"awaiting_payment"}
    assert set(rules.PATIENCE_S) == waiting


def test_a_placing_request_is_answered_on_every_road() -> None:
    """Without passing a state that answers, no road leads to an end or round in a circle."""
    unanswered = {"paying"}
    frontier = ["paying"]
    while frontier:
        here = frontier.pop()
        for (before, _), after in rules.NEXT.items():
            if before == here and after not in rules.ANSWERS and after not in unanswered:
                unanswered.add(after)
                frontier.append(after)
    assert not unanswered & rules.AT_REST
    assert all(any(before == here for before, _ in rules.NEXT) for here in unanswered), (
        "a state without an answer from which nothing follows"
    )


@pytest.mark.parametrize("state", STATES)
def test_units_are_held_exactly_while_they_may_still_be_claimed(state: str) -> None:
    gone = {"cancelling", "cancelled", "expiring", "expired", "refunding", "refunded_no_stock"}
    assert (state in rules.HOLDS_UNITS) == (state not in gone)


def test_a_price_that_differs_is_refused_with_todays_quote() -> None:
    option, item = uuid4(), uuid4()
    quote = Quote("USD", (QuotedLine(option, item, 700),))
    assert rules.price_lines([WishedLine(option, 2, 700)], quote) == (OrderLine(option, item, 2, 700),)
    assert rules.price_lines([WishedLine(option, 2)], quote)[0].unit_price_minor == 700
    for seen in (0, 699, 701):
        with pytest.raises(PriceChanged) as refused:
            rules.price_lines([WishedLine(option, 2, seen)], quote)
        lines = [{"option_id": option, "unit_price_minor": 700}]
        assert refused.value.members == {"quote": {"currency": "USD", "lines": lines}}


def test_a_total_that_the_shop_cannot_count_is_refused() -> None:
    line = OrderLine(uuid4(), uuid4(), 1_000_000, 10**9)
    assert rules.total([line]) == 10**15
    with pytest.raises(InvalidRequest):
        rules.total([line, line])
