"""What stock takes and gives: frozen values. Quantities are whole units; times are aware, UTC."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

ReservationState = Literal["held", "claimed", "released", "expired"]


class Line(msgspec.Struct, frozen=True):
    """So many units of one option."""

    option_id: UUID
    quantity: int


class Reserve(msgspec.Struct, frozen=True, tag="reserve"):
    """Hold units for `hold_s` seconds under the caller's id. `request_hash` tells a repeat from another request."""

    reservation_id: UUID
    customer_id: UUID
    lines: tuple[Line, ...]
    hold_s: int
    deal_id: UUID | None = None
    request_hash: str = ""


class Claim(msgspec.Struct, frozen=True, tag="claim"):
    """The held units are sold."""

    reservation_id: UUID


class Release(msgspec.Struct, frozen=True, tag="release"):
    """Held or sold units come back, to the deal while it is open, and the customer's limit with them."""

    reservation_id: UUID


class Abandon(msgspec.Struct, frozen=True, tag="abandon"):
    """End a hold that nobody stands behind (its order never came to be); the same id may reserve again later.

    With `made_at` only the hold that was made then is ended: not one that was made anew under the id since.
    """

    reservation_id: UUID
    made_at: datetime | None = None


class Extend(msgspec.Struct, frozen=True, tag="extend"):
    """Hold for at least `hold_s` seconds from now."""

    reservation_id: UUID
    hold_s: int


class Expire(msgspec.Struct, frozen=True, tag="expire"):
    """End a hold whose time has passed; does nothing to any other."""

    reservation_id: UUID


class SetOnHand(msgspec.Struct, frozen=True, tag="set_on_hand"):
    """A merchant says how many unsold units there are, held ones included. `if_version` 0 means whatever stands."""

    entry_id: UUID
    option_id: UUID
    item_id: UUID
    on_hand: int
    if_version: int = 0
    by_whom: UUID | None = None


class OpenAllotment(msgspec.Struct, frozen=True, tag="open_allotment"):
    """Set units aside for a deal. The window's end is exclusive."""

    deal_id: UUID
    lines: tuple[Line, ...]
    opens_at: datetime
    closes_at: datetime
    per_customer_limit: int | None = None


class CloseAllotment(msgspec.Struct, frozen=True, tag="close_allotment"):
    """Give what a closed deal did not sell back to free stock; does nothing while the deal is open."""

    deal_id: UUID


Operation = Reserve | Claim | Release | Abandon | Extend | Expire | SetOnHand | OpenAllotment | CloseAllotment


class Reservation(msgspec.Struct, frozen=True):
    """A reservation as it stands. `fresh` is true in the answer that made it."""

    reservation_id: UUID
    customer_id: UUID
    state: ReservationState
    lines: tuple[Line, ...]
    created_at: datetime
    expires_at: datetime
    deal_id: UUID | None = None
    request_hash: str = ""
    fresh: bool = False


class Level(msgspec.Struct, frozen=True):
    """One option's stock. `available` is what anybody may buy now outside deals."""

    option_id: UUID
    item_id: UUID
    on_hand: int
    reserved: int
    allotted: int
    sold: int
    available: int
    version: int


class AllotmentLevel(msgspec.Struct, frozen=True):
    """One option's part in a deal."""

    deal_id: UUID
    option_id: UUID
    quantity: int
    remaining: int
    reserved: int
    sold: int


Answer = Reservation | Level | None
