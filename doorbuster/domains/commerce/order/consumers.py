"""What order does when facts arrive: news of a payment let the order that waits for it go on at once."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from doorbuster.domains.commerce.order import store
from doorbuster.domains.commerce.payment import PaymentReopened, PaymentSettled
from doorbuster.engines.event_log import Event
from doorbuster.platform.db import Conn

_SETTLED = msgspec.json.Decoder(PaymentSettled)
_REOPENED = msgspec.json.Decoder(PaymentReopened)


async def on_payment_news(conn: Conn, events: Sequence[Event]) -> None:
    """Bring the deadline of waiting orders forward to now, and doubt what was paid when its payment waits again; the
    sweeper then drives them. Twice is once."""
    settled = [_SETTLED.decode(event.payload) for event in events if event.type == "PaymentSettled"]
    reopened = [_REOPENED.decode(event.payload) for event in events if event.type == "PaymentReopened"]
    if settled:
        await store.nudge(conn, [one.order_id for one in settled])
    if reopened:
        await store.lock_and_doubt(conn, [one.order_id for one in reopened])
