"""What the ledger says about intents, refunds, events and balance, indexed, and the answers that keys keep."""

import heapq
from collections.abc import Callable, Iterator

from msgspec import Struct

from doorbuster.simulators.host.ledger import LedgerUnavailable
from doorbuster.simulators.stripe.balance import Transaction, transactions_of
from doorbuster.simulators.stripe.cards import Method
from doorbuster.simulators.stripe.errors import ErrorInfo
from doorbuster.simulators.stripe.events import Happened, event_id, facts_between
from doorbuster.simulators.stripe.intent import Intent

MAX_ENTRIES = 1_000_000
# docs.stripe.com/api/idempotent_requests: at least 24 hours. Here they are exactly that.
KEEP_ANSWERS_MS = 24 * 3600 * 1000


class Said(Struct, frozen=True, omit_defaults=True):
    """An answer as what it is made of, beside the intent: an error, or the intent, or one of its refunds."""

    error: ErrorInfo | None = None
    refund: str | None = None
    expand: tuple[str, ...] = ()
    origin: str = ""


class Kept(Struct, frozen=True, omit_defaults=True):
    """The first answer of an idempotency key; it is written again byte for byte."""

    scope: str
    endpoint: str
    fingerprint: str
    request: str
    said: Said


class SavedMethod(Struct, frozen=True):
    """A payment method a test saved: an id the shop may charge again and again."""

    id: str
    method: Method
    customer: str | None = None


class Entry(Struct, frozen=True, omit_defaults=True):
    """One line of the ledger: what became of an intent, and the answer that is kept for it, together."""

    at_ms: int
    intent: Intent | None = None
    method: SavedMethod | None = None
    customer: str | None = None
    kept: Kept | None = None
    request: str | None = None
    key: str | None = None


class Books:
    """Guards the indexes. `append` makes an entry durable and may raise; only then is it counted here."""

    def __init__(self, append: Callable[[Entry], None]) -> None:
        self._append = append
        self.entries = 0
        self.intents: dict[str, Intent] = {}
        self.intent_of_charge: dict[str, str] = {}
        self.intent_of_refund: dict[str, str] = {}
        self.methods: dict[str, SavedMethod] = {}
        self.customers: set[str] = set()
        self.by_metadata: dict[tuple[str, str], list[str]] = {}
        self.events: dict[str, Happened] = {}
        self.transactions: dict[str, Transaction] = {}
        self.kept: dict[str, Entry] = {}
        self._turns: list[tuple[int, str]] = []

    def record(self, entry: Entry) -> list[Happened]:
        """Durable when it returns: the events it made. Raises LedgerUnavailable, and then nothing happened."""
        if self.entries >= MAX_ENTRIES:
            raise LedgerUnavailable(f"{MAX_ENTRIES} entries are as many as it holds")
        self._append(entry)
        return self.apply(entry)

    def apply(self, entry: Entry) -> list[Happened]:
        """Index an entry that is already durable."""
        self.entries += 1
        if entry.kept is not None:
            self.kept[entry.kept.scope] = entry
        if entry.method is not None:
            self.methods[entry.method.id] = entry.method
        if entry.customer is not None:
            self.customers.add(entry.customer)
        return [] if entry.intent is None else self._apply_intent(entry, entry.intent)

    def kept_answer(self, scope: str, now_ms: int) -> Entry | None:
        entry = self.kept.get(scope)
        return entry if entry is not None and now_ms < entry.at_ms + KEEP_ANSWERS_MS else None

    def overdue(self, now_ms: int) -> Iterator[Intent]:
        """Intents with something that ends or settles by now, oldest first; each is recorded before the next."""
        while self._turns and self._turns[0][0] <= now_ms:
            intent = self.intents[self._turns[0][1]]
            if any(at_ms <= now_ms for at_ms in turns_of(intent)):
                yield intent
            # Only now: had the ledger refused to record it, the intent must still be found here.
            heapq.heappop(self._turns)

    def _apply_intent(self, entry: Entry, intent: Intent) -> list[Happened]:
        before = self.intents.get(intent.id)
        self.intents[intent.id] = intent
        for pair in intent.metadata.items():
            if before is None or pair not in before.metadata.items():
                self.by_metadata.setdefault(pair, []).append(intent.id)
        for charge in intent.charges:
            self.intent_of_charge[charge.id] = intent.id
            for refund in charge.refunds:
                self.intent_of_refund[refund.id] = intent.id
        for transaction in transactions_of(intent):
            self.transactions.setdefault(transaction.id, transaction)
        for at_ms in turns_of(intent):
            heapq.heappush(self._turns, (at_ms, intent.id))
        happened = [
            Happened(event_id(self.entries, number, intent.id), entry.at_ms, fact, entry.request, entry.key)
            for number, fact in enumerate(facts_between(before, intent))
        ]
        self.events.update((event.id, event) for event in happened)
        return happened


def turns_of(intent: Intent) -> list[int]:
    """When something about this intent changes by itself."""
    turns = [refund.turns_at_ms for charge in intent.charges for refund in charge.refunds]
    return [at_ms for at_ms in (intent.turns_at_ms, *turns) if at_ms is not None]
