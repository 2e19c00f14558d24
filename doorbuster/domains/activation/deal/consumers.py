"""What deal does when facts arrive: it remembers when a deal was first sold out."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from doorbuster.domains.activation.deal import store
from doorbuster.domains.item.stock import AllotmentChanged
from doorbuster.engines.event_log import Event
from doorbuster.platform.db import Conn

_DECODER = msgspec.json.Decoder(AllotmentChanged)


async def on_allotment_changed(conn: Conn, events: Sequence[Event]) -> None:
    """Twice is once: only the first moment is kept."""
    sold_out = []
    for event in events:
        change = _DECODER.decode(event.payload)
        if not change.closed and not any(option.remaining for option in change.options):
            sold_out.append({"id": change.deal_id, "at": event.occurred_at})
    if sold_out:
        await store.note_sold_out(conn, sold_out)
