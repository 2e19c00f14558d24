"""Pure decisions of stock: may these units be held, claimed, given back? No await, no SQL, no clock.

Every rule checks first and changes the books only when nothing is refused, so a refused request leaves no trace and
its neighbours in the batch are judged as if it had never been there.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from doorbuster.domains.item.stock import errors
from doorbuster.domains.item.stock.books import AllotmentRow, Books, Entry, ReservationRow
from doorbuster.domains.item.stock.models import (
    Abandon,
    Answer,
    Claim,
    CloseAllotment,
    Expire,
    Extend,
    Level,
    Line,
    OpenAllotment,
    Operation,
    Release,
    Reserve,
    SetOnHand,
)
from doorbuster.platform.errors import IdempotencyKeyReused, InvalidRequest, PreconditionFailed, Refusal

MAX_LINES = 50
MAX_QUANTITY = 1_000_000

# (state, operation) → the state that follows; what is absent is refused with `HoldLost`, or is a repeat.
NEXT = {
    ("held", "claim"): "claimed",
    ("held", "release"): "released",
    ("claimed", "release"): "released",
    ("held", "expire"): "expired",
    ("held", "abandon"): "expired",
    ("expired", "reserve"): "held",
}
REPEATS = {
    ("claimed", "claim"),
    ("released", "release"),
    ("expired", "release"),
    ("claimed", "abandon"),
    ("released", "abandon"),
    ("expired", "abandon"),
    ("held", "reserve"),
    ("claimed", "reserve"),
    ("released", "reserve"),
    ("claimed", "extend"),
}


def decide(operation: Operation, books: Books) -> Answer | Refusal:
    """Apply one operation to the books, or return why not."""
    try:
        match operation:
            case Reserve():
                return _reserve(operation, books)
            case Claim():
                return _claim(operation, books)
            case Release():
                return _give_back(operation.reservation_id, "release", books)
            case Abandon():
                return _abandon(operation, books)
            case Expire():
                return _expire(operation, books)
            case Extend():
                return _extend(operation, books)
            case SetOnHand():
                return _set_on_hand(operation, books)
            case OpenAllotment():
                return _open_allotment(operation, books)
            case CloseAllotment():
                return _close_allotment(operation, books)
    except Refusal as refusal:
        return refusal


def check_lines(lines: tuple[Line, ...]) -> None:
    """Refuse an empty or oversized list, a quantity outside 1..1,000,000, and an option named twice."""
    if not 1 <= len(lines) <= MAX_LINES:
        raise InvalidRequest(f"Name between 1 and {MAX_LINES} options")
    if any(not 1 <= line.quantity <= MAX_QUANTITY for line in lines):
        raise InvalidRequest(f"A quantity must be between 1 and {MAX_QUANTITY}")
    if len({line.option_id for line in lines}) != len(lines):
        raise InvalidRequest("Each option may be named once; add up its quantity")


def _reserve(wish: Reserve, books: Books) -> Answer:
    known = books.reservations.get(wish.reservation_id)
    if known is not None:
        said = (known.request_hash, known.customer_id, known.deal_id, known.lines())
        if said != (wish.request_hash, wish.customer_id, wish.deal_id, wish.lines):
            raise IdempotencyKeyReused()
        if (known.state, "reserve") in REPEATS:
            return known.value()
    for line in wish.lines:
        if line.option_id not in books.options:
            raise errors.UnknownOption(f"There is no option {line.option_id}", option_id=line.option_id)
    if wish.deal_id is None:
        _check_free(wish.lines, books)
    else:
        _check_deal(wish.deal_id, wish.customer_id, wish.lines, books)
    row = ReservationRow(
        id=wish.reservation_id,
        customer_id=wish.customer_id,
        deal_id=wish.deal_id,
        state="held",
        option_ids=[line.option_id for line in wish.lines],
        item_ids=[books.options[line.option_id].item_id for line in wish.lines],
        quantities=[line.quantity for line in wish.lines],
        request_hash=wish.request_hash,
        created_at=books.now,
        expires_at=books.now + timedelta(seconds=wish.hold_s),
    )
    _move(row, books, held=+1)
    books.reservations[row.id] = row
    (books.new_reservations if known is None else books.touched_reservations).add(row.id)
    return row.value(fresh=True)


def _check_free(lines: tuple[Line, ...], books: Books) -> None:
    for line in lines:
        available = books.options[line.option_id].available
        if available < line.quantity:
            raise errors.SoldOut(f"{available} left", option_id=line.option_id, available=available)


def _check_deal(deal_id: UUID, customer_id: UUID, lines: tuple[Line, ...], books: Books) -> None:
    """Window first, then membership, then what is left, then the customer's limit."""
    allotments = books.allotments.get(deal_id)
    if not allotments:
        raise errors.NotInDeal("There is no such deal", deal_id=deal_id)
    any_row = next(iter(allotments.values()))
    if books.now < any_row.opens_at:
        raise errors.DealNotOpen(f"It opens at {any_row.opens_at.isoformat()}", opens_at=any_row.opens_at)
    if not any_row.is_open_at(books.now):
        raise errors.DealClosed(f"It closed at {any_row.closes_at.isoformat()}", closes_at=any_row.closes_at)
    for line in lines:
        row = allotments.get(line.option_id)
        if row is None:
            raise errors.NotInDeal("This option is not part of the deal", option_id=line.option_id)
        if row.remaining < line.quantity:
            raise errors.SoldOut(f"{row.remaining} left in the deal", option_id=line.option_id, available=row.remaining)
    limit = any_row.per_customer_limit
    taken = books.counters.get((deal_id, customer_id), 0)
    if limit is not None and taken + sum(line.quantity for line in lines) > limit:
        raise errors.LimitExceeded(
            f"The limit is {limit} per customer and you hold {taken}", limit=limit, taken=taken, left=limit - taken
        )


def _claim(claim: Claim, books: Books) -> Answer:
    row = _find(claim.reservation_id, books)
    if (row.state, "claim") in REPEATS:
        return row.value()
    if NEXT.get((row.state, "claim")) is None:
        raise errors.HoldLost(f"The reservation is {row.state}", state=row.state)
    _move(row, books, held=-1, sold=+1)
    return _set_state(row, "claim", books)


def _expire(expire: Expire, books: Books) -> Answer:
    row = _find(expire.reservation_id, books)
    if row.state != "held" or row.expires_at > books.now:
        return row.value()
    return _give_back(row.id, "expire", books)


def _abandon(abandon: Abandon, books: Books) -> Answer:
    row = _find(abandon.reservation_id, books)
    if abandon.made_at is not None and row.created_at != abandon.made_at:
        return row.value()
    return _give_back(row.id, "abandon", books)


def _extend(extend: Extend, books: Books) -> Answer:
    row = _find(extend.reservation_id, books)
    if (row.state, "extend") in REPEATS:
        return row.value()
    if row.state != "held":
        raise errors.HoldLost(f"The reservation is {row.state}", state=row.state)
    until = books.now + timedelta(seconds=extend.hold_s)
    if until > row.expires_at:
        row.expires_at = until
        books.touched_reservations.add(row.id)
    return row.value()


def _give_back(reservation_id: UUID, why: str, books: Books) -> Answer:
    """Release or expire: units return to the deal while it is open, else to free stock; the limit is given back."""
    row = _find(reservation_id, books)
    if (row.state, why) in REPEATS:
        return row.value()
    assert (row.state, why) in NEXT, f"{why} of a {row.state} reservation"
    if row.state == "held":
        _move(row, books, held=-1)
    else:
        _move(row, books, sold=-1)
    return _set_state(row, why, books)


def _move(row: ReservationRow, books: Books, *, held: int = 0, sold: int = 0) -> None:
    """Add (+1) or take (-1) this reservation's units to or from what is held and what is sold.

    Units that leave "held" or "sold" and enter neither go back to where they came from.
    """
    allotments = books.allotments.get(row.deal_id, {}) if row.deal_id is not None else {}
    for option_id, quantity in zip(row.option_ids, row.quantities, strict=True):
        allotment = allotments.get(option_id)
        allotted = 0
        if allotment is not None:
            taken = (held + sold) * quantity
            if taken < 0 and (allotment.closed or books.now >= allotment.closes_at):
                allotment.returned -= taken
            else:
                allotment.remaining -= taken
                allotted = -taken
            allotment.reserved += held * quantity
            allotment.sold += sold * quantity
            _check_allotment(allotment)
        books.shift(
            option_id, on_hand=-sold * quantity, reserved=held * quantity, allotted=allotted, sold=sold * quantity
        )
    if row.deal_id is not None:
        books.touched_deals.add(row.deal_id)
        if held + sold:
            key = (row.deal_id, row.customer_id)
            books.counters[key] = books.counters.get(key, 0) + (held + sold) * sum(row.quantities)
            assert books.counters[key] >= 0, "a customer's count fell below zero"
            books.touched_counters.add(key)


def _check_allotment(row: AllotmentRow) -> None:
    assert min(row.remaining, row.reserved, row.sold, row.returned) >= 0, "an allotment's count fell below zero"
    assert row.remaining + row.reserved + row.sold + row.returned == row.quantity, "an allotment does not add up"


def _set_state(row: ReservationRow, event: str, books: Books) -> Answer:
    row.state = NEXT[(row.state, event)]  # type: ignore[assignment]  # the table's values are states
    books.touched_reservations.add(row.id)
    return row.value()


def _find(reservation_id: UUID, books: Books) -> ReservationRow:
    row = books.reservations.get(reservation_id)
    if row is None:
        raise errors.HoldLost("There is no such reservation", state="unknown")
    return row


def _set_on_hand(wish: SetOnHand, books: Books) -> Answer:
    option = books.options[wish.option_id]
    if wish.entry_id in books.done_entries:
        return level_of(wish.option_id, books)
    if option.item_id != wish.item_id:
        raise errors.WrongItem(item_id=option.item_id)
    if wish.if_version and wish.if_version != option.version:
        raise PreconditionFailed("Read the stock again and send the new ETag", current=option.version)
    if wish.on_hand < option.reserved + option.allotted:
        promised = option.reserved + option.allotted
        raise errors.BelowReserved(f"{promised} units are held or set aside", promised=promised)
    delta = wish.on_hand - option.on_hand
    if delta:
        books.shift(wish.option_id, on_hand=delta)
        books.entries.append(Entry(wish.entry_id, wish.option_id, delta, "set_on_hand", wish.by_whom))
        books.done_entries.add(wish.entry_id)
    return level_of(wish.option_id, books)


def _open_allotment(wish: OpenAllotment, books: Books) -> Answer:
    known = books.allotments.get(wish.deal_id)
    if known:
        same = {(row.option_id, row.quantity) for row in known.values()} == {
            (line.option_id, line.quantity) for line in wish.lines
        }
        row = next(iter(known.values()))
        window = (row.opens_at, row.closes_at, row.per_customer_limit)
        if not same or window != (wish.opens_at, wish.closes_at, wish.per_customer_limit):
            raise errors.DealChanged(deal_id=wish.deal_id)
        return None
    for line in wish.lines:
        if line.option_id not in books.options:
            raise errors.UnknownOption(f"There is no stock of option {line.option_id}", option_id=line.option_id)
    _check_free(wish.lines, books)
    books.allotments[wish.deal_id] = {
        line.option_id: AllotmentRow(
            deal_id=wish.deal_id,
            option_id=line.option_id,
            item_id=books.options[line.option_id].item_id,
            quantity=line.quantity,
            remaining=line.quantity,
            reserved=0,
            sold=0,
            returned=0,
            per_customer_limit=wish.per_customer_limit,
            opens_at=wish.opens_at,
            closes_at=wish.closes_at,
            closed=False,
            version=0,
        )
        for line in wish.lines
    }
    for line in wish.lines:
        books.shift(line.option_id, allotted=line.quantity)
    books.touched_deals.add(wish.deal_id)
    return None


def _close_allotment(wish: CloseAllotment, books: Books) -> Answer:
    for row in books.allotments.get(wish.deal_id, {}).values():
        if row.closed or books.now < row.closes_at:
            continue
        books.shift(row.option_id, allotted=-row.remaining)
        row.returned, row.remaining, row.closed = row.returned + row.remaining, 0, True
        _check_allotment(row)
        books.touched_deals.add(wish.deal_id)
    return None


def level_of(option_id: UUID, books: Books) -> Level:
    """One option's level from the books."""
    count = books.options[option_id]
    return Level(
        option_id=option_id,
        item_id=count.item_id,
        on_hand=count.on_hand,
        reserved=count.reserved,
        allotted=count.allotted,
        sold=count.sold,
        available=count.available,
        version=count.version,
    )
