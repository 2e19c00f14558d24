"""What order does when facts arrive: a settled payment lets the order that waits for it go on at once."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from doorbuster.domains.commerce.order import store
from doorbuster.domains.commerce.payment import PaymentSettled
from doorbuster.engines.event_log import Event
from doorbuster.platform.db import Conn

_DECODER = msgspec.json.Decoder(PaymentSettled)


async def on_payment_settled(conn: Conn, events: Sequence[Event]) -> None:
    """Bring the deadline of waiting orders forward to now; the sweeper then drives them. Twice is once."""
    await store.nudge(conn, [_DECODER.decode(event.payload).order_id for event in events])
