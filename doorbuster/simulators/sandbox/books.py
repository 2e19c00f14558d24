"""What the ledger says, indexed: charges and refunds by key, id and reference, and who was captured twice."""

from collections.abc import Callable, Sequence
from datetime import date

from doorbuster.simulators.host.summary import MAX_LISTED, Summary, payment_of
from doorbuster.simulators.sandbox.ledger import Charge, Record, Refund

MAX_RECORDS = 2_000_000


class BooksFull(Exception):
    """The sandbox holds as many records as it may; start it with a new ledger."""


class Books:
    """Guards the indexes. `append` makes a record durable and may raise; only then is it counted here."""

    def __init__(self, append: Callable[[Record], None]) -> None:
        self._append = append
        self.charges: list[Charge] = []
        self.by_key: dict[str, Record] = {}
        self.charge_by_id: dict[str, Charge] = {}
        # Tuples, not lists: most references have one charge, and the collector need not visit them.
        self.charges_by_reference: dict[str, tuple[Charge, ...]] = {}
        self.refunds_by_reference: dict[str, tuple[Refund, ...]] = {}
        self.refunded_minor: dict[str, int] = {}
        self._moved_by_day: dict[str, list[Record]] = {}
        self._captures_by_payment: dict[str, int] = {}
        self._full_refunds_by_payment: dict[str, int] = {}
        self._references_twice: dict[str, None] = {}
        self._payments_twice: dict[str, None] = {}
        self._captured = self._captured_sum = self._refunds = self._refunded_sum = 0

    def record(self, record: Record) -> None:
        """Durable when it returns. Raises LedgerUnavailable or BooksFull, and then nothing happened."""
        if len(self.by_key) >= MAX_RECORDS:
            raise BooksFull(f"{MAX_RECORDS} records")
        assert record.key not in self.by_key, "a key is used once"
        self._append(record)
        self.apply(record)

    def apply(self, record: Record) -> None:
        """Index a record that is already durable."""
        self.by_key[record.key] = record
        if isinstance(record, Charge):
            self._apply_charge(record)
        else:
            self._apply_refund(record)

    def refundable_minor(self, charge: Charge) -> int:
        left = charge.amount_minor - self.refunded_minor.get(charge.id, 0)
        assert left >= 0, "refund cannot exceed capture"
        return left

    def of_day(self, day: date) -> Sequence[Record]:
        """Captures and refunds of a day in UTC, in the order in which they were recorded."""
        return self._moved_by_day.get(day.isoformat(), ())

    def summary(self) -> Summary:
        """In O(payments captured twice), so it may be polled under load."""
        full = self._full_refunds_by_payment
        net = sum(1 for p in self._payments_twice if self._captures_by_payment[p] - full.get(p, 0) > 1)
        return Summary(
            charges=len(self.charges),
            captured=self._captured,
            captured_minor=self._captured_sum,
            declined=len(self.charges) - self._captured,
            refunds=self._refunds,
            refunded_minor=self._refunded_sum,
            references_captured_twice=list(self._references_twice)[:MAX_LISTED],
            references_captured_twice_count=len(self._references_twice),
            payments_captured_twice=list(self._payments_twice)[:MAX_LISTED],
            payments_captured_twice_count=len(self._payments_twice),
            payments_captured_twice_count_net=net,
        )

    def _apply_charge(self, charge: Charge) -> None:
        self.charges.append(charge)
        self.charge_by_id[charge.id] = charge
        before = self.charges_by_reference.get(charge.reference, ())
        self.charges_by_reference[charge.reference] = (*before, charge)
        if charge.decline_code is not None:
            return
        self._moved_by_day.setdefault(charge.created_at[:10], []).append(charge)
        self._captured += 1
        self._captured_sum += charge.amount_minor
        if any(earlier.decline_code is None for earlier in before):
            self._references_twice[charge.reference] = None
        payment = payment_of(charge.reference)
        captures = self._captures_by_payment.get(payment, 0) + 1
        self._captures_by_payment[payment] = captures
        if captures > 1:
            self._payments_twice[payment] = None

    def _apply_refund(self, refund: Refund) -> None:
        charge = self.charge_by_id[refund.charge_id]
        self.refunded_minor[charge.id] = self.refunded_minor.get(charge.id, 0) + refund.amount_minor
        self.refunds_by_reference[refund.reference] = (*self.refunds_by_reference.get(refund.reference, ()), refund)
        self._moved_by_day.setdefault(refund.created_at[:10], []).append(refund)
        self._refunds += 1
        self._refunded_sum += refund.amount_minor
        if self.refundable_minor(charge) == 0:
            payment = payment_of(charge.reference)
            self._full_refunds_by_payment[payment] = self._full_refunds_by_payment.get(payment, 0) + 1
