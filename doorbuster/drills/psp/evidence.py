"""What a run left behind, as frozen values: our books, each attempt's history, and every simulator's ledger.

Times are seconds since the first payment fell due; before that they are negative.
"""

from __future__ import annotations

import msgspec

TOOK_NOTHING = frozenset({"not_sent", "not_executed", "declined"})
"""States after which another provider may be asked. Said here again on purpose: the judge must not ask the judged."""
OPEN = frozenset({"sending", "unknown", "pending"})
TOOK = frozenset({"succeeded", "late_success"})


class Payment(msgspec.Struct, frozen=True):
    """A payment as our books have it in the end."""

    id: str
    order_id: str
    state: str
    code: str
    at: float
    order_state: str


class Attempt(msgspec.Struct, frozen=True):
    """One attempt as our books have it in the end. `is_probe` by its own decision's record."""

    payment_id: str
    number: int
    provider: str
    reference: str
    provider_id: str
    amount_minor: int
    currency: str
    state: str
    at: float
    is_probe: bool = False
    last_resort: bool = False
    code: str = ""


class Change(msgspec.Struct, frozen=True):
    """An attempt came to a state: written by a trigger of the drill's own, in the shop's transaction."""

    payment_id: str
    number: int
    state: str
    at: float


class Charge(msgspec.Struct, frozen=True):
    """One record of a simulator's ledger. `captured` false: declined."""

    account: str
    id: str
    reference: str
    amount_minor: int
    currency: str
    at: float
    captured: bool
    refunded_minor: int = 0

    @property
    def payment_id(self) -> str:
        """The payment that its reference names (`{payment_id}.{attempt}`)."""
        return self.reference.rpartition(".")[0] or self.reference

    @property
    def number(self) -> int:
        """The attempt that its reference names; 0 when it names none."""
        said = self.reference.rpartition(".")[2]
        return int(said) if said.isdigit() else 0


class CircuitChange(msgspec.Struct, frozen=True):
    """A circuit came to a state, for everybody: `step` counts the steps of a ramp from 0."""

    provider: str
    state: str
    step: int
    at: float


class Sample(msgspec.Struct, frozen=True):
    """A look at the running shop: by account the attempts so far, those that are open, and what its ledger has
    captured (absent while it is away); and the permits to probe that are out."""

    at: float
    attempts: dict[str, int]
    open: dict[str, int]
    captured: dict[str, int]
    permits: int


class Kill(msgspec.Struct, frozen=True):
    """One kill -9 of a worker, with the attempts that were being sent at that moment, in all workers."""

    at: float
    victim: str
    in_flight: int
    back_after_s: float | None


class Served(msgspec.Struct, frozen=True):
    """One order as its shopper saw it: due, answered after so many milliseconds, with this status and state."""

    due: float
    waited_ms: float
    status: int
    state: str


class Told(msgspec.Struct, frozen=True):
    """What shoppers were told. `unanswered`: nothing, or nothing but failures, to the end."""

    served: tuple[Served, ...]
    unanswered: int
    not_issued: int
    error: str = ""


class Evidence(msgspec.Struct, frozen=True):
    """Everything the judge needs. `faulty` names the account that failed."""

    faulty: str
    fault_s: float
    heal_s: float
    payments: tuple[Payment, ...]
    attempts: tuple[Attempt, ...]
    changes: tuple[Change, ...]
    charges: tuple[Charge, ...]
    circuits: tuple[CircuitChange, ...] = ()
    most_permits: int = 0
    samples: tuple[Sample, ...] = ()
    kills: tuple[Kill, ...] = ()
    told: Told = Told((), 0, 0)
    cases: int = 0
    unknown_without_case: int = 0
    restless: tuple[str, ...] = ()
    settled_after_s: float = 0.0
    invariants_checked: int = 0
    invariant_breaches: tuple[str, ...] = ()
    decisions: int = 0
    decisions_that_differ: tuple[str, ...] = ()
