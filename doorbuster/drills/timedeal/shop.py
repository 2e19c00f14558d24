"""Part two of the drill: the real shop under the crowd, through TLS and the edge, and the audit once it is quiet."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import msgspec

from doorbuster import client
from doorbuster.drills.load import Progress, Result, RunningLoad, run_process
from doorbuster.drills.temporary_shop import DrilledShop
from doorbuster.drills.timedeal import answers as told
from doorbuster.drills.timedeal import audit as books
from doorbuster.drills.timedeal import chaos, crowd_plan, hot_item, probes
from doorbuster.drills.timedeal.crowd_plan import Crowd, Sale
from doorbuster.drills.timedeal.shop_findings import Audit, Figures, Kill, Probes, ShopReport
from doorbuster.drills.timedeal.shop_marks import shop_marks

OVERRIDES = {"payment_timeout_s": 2.5}
"""Settings of a drill's own shop: what became of a payment is asked about soon, so that the drill ends soon."""
SETTLE_WITHIN_S = 90.0
_LOAD_POLL_S = 0.05


class Wanted(msgspec.Struct, frozen=True):
    """What the drill was asked for. `seconds`: stop sending after so long (None: when every order was sent)."""

    seed: int = 1
    shoppers: int = 1_000
    orders: int = 6_000
    options: int = 6
    stock_share: float = 0.5
    seconds: float | None = None
    chaos: bool = False


class Tellers(msgspec.Struct, frozen=True):
    """Where progress goes: `step` a sentence for people, `load` how far the crowd is."""

    step: Callable[[str], None] = lambda said: None
    load: Callable[[Progress], None] = lambda progress: None


class Evidence(msgspec.Struct, frozen=True):
    """What one rush left behind, before anything is judged."""

    wanted: Wanted
    crowd: Crowd
    sale: Sale
    result: Result
    kills: tuple[Kill, ...]
    probes: Probes
    settled_after_s: float
    restless: tuple[str, ...]
    log_from: int
    deadlocks_before: int


async def run_shop(shop: DrilledShop, wanted: Wanted, tellers: Tellers | None = None) -> ShopReport:
    """The whole of part two on a running shop: rush, wait, audit, marks.

    Raises ValueError for numbers out of range, client.ShopRefused, client.NotRunning, chaos.KillFailed, LoadFailed.
    """
    tell = tellers or Tellers()
    evidence = await rush(shop, wanted, tell)
    tell.step("the audit")
    return await judge(shop, evidence)


async def rush(shop: DrilledShop, wanted: Wanted, tell: Tellers) -> Evidence:
    """Put the item on sale, let the crowd in, kill what is to be killed, and wait until everything is at rest."""
    crowd = crowd_plan.draw_crowd(
        wanted.seed,
        shoppers=wanted.shoppers,
        orders=wanted.orders,
        options=wanted.options,
        stock_share=wanted.stock_share,
    )
    tell.step(f"one hot item with {wanted.options} options and {sum(crowd.stock)} units, and a deal on it")
    sale = await hot_item.put_on_sale(shop, crowd)
    if shop.own:
        faults = hot_item.STORMY if wanted.chaos else hot_item.CALM
        await hot_item.Provider(shop).behave(dict(faults) | {"seed": wanted.seed})
    tell.step(f"tokens for {wanted.shoppers} shoppers")
    tokens = await asyncio.to_thread(client.shopper_tokens, client.read_settings(shop.data), wanted.shoppers)
    plan = crowd_plan.plan(
        crowd, sale, tokens, port=shop.port, ca_file=str(shop.as_client().authority), seconds=wanted.seconds
    )
    log_from = _log_of(shop).stat().st_size
    before = await _deadlocks_so_far(shop)
    tell.step(f"{len(crowd.wishes)} orders from {wanted.shoppers} shoppers, {plan.connections} at once")
    stop = asyncio.Event()
    with run_process(plan, tell.load) as load:
        probing = asyncio.create_task(probes.probe_until(stop, shop, sale, tokens[-1]))
        try:
            kills = await chaos.wreak(shop, load, len(crowd.wishes), wanted.seed, tell.step) if wanted.chaos else ()
            result = await _result_of(load)
        finally:
            stop.set()
        asked = await probing
    settled_s, restless = await books.until_at_rest(shop.dsn_of, sale, SETTLE_WITHIN_S, tell.step)
    return Evidence(wanted, crowd, sale, result, kills, asked, settled_s, tuple(restless), log_from, before)


async def look(shop: DrilledShop, evidence: Evidence) -> Audit:
    """The audit of a rush. May be called again: it only reads."""
    return await books.audit(
        shop.dsn_of,
        evidence.sale,
        told.read_answers(evidence.crowd, evidence.result),
        await hot_item.Provider(shop).charges(),
        _log_of(shop),
        log_from=evidence.log_from,
        # A crash restart sets the counter back to zero, so what was counted before can not be taken off then.
        deadlocks_before=0 if evidence.wanted.chaos else evidence.deadlocks_before,
        whole_shop=shop.own,
        restless=evidence.restless,
    )


async def judge(shop: DrilledShop, evidence: Evidence) -> ShopReport:
    """Audit, figures and marks of a rush."""
    wanted, crowd, result = evidence.wanted, evidence.crowd, evidence.result
    answers = told.read_answers(crowd, result)
    found = await look(shop, evidence)
    exist = await books.existing(shop.dsn_of, answers.acknowledged)
    kills = told.read_kills(evidence.kills, result, exist)
    contested = wanted.stock_share < 0.9 and wanted.seconds is None
    marks = shop_marks(answers, found, evidence.probes, kills, chaos=wanted.chaos, contested=contested)
    return ShopReport(
        drill="timedeal",
        part="shop",
        passed=all(mark.passed for mark in marks),
        seed=wanted.seed,
        chaos=wanted.chaos,
        shoppers=wanted.shoppers,
        workers=shop.workers,
        options=wanted.options,
        stock_share=wanted.stock_share,
        stock={f"option {number}": units for number, units in enumerate(crowd.stock, start=1)},
        allotment={f"option {number}": units for number, units in enumerate(crowd.allotment, start=1)},
        orders_sent=answers.sent,
        tries=answers.tries,
        acknowledged=len(answers.acknowledged),
        acknowledged_found=len(exist),
        answers=answers.by_kind,
        figures=_figures(evidence, answers.by_kind, len(answers.accepted)),
        kills=kills,
        retried_requests=answers.retried,
        retry_tries=answers.retry_tries,
        retries_became=answers.became,
        orders_by_state=found.orders_by_state,
        books=found.books,
        money=found.money,
        limits=found.limits,
        deadlocks=max(found.deadlocks_counted, found.deadlocks_in_log),
        invariants_checked=found.invariants_checked,
        probes=evidence.probes,
        marks=marks,
        slices=told.read_slices(result),
        machine=f"{os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}",
        at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _figures(evidence: Evidence, by_kind: dict[str, int], accepted: int) -> Figures:
    result = evidence.result
    seconds = max(result.wall_s, 1e-9)
    return Figures(
        seconds=round(result.wall_s, 2),
        orders_per_s=round(accepted / seconds, 1),
        paid_orders_per_s=round(by_kind.get("paid", 0) / seconds, 1),
        answers_per_s=round(result.answered / seconds, 1),
        p50_ms=result.latency_ms.p50,
        p90_ms=result.latency_ms.p90,
        p99_ms=result.latency_ms.p99,
        max_ms=result.latency_ms.max,
        load_cpu_share=result.cpu_share_of_core,
        settled_after_s=evidence.settled_after_s,
    )


async def _result_of(load: RunningLoad) -> Result:
    while load.poll() is None:
        await asyncio.sleep(_LOAD_POLL_S)
    return load.wait()


async def _deadlocks_so_far(shop: DrilledShop) -> int:
    connection = await asyncpg.connect(shop.dsn, timeout=10)
    try:
        return await books.deadlocks_counted(connection)
    finally:
        await connection.close()


def _log_of(shop: DrilledShop) -> Path:
    return shop.paths.logs / "postgres.log"
