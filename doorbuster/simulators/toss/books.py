"""What the ledger says about Toss payments, indexed by key, order and time to end, and the answers kept."""

import heapq
from collections.abc import Callable, Iterator

from msgspec import Struct

from doorbuster.simulators.host.ledger import LedgerUnavailable
from doorbuster.simulators.toss.payment import Payment, expires_at_ms, is_overdue

MAX_ENTRIES = 1_000_000
KEEP_ANSWERS_MS = 15 * 24 * 3600 * 1000


class Billing(Struct, frozen=True):
    """A registered card: first only its `auth_key` is known to the shop, then `billing_key` too."""

    auth_key: str
    customer_key: str
    billing_key: str | None = None
    issued_at_ms: int | None = None
    decline_code: str | None = None


class Entry(Struct, frozen=True, omit_defaults=True):
    """One line of the ledger: what became of a payment or a card, and the answer that is kept for it, together.

    The answer itself is not written: it is a pure function of `payment`, `billing` or `refused`, so a replay after a
    crash equals what was sent.
    """

    at_ms: int
    payment: Payment | None = None
    billing: Billing | None = None
    scope: str | None = None
    refused: str | None = None
    detail: str = ""


class Books:
    """Guards the indexes. `append` makes an entry durable and may raise; only then is it counted here."""

    def __init__(self, append: Callable[[Entry], None]) -> None:
        self._append = append
        self.entries = 0
        self.payments: dict[str, Payment] = {}
        self.keys_by_order: dict[str, tuple[str, ...]] = {}
        self.billing_by_auth: dict[str, Billing] = {}
        self.billing_by_key: dict[str, Billing] = {}
        self.kept: dict[str, Entry] = {}
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
            self.billing_by_auth[entry.billing.auth_key] = entry.billing
            if entry.billing.billing_key is not None:
                self.billing_by_key[entry.billing.billing_key] = entry.billing
        if entry.scope is not None:
            self.kept[entry.scope] = entry

    def kept_answer(self, scope: str, now_ms: int) -> Entry | None:
        """The first answer of this scope, for 15 days."""
        entry = self.kept.get(scope)
        return entry if entry is not None and now_ms < entry.at_ms + KEEP_ANSWERS_MS else None

    def of_order(self, order_id: str) -> Payment | None:
        """The payment of an order: the one money moved for, else the last that was opened."""
        payments = [self.payments[key] for key in self.keys_by_order.get(order_id, ())]
        moved = [payment for payment in payments if payment.moves]
        found = moved or payments
        return found[-1] if found else None

    def overdue(self, now_ms: int) -> Iterator[Payment]:
        """Payments whose time is over, oldest end first; each is to be recorded as ended before the next is asked."""
        while self._ends and self._ends[0][0] <= now_ms:
            payment = self.payments[self._ends[0][1]]
            if is_overdue(payment, now_ms):
                yield payment
            # Only now: had the ledger refused to record the end, the payment must still be found here.
            heapq.heappop(self._ends)

    def _apply_payment(self, payment: Payment) -> None:
        if payment.key not in self.payments:
            self.keys_by_order[payment.order_id] = (*self.keys_by_order.get(payment.order_id, ()), payment.key)
        self.payments[payment.key] = payment
        ends_at_ms = expires_at_ms(payment)
        if ends_at_ms is not None:
            heapq.heappush(self._ends, (ends_at_ms, payment.key))
