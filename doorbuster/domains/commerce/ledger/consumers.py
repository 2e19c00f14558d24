"""What ledger does when facts arrive: each movement of money is kept and booked, in one transaction with the cursor."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from doorbuster.domains.commerce.ledger import rules, store
from doorbuster.domains.commerce.ledger.models import Movement
from doorbuster.domains.commerce.payment import MoneyMoved
from doorbuster.engines.event_log import Event
from doorbuster.platform.db import Conn

_DECODER = msgspec.json.Decoder(MoneyMoved)


async def on_money_moved(conn: Conn, events: Sequence[Event]) -> None:
    """Twice is once: what is known already is not booked again."""
    told = {}
    for event in events:
        moved = _DECODER.decode(event.payload)
        told[moved.movement_id] = Movement(
            moved.movement_id, moved.provider, moved.provider_id, moved.transaction_id, moved.reference,
            moved.payment_id, moved.order_id, moved.amount_minor, moved.currency, moved.reason, event.occurred_at,
        )  # fmt: skip
    added = await store.insert_movements(conn, list(told.values()))
    new = [moved for moved in told.values() if moved.id in added]
    if not new:
        return
    # What goes back is booked where it came in; a buyer's words, which may be its reason, do not decide that.
    refunded = [moved.provider_id for moved in new if moved.amount_minor < 0]
    late = await store.read_late(conn, refunded) if refunded else set()
    late |= {_capture_of(moved) for moved in new if moved.amount_minor > 0 and moved.reason == rules.LATE}
    await store.insert_journal(conn, [rules.booked_movement(moved, late=_capture_of(moved) in late) for moved in new])
    await store.note_doubled(conn, [moved.order_id for moved in new if moved.amount_minor > 0])


def _capture_of(moved: Movement) -> tuple[str, str]:
    return moved.provider, moved.provider_id
