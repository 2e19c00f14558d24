"""What part two of the drill found in the real shop: frozen values that turn into the JSON of the report."""

from __future__ import annotations

import msgspec

from doorbuster.drills.timedeal.findings import Mark


class Kill(msgspec.Struct, frozen=True):
    """One kill -9 as it was done. Times are Unix seconds; `back_after_s` is null when it never came back."""

    what: str
    victim: str
    pid: int
    at_unix_s: float
    back_after_s: float | None
    inflight_told: int


class KillReport(msgspec.Struct, frozen=True):
    """One kill with what the crowd had in the air then, and what became of what had been acknowledged before it."""

    what: str
    victim: str
    pid: int
    at_s: float
    sent_before: int
    in_flight: int
    acknowledged_before: int
    found_after: int
    back_after_s: float | None


class Became(msgspec.Struct, frozen=True):
    """Requests sent again under the same key: how the first try ended, how the last one did."""

    first: str
    last: str
    requests: int


class Probes(msgspec.Struct, frozen=True):
    """Reads and refusals asked for beside the crowd. `odd` are answers from 400 on that were not problem+json."""

    sent: int
    answers: dict[str, int]
    odd: tuple[str, ...]


class BookLine(msgspec.Struct, frozen=True):
    """The units of one option, or of the item: as put in, as the stock tables say, and as the orders say."""

    row: str
    initial: int
    sold: int
    reserved: int
    left: int
    sold_by_orders: int
    reserved_by_orders: int

    @property
    def balances(self) -> bool:
        """sold + reserved + left = initial, and the orders tell the same story."""
        stands = self.sold + self.reserved + self.left == self.initial and self.left >= 0
        return stands and self.sold == self.sold_by_orders and self.reserved == self.reserved_by_orders


class Money(msgspec.Struct, frozen=True):
    """The shop's paid orders against the provider's own ledger. Amounts are minor units. `breaches` are sentences."""

    paid_orders: int
    paid_minor: int
    captured: int
    captured_minor: int
    refunded: int
    refunded_minor: int
    declined: int
    breaches: tuple[str, ...]


class Limits(msgspec.Struct, frozen=True):
    """The deal's limit per customer and its allotment, counted over the orders themselves."""

    per_customer: int
    most_held_by_one: int
    customers_at_limit: int
    allotment: int
    taken_in_deal: int
    breaches: tuple[str, ...]


class Audit(msgspec.Struct, frozen=True):
    """What the superuser and the provider's ledger say once everything is at rest."""

    orders_by_state: dict[str, int]
    missing: tuple[str, ...]
    unannounced: tuple[str, ...]
    restless: tuple[str, ...]
    books: tuple[BookLine, ...]
    money: Money
    limits: Limits
    invariants_checked: int
    invariant_breaches: tuple[str, ...]
    deadlocks_counted: int
    deadlocks_in_log: int


class Answers(msgspec.Struct, frozen=True):
    """What the shoppers were told. `ids_by_key`: every order id answered under a key that got more than one is named in
    `split_keys`; `acknowledged` are ids answered with 201, `accepted` with 201 or 202."""

    sent: int
    tries: int
    by_kind: dict[str, int]
    acknowledged: frozenset[str]
    accepted: frozenset[str]
    split_keys: tuple[str, ...]
    unanswered: int
    not_issued: int
    odd_tries: dict[str, int]
    retried: int
    retry_tries: int
    became: tuple[Became, ...]
    error: str | None


class Figures(msgspec.Struct, frozen=True):
    """Speed. Rates are per second of the load's wall time; latencies from the first try to the last answer."""

    seconds: float
    orders_per_s: float
    paid_orders_per_s: float
    answers_per_s: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    load_cpu_share: float
    settled_after_s: float


class Slice(msgspec.Struct, frozen=True):
    """One slice of the run: answers by kind and tries that failed, with the latencies of what ended in it."""

    from_s: float
    kinds: dict[str, int]
    failed_tries: int
    p50_ms: float
    p99_ms: float


class ShopReport(msgspec.Struct, frozen=True):
    """Part two of the drill, whole."""

    drill: str
    part: str
    passed: bool
    seed: int
    chaos: bool
    shoppers: int
    workers: int
    options: int
    stock_share: float
    stock: dict[str, int]
    allotment: dict[str, int]
    orders_sent: int
    tries: int
    acknowledged: int
    acknowledged_found: int
    answers: dict[str, int]
    figures: Figures
    kills: tuple[KillReport, ...]
    retried_requests: int
    retry_tries: int
    retries_became: tuple[Became, ...]
    orders_by_state: dict[str, int]
    books: tuple[BookLine, ...]
    money: Money
    limits: Limits
    deadlocks: int
    invariants_checked: int
    probes: Probes
    marks: tuple[Mark, ...]
    slices: tuple[Slice, ...]
    machine: str
    at: str
