"""Whatever a provider says wrongly is found, and nothing else: properties over made histories and seeded faults."""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doorbuster.domains.commerce.ledger import rules
from doorbuster.domains.commerce.ledger.models import Finding, Movement, Row
from doorbuster.platform.settings import FeeTerms

DAY = dt.date(2026, 3, 4)
NOON = dt.datetime(2026, 3, 4, 12, tzinfo=dt.UTC)
TERMS = {"*": FeeTerms(rate_ppm=29_000, fixed_minor=30, returned=True)}
FAULTS = ("missing", "twice", "amount", "currency", "fee")
Told = Counter[tuple[str, str, int]]


class History(msgspec.Struct):
    """What we moved, what an honest provider would say, what this one says, and what must be found in it."""

    movements: list[Movement]
    rows: list[Row]
    expected: Told


def movement(
    amount_minor: int, payment: UUID, provider_id: str, transaction_id: str = "", **change: object
) -> Movement:
    reference = f"{payment}.1" if amount_minor > 0 else str(uuid4())
    made = Movement(
        uuid4(), "p", provider_id, transaction_id, reference, payment, payment, amount_minor, "USD", "paid", NOON
    )
    return msgspec.structs.replace(made, **change)


def row_of(moved: Movement, transaction_id: str = "", **change: object) -> Row:
    fee = rules.expected_fee(moved.amount_minor, TERMS["*"])
    named = transaction_id or moved.transaction_id or f"tx_{moved.id.hex}"
    made = Row(
        rules.row_id("p", named, moved.amount_minor), "p", moved.provider_id, named, f"{moved.payment_id}.1",
        moved.amount_minor, fee, moved.currency, moved.currency, DAY, DAY,
    )  # fmt: skip
    return msgspec.structs.replace(made, **change)


def faulty(moved: Movement, fault: str, offset: int) -> tuple[list[Row], list[tuple[str, str, int]]]:
    """What the provider says instead, and what must be found."""
    row, name = row_of(moved), moved.provider_id
    sign = 1 if moved.amount_minor > 0 else -1
    match fault:
        case "missing":
            return [], [("missing_theirs", name, -moved.amount_minor)]
        case "twice":
            again = row_of(moved, f"{row.transaction_id}_again")
            return [row, again], [("duplicate_capture" if sign > 0 else "missing_ours", name, moved.amount_minor)]
        case "amount":
            wrong = moved.amount_minor + sign * (10**7 + offset)
            return [msgspec.structs.replace(row, amount_minor=wrong)], [("amount", name, wrong - moved.amount_minor)]
        case "currency":
            return [msgspec.structs.replace(row, currency="CHF", fee_currency="CHF")], [("currency", name, 0)]
        case "fee":
            wrong = row.fee_minor + 2 + offset
            return [msgspec.structs.replace(row, fee_minor=wrong)], [("fee", name, 2 + offset)]
    return [row], []


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Payments with refunds (often of equal amounts), at most one fault in each, and rows of what never was."""
    names_movements = draw(st.booleans())
    made = History([], [], Counter())
    for number in range(draw(st.integers(0, 12))):
        payment, name = uuid4(), f"ch_{number}"
        moves = [movement(draw(st.integers(300, 900)), payment, name)]
        for part in draw(st.lists(st.sampled_from([100, 100, 37]), max_size=3)):
            moves.append(movement(-part, payment, name, f"re_{uuid4().hex}" if names_movements else ""))
        fault = draw(st.sampled_from(["", "", *FAULTS, "second_capture", "unknown_refund", "refund_failed"]))
        hit = draw(st.integers(0, len(moves) - 1))
        for index, moved in enumerate(moves):
            rows, expected = faulty(moved, fault if index == hit else "", draw(st.integers(1, 1_000)))
            made.rows += rows
            made.expected.update(expected)
        made.movements += moves
        extra, expected = _beyond(moves, fault, number)
        made.rows += extra
        made.expected.update(expected)
    for number in range(draw(st.integers(0, 4))):
        never = movement(draw(st.integers(1, 10**6)), uuid4(), f"made_up_{number}")
        made.rows.append(row_of(never))
        made.expected[("missing_ours", never.provider_id, never.amount_minor)] += 1
    return made


def _beyond(moves: list[Movement], fault: str, number: int) -> tuple[list[Row], list[tuple[str, str, int]]]:
    """Rows for which there is no movement of ours at all."""
    first, name = moves[0], f"other_{number}"
    if fault == "second_capture":
        again = movement(first.amount_minor, first.payment_id, name)
        return [row_of(again)], [("duplicate_capture", name, first.amount_minor)]
    if fault == "unknown_refund":
        return [row_of(movement(-11, first.payment_id, first.provider_id))], [("missing_ours", first.provider_id, -11)]
    refunds = [one for one in moves if one.amount_minor < 0 and one.transaction_id]
    if fault == "refund_failed" and refunds:
        back = -refunds[0].amount_minor
        came = msgspec.structs.replace(refunds[0], amount_minor=back)
        return [row_of(came)], [("missing_ours", first.provider_id, back)]
    return [], []


class Desk:
    """Guards what is matched: the steps of a reconciliation, on lists instead of tables."""

    def __init__(self, movements: list[Movement], slice_size: int = 1_000) -> None:
        self.movements = {one.id: one for one in movements}
        self.rows: dict[UUID, Row] = {}
        self.matched: dict[UUID, UUID] = {}
        self.fees: list[Finding] = []
        self.slice_size = slice_size

    def read(self, rows: list[Row]) -> list[Finding]:
        for row in rows:
            self.rows.setdefault(row.id, row)
        for name, pairs_of in (("provider_id", rules.pairs_by_payment), ("reference", rules.pairs_by_reference)):
            names = sorted({getattr(row, name) for row in self.open_rows()} - {""})
            for start in range(0, len(names), self.slice_size):
                some = set(names[start : start + self.slice_size])
                for row, moved in pairs_of(
                    [row for row in self.open_rows() if getattr(row, name) in some],
                    [one for one in self.open_movements() if getattr(one, name) in some],
                ):
                    assert (row.amount_minor, row.currency) == (moved.amount_minor, moved.currency)
                    self.matched[row.id] = moved.id
                    if (found := rules.fee_finding(row, moved, TERMS)) is not None:
                        self.fees.append(found)
        overdue = [(one, DAY) for one in self.open_movements()]
        opened = self.open_movements()
        return [*self.fees, *rules.findings(self.open_rows(), opened, list(self.movements.values()), overdue)]

    def open_rows(self) -> list[Row]:
        return [row for row in self.rows.values() if row.id not in self.matched]

    def open_movements(self) -> list[Movement]:
        taken = set(self.matched.values())
        return [one for one in self.movements.values() if one.id not in taken]


def told(found: list[Finding]) -> Told:
    return Counter((one.kind, _name(one), one.amount_minor) for one in found)


def _name(found: Finding) -> str:
    return found.theirs[0].provider_id if found.theirs else found.ours[0].provider_id


@settings(max_examples=300, deadline=None)
@given(histories())
def test_every_seeded_fault_is_found_and_nothing_else(history: History) -> None:
    found = Desk(history.movements).read(history.rows)
    assert told(found) == history.expected
    assert len({one.id for one in found}) == len(found)


@settings(max_examples=150, deadline=None)
@given(histories(), st.randoms(use_true_random=False), st.integers(1, 3))
def test_neither_the_order_of_rows_nor_the_size_of_slices_matters(
    history: History, dice: random.Random, slice_size: int
) -> None:
    whole = Desk(history.movements)
    first = whole.read(history.rows)
    dice.shuffle(history.rows)
    dice.shuffle(history.movements)
    sliced = Desk(history.movements, slice_size)
    again = sliced.read(history.rows)
    assert {one.id for one in again} == {one.id for one in first}
    assert sliced.matched == whole.matched


@settings(max_examples=150, deadline=None)
@given(histories(), st.randoms(use_true_random=False))
def test_days_that_overlap_and_rows_read_again_change_nothing(history: History, dice: random.Random) -> None:
    desk = Desk(history.movements)
    dice.shuffle(history.rows)
    for _ in range(3):
        desk.read(dice.sample(history.rows, dice.randint(0, len(history.rows))))
    found = desk.read(history.rows)
    assert told(found) == history.expected
    before = dict(desk.matched)
    assert {one.id for one in desk.read(history.rows)} == {one.id for one in found}
    assert desk.matched == before


@settings(max_examples=100, deadline=None)
@given(histories())
def test_without_faults_everything_matches_and_the_books_close(history: History) -> None:
    honest = [row_of(one) for one in history.movements]
    desk = Desk(history.movements)
    assert desk.read(honest) == [] and len(desk.matched) == len(history.movements)
    sums: Counter[str] = Counter()
    for one in history.movements:
        sums.update({e.account: e.amount_minor for e in rules.booked_movement(one, late=False).entries})
    for row in honest:
        for booked in rules.booked_row(row):
            assert sum(entry.amount_minor for entry in booked.entries) == 0 and len(booked.entries) == 2
            sums.update({entry.account: entry.amount_minor for entry in booked.entries})
    assert sums["provider:p:USD"] == 0, "what was settled is not owed any more"
    assert sums["bank:USD"] + sums["provider_fees:USD"] == -sums["customer_orders:USD"]


def test_a_row_without_the_providers_name_is_found_by_ours_and_one_with_another_name_is_not() -> None:
    ours = movement(500, uuid4(), "ch_1")
    nameless = row_of(ours, provider_id="")
    assert rules.pairs_by_reference([nameless], [ours]) == [(nameless, ours)]
    other = row_of(ours, "tx_2", provider_id="ch_2")
    assert rules.pairs_by_reference([other], [ours]) == []
    (found,) = rules.findings([other], [ours], [ours], [])
    assert found.kind == "duplicate_capture" and found.ours == (ours,) and found.theirs == (other,)


def test_an_absent_row_is_a_case_only_after_its_grace() -> None:
    ours = movement(500, uuid4(), "ch_1")
    assert rules.findings([], [], [], []) == []
    (found,) = rules.findings([], [], [], [(ours, DAY)])
    assert (found.kind, found.amount_minor, found.day) == ("missing_theirs", -500, DAY)


def test_a_day_is_settled_when_it_its_eve_and_its_grace_were_read() -> None:
    days = [DAY + dt.timedelta(days=n) for n in range(6)]
    assert rules.days_settled(days, 2) == days[1:4]
    assert rules.days_settled([one for one in days if one != days[3]], 1) == [days[1]]
    assert rules.days_settled([], 0) == []


def test_missed_days_are_made_up_and_recent_ones_read_again() -> None:
    yesterday = DAY
    back = [yesterday - dt.timedelta(days=n) for n in range(40)]

    def due(read: list[dt.date], first: dt.date) -> list[dt.date]:
        return rules.days_to_read(yesterday, read, first, again=1, at_most=5)

    assert due([], yesterday) == [back[1], back[0]]
    assert due([], yesterday + dt.timedelta(days=1)) == [back[0]]
    assert due(back[:], back[30]) == [back[1], back[0]]
    assert due([back[1], back[3]], back[4]) == [back[5], back[4], back[2], back[1], back[0]]
    assert due([], back[39]) == back[5::-1]


def test_two_captures_of_one_order_are_found_until_one_goes_back() -> None:
    order = uuid4()
    first = movement(500, uuid4(), "ch_1", order_id=order)
    second = movement(500, uuid4(), "ch_2", order_id=order, provider="q", moved_at=NOON + dt.timedelta(hours=1))
    assert rules.captured_twice([first], DAY) is None
    found = rules.captured_twice([second, first], DAY)
    assert found is not None and (found.provider, found.ours) == ("q", (first, second))
    half = movement(-200, second.payment_id, "ch_2", order_id=order, provider="q")
    again = rules.captured_twice([first, second, half], DAY)
    assert again is not None and again.id == found.id
    rest = movement(-300, second.payment_id, "ch_2", order_id=order, provider="q")
    assert rules.captured_twice([first, second, half, rest], DAY) is None


@pytest.mark.parametrize(
    ("amount", "terms", "fee"),
    [
        (10_000, FeeTerms(29_000, 30), 320), (50, FeeTerms(29_000), 1), (17, FeeTerms(29_000), 0),
        (-10_000, FeeTerms(29_000, 30), 0), (-10_000, FeeTerms(29_000, 30, returned=True), -320),
    ],
)  # fmt: skip
def test_the_expected_fee(amount: int, terms: FeeTerms, fee: int) -> None:
    assert rules.expected_fee(amount, terms) == fee


def test_a_fee_is_checked_only_where_terms_speak_of_it() -> None:
    ours = movement(10_000, uuid4(), "ch_1")
    row = row_of(ours, fee_minor=9_999)
    assert rules.fee_finding(row, ours, {"KRW": FeeTerms()}) is None
    assert rules.fee_finding(msgspec.structs.replace(row, fee_currency="EUR"), ours, TERMS) is None
    found = rules.fee_finding(row, ours, {"USD": FeeTerms(29_000, tolerance_minor=9_708), **TERMS})
    assert found is not None and found.amount_minor == 9_999 - 290
    assert rules.fee_finding(row, ours, {"USD": FeeTerms(29_000, tolerance_minor=9_709), **TERMS}) is None


def test_a_fee_in_another_currency_leaves_each_currency_whole() -> None:
    row = row_of(movement(2_000, uuid4(), "ch_1"), fee_minor=80, fee_currency="EUR")
    fee, payout = rules.booked_row(row)
    assert [(e.account, e.amount_minor) for e in fee.entries] == [("provider_fees:EUR", 80), ("exchange:EUR", -80)]
    assert [(e.account, e.amount_minor) for e in payout.entries] == [
        ("exchange:USD", 2_000),
        ("provider:p:USD", -2_000),
    ]
    assert [one.kind for one in rules.booked_row(msgspec.structs.replace(row, paid_on=None))] == ["fee"]


def test_a_matched_row_that_changes_its_mind_is_a_contradiction() -> None:
    row = row_of(movement(2_000, uuid4(), "ch_1"))
    for change, kind, difference in (
        ({"amount_minor": 2_100}, "amount", 100), ({"currency": "CHF"}, "currency", 0), ({"fee_minor": 99}, "fee", 11),
    ):  # fmt: skip
        found = rules.contradiction(row, msgspec.structs.replace(row, **change))
        assert found is not None and (found.kind, found.amount_minor, len(found.theirs)) == (kind, difference, 2)
    assert rules.contradiction(row, msgspec.structs.replace(row, paid_on=None, reference="")) is None


def test_a_reference_names_our_payment_or_nothing() -> None:
    payment = uuid4()
    assert rules.payment_of(f"{payment}.2") == rules.payment_of(str(payment)) == str(payment)
    assert rules.payment_of("made-up-1") == rules.payment_of("") == ""
