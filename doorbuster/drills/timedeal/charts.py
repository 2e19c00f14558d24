"""The charts of the time deal: what shoppers were told, how long they waited, where the units are."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import msgspec

from doorbuster.drills import charts
from doorbuster.drills.charts import WIDTH, Frame, Line, Moment
from doorbuster.drills.timedeal.shop_findings import BookLine, KillReport, Slice


class Series(msgspec.Struct, frozen=True):
    """One colour of a chart: its CSS class, its words in the legend, the kinds of answer that count to it."""

    css: str
    words: str
    kinds: frozenset[str]


ANSWERS = (
    Series("c-paid", "paid", frozenset({"paid"})),
    Series("c-held", "placed, awaiting payment", frozenset({"awaiting_payment"})),
    Series("c-open", "placed, payment unknown yet", frozenset({"payment_unknown", "paying", "captured"})),
    Series("c-limit", "refused: limit or price", frozenset({"limit_exceeded", "price_changed"})),
    Series("c-out", "refused: sold out", frozenset({"sold_out"})),
)


def answers_over_time(slices: Sequence[Slice], kills: Sequence[KillReport]) -> str:
    """Answers per second by kind, stacked, with the kills."""
    if not slices:
        return ""
    width_s = _width_of(slices)
    totals = [sum(one.kinds.values()) / width_s for one in slices]
    frame = Frame(seconds=slices[-1].from_s + width_s, most=charts.round_up(max(totals)))
    parts = [charts.even_grid(frame, "answers/s")]
    for one in slices:
        column = []
        for series in ANSWERS:
            rate = sum(count for kind, count in one.kinds.items() if kind in series.kinds) / width_s
            column.append((series.css, rate, f"{rate:,.0f}/s {series.words}"))
        parts += charts.stack(frame, one.from_s, width_s, column)
    return charts.svg("Answers per second by kind, and the kills", parts + charts.moments(frame, _moments(kills)))


def latency_over_time(slices: Sequence[Slice], kills: Sequence[KillReport]) -> str:
    """Median and p99 of what ended in each slice, on a logarithmic scale, with the kills."""
    ended = [one for one in slices if one.p99_ms > 0]
    if not ended:
        return ""
    width_s = _width_of(slices)
    values = [value for one in ended for value in (one.p50_ms, one.p99_ms)]
    frame = charts.log_frame(slices[-1].from_s + width_s, values)
    wanted = (
        Line("l-p99", "p99", tuple((one.from_s + width_s / 2, one.p99_ms) for one in ended)),
        Line("l-p50", "median", tuple((one.from_s + width_s / 2, one.p50_ms) for one in ended)),
    )
    parts = [charts.even_grid(frame, "ms"), *charts.lines(frame, wanted, "ms")]
    return charts.svg("Latency over time, median and p99", parts + charts.moments(frame, _moments(kills)))


def units(lines: Sequence[BookLine]) -> str:
    """Each option's units as one bar: sold, reserved, left; the whole bar is what was put in."""
    options = [line for line in lines if line.row != "item"]
    most = max((line.initial for line in options), default=1) or 1
    step, height = 30, 30 * len(options) + 8
    scale = (WIDTH - 90 - 150) / most
    parts = []
    for number, line in enumerate(options):
        y, x = number * step + 6, 90.0
        parts.append(f'<text class="label" x="80" y="{y + 14}" text-anchor="end">{escape(line.row)}</text>')
        for css, words, count in (
            ("c-paid", "sold", line.sold),
            ("c-held", "reserved", line.reserved),
            ("c-out", "left", line.left),
        ):
            width = max(0.0, count * scale - 1.5)
            hint = f"{line.row}: {count:,} {words}"
            parts.append(
                f'<rect class="{css}" x="{x:.1f}" y="{y}" width="{width:.1f}" height="19" rx="2">'
                f"<title>{escape(hint)}</title></rect>"
            )
            x += count * scale
        said = f"{line.sold:,} + {line.reserved:,} + {line.left:,} = {line.initial:,}"
        parts.append(f'<text class="value" x="{x + 8:.1f}" y="{y + 14}">{said}</text>')
    return charts.svg("Units per option: sold, reserved, left", parts, height)


def _moments(kills: Sequence[KillReport]) -> list[Moment]:
    return [Moment(kill.at_s, f"kill -9 {kill.what}") for kill in kills]


def _width_of(slices: Sequence[Slice]) -> float:
    return slices[1].from_s - slices[0].from_s if len(slices) > 1 else 0.25
