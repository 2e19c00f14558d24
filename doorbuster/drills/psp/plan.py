"""What the drill does and when: payments at an even pace, a fault in the middle of them, and what it consists of."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from doorbuster.drills.load import Plan, RetrySameKey, Route
from doorbuster.drills.load.plan import Row
from doorbuster.drills.psp.accounts import CALM
from doorbuster.drills.timedeal.crowd_plan import Sale

FaultKind = Literal["down", "slow", "capture-then-timeout", "mixed"]
FAULTS: tuple[FaultKind, ...] = ("down", "slow", "capture-then-timeout", "mixed")
TIMEOUT_S = 1.5
"""`payment_timeout_s` of the drill's own shop. In a shop it is 10 s; what hangs on it is said beside the figure."""
SHOPPERS = 200
OPTIONS = 4
_FASTEST_PER_S = 120.0
_CONNECTIONS = 256
_ANSWER_WITHIN_S = 20.0
MOST_LOST = 0.2
"""More would open the circuits of providers that are to be well."""
SMALL = 600
"""Below so many payments the phases are short, or the pace would be too slow for a provider to be judged by."""
HOLD_MS = 6_000
_STRETCH_S = 3.0


class Wanted(msgspec.Struct, frozen=True):
    """What the drill was asked for."""

    fault: FaultKind = "down"
    payments: int = 2_400
    providers: int = 2
    seed: int = 1
    kill: bool = False
    plant: str = ""
    workers: int = 2
    kinds: tuple[str, ...] = ("sandbox",)
    lost: float = 0.0
    """The share of answers that the providers which do not fail lose after a capture, at random, all the time."""


class Phases(msgspec.Struct, frozen=True):
    """When what happens, in seconds since the first payment fell due."""

    fault_s: float
    heal_s: float
    end_s: float
    per_s: float


BEFORE = Phases(fault_s=4.0, heal_s=12.0, end_s=12.0, per_s=25.0)
"""Part one: the only provider goes down and stays down for as long as there are orders."""


class Episode(msgspec.Struct, frozen=True):
    """From a moment on the failing provider behaves like this. `faults` None: its process is killed."""

    at_s: float
    words: str
    faults: Mapping[str, object] | None


def phases_of(payments: int) -> Phases:
    """All is well, a fault, and long enough afterwards for the way back in steps. ValueError for too few payments."""
    if not 300 <= payments <= 1_000_000:
        raise ValueError("the drill makes 300 to 1,000,000 payments")
    fault_s, heal_s, end_s = (4.0, 10.0, 46.0) if payments < SMALL else (8.0, 23.0, 70.0)
    stretch = max(1.0, payments / _FASTEST_PER_S / end_s)
    end_s = end_s * stretch
    return Phases(fault_s * stretch, heal_s * stretch, end_s, payments / end_s)


def losing(wanted: Wanted, number: int) -> Mapping[str, object]:
    """How the provider with this number, that does not fail, behaves all the time."""
    return {**CALM, "timeout_after_capture_rate": wanted.lost, "hold_ms": HOLD_MS, "seed": wanted.seed * 31 + number}


def episodes(fault: FaultKind, phases: Phases, seed: int) -> tuple[Episode, ...]:
    """What the failing provider does, from the fault on; the last episode is its recovery. The same seed, the same."""
    dice = random.Random(seed * 6_151 + 7)  # noqa: S311  a repeatable storm, no secret
    found: list[Episode] = []
    if fault == "mixed":
        at_s, last = phases.fault_s, ""
        while at_s < phases.heal_s - 1.0:
            # The first is a storm, so that every run has one; after that anything but the same again.
            kind = "storm" if not found else dice.choice([k for k in ("storm", "down", "slow") if k != last])
            found.append(_episode(at_s, kind, dice))
            at_s, last = at_s + _STRETCH_S * dice.uniform(0.7, 1.4), kind
    else:
        found.append(_episode(phases.fault_s, fault, dice))
    return (*found, Episode(phases.heal_s, "well again", {**CALM, "seed": seed}))


def _episode(at_s: float, kind: str, dice: random.Random) -> Episode:
    seed = dice.randrange(1 << 30)
    match kind:
        case "down":
            return Episode(at_s, "down: connections cut and refused", None)
        case "slow":
            late_ms = round(TIMEOUT_S * 1_000 * dice.uniform(2.0, 3.0))
            return Episode(at_s, f"slow: answers after {late_ms / 1_000:.1f} s", {"latency_ms": late_ms, "seed": seed})
        case "capture-then-timeout":
            faults = {**CALM, "timeout_after_capture_rate": 0.9, "hold_ms": HOLD_MS, "seed": seed}
            return Episode(at_s, "captures, then no answer (9 of 10)", faults)
        case _:
            storm = {
                **CALM,
                "timeout_after_capture_rate": dice.uniform(0.2, 0.35), "reset_after_capture_rate": 0.15,
                "error_after_capture_rate": 0.1, "malformed_rate": 0.05, "error_rate": dice.uniform(0.1, 0.2),
                "reset_before_rate": 0.1, "decline_rate": 0.1, "hold_ms": HOLD_MS, "seed": seed,
            }  # fmt: skip
            return Episode(at_s, "storm: time-outs, resets, 5xx, declines, torn answers", storm)


def load_plan(
    wanted: Wanted, phases: Phases, sale: Sale, tokens: Sequence[str], cards: Sequence[str], *, port: int, ca_file: str
) -> Plan:
    """The shoppers as an open loop: each order is due at its time, whatever became of those before it. `cards`: what
    each pays with; one card is everybody's."""
    dice = random.Random(wanted.seed)  # noqa: S311  repeatable orders, no secret
    options = len(sale.option_ids)
    bodies = [_body(option, card) for card in cards for option in sale.option_ids]
    rows: list[Row] = []
    for _ in range(wanted.payments):
        shopper, option = dice.randrange(len(tokens)), dice.randrange(options)
        body = (shopper if len(cards) > 1 else 0) * options + option
        rows.append((0, shopper, body, f"{dice.getrandbits(128):032x}"))
    return Plan(
        host="127.0.0.1",
        port=port,
        ca_file=ca_file,
        connections=_CONNECTIONS,
        mode="open",
        rate_per_s=phases.per_s,
        arrivals="uniform",
        timeout_s=_ANSWER_WITHIN_S,
        drain_s=_ANSWER_WITHIN_S,
        limit_s=phases.end_s + 3 * _ANSWER_WITHIN_S,
        seed=wanted.seed,
        record="each",
        routes=[Route("POST", "/api/v1/order", tag="order")],
        tokens=list(tokens),
        bodies=bodies,
        rows=rows,
        retry_same_key=RetrySameKey(max_tries=60, backoff_ms=250, on=("connection_error", "timeout", 502, 503, 504)),
        progress_every_s=0.1,
    )


def _body(option_id: str, card: str) -> str:
    order = {
        "lines": [{"option_id": option_id, "quantity": 1}],
        "payment": {"method": "card", "instrument": card},
    }
    return msgspec.json.encode(order).decode()
