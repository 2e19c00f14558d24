"""What the ledger says about NICEPAY payments, indexed by tid, order and time to end; billing keys and tokens too."""

import heapq
from collections.abc import Callable, Iterator

from msgspec import Struct

from doorbuster.simulators.host.ledger import LedgerUnavailable
from doorbuster.simulators.nicepay.payment import Payment, is_overdue

MAX_ENTRIES = 1_000_000


class Billing(Struct, frozen=True):
    """A registered card; `decline_code` is what the network says to every later charge of it."""

    bid: str
    card_no: str
    expires: str
    decline_code: str | None = None
    deleted: bool = False


class Token(Struct, frozen=True):
    value: str
    issued_at_ms: int


class Entry(Struct, frozen=True, omit_defaults=True):
    """One line of the ledger. `spent` is the orderId of a partial cancel, which is used even when it was refused."""

    at_ms: int
    payment: Payment | None = None
    billing: Billing | None = None
    token: Token | None = None
    spent: str | None = None


class Books:
    """Guards the indexes. `append` makes an entry durable and may raise; only then is it counted here."""

    def __init__(self, append: Callable[[Entry], None]) -> None:
        self._append = append
        self.entries = 0
        self.payments: dict[str, Payment] = {}
        self.tids_by_order: dict[str, tuple[str, ...]] = {}
        self.billings: dict[str, Billing] = {}
        self.spent: set[str] = set()
        self.tids: set[str] = set()
        self.token: Token | None = None
        self._ends: list[tuple[int, str]] = []

    def record(self, entry: Entry) -> None:
        """Durable when it returns. Raises LedgerUnavailable, and then nothing happened."""
        if self.entries >= MAX_ENTRIES:
            raise LedgerUnavailable(f"{MAX_ENTRIES} entries are as many as it holds")
        self._append(entry)
        self.apply(entry)

    def apply(self, entry: Entry) -> None:
        """Index an entry that is already durable."""
        self.entries += 1
        if entry.payment is not None:
            self._apply_payment(entry.payment)
        if entry.billing is not None:
            self.billings[entry.billing.bid] = entry.billing
        if entry.token is not None:
            self.token = entry.token
        if entry.spent is not None:
            self.spent.add(entry.spent)

    def of_order(self, order_id: str) -> list[Payment]:
        """The transactions of an order, oldest first; neither an authentication nor a decline is one."""
        payments = [self.payments[tid] for tid in self.tids_by_order.get(order_id, ())]
        return [payment for payment in payments if payment.uses_its_order_id]

    def is_used(self, order_id: str) -> bool:
        return order_id in self.spent or bool(self.of_order(order_id))

    def overdue(self, now_ms: int) -> Iterator[Payment]:
        """Accounts whose time is over, oldest end first; each is to be recorded as ended before the next is asked."""
        while self._ends and self._ends[0][0] <= now_ms:
            payment = self.payments[self._ends[0][1]]
            if is_overdue(payment, now_ms):
                yield payment
            # Only now: had the ledger refused to record the end, the payment must still be found here.
            heapq.heappop(self._ends)

    def _apply_payment(self, payment: Payment) -> None:
        if payment.tid not in self.payments:
            self.tids_by_order[payment.order_id] = (*self.tids_by_order.get(payment.order_id, ()), payment.tid)
        self.payments[payment.tid] = payment
        self.tids.update((payment.tid, *(cancel.tid for cancel in payment.cancels)))
        if payment.status == "ready" and payment.account is not None:
            heapq.heappush(self._ends, (payment.account.due_at_ms, payment.tid))
