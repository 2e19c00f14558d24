"""What part one of the drill found: frozen values that turn into the JSON of the report."""

from __future__ import annotations

import msgspec


class Cycled(msgspec.Struct, frozen=True):
    """One process of a deadlock: what PostgreSQL said it waited for, and what the drill knows it was doing."""

    pid: int
    order_no: int
    wanted: str
    waits_for: str
    blocked_by: int
    waits_for_row: str
    changed_rows: tuple[str, ...]
    statement: str
    statement_seen_by_server: str


class Cycle(msgspec.Struct, frozen=True):
    """One deadlock as the server reported it. `explained` is true when every process waits for a row that the process
    blocking it has changed or is queueing for, by the drill's own record."""

    victim_pid: int
    sqlstate: str
    message: str
    detail: str
    context: str
    processes: tuple[Cycled, ...]
    explained: bool


class LedgerLine(msgspec.Struct, frozen=True):
    """The units of one option (or of the whole item) as the tables say after the last transaction."""

    row: str
    initial: int
    sold: int
    left: int

    @property
    def oversold(self) -> int:
        """Units sold that the stock row never gave up, or that never existed."""
        return max(0, self.sold - self.initial, self.sold + self.left - self.initial)


class Ledger(msgspec.Struct, frozen=True):
    """The books of one stage. `breaches` has one sentence per rule that does not hold; empty: it balances."""

    lines: tuple[LedgerLine, ...]
    orders: int
    oversold_units: int
    breaches: tuple[str, ...]


class StageReport(msgspec.Struct, frozen=True):
    """One way of taking stock, with its figures.

    `refused_share` is of the attempted orders, 0 to 1. Rates are per second of wall time; latencies are in milliseconds
    and cover the orders that reached the database, from the buyer's click to the answer, the wait for a connection too.
    """

    name: str
    title: str
    order_of_statements: str
    cures: str
    leaves: str
    attempted: int
    accepted: int
    refused: dict[str, int]
    refused_share: float
    accepted_units: int
    refused_units: dict[str, int]
    unanswered: int
    deadlocks: int
    deadlocks_counted_by_server: int
    version_conflicts: int
    retries: int
    partial_rollbacks: int
    commits: int
    rollbacks: int
    orders_per_s: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    oversold_units: int
    ledger: Ledger
    elapsed_s: float
    connections: int


class LockRow(msgspec.Struct, frozen=True, rename={"tuple_no": "tuple"}):
    """One row of pg_locks, with the name the drill gave to the connection that holds it or waits for it."""

    connection: str
    pid: int
    locktype: str
    relation: str | None
    page: int | None
    tuple_no: int | None
    virtualxid: str | None
    transactionid: str | None
    mode: str
    granted: bool
    blocked_by: tuple[str, ...]


class LockObservation(msgspec.Struct, frozen=True):
    """One step of the scripted connections. `confirmed`: the rows read from pg_locks say what `answer` says."""

    step: str
    did: str
    answer: str
    confirmed: bool
    rows: tuple[LockRow, ...]


class BeforeReport(msgspec.Struct, frozen=True):
    """Part one of the drill. `deadlocks` counts SQLSTATE 40P01 as clients received it in the stage `original`."""

    deadlocks: int
    example_cycle: str
    cycle: Cycle | None
    seed: int
    shoppers: int
    seconds: float
    think_ms: float
    orders_in_demand: int
    stock: dict[str, int]
    server: dict[str, str]
    stages: tuple[StageReport, ...]
    lock_observations: tuple[LockObservation, ...]

    def stage(self, name: str) -> StageReport:
        """The stage of that name; KeyError when there is none."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise KeyError(name)


class Mark(msgspec.Struct, frozen=True):
    """One thing the drill must show, and whether it did."""

    name: str
    passed: bool
    detail: str
