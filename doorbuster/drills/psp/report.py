"""The drill's two pages, and the JSON beside each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from doorbuster.drills import charts, pages
from doorbuster.drills.charts import Frame, Line, Moment
from doorbuster.drills.pages import Chart, Table, Written
from doorbuster.drills.psp.before import BeforeReport
from doorbuster.drills.psp.findings import Report

COLOURS = ("c-paid", "c-held", "c-open", "c-limit")
"""One for each account, in their order."""
_PROBE = "c-bad"


def write_router(found: Report, html: Path | None) -> Written:
    """The router's part: its JSON and its page, into ./reports unless told otherwise."""
    kill = "-kill" if found.kill else ""
    return pages.write(f"psp-{found.fault}{kill}-seed{found.seed}", html, found, router_page(found))


def write_before(found: BeforeReport, html: Path | None) -> Written:
    """Part one: its JSON and its page, into ./reports unless told otherwise."""
    return pages.write(f"psp-before-seed{found.seed}", html, found, before_page(found))


def router_page(found: Report) -> str:
    """The page of the router's part."""
    tiles = [
        (f"{found.orders_captured_twice}", "orders captured twice"),
        (f"{found.second_provider_calls_while_unknown}", "calls elsewhere while unknown"),
        (_seconds(found.seconds_to_shift), "until new payments went elsewhere"),
        (f"{found.success_after_shift:.2%}", "of payments after that succeeded"),
        (_seconds(found.seconds_to_return), "until all came back, in steps"),
        (f"{found.unknown_left}", f"outcomes left unknown, {found.cases} cases"),
    ]
    storm = ", and workers are killed with kill -9 meanwhile" if found.kill else ""
    return pages.render(
        title="A payment provider fails",
        subtitle=(
            f"{found.payments:,} payments at {found.payments_per_s:g} a second over {len(found.providers)} providers."
            f" After {found.fault_s:.0f} s {found.faulty} fails ({found.fault}), after {found.heal_s:.0f} s it is well"
            f" again{storm}."
        ),
        tiles=tiles,
        charts=_charts(found),
        tables=_tables(found),
        marks=found.marks,
        footer=f"Seed {found.seed} · time-out of a call {found.payment_timeout_s:g} s · {found.workers} workers"
        f" · {found.machine} · {found.at}",
    )


def _charts(found: Report) -> list[Chart]:
    names = [one.name for one in found.providers]
    legend = tuple(zip(COLOURS, names, strict=False))
    return [
        Chart(
            "Where payments went first",
            "Payments per second by the provider that was asked first, by the time the payment began. Probes are the"
            " few payments that try a provider whose circuit is open.",
            _shares(found),
            (*legend, (_PROBE, "probes")),
        ),
        Chart(
            "How many succeeded",
            "In the end, by the time the payment began; and at once, by the time the order was due: the shopper's first"
            " answer said paid. What lies between was unknown for a while and was found out at the same provider.",
            _success(found),
            (("b-p50", "in the end"), ("b-p99", "at once")),
        ),
        Chart(
            "How long shoppers waited",
            "From the moment an order was due to its last answer, logarithmic.",
            _latency(found),
            (("b-p50", "median"), ("b-p99", "p99")),
        ),
        Chart(
            "What the providers captured",
            "Charges captured so far, by each simulator's own ledger, looked at four times a second.",
            _captured(found),
            legend,
        ),
        Chart(
            "Attempts whose outcome is open",
            "Being sent, or unknown and asked about, at all providers together.",
            _open(found),
            (("b-p99", "open attempts"),),
        ),
    ]


def _moments(found: Report) -> list[Moment]:
    marks = [Moment(found.fault_s, f"{found.faulty} fails"), Moment(found.heal_s, "well again")]
    return marks + [Moment(kill.at, "") for kill in found.kills]


def _width(found: Report) -> float:
    return found.slices[1].from_s - found.slices[0].from_s if len(found.slices) > 1 else 0.5


def _shares(found: Report) -> str:
    width, names = _width(found), [one.name for one in found.providers]
    most = max((sum(one.first_at.values()) + one.probes for one in found.slices), default=1) / width
    frame = Frame(found.seconds + width, charts.round_up(max(most, 1.0)))
    parts = [charts.even_grid(frame, "payments/s")]
    for one in found.slices:
        column = [
            (css, one.first_at.get(name, 0) / width, f"{one.first_at.get(name, 0) / width:,.0f}/s {name}")
            for css, name in zip(COLOURS, names, strict=False)
        ]
        parts += charts.stack(frame, one.from_s, width, [*column, (_PROBE, one.probes / width, f"{one.probes} probes")])
    return charts.svg("Payments per second by provider", parts + charts.moments(frame, _moments(found)))


def _success(found: Report) -> str:
    width = _width(found)
    frame = Frame(found.seconds + width, 100.0)
    at_once = [(one.from_s + width / 2, _percent(one.paid_at_once, one.due)) for one in found.slices if one.due]
    in_the_end = [
        (one.from_s + width / 2, _percent(one.succeeded, one.payments)) for one in found.slices if one.payments
    ]
    wanted = (Line("l-p99", "at once", tuple(at_once)), Line("l-p50", "in the end", tuple(in_the_end)))
    parts = [charts.even_grid(frame, "%"), *charts.lines(frame, wanted, "%")]
    return charts.svg("Payments that succeeded", parts + charts.moments(frame, _moments(found)))


def _latency(found: Report) -> str:
    width, some = _width(found), [one for one in found.slices if one.p99_ms > 0]
    if not some:
        return ""
    frame = charts.log_frame(found.seconds + width, [value for one in some for value in (one.p50_ms, one.p99_ms)])
    wanted = (
        Line("l-p99", "p99", tuple((one.from_s + width / 2, one.p99_ms) for one in some)),
        Line("l-p50", "median", tuple((one.from_s + width / 2, one.p50_ms) for one in some)),
    )
    parts = [charts.even_grid(frame, "ms"), *charts.lines(frame, wanted, "ms")]
    return charts.svg("Latency, median and p99", parts + charts.moments(frame, _moments(found)))


def _captured(found: Report) -> str:
    width = _width(found)
    most = max((n for one in found.slices for n in one.captured_by.values()), default=1)
    frame = Frame(found.seconds + width, charts.round_up(max(most, 1)))
    wanted = [
        Line(
            f"l-{number}", one.name,
            tuple(
                (slice_.from_s + width / 2, float(slice_.captured_by[one.name]))
                for slice_ in found.slices
                if one.name in slice_.captured_by
            ),
        )
        for number, one in enumerate(found.providers, start=1)
    ]  # fmt: skip
    parts = [charts.even_grid(frame, "charges"), *charts.lines(frame, wanted, "charges")]
    return charts.svg("Charges captured so far", parts + charts.moments(frame, _moments(found)))


def _open(found: Report) -> str:
    width = _width(found)
    frame = Frame(found.seconds + width, charts.round_up(max([one.open for one in found.slices] + [1])))
    line = Line("l-p99", "", tuple((one.from_s + width / 2, float(one.open)) for one in found.slices))
    parts = [charts.even_grid(frame, "attempts"), *charts.lines(frame, (line,), "attempts")]
    return charts.svg("Attempts whose outcome is open", parts + charts.moments(frame, _moments(found)))


def _tables(found: Report) -> list[Table]:
    providers = tuple(
        (one.name, f"{one.weight}", f"{one.attempts:,}", f"{one.probes}", f"{one.captured:,}", f"{one.declined:,}",
         f"{one.refunded:,}")
        for one in found.providers
    )  # fmt: skip
    back = tuple(
        (step.state, f"{step.from_s - found.heal_s:+.1f} s", f"{step.to_s - step.from_s:.1f} s", f"{step.payments:,}",
         f"{step.expected:.1%}", f"{step.measured:.1%}")
        for step in found.way_back
    )  # fmt: skip
    tables = [
        Table(
            "The way back", ("circuit", "after recovery", "lasted", "payments", "share expected", "share measured"),
            back, frozenset(range(1, 6)), f"From the last time the circuit of {found.faulty} was open; probes aside.",
        ),
        Table(
            "Providers", ("account", "weight", "attempts", "probes", "captured", "declined", "given back"), providers,
            frozenset(range(1, 7)), "Captured, declined and given back by each simulator's own ledger.",
        ),
        Table(
            "How payments ended", ("state", "payments"),
            tuple((what, f"{count:,}") for what, count in found.payments_ended.items()), frozenset({1}),
        ),
        Table("What the provider did", ("act",), tuple((act,) for act in found.episodes)),
    ]  # fmt: skip
    if found.kills:
        rows = tuple(
            (kill.victim, f"{kill.at:.2f} s", f"{kill.in_flight}", _seconds(kill.back_after_s)) for kill in found.kills
        )
        heads = ("killed", "at", "attempts being sent", "back after")
        tables.append(Table("The kills", heads, rows, frozenset({1, 2, 3}), "Each with SIGKILL."))
    return tables


def before_page(found: BeforeReport) -> str:
    """The page of part one."""
    outage, naive = found.outage, found.naive
    tiles = [
        (f"{outage.paid_after} of {outage.orders_after:,}", "orders paid once the only provider was down"),
        (_money(outage.sales_lost, outage.currency), f"not sold in {outage.seconds - outage.fault_s:.0f} s"),
        (f"{naive.orders_captured_twice:,} of {naive.payments:,}", "orders charged twice by naive failover"),
        (_money(naive.owed_minor, outage.currency), "taken from buyers beyond their orders"),
    ]
    frame = Frame(float(len(outage.per_second)), charts.round_up(max([due for due, _ in outage.per_second] + [1])))
    parts = [charts.even_grid(frame, "orders/s")]
    for second, (due, paid) in enumerate(outage.per_second):
        column = [("c-paid", float(paid), f"{paid} paid"), ("c-bad", float(due - paid), f"{due - paid} not paid")]
        parts += charts.stack(frame, float(second), 1.0, column)
    drawn = charts.svg(
        "Orders per second", parts + charts.moments(frame, [Moment(outage.fault_s, "the provider is down")])
    )
    lost = f"{naive.answers_lost:,} of its calls had no answer, because the provider had captured and then kept silent."
    rows = (
        ("orders", f"{naive.payments:,}"),
        ("captured at the providers' ledgers", f"{naive.captured:,}"),
        ("orders captured twice", f"{naive.orders_captured_twice:,}"),
        ("another provider asked while the first was unknown", f"{naive.second_provider_calls_while_unknown:,}"),
        ("buyers told that they had paid, once", f"{naive.told_paid:,}"),
    )
    return pages.render(
        title="A payment provider fails: the incident",
        subtitle="A shop with one provider that goes down; then failover as it is usually written.",
        tiles=tiles,
        charts=[
            Chart(
                "One provider: every order fails", "Orders per second by the time they were due.", drawn,
                (("c-paid", "paid"), ("c-bad", "not paid")),
            )
        ],
        tables=[Table("Naive failover on time-out", ("", "orders"), rows, frozenset({1}), lost)],
        marks=found.marks,
        footer=f"Seed {found.seed} · {found.machine} · {found.at}",
    )  # fmt: skip


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f} s"


def _money(minor: int, currency: str) -> str:
    return f"{minor / 100:,.0f} {currency}"


def _percent(part: int, whole: int) -> float:
    return 100.0 * part / whole


def sparkline(values: Sequence[float]) -> str:
    """One character for each value, from nothing to the largest."""
    blocks = " ▁▂▃▄▅▆▇█"
    most = max(values, default=0.0)
    if most <= 0:
        return " " * len(values)
    return "".join(blocks[0 if value <= 0 else max(1, round(value / most * 8))] for value in values)
