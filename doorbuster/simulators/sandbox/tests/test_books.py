"""The running tallies equal what a recount of all records gives, and the process stands apart from the shop."""

import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from doorbuster.simulators.host.summary import payment_of
from doorbuster.simulators.sandbox.books import Books
from doorbuster.simulators.sandbox.ledger import Charge, Record, Refund


def recount(records: list[Record]) -> dict[str, int]:
    charges = [record for record in records if isinstance(record, Charge)]
    captured = [charge for charge in charges if charge.decline_code is None]
    refunds = [record for record in records if isinstance(record, Refund)]
    back: dict[str, int] = defaultdict(int)
    for refund in refunds:
        back[refund.charge_id] += refund.amount_minor
    kept = [charge for charge in captured if back[charge.id] < charge.amount_minor]
    return {
        "charges": len(charges),
        "captured": len(captured),
        "captured_minor": sum(charge.amount_minor for charge in captured),
        "declined": len(charges) - len(captured),
        "refunds": len(refunds),
        "refunded_minor": sum(refund.amount_minor for refund in refunds),
        "references_captured_twice_count": twice(charge.reference for charge in captured),
        "payments_captured_twice_count": twice(payment_of(charge.reference) for charge in captured),
        "payments_captured_twice_count_net": twice(payment_of(charge.reference) for charge in kept),
    }


def twice(names: Iterable[str]) -> int:
    return sum(1 for count in Counter(names).values() if count > 1)


@settings(max_examples=150, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["charge", "decline", "refund"]), st.integers(0, 3), st.integers(1, 2)), max_size=30
    )
)
def test_the_summary_equals_a_recount_of_all_records(steps: list[tuple[str, int, int]]) -> None:
    records: list[Record] = []
    books = Books(records.append)
    for n, (what, which, attempt) in enumerate(steps):
        if what == "refund":
            open_charges = [
                charge for charge in books.charges if charge.decline_code is None and books.refundable_minor(charge)
            ]
            if open_charges:
                charge = open_charges[which % len(open_charges)]
                amount_minor = min(attempt, books.refundable_minor(charge))
                books.record(Refund(f"re_{n}", f"k{n}", charge.id, "ref", amount_minor, "now"))
        else:
            code = "card_declined" if what == "decline" else None
            books.record(Charge(f"ch_{n}", f"k{n}", f"pay.{which}.{attempt}", 2, "USD", "tok_a", "now", code))
    again = Books(records.append)
    for record in list(records):
        again.apply(record)
    expected = recount(records)
    for summary in (books.summary(), again.summary()):
        assert {name: getattr(summary, name) for name in expected} == expected
        assert len(summary.payments_captured_twice) == expected["payments_captured_twice_count"]


def test_the_sandbox_loads_nothing_of_the_shop() -> None:
    listing = "import sys, doorbuster.simulators.sandbox.__main__; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", listing], check=True, capture_output=True, text=True, timeout=10)
    ours = {name for name in loaded.stdout.split() if name.partition(".")[0] == "doorbuster"}
    assert {name for name in ours if not name.startswith("doorbuster.simulators")} == {"doorbuster"}
    foreign = {name.partition(".")[0] for name in loaded.stdout.split()} & {"aiohttp", "litestar", "asyncpg", "granian"}
    assert foreign == set()
