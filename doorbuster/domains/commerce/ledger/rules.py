"""What is booked for what, which settlement row is which movement, and what it means when there is none. All pure."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from uuid import UUID

from doorbuster.domains.commerce.ledger.models import CaseClass, Entry, Finding, Movement, Row, Transaction
from doorbuster.platform import ids
from doorbuster.platform.settings import FeeTerms

LATE = "late_success"
"""The reason of money that came after the payment was given up."""
EXPLAINED = "ledger"
"""Who closes a case that a later row or movement explains."""

NEXT_STEP: Mapping[CaseClass, str] = {
    "missing_ours": "Look the row up at the provider. If money of a buyer was taken, find the attempt by its reference"
    " and refund it there; if it was given back, look who did. A payment that is still open explains itself later.",
    "missing_theirs": "Look the payment up at the provider. If it was never captured, the order was not paid: talk to"
    " the provider before goods leave. If it was, ask why it is not in the settlement.",
    "amount": "Compare both sides at the provider. The difference is theirs less ours; ask for a correction, or refund"
    " the buyer what was taken too much.",
    "currency": "Compare both sides at the provider: it settled another currency than the buyer was asked for.",
    "fee": "Compare the fee with the contract. Ask the provider to correct it, or correct the account's fee terms.",
    "duplicate_capture": "The buyer may have paid twice for one order. Look both captures up, and refund the one that"
    " the order does not need.",
}

Pair = tuple[Row, Movement]


def row_id(provider: str, transaction_id: str, amount_minor: int) -> UUID:
    """The id of a settlement row. A refund that failed comes back under the refund's own id, so the sign counts."""
    return ids.derived_id("settlement", provider, transaction_id, "out" if amount_minor < 0 else "in")


def booked_movement(moved: Movement, *, late: bool) -> Transaction:
    """What came in is owed by the provider to us, and by us to an order, or to whom it came late from."""
    owed_to = "late_money" if late else "customer_orders"
    return Transaction(
        ids.derived_id("journal", "movement", str(moved.id)), "movement", moved.id, moved.moved_at,
        (
            Entry(f"provider:{moved.provider}:{moved.currency}", moved.currency, moved.amount_minor),
            Entry(f"{owed_to}:{moved.currency}", moved.currency, -moved.amount_minor),
        ),
    )  # fmt: skip


def booked_row(row: Row) -> list[Transaction]:
    """What a matched row adds: the fee that the provider kept, and what it paid out, once it says when.

    A fee in another currency than the sale leaves the sale's currency whole: the exchange account holds both sides
    until somebody books the provider's rate.
    """
    there, made = f"provider:{row.provider}:{row.currency}", []
    if row.fee_minor:
        kept = there if row.fee_currency == row.currency else f"exchange:{row.fee_currency}"
        made.append(_from_row(row, "fee", f"provider_fees:{row.fee_currency}", kept, row.fee_currency, row.fee_minor))
    if row.fee_currency == row.currency:
        net, into = row.amount_minor - row.fee_minor, f"bank:{row.currency}"
    else:
        net, into = row.amount_minor, f"exchange:{row.currency}"
    if row.paid_on is not None and net:
        made.append(_from_row(row, "payout", into, there, row.currency, net))
    return made


def _from_row(row: Row, kind: str, debit: str, credit: str, currency: str, amount_minor: int) -> Transaction:
    on = row.paid_on if kind == "payout" and row.paid_on is not None else row.sold_on
    return Transaction(
        ids.derived_id("journal", kind, str(row.id)),
        kind,  # type: ignore[arg-type]  # fee or payout
        row.id,
        dt.datetime(on.year, on.month, on.day, tzinfo=dt.UTC),
        (Entry(debit, currency, amount_minor), Entry(credit, currency, -amount_minor)),
    )


def pairs_by_payment(rows: Iterable[Row], movements: Iterable[Movement]) -> list[Pair]:
    """Rows that say what a movement says: the provider's payment, amount, currency; the movement's own id goes first.

    Needs all open rows and movements of each payment that it is given. Order does not matter.
    """
    left = _Left(rows, movements)
    return [
        *left.pairs(partial(_same, ("provider_id", "transaction_id"))),
        *left.pairs(partial(_same, ("provider_id",))),
    ]


def pairs_by_reference(rows: Iterable[Row], movements: Iterable[Movement]) -> list[Pair]:
    """The same by what we called it there, where one side does not name the provider's payment.

    Where both do and the names differ, it is another payment under our name, and never a match.
    """
    return _Left(rows, movements).pairs(partial(_same, ("reference",)), _one_is_nameless)


def pairs(rows: Iterable[Row], movements: Iterable[Movement]) -> list[Pair]:
    """Both, for all that is open."""
    left, ours = {row.id: row for row in rows}, {one.id: one for one in movements}
    found = pairs_by_payment(left.values(), ours.values())
    for row, moved in found:
        del left[row.id], ours[moved.id]
    return [*found, *pairs_by_reference(left.values(), ours.values())]


def fee_finding(row: Row, moved: Movement, terms: Mapping[str, FeeTerms]) -> Finding | None:
    """Whether a matched row's fee is what the account's terms say. Without terms for its currency nothing is known.

    The expected fee is a rate (parts per million) of the amount and a fixed part, rounded half away from nothing; on a
    refund the same comes back, or nothing, as the terms say.
    """
    agreed = terms.get(row.currency, terms.get("*"))
    if agreed is None or row.fee_currency != row.currency:
        return None
    expected = expected_fee(row.amount_minor, agreed)
    if abs(row.fee_minor - expected) <= agreed.tolerance_minor:
        return None
    return _finding("fee", row.sold_on, row.fee_minor - expected, row.currency, (moved,), (row,))


def expected_fee(amount_minor: int, terms: FeeTerms) -> int:
    """The fee of a sale (positive) or of a refund (negative, or nothing)."""
    fee = (abs(amount_minor) * terms.rate_ppm + 500_000) // 1_000_000 + terms.fixed_minor
    if amount_minor >= 0:
        return fee
    return -fee if terms.returned else 0


def findings(
    rows: Sequence[Row],
    movements: Sequence[Movement],
    known: Sequence[Movement],
    overdue: Sequence[tuple[Movement, dt.date]],
) -> list[Finding]:
    """What the open rows and movements of an account mean, after all that say the same were paired off.

    `movements` are the open ones of the payments and references that the rows name; `known` all of those payments, open
    or not, at any provider; `overdue` open movements with their day, for which the provider had its time. Order does
    not matter.
    """
    left = _Left(rows, [*movements, *(one for one, _ in overdue)])
    found = [_difference(row, moved) for row, moved in _alike(left)]
    captures: dict[str, set[Movement]] = defaultdict(set)
    for one in known:
        if one.amount_minor > 0:
            captures[one.provider_id].add(one)
            captures[str(one.payment_id)].add(one)
    refunds = {one.transaction_id for one in known if one.amount_minor < 0}
    for row in left.rows.values():
        ours = captures[row.provider_id] | captures[payment_of(row.reference)]
        # A refund that failed comes back under its own id; that is no capture.
        twice = row.amount_minor > 0 and row.transaction_id not in refunds and bool(ours)
        found.append(
            _finding(
                "duplicate_capture" if twice else "missing_ours", row.sold_on, row.amount_minor, row.currency,
                tuple(sorted(ours, key=_by_id)) if twice else (), (row,), (row.id,),
            )
        )  # fmt: skip
    for moved, day in overdue:
        if moved.id in left.movements:
            found.append(_finding("missing_theirs", day, -moved.amount_minor, moved.currency, (moved,), ()))
    return found


def captured_twice(of_order: Sequence[Movement], day: dt.date) -> Finding | None:
    """Whether an order holds more than one capture that was not given back, by all that we know of it."""
    kept: dict[tuple[str, str], int] = defaultdict(int)
    for one in of_order:
        kept[one.provider, one.provider_id] += one.amount_minor
    doubled = sorted(
        (one for one in of_order if one.amount_minor > 0 and kept[one.provider, one.provider_id] > 0),
        key=lambda one: (one.moved_at, one.id),
    )
    if len({(one.provider, one.provider_id) for one in doubled}) < 2:
        return None
    last = doubled[-1]
    return _finding("duplicate_capture", day, last.amount_minor, last.currency, tuple(doubled), (), (last.order_id,))


def contradiction(before: Row, now: Row) -> Finding | None:
    """What it means that the provider says something else of a movement that was matched by what it said before."""
    kind: CaseClass
    if before.currency != now.currency:
        kind, difference = "currency", now.amount_minor - before.amount_minor
    elif before.amount_minor != now.amount_minor or before.provider_id != now.provider_id:
        kind, difference = "amount", now.amount_minor - before.amount_minor
    elif (before.fee_minor, before.fee_currency) != (now.fee_minor, now.fee_currency):
        kind, difference = "fee", now.fee_minor - before.fee_minor
    else:
        return None
    key = (before.id, str(now.amount_minor), now.currency, str(now.fee_minor), now.fee_currency, now.provider_id)
    return _finding(kind, now.sold_on, difference, now.currency, (), (before, now), key)


def payment_of(reference: str) -> str:
    """Our payment's id in a reference `PAYMENT.ATTEMPT`; empty when it is none."""
    try:
        return str(UUID(reference.partition(".")[0]))
    except ValueError:
        return ""


def days_settled(read: Iterable[dt.date], grace_days: int) -> list[dt.date]:
    """The days for which the provider had its time: read to their end, with the days behind them that it may take, and
    the day before them, on which it may have put what we learned of after midnight."""
    known = set(read)
    return [day for day in sorted(known) if all(day + dt.timedelta(days=n) in known for n in range(-1, grace_days + 1))]


def days_to_read(
    yesterday: dt.date, read: Iterable[dt.date], first: dt.date, *, again: int, at_most: int
) -> list[dt.date]:
    """Which days a daily run reads: yesterday, the days before it that may have grown since, and those that were missed
    since the day before the first movement; oldest first."""
    known = set(read)
    begin = min(first - dt.timedelta(days=1), yesterday)
    begin = max(begin, yesterday - dt.timedelta(days=at_most))
    days = [begin + dt.timedelta(days=n) for n in range((yesterday - begin).days + 1)]
    return [day for day in days if day not in known or (yesterday - day).days <= again]


def _difference(row: Row, moved: Movement) -> Finding:
    kind: CaseClass = "amount" if row.currency == moved.currency else "currency"
    return _finding(kind, row.sold_on, row.amount_minor - moved.amount_minor, row.currency, (moved,), (row,))


def _finding(
    kind: CaseClass, day: dt.date, amount_minor: int, currency: str, ours: tuple[Movement, ...],
    theirs: tuple[Row, ...], keyed_by: tuple[UUID | str, ...] = (),
) -> Finding:  # fmt: skip
    key = keyed_by or (*(one.id for one in ours), *(row.id for row in theirs))
    provider = (theirs[0] if theirs else ours[-1]).provider
    case_id = ids.derived_id("case", kind, *(str(part) for part in key))
    return Finding(case_id, kind, provider, day, amount_minor, currency, ours, theirs)


def _same(names: tuple[str, ...], one: Row | Movement) -> Hashable:
    """What a row and a movement have alike that say the same, by these names."""
    named = tuple(getattr(one, name) for name in names)
    return all(named) and (*named, one.amount_minor, one.currency)


def _one_is_nameless(row: Row, moved: Movement) -> bool:
    return not (row.provider_id and moved.provider_id)


def _alike(left: _Left) -> Iterator[Pair]:
    """Rows and movements of one payment and direction that differ in something, the likeliest pairs first."""
    for name, fits in (("transaction_id", None), ("provider_id", None), ("reference", _one_is_nameless)):
        for with_currency in (True, False):
            yield from left.pairs(partial(_near, name, with_currency), fits)


def _near(name: str, with_currency: bool, one: Row | Movement) -> Hashable:
    named = getattr(one, name)
    return named and (named, one.amount_minor < 0, one.currency if with_currency else "")


def _by_id(one: Row | Movement) -> UUID:
    return one.id


class _Left:
    """Guards what is not paired yet."""

    def __init__(self, rows: Iterable[Row], movements: Iterable[Movement]) -> None:
        self.rows = {row.id: row for row in sorted(rows, key=_by_id)}
        self.movements = {one.id: one for one in sorted(movements, key=_by_id)}

    def pairs(
        self, key_of: Callable[[Row | Movement], Hashable], fits: Callable[[Row, Movement], bool] | None = None
    ) -> list[Pair]:
        """Pair off what has the same key (and fits), in the order of ids, and keep the rest. An empty key has no
        partner."""
        waiting: dict[Hashable, list[Movement]] = defaultdict(list)
        for one in self.movements.values():
            if key := key_of(one):
                waiting[key].append(one)
        made = []
        for row in list(self.rows.values()):
            there = waiting.get(key, []) if (key := key_of(row)) else []
            moved = next((one for one in there if fits is None or fits(row, one)), None)
            if moved is not None:
                there.remove(moved)
                del self.rows[row.id], self.movements[moved.id]
                made.append((row, moved))
        return made
