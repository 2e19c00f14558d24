"""The rows a batch works on, in memory: locked, read, decided upon, then written back in one go."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from doorbuster.domains.item.stock.models import Line, Reservation, ReservationState


@dataclass(slots=True)
class Count:
    """The four counts that an option and its item both keep."""

    on_hand: int
    reserved: int
    allotted: int
    sold: int
    version: int
    item_id: UUID

    @property
    def available(self) -> int:
        return self.on_hand - self.reserved - self.allotted


@dataclass(slots=True)
class AllotmentRow:
    deal_id: UUID
    option_id: UUID
    item_id: UUID
    quantity: int
    remaining: int
    reserved: int
    sold: int
    returned: int
    per_customer_limit: int | None
    opens_at: datetime
    closes_at: datetime
    closed: bool
    version: int

    def is_open_at(self, now: datetime) -> bool:
        return not self.closed and self.opens_at <= now < self.closes_at


@dataclass(slots=True)
class ReservationRow:
    id: UUID
    customer_id: UUID
    deal_id: UUID | None
    state: ReservationState
    option_ids: list[UUID]
    item_ids: list[UUID]
    quantities: list[int]
    request_hash: str
    created_at: datetime
    expires_at: datetime

    def lines(self) -> tuple[Line, ...]:
        return tuple(Line(o, q) for o, q in zip(self.option_ids, self.quantities, strict=True))

    def value(self, *, fresh: bool = False) -> Reservation:
        return Reservation(
            reservation_id=self.id,
            customer_id=self.customer_id,
            state=self.state,
            lines=self.lines(),
            created_at=self.created_at,
            expires_at=self.expires_at,
            deal_id=self.deal_id,
            request_hash=self.request_hash,
            fresh=fresh,
        )


@dataclass(slots=True)
class Entry:
    """One line of the merchant's ledger."""

    id: UUID
    option_id: UUID
    delta: int
    reason: str
    by_whom: UUID | None


@dataclass(slots=True)
class Books:
    """Everything locked for one batch, and what the batch has touched so far."""

    now: datetime
    options: dict[UUID, Count]
    items: dict[UUID, Count]
    allotments: dict[UUID, dict[UUID, AllotmentRow]]
    counters: dict[tuple[UUID, UUID], int]
    reservations: dict[UUID, ReservationRow]
    touched_options: set[UUID] = field(default_factory=set)
    touched_deals: set[UUID] = field(default_factory=set)
    touched_counters: set[tuple[UUID, UUID]] = field(default_factory=set)
    touched_reservations: set[UUID] = field(default_factory=set)
    new_reservations: set[UUID] = field(default_factory=set)
    done_entries: set[UUID] = field(default_factory=set)
    """Entries that an earlier run of these requests has committed."""
    entries: list[Entry] = field(default_factory=list)

    @property
    def is_touched(self) -> bool:
        """Whether there is anything to write."""
        rows = (self.touched_options, self.touched_deals, self.touched_reservations, self.new_reservations)
        return any(rows) or bool(self.entries)

    def seal(self) -> None:
        """No more decisions: raise the version of each deal's allotments that was touched."""
        for deal_id in self.touched_deals:
            for row in self.allotments[deal_id].values():
                row.version += 1

    def shift(self, option_id: UUID, *, on_hand: int = 0, reserved: int = 0, allotted: int = 0, sold: int = 0) -> None:
        """Move counts of an option and of its item together; their sums can therefore never part."""
        option = self.options[option_id]
        for count in (option, self.items[option.item_id]):
            count.on_hand += on_hand
            count.reserved += reserved
            count.allotted += allotted
            count.sold += sold
            count.version += 1
            assert count.reserved >= 0 and count.allotted >= 0 and count.sold >= 0, "a count fell below zero"
            assert count.on_hand >= count.reserved + count.allotted, "more promised than there is"
        self.touched_options.add(option_id)
