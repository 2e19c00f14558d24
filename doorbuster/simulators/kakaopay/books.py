"""What the ledger says about KakaoPay payments and subscriptions, indexed by tid and sid."""

from collections.abc import Callable

from msgspec import Struct

from doorbuster.simulators.host.ledger import LedgerUnavailable
from doorbuster.simulators.kakaopay.payment import Payment, Subscription

MAX_ENTRIES = 1_000_000


class Entry(Struct, frozen=True, omit_defaults=True):
    """One line of the ledger: what became of a payment, a subscription, or of both at once."""

    at_ms: int
    payment: Payment | None = None
    subscription: Subscription | None = None


class Books:
    """Guards the indexes. `append` makes an entry durable and may raise; only then is it counted here."""

    def __init__(self, append: Callable[[Entry], None]) -> None:
        self._append = append
        self._entries = 0
        self.payments: dict[str, Payment] = {}
        self.subscriptions: dict[str, Subscription] = {}

    def record(self, entry: Entry) -> None:
        """Durable when it returns. Raises LedgerUnavailable, and then nothing happened."""
        if self._entries >= MAX_ENTRIES:
            raise LedgerUnavailable(f"{MAX_ENTRIES} entries are as many as it holds")
        self._append(entry)
        self.apply(entry)

    def apply(self, entry: Entry) -> None:
        """Index an entry that is already durable."""
        self._entries += 1
        if entry.payment is not None:
            self.payments[entry.payment.tid] = entry.payment
        if entry.subscription is not None:
            self.subscriptions[entry.subscription.sid] = entry.subscription
