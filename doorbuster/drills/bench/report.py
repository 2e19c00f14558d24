"""Runs the measurements in one go, repeats them, takes medians, and writes what they mean."""

from __future__ import annotations

import asyncio
import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from doorbuster.drills.bench import measure, router
from doorbuster.drills.bench.measure import LoadFigures
from doorbuster.drills.bench.router import RouterFigures
from doorbuster.drills.temporary_shop import DrilledShop, temporary_shop
from doorbuster.drills.timedeal.crowd_plan import Sale

Tell = Callable[[str], None]
_OPEN_LOOP_SHARE = 0.6
_OLD_WAY_S = 6


class Figures(msgspec.Struct, frozen=True):
    """Everything one run measured. Rates per second, bytes, seconds; medians of the repeats listed beside them."""

    machine: str
    at: str
    durability: dict[str, str]
    start_s: float
    pgbench: list[float]
    placements: list[LoadFigures]
    paid: list[LoadFigures]
    open_loop_rate: float
    open_loop: LoadFigures
    one_by_one: LoadFigures
    reserve_alone: float
    memory_idle: dict[str, int]
    memory_loaded: dict[str, int]
    router: RouterFigures

    @property
    def limit(self) -> float:
        """What one transaction per order is bounded by: the median of pgbench before, between and after the loads."""
        return statistics.median(self.pgbench)

    @property
    def placed_per_s(self) -> float:
        return statistics.median(one.per_s for one in self.placements)

    @property
    def paid_per_s(self) -> float:
        return statistics.median(one.per_s for one in self.paid)


def run(*, repeats: int, seconds: int, workers: int, seed: int, tell: Tell) -> Figures:
    """All measurements against one shop (and one more for the old way), and of the router alone, on fresh temporary data.
    About 3 minutes."""
    began = time.monotonic()
    tell("starting a shop")
    with temporary_shop(workers=workers, overrides={}) as shop:
        start_s = time.monotonic() - began
        durable = asyncio.run(measure.durability(shop.dsn))
        idle = measure.memory(shop)
        sale = asyncio.run(measure.prepare(shop))
        pgbench, placements, paid = _repeat(shop, sale, repeats, seconds, seed, tell)
        loaded = measure.memory(shop)
        rate = statistics.median(one.per_s for one in placements) * _OPEN_LOOP_SHARE
        tell(f"open loop at {rate:.0f}/s")
        open_loop = measure.drive(shop, sale, pays=False, seconds=seconds, seed=seed + 99, rate=rate)
        tell("the batched reserve alone")
        reserve = asyncio.run(measure.reserve_alone(shop, sale, 4))
    tell("the old way: one transaction per order")
    with temporary_shop(workers=workers, overrides=measure.one_by_one()) as shop:
        sale = asyncio.run(measure.prepare(shop))
        old = measure.drive(shop, sale, pays=False, seconds=_OLD_WAY_S, seed=seed)
    tell("the payment router alone")
    decided = asyncio.run(router.measure(router.Load()))
    return Figures(
        machine=machine(),
        at=now(),
        durability=durable,
        start_s=start_s,
        pgbench=pgbench,
        placements=placements,
        paid=paid,
        open_loop_rate=rate,
        open_loop=open_loop,
        one_by_one=old,
        reserve_alone=reserve,
        memory_idle=idle,
        memory_loaded=loaded,
        router=decided,
    )


def machine() -> str:
    """What this was measured on."""
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()} {platform.machine()}"


def now() -> str:
    """When, to the minute."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _repeat(
    shop: DrilledShop, sale: Sale, repeats: int, seconds: int, seed: int, tell: Tell
) -> tuple[list[float], list[LoadFigures], list[LoadFigures]]:
    """The limit and the shop in turn, so that a machine whose speed drifts slows both."""
    pgbench: list[float] = []
    placements: list[LoadFigures] = []
    paid: list[LoadFigures] = []
    for turn in range(repeats):
        tell(f"pgbench, one row, {turn + 1} of {repeats}")
        pgbench.append(measure.pgbench_single_row(shop, 5))
        tell(f"placements through the edge, {turn + 1} of {repeats}")
        placements.append(measure.drive(shop, sale, pays=False, seconds=seconds, seed=seed + turn))
        tell(f"paid orders through the edge, {turn + 1} of {repeats}")
        paid.append(measure.drive(shop, sale, pays=True, seconds=seconds, seed=seed + 50 + turn))
    return pgbench, placements, paid


def rows(figures: Figures) -> list[tuple[str, str, str, str]]:
    """(what, figure, against the limit, mark) for the table and the file."""
    limit, placed, paid = figures.limit, figures.placed_per_s, figures.paid_per_s
    old = figures.one_by_one.per_s
    middle = statistics.median(one.p99_ms for one in figures.placements)
    megabyte = 2**20
    idle, loaded = figures.memory_idle["all"] / megabyte, figures.memory_loaded["all"] / megabyte
    return [
        ("pgbench, 32 clients, one row", f"{limit:,.0f}/s", "1.00 ×", "the limit of one transaction per order"),
        ("placements (awaiting payment)", f"{placed:,.0f}/s", f"{placed / limit:.2f} ×", _mark(placed / limit >= 1.0, "≥ 1.0 ×")),
        ("paid orders", f"{paid:,.0f}/s", f"{paid / limit:.2f} ×", _mark(paid / limit >= 0.4, "≥ 0.4 ×")),
        ("placements, one transaction each", f"{old:,.0f}/s", f"{old / limit:.2f} ×", _mark(placed / old >= 4, f"ours is {placed / old:.1f} × (≥ 4 ×)")),
        ("batched reserve alone", f"{figures.reserve_alone:,.0f}/s", f"{figures.reserve_alone / limit:.2f} ×", ""),
        (f"open loop at {figures.open_loop_rate:,.0f}/s: p99", f"{figures.open_loop.p99_ms:,.0f} ms", "", _mark(figures.open_loop.p99_ms < 500, "< 500 ms")),
        ("closed loop, 256 shoppers: p99", f"{middle:,.0f} ms", "", ""),
        (f"a routing decision at {figures.router.rate:,.0f}/s, p50", f"{figures.router.p50_ms:.2f} ms", "", ""),
        (f"a routing decision at {figures.router.rate:,.0f}/s, p99", f"{figures.router.p99_ms:.2f} ms", "", _mark(figures.router.p99_ms <= router.P99_MS, f"≤ {router.P99_MS:g} ms")),
        ("load generator's share of one core", f"{100 * figures.placements[0].generator_share_of_core:.0f} %", "", ""),
        ("start, command to ready", f"{figures.start_s:.1f} s", "", _mark(figures.start_s < 10, "< 10 s")),
        ("memory idle, all processes (PSS)", f"{idle:,.0f} MB", "", _mark(idle < 700, "< 700 MB")),
        ("memory after the loads (PSS)", f"{loaded:,.0f} MB", "", ""),
    ]  # fmt: skip


def _mark(holds: bool, text: str) -> str:
    return f"{'✓' if holds else '✗'} {text}"


def held(figures: Figures) -> bool:
    """Whether every mark holds."""
    return not any(row[3].startswith("✗") for row in rows(figures))


def write_markdown(figures: Figures, path: Path) -> None:
    """BENCHMARKS.md, whole or not at all."""
    lines = [
        "# Benchmarks",
        "",
        f"Measured by `make bench` on {figures.at}: {figures.machine}, the load generator on the same cores.",
        "All figures are from one run. Machines differ; the ratios in the third column travel better than the rates.",
        "",
        "| what | figure | against pgbench | mark |",
        "|---|---:|---:|---|",
        *(f"| {what} | {figure} | {ratio} | {mark} |" for what, figure, ratio, mark in rows(figures)),
        "",
        "**What is measured.** 256 shoppers with tokens, over TLS and Envoy (which verifies the token), order one to"
        " three of the six options of one hot item under a time deal with a limit per customer and an Idempotency-Key;"
        " every placement writes stock, order, timeline and the facts of both in two shared commits. A paid order adds"
        " the attempt, the provider over HTTP, its outcome, the claim and the order's steps.",
        "",
        "A routing decision is what the payment router adds to an attempt: one process chooses among four accounts by"
        " stored rules of several branches and counts the answer, with health shared through PostgreSQL as in a worker."
        " Its time counts from when the attempt was due; the provider's own time is left out, and nothing is sent."
        " The figures are medians of "
        f"{len(figures.router.windows)} windows (p50 / p99 in ms: "
        + ", ".join(f"{one.p50_ms:.2f} / {one.p99_ms:.2f}" for one in figures.router.windows)
        + ").",
        "",
        "**What it is measured against.** `pgbench -c 32 -M prepared` updating one row of the same server, before each"
        ' load: what a shop that takes one transaction per order can not exceed. "One transaction each" is this same'
        " route with batches of one (`batch_limit=1`, eight writers per process).",
        "",
        "Durability was on: " + ", ".join(f"`{name} = {value}`" for name, value in figures.durability.items()) + ".",
        "",
        "| repeat | pgbench/s | placements/s | p50 / p99 ms | paid/s | p50 / p99 ms |",
        "|---:|---:|---:|---:|---:|---:|",
        *(
            f"| {n} | {limit:,.0f} | {place.per_s:,.0f} | {place.p50_ms:,.0f} / {place.p99_ms:,.0f} |"
            f" {paid.per_s:,.0f} | {paid.p50_ms:,.0f} / {paid.p99_ms:,.0f} |"
            for n, (limit, place, paid) in enumerate(
                zip(figures.pgbench, figures.placements, figures.paid, strict=True), start=1
            )
        ),
        "",
        "Where clarity was traded for speed: `POST /api/v1/order` is served by `platform/lean.py` instead of the"
        " framework; `lock_books` in stock's migration locks and reads a whole batch in one call; order lines are JSON"
        " and reservation lines arrays in one row.",
        "",
    ]
    part = path.with_suffix(".part")
    part.write_text("\n".join(lines))
    part.replace(path)
