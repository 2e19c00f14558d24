"""The faults that simulated PSPs can be asked for, and the dice that throw them."""

import random
from typing import Annotated, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

Rate = Annotated[float, Meta(ge=0, le=1)]
DelayMs = Annotated[int, Meta(ge=0, le=120_000)]

Before = Literal["reset", "error", "rate_limit"]
After = Literal["error", "timeout", "reset", "malformed", "wrong_amount", "slow_drip", "reset_mid_answer"]
T = TypeVar("T", Before, After)
F = TypeVar("F", bound="CommonFaults")


class CommonFaults(Struct, frozen=True, forbid_unknown_fields=True):
    """One request throws one die for what hits it before anything happens and one for what hits it after money moved.

    The rates of a group are therefore shares and may not add up to more than 1. `times` is how many requests may be
    hit in all; null is no limit. `down` cuts every connection but the admin door's, `inquiry_down` fails reads.
    `hold_ms` is how long a timeout holds the connection. A field left out is at its default: `{}` clears all.
    """

    latency_ms: DelayMs = 0
    jitter_ms: DelayMs = 0
    decline_rate: Rate = 0.0
    error_rate: Rate = 0.0
    reset_before_rate: Rate = 0.0
    error_after_capture_rate: Rate = 0.0
    timeout_after_capture_rate: Rate = 0.0
    reset_after_capture_rate: Rate = 0.0
    malformed_rate: Rate = 0.0
    reset_after_refund_rate: Rate = 0.0
    down: bool = False
    inquiry_down: bool = False
    hold_ms: Annotated[int, Meta(ge=0, le=600_000)] = 30_000
    times: Annotated[int, Meta(ge=0)] | None = None
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


class Faults(CommonFaults, frozen=True, forbid_unknown_fields=True):
    """Those of the providers' own simulators too; `drip_ms` is between two bytes of a slow drip."""

    rate_limit_rate: Rate = 0.0
    wrong_amount_rate: Rate = 0.0
    slow_drip_rate: Rate = 0.0
    reset_mid_answer_rate: Rate = 0.0
    drip_ms: Annotated[int, Meta(ge=1, le=10_000)] = 20

    def before(self) -> tuple[tuple[float, Before], ...]:
        return (*CommonFaults.before(self), (self.rate_limit_rate, "rate_limit"))

    def after(self) -> tuple[tuple[float, After], ...]:
        return (
            *CommonFaults.after(self),
            (self.wrong_amount_rate, "wrong_amount"),
            (self.slow_drip_rate, "slow_drip"),
            (self.reset_mid_answer_rate, "reset_mid_answer"),
        )


def parse_faults(raw: bytes) -> Faults:
    """Raises msgspec.DecodeError (its subclass ValidationError names the field) or UnicodeDecodeError."""
    return msgspec.json.decode(raw, type=Faults)


class Dice(Generic[F]):
    """Guards the random state: the same seed and the same order of requests give the same faults."""

    def __init__(self, faults: F) -> None:
        self.faults = faults
        self._random = random.Random(faults.seed)  # noqa: S311 - faults, not secrets
        self._left = faults.times

    def before(self) -> Before | None:
        return self._pick(self.faults.before())

    def after_capture(self) -> After | None:
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
        return rate > 0 and self._random.random() < rate and self._spend()

    def _pick(self, group: tuple[tuple[float, T], ...]) -> T | None:
        if not any(rate for rate, _ in group):
            return None
        left = self._random.random()
        for rate, name in group:
            if left < rate:
                return name if self._spend() else None
            left -= rate
        return None

    def _spend(self) -> bool:
        if self._left is None:
            return True
        self._left -= 1
        return self._left >= 0
