"""The faults that can be asked for, the dice that throw them, and the magic instruments that carry their own."""

import random
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

Rate = Annotated[float, Meta(ge=0, le=1)]
DelayMs = Annotated[int, Meta(ge=0, le=120_000)]

Before = Literal["reset", "error"]
After = Literal["error", "timeout", "reset", "malformed"]
T = TypeVar("T", Before, After)


class Faults(Struct, frozen=True, forbid_unknown_fields=True):
    """One request throws one die for what hits it before anything happens and one for what hits it after.

    The rates of a group are therefore shares of all requests and may not add up to more than 1. A field left out is
    at its default: `{}` clears all.
    """

    latency_ms: DelayMs = 0
    jitter_ms: DelayMs = 0
    decline_rate: Rate = 0.0
    error_rate: Rate = 0.0
    error_after_capture_rate: Rate = 0.0
    timeout_after_capture_rate: Rate = 0.0
    reset_after_capture_rate: Rate = 0.0
    reset_before_rate: Rate = 0.0
    malformed_rate: Rate = 0.0
    reset_after_refund_rate: Rate = 0.0
    down: bool = False
    inquiry_down: bool = False
    hold_ms: Annotated[int, Meta(ge=0, le=600_000)] = 30_000
    seed: int | None = None

    def __post_init__(self) -> None:
        for group in (self.before(), self.after()):
            if sum(rate for rate, _ in group) > 1.0 + 1e-9:
                raise ValueError(f"the rates of {', '.join(str(name) for _, name in group)} add up to more than 1")

    def before(self) -> tuple[tuple[float, Before], ...]:
        return ((self.reset_before_rate, "reset"), (self.error_rate, "error"))

    def after(self) -> tuple[tuple[float, After], ...]:
        return (
            (self.error_after_capture_rate, "error"),
            (self.timeout_after_capture_rate, "timeout"),
            (self.reset_after_capture_rate, "reset"),
            (self.malformed_rate, "malformed"),
        )


def parse_faults(raw: bytes) -> Faults:
    """Raises msgspec.DecodeError (its subclass ValidationError names the field) or UnicodeDecodeError."""
    return msgspec.json.decode(raw, type=Faults)


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


class Dice:
    """Guards the random state: the same seed and the same order of requests give the same faults."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self._random = random.Random(faults.seed)  # noqa: S311 - faults, not secrets

    def before(self) -> Before | None:
        return self._pick(self.faults.before())

    def after(self) -> After | None:
        return self._pick(self.faults.after())

    def declines(self) -> bool:
        return self._hits(self.faults.decline_rate)

    def loses_refund_answer(self) -> bool:
        return self._hits(self.faults.reset_after_refund_rate)

    def delay_s(self) -> float:
        faults = self.faults
        jitter_ms = self._random.uniform(0, faults.jitter_ms) if faults.jitter_ms else 0.0
        return (faults.latency_ms + jitter_ms) / 1000

    def _hits(self, rate: float) -> bool:
        return rate > 0 and self._random.random() < rate

    def _pick(self, group: tuple[tuple[float, T], ...]) -> T | None:
        if not any(rate for rate, _ in group):
            return None
        left = self._random.random()
        for rate, name in group:
            if left < rate:
                return name
            left -= rate
        return None
