"""The time deal's two pages, and the JSON beside each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from doorbuster.drills import pages
from doorbuster.drills.charts import bars
from doorbuster.drills.pages import Chart, Table, Written
from doorbuster.drills.timedeal import charts
from doorbuster.drills.timedeal.findings import BeforeReport, Mark, StageReport
from doorbuster.drills.timedeal.shop_findings import ShopReport


def write_shop(found: ShopReport, html: Path | None) -> Written:
    """Part two: its JSON and its page, into ./reports unless told otherwise."""
    name = f"timedeal-{'chaos' if found.chaos else 'calm'}-seed{found.seed}"
    return pages.write(name, html, found, shop_page(found))


def write_before(found: BeforeReport, judged: Sequence[Mark], html: Path | None) -> Written:
    """Part one: its JSON and its page, into ./reports unless told otherwise."""
    return pages.write(
        f"timedeal-before-seed{found.seed}", html, before_result(found, judged), before_page(found, judged)
    )


def before_result(found: BeforeReport, judged: Sequence[Mark]) -> dict[str, Any]:
    """Part one as the JSON of the command: the report's own fields, the marks, and whether all of them hold."""
    head = {"drill": "timedeal", "part": "before", "passed": all(mark.passed for mark in judged)}
    fields: dict[str, Any] = msgspec.to_builtins(found)
    return head | fields | {"marks": msgspec.to_builtins(list(judged))}


def keep_logs(logs: Path, found: ShopReport) -> Path:
    """Copy the logs of a shop that is about to be removed."""
    return pages.keep_logs(logs, f"timedeal-seed{found.seed}")


def shop_page(found: ShopReport) -> str:
    """The page of part two."""
    figures = found.figures
    storm = ", with a worker, a database backend and the postmaster killed meanwhile" if found.chaos else ""
    tiles = [
        (f"{figures.orders_per_s:,.0f}/s", "orders acknowledged"),
        (f"{figures.paid_orders_per_s:,.0f}/s", "of them paid"),
        (f"{figures.p50_ms:,.0f} ms", "median answer"),
        (f"{figures.p99_ms:,.0f} ms", "p99, repeats included"),
        (f"{found.acknowledged_found:,}", f"of {found.acknowledged:,} acknowledged orders found"),
        (f"{found.deadlocks}", "deadlocks"),
    ]
    return pages.render(
        title="Time deal: the real shop under the crowd",
        subtitle=(
            f"{found.orders_sent:,} orders from {found.shoppers:,} shoppers for one hot item with {found.options}"
            f" options and stock for {found.stock_share:.0%} of them{storm}."
        ),
        tiles=tiles,
        charts=_shop_charts(found),
        tables=_shop_tables(found),
        marks=found.marks,
        footer=f"Seed {found.seed} · {found.workers} workers · {found.machine} · {found.at}",
    )


def _shop_charts(found: ShopReport) -> list[Chart]:
    legend = tuple((series.css, series.words) for series in charts.ANSWERS)
    whole = found.books[-1]
    return [
        Chart(
            "What shoppers were told",
            "Answers per second by kind. After a kill the shop pauses, recovers, and answers who waited.",
            charts.answers_over_time(found.slices, found.kills),
            legend,
        ),
        Chart(
            "How long they waited",
            "From the first try to the last answer, by the moment of that answer; logarithmic.",
            charts.latency_over_time(found.slices, found.kills),
            (("b-p50", "median"), ("b-p99", "p99")),
        ),
        Chart(
            "Where the units are",
            f"Sold + reserved + left = initial, per option and for the item: {whole.sold:,} + {whole.reserved:,} +"
            f" {whole.left:,} = {whole.initial:,}.",
            charts.units(found.books),
            (("c-paid", "sold"), ("c-held", "reserved"), ("c-out", "left")),
        ),
    ]


def _shop_tables(found: ShopReport) -> list[Table]:
    money, limits = found.money, found.limits
    tables = [
        Table(
            "Money and limits",
            ("", "the shop says", "the provider's ledger says"),
            (
                ("paid orders = captured and kept", f"{money.paid_orders:,}", f"{money.captured - money.refunded:,}"),
                ("amount, minor units", f"{money.paid_minor:,}", f"{money.captured_minor - money.refunded_minor:,}"),
                ("given back", "", f"{money.refunded:,}"),
                ("declined", "", f"{money.declined:,}"),
                (f"most units one customer holds (limit {limits.per_customer})", f"{limits.most_held_by_one}", ""),
                (f"units taken in the deal (allotment {limits.allotment:,})", f"{limits.taken_in_deal:,}", ""),
            ),
            frozenset({1, 2}),
        )
    ]
    if found.kills:
        heads = ("killed", "at", "orders sent", "in flight", "acknowledged before", "found after", "back after")
        rows = tuple(
            (
                kill.victim,
                f"{kill.at_s:.2f} s",
                f"{kill.sent_before:,}",
                f"{kill.in_flight:,}",
                f"{kill.acknowledged_before:,}",
                f"{kill.found_after:,}",
                "never" if kill.back_after_s is None else f"{kill.back_after_s:.2f} s",
            )
            for kill in found.kills
        )
        tables.insert(0, Table("The kills", heads, rows, frozenset(range(1, 7)), "Each with SIGKILL, in the rush."))
    if found.retries_became:
        became = tuple((one.first, one.last, f"{one.requests:,}") for one in found.retries_became)
        note = f"{found.retried_requests:,} requests were sent again under the same Idempotency-Key."
        tables.append(Table("Sent again", ("first answer", "last answer", "requests"), became, frozenset({2}), note))
    return tables


def before_page(found: BeforeReport, judged: Sequence[Mark]) -> str:
    """The page of part one."""
    original, ours = found.stages[0], found.stages[-1]
    tiles = [
        (f"{found.deadlocks:,}", "deadlocks as it happened (SQLSTATE 40P01)"),
        (f"{original.orders_per_s:,.0f}/s", "orders accepted then"),
        (f"{ours.orders_per_s:,.0f}/s", "orders accepted our way"),
        (f"{ours.deadlocks}", "deadlocks our way"),
        (f"{original.p99_ms:,.0f} → {ours.p99_ms:,.0f} ms", "p99, then and now"),
    ]
    rows = [(stage.title, stage.orders_per_s, _words(stage), _css(stage)) for stage in found.stages]
    speed = Chart(
        "Seven ways to take stock",
        f"Orders accepted per second by {found.shoppers} buyers at once, the same demand each time.",
        bars(rows, "Orders per second by way of taking stock"),
        (("c-bad", "deadlocks"), ("c-limit", "no deadlock, but a price"), ("c-good", "ours")),
    )
    stages = Table(
        "What each cures and what it leaves",
        ("way", "order of statements", "cures", "leaves", "refused", "retries", "p50", "p99"),
        tuple(_stage_row(stage) for stage in found.stages),
        frozenset({4, 5, 6, 7}),
    )
    locks = Table(
        "When is a row lock taken?",
        ("step", "pg_locks says"),
        tuple((seen.did, seen.answer) for seen in found.lock_observations),
    )
    settings = ", ".join(f"{name} {value}" for name, value in found.server.items())
    return pages.render(
        title="Time deal: the deadlock, and every cure",
        subtitle="The incident replayed on a real PostgreSQL, then the stop-gap, the cures that were tried, and ours.",
        tiles=tiles,
        charts=[speed],
        tables=[stages, locks],
        marks=judged,
        words=found.example_cycle,
        words_title="One deadlock, as PostgreSQL reported it",
        footer=f"Seed {found.seed} · {found.seconds:g} s per way · {settings}",
    )


def _words(stage: StageReport) -> str:
    return f"{stage.orders_per_s:,.0f}/s, {stage.deadlocks:,} deadlocks"


def _css(stage: StageReport) -> str:
    if stage.deadlocks:
        return "c-bad"
    return "c-good" if stage.name == "group_commit" else "c-limit"


def _stage_row(stage: StageReport) -> tuple[str, ...]:
    return (
        stage.title,
        stage.order_of_statements,
        stage.cures,
        stage.leaves,
        f"{stage.refused_share:.1%}",
        f"{stage.retries:,}",
        f"{stage.p50_ms:,.1f} ms",
        f"{stage.p99_ms:,.1f} ms",
    )
