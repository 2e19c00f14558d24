"""What price does when facts arrive: an option that the catalogue no longer sells is not quoted any more."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from doorbuster.domains.item.catalog import ItemChanged
from doorbuster.domains.item.price import store
from doorbuster.engines.event_log import Event
from doorbuster.platform.db import Conn

_DECODER = msgspec.json.Decoder(ItemChanged)


async def on_item_changed(conn: Conn, events: Sequence[Event]) -> None:
    """Keep the newest listing of each item. Twice, or out of order, is once."""
    newest: dict[str, ItemChanged] = {}
    for event in events:
        newest[event.key] = _DECODER.decode(event.payload)
    await store.put_listings(
        conn,
        [(one.item_id, one.version, one.option_ids if one.status == "active" else ()) for one in newest.values()],
    )
