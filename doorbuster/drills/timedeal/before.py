"""Part one of the drill, `timedeal --before`: the deadlock as it happened, then every cure, each with figures."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import asyncpg

from doorbuster.drills.timedeal.crowd import Answers, sell_to_crowd
from doorbuster.drills.timedeal.cycle import as_text, clearer, describe_cycle
from doorbuster.drills.timedeal.demand import Demand, demand
from doorbuster.drills.timedeal.findings import BeforeReport, Cycle, Ledger, StageReport
from doorbuster.drills.timedeal.locks import observe_locks
from doorbuster.drills.timedeal.marks import marks
from doorbuster.drills.timedeal.scratch import DrillCannotRun, Scratch, audit, refill, scratch_schema
from doorbuster.drills.timedeal.sessions import THINK_S, Shop
from doorbuster.drills.timedeal.stages import STAGES, Stage

MAX_SHOPPERS = 1024
MAX_SECONDS = 60.0
MAX_CONNECTIONS = 48
SPARE_CONNECTIONS = 6
# A stage that must deadlock stays open until it did, at most this long.
MAX_SECONDS_UNTIL_DEADLOCK = 20.0
ORDERS_PER_SECOND_AT_MOST = 8_000
SAMPLE_EVERY_S = 0.05
SERVER_COUNTS_WITHIN_S = 3.0
GRACE_S = 0.5
ALONE_WITHIN_S = 10.0

__all__ = ["DrillCannotRun", "marks", "run_before", "run_stage"]

OnProgress = Callable[[str, float], None]


async def run_before(
    dsn: str, *, seed: int, shoppers: int, seconds: float, on_progress: OnProgress | None = None
) -> BeforeReport:
    """Runs every stage for about `seconds` each on the PostgreSQL of `dsn`, in a scratch schema that is dropped at the
    end, also on failure and cancellation. `on_progress(what, share)` is told how far the whole is, share from 0 to 1.

    Raises ValueError for numbers out of range and DrillCannotRun when the server does not let the drill run.
    """
    if not 2 <= shoppers <= MAX_SHOPPERS:
        raise ValueError(f"shoppers must lie between 2 and {MAX_SHOPPERS}, not {shoppers}")
    if not 0 < seconds <= MAX_SECONDS:
        raise ValueError(f"seconds per stage must lie between 0 and {MAX_SECONDS:g}, not {seconds:g}")
    tell = on_progress or (lambda what, share: None)
    crowd = demand(seed, int(max(seconds, 4.0) * ORDERS_PER_SECOND_AT_MOST))
    async with scratch_schema(dsn) as scratch:
        tell("what pg_locks shows", 0.0)
        observations = await observe_locks(scratch)
        connections = min(shoppers, await _connections_to_use(scratch))
        reports: list[StageReport] = []
        example: Cycle | None = None
        for number, stage in enumerate(STAGES):

            def tell_stage(share: float, number: int = number, stage: Stage = stage) -> None:
                tell(stage.title, (number + share) / len(STAGES))

            report, cycle = await run_stage(
                scratch, stage, crowd, shoppers=shoppers, connections=connections, seconds=seconds, tell=tell_stage
            )
            reports.append(report)
            example = cycle if stage.name == "original" else example
        server = await _server_settings(scratch)
    tell("done", 1.0)
    return BeforeReport(
        deadlocks=reports[0].deadlocks,
        example_cycle=as_text(example) if example else "",
        cycle=example,
        seed=seed,
        shoppers=shoppers,
        seconds=seconds,
        think_ms=THINK_S * 1000,
        orders_in_demand=len(crowd.orders),
        stock={str(option): units for option, units in crowd.stock.items()},
        server=server,
        stages=tuple(reports),
        lock_observations=observations,
    )


async def run_stage(
    scratch: Scratch,
    stage: Stage,
    crowd: Demand,
    *,
    shoppers: int,
    connections: int,
    seconds: float,
    tell: Callable[[float], None] = lambda share: None,
) -> tuple[StageReport, Cycle | None]:
    """Refills the stock, sells to the crowd in this stage's way, and audits the tables afterwards."""
    await refill(scratch, crowd.stock)
    counted_before = await _deadlocks_counted_by_server(scratch)
    witness = _Witness()
    shop = Shop(scratch, connections, witness.on_deadlock)
    witness.shop = shop

    def time_is_up(passed: float) -> bool:
        tell(min(1.0, passed / seconds))
        waits_for_deadlock = stage.must_deadlock and not shop.tally.deadlocks
        return passed >= (max(seconds, MAX_SECONDS_UNTIL_DEADLOCK) if waits_for_deadlock else seconds)

    async with _sampling(scratch, witness), stage.opens(shop) as place:
        answers = await sell_to_crowd(place, crowd.orders, shoppers, shop.bell, time_is_up)
    await _wait_until_alone(scratch)
    counted = await _server_catches_up(scratch, counted_before, shop.tally.deadlocks)
    ledger = await audit(scratch, answers.accepted, answers.unanswered)
    return _report(stage, shop, answers, counted, ledger), witness.best


def _report(stage: Stage, shop: Shop, answers: Answers, counted: int, ledger: Ledger) -> StageReport:
    tally = shop.tally
    return StageReport(
        name=stage.name,
        title=stage.title,
        order_of_statements=stage.order_of_statements,
        cures=stage.cures,
        leaves=stage.leaves,
        attempted=answers.attempted,
        accepted=answers.accepted,
        refused=dict(answers.refused),
        refused_share=round(answers.refused.total() / max(1, answers.attempted), 4),
        accepted_units=answers.accepted_units,
        refused_units=dict(answers.refused_units),
        unanswered=answers.unanswered,
        deadlocks=tally.deadlocks,
        deadlocks_counted_by_server=counted,
        version_conflicts=tally.version_conflicts,
        retries=tally.retries,
        partial_rollbacks=tally.partial_rollbacks,
        commits=tally.commits,
        rollbacks=tally.rollbacks,
        orders_per_s=round(answers.accepted / answers.elapsed_s, 1),
        p50_ms=round(answers.quantile_ms(0.50), 2),
        p99_ms=round(answers.quantile_ms(0.99), 2),
        max_ms=round(answers.quantile_ms(1.0), 2),
        oversold_units=ledger.oversold_units,
        ledger=ledger,
        elapsed_s=round(answers.elapsed_s, 2),
        connections=shop.connections,
    )


@dataclass
class _Witness:
    """Keeps the clearest deadlock of a stage, and the statements in which pg_stat_activity last saw processes wait."""

    shop: Shop | None = None
    best: Cycle | None = None
    waiting_in: dict[int, str] = field(default_factory=dict)

    def on_deadlock(self, victim_pid: int, error: asyncpg.DeadlockDetectedError) -> None:
        assert self.shop is not None
        self.best = clearer(self.best, describe_cycle(victim_pid, error, self.shop.traces, self.waiting_in))


@asynccontextmanager
async def _sampling(scratch: Scratch, witness: _Witness) -> AsyncIterator[None]:
    """Samples what waits for a lock while the body runs: the deadlocked wait for deadlock_timeout, so they show."""
    stop = asyncio.Event()

    async def sample() -> None:
        while not stop.is_set():
            rows = await scratch.control.fetch(
                "SELECT pid, query FROM pg_stat_activity WHERE application_name = $1 AND wait_event_type = 'Lock'",
                scratch.schema,
            )
            witness.waiting_in = {row["pid"]: row["query"] for row in rows}
            await asyncio.sleep(SAMPLE_EVERY_S)

    sampler = asyncio.create_task(sample())
    try:
        yield
    finally:
        stop.set()
        await sampler


async def _connections_to_use(scratch: Scratch) -> int:
    free = await scratch.control.fetchval(
        "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
        " - (SELECT count(*)::int FROM pg_stat_activity WHERE backend_type = 'client backend')"
    )
    if free - SPARE_CONNECTIONS < 2:
        raise DrillCannotRun(
            f"PostgreSQL has {free} connections free; the drill needs {SPARE_CONNECTIONS + 2}: stop what uses them, or"
            " raise max_connections"
        )
    return int(min(MAX_CONNECTIONS, free - SPARE_CONNECTIONS))


async def _wait_until_alone(scratch: Scratch) -> None:
    """The books are read when no session of the stage is left that could still write. One cut off in the middle
    of a statement does not notice by itself, so it is ended. Raises TimeoutError when one does not go."""
    started = time.monotonic()
    while (waited_s := time.monotonic() - started) < ALONE_WITHIN_S:
        others = await scratch.control.fetch(
            "SELECT pid, $2 AND pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = $1 AND pid <> pg_backend_pid()",
            scratch.schema,
            waited_s > GRACE_S,
        )
        if not others:
            return
        await asyncio.sleep(0.02)
    raise TimeoutError(f"sessions of the drill did not end within {ALONE_WITHIN_S:g} s: {others}")


async def _deadlocks_counted_by_server(scratch: Scratch) -> int:
    return int(
        await scratch.control.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    )


async def _server_catches_up(scratch: Scratch, before: int, expected: int) -> int:
    """The server's own count since `before`; a backend hands its count in when it ends, so this waits a little."""
    give_up = time.monotonic() + SERVER_COUNTS_WITHIN_S
    while (counted := await _deadlocks_counted_by_server(scratch) - before) < expected and time.monotonic() < give_up:
        await asyncio.sleep(0.05)
    return counted


async def _server_settings(scratch: Scratch) -> dict[str, str]:
    rows = await scratch.control.fetch(
        "SELECT name, current_setting(name) AS value FROM pg_settings WHERE name = ANY($1) ORDER BY name",
        ["server_version", "deadlock_timeout", "fsync", "synchronous_commit", "full_page_writes", "max_connections"],
    )
    return {row["name"]: row["value"] for row in rows}
