"""The sandbox's faults, and the magic instruments that carry their own."""

import msgspec
from msgspec import Struct

from doorbuster.simulators.host.faults import After, Before, CommonFaults


def parse_faults(raw: bytes) -> CommonFaults:
    """Raises msgspec.DecodeError (its subclass ValidationError names the field) or UnicodeDecodeError."""
    return msgspec.json.decode(raw, type=CommonFaults)


class Behaviour(Struct, frozen=True):
    """What one instrument always does."""

    decline_code: str | None = None
    delay_s: float = 0.0
    before: Before | None = None
    after: After | None = None


MAGIC = {
    "tok_declined": Behaviour(decline_code="card_declined"),
    "tok_insufficient_funds": Behaviour(decline_code="insufficient_funds"),
    "tok_expired": Behaviour(decline_code="expired_card"),
    "tok_slow": Behaviour(delay_s=2.0),
    "tok_timeout_after_capture": Behaviour(after="timeout"),
    "tok_error": Behaviour(before="error"),
    "tok_reset_after_capture": Behaviour(after="reset"),
    "tok_malformed": Behaviour(after="malformed"),
}
CAPTURES = Behaviour()


def behaviour_of(instrument: str) -> Behaviour | None:
    """None: no such instrument."""
    return MAGIC.get(instrument, CAPTURES) if instrument.startswith("tok_") else None
