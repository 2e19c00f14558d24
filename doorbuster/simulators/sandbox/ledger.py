"""What the durable ledger holds: a record per charge, captured or declined, and per refund."""

from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct
from msgspec.json import Decoder

from doorbuster.simulators.host import ledger
from doorbuster.simulators.host.ledger import Ledger


class Charge(Struct, frozen=True, gc=False, tag_field="kind", tag="charge", omit_defaults=True):
    """Declined if `decline_code` is set, else captured. `key` is the caller's idempotency key."""

    id: str
    key: str
    reference: str
    amount_minor: int
    currency: str
    instrument: str
    created_at: str
    decline_code: str | None = None


class Refund(Struct, frozen=True, gc=False, tag_field="kind", tag="refund"):
    id: str
    key: str
    charge_id: str
    reference: str
    amount_minor: int
    created_at: str


Record = Charge | Refund


def open_ledger(path: Path) -> tuple[Ledger[Record], Iterator[Record]]:
    """As `host.ledger.open_ledger`."""
    return ledger.open_ledger(path, Decoder(Record))
