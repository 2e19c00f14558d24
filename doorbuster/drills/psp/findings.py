"""What the drill found: frozen values that turn into the JSON of the report. Its names are stable."""

from __future__ import annotations

import msgspec

from doorbuster.drills.psp.evidence import Kill
from doorbuster.drills.psp.judge import Step
from doorbuster.drills.timedeal.findings import Mark


class ProviderReport(msgspec.Struct, frozen=True):
    """One account: its weight, what it was sent, what its own ledger says."""

    name: str
    kind: str
    weight: int
    attempts: int
    probes: int
    captured: int
    declined: int
    refunded: int


class Slice(msgspec.Struct, frozen=True):
    """A short stretch of the run. By the time a payment began: payments, those that succeeded in the end, the first
    attempts by account (probes aside). By the time an order was due: orders, those whose first answer said paid, how
    long shoppers waited. By the samples: the most attempts that were open at once, and what the ledger of each account
    had captured by then (absent while it was away)."""

    from_s: float
    payments: int
    succeeded: int
    due: int
    paid_at_once: int
    first_at: dict[str, int]
    probes: int
    open: int
    captured_by: dict[str, int]
    p50_ms: float
    p99_ms: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The router's part. Times are seconds since the first order was due; `seconds_to_…` are null for "never"."""

    drill: str = "psp"
    part: str = "router"
    passed: bool
    fault: str
    seed: int
    kill: bool
    plant: str
    lost: float
    providers: tuple[ProviderReport, ...]
    faulty: str
    workers: int
    payment_timeout_s: float
    seconds: float
    payments_per_s: float
    fault_s: float
    heal_s: float
    episodes: tuple[str, ...]
    payments: int
    captured: int
    orders_captured_twice: int
    second_provider_calls_while_unknown: int
    book_differences: int
    unknown_left: int
    cases: int
    seconds_to_shift: float | None
    seconds_to_return: float | None
    success_after_shift: float
    payments_after_shift: int
    success: float
    paid_at_once: float
    payments_ended: dict[str, int]
    failed_after_shift: dict[str, int]
    never_started: int
    most_probes: int
    most_permits: int
    probes: int
    outcomes_unknown: int
    way_back: tuple[Step, ...]
    settled_after_s: float
    p50_ms: float
    p99_ms: float
    kills: tuple[Kill, ...]
    marks: tuple[Mark, ...]
    slices: tuple[Slice, ...]
    machine: str
    at: str
