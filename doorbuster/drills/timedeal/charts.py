"""Charts as inline SVG, drawn by hand: no library, no request; colours are CSS classes, so dark mode works."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import msgspec

from doorbuster.drills.timedeal.shop_findings import BookLine, KillReport, Slice

WIDTH, HEIGHT = 960, 280
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 34, 34
_TICKS = 4


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


class Frame(msgspec.Struct, frozen=True):
    """The plotting area of one chart over time: seconds across, a value up."""

    seconds: float
    most: float
    log_from: float = 0.0

    def x(self, at_s: float) -> float:
        """Pixels from the left."""
        return round(LEFT + (WIDTH - LEFT - RIGHT) * min(1.0, at_s / self.seconds), 1)

    def y(self, value: float) -> float:
        """Pixels from the top."""
        share = value / self.most
        if self.log_from:
            share = math.log(max(value, self.log_from) / self.log_from) / math.log(self.most / self.log_from)
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(1.0, max(0.0, share)), 1)


def answers_over_time(slices: Sequence[Slice], kills: Sequence[KillReport]) -> str:
    """Answers per second by kind, stacked, with the kills."""
    if not slices:
        return ""
    width_s = _width_of(slices)
    totals = [sum(one.kinds.values()) / width_s for one in slices]
    frame = Frame(seconds=slices[-1].from_s + width_s, most=_round_up(max(totals)))
    parts = [_grid(frame, [frame.most * step / _TICKS for step in range(_TICKS + 1)], "answers/s")]
    for one in slices:
        base = 0.0
        for series in ANSWERS:
            rate = sum(count for kind, count in one.kinds.items() if kind in series.kinds) / width_s
            if rate:
                left, right = frame.x(one.from_s), frame.x(one.from_s + width_s)
                top, bottom = frame.y(base + rate), frame.y(base)
                hint = f"{one.from_s:.2f} s: {rate:,.0f}/s {series.words}"
                parts.append(
                    f'<rect class="{series.css}" x="{left}" y="{top}" width="{max(0.5, right - left - 1):.1f}"'
                    f' height="{bottom - top:.1f}"><title>{escape(hint)}</title></rect>'
                )
            base += rate
    return _svg("Answers per second by kind, and the kills", parts + _kill_lines(frame, kills))


def latency_over_time(slices: Sequence[Slice], kills: Sequence[KillReport]) -> str:
    """Median and p99 of what ended in each slice, on a logarithmic scale, with the kills."""
    ended = [one for one in slices if one.p99_ms > 0]
    if not ended:
        return ""
    width_s = _width_of(slices)
    lowest = 10.0 ** math.floor(math.log10(max(0.1, min(one.p50_ms for one in ended))))
    highest = 10.0 ** math.ceil(math.log10(max(one.p99_ms for one in ended) + 0.01))
    frame = Frame(seconds=slices[-1].from_s + width_s, most=max(highest, lowest * 10), log_from=lowest)
    decades = round(math.log10(frame.most / lowest))
    parts = [_grid(frame, [lowest * 10**step for step in range(decades + 1)], "ms")]
    for css, words, values in (
        ("l-p99", "p99", [(one.from_s, one.p99_ms) for one in ended]),
        ("l-p50", "median", [(one.from_s, one.p50_ms) for one in ended]),
    ):
        points = " ".join(f"{frame.x(at_s + width_s / 2)},{frame.y(value)}" for at_s, value in values)
        parts.append(f'<polyline class="line {css}" points="{points}"/>')
        for at_s, value in values:
            hint = f"{at_s:.2f} s: {words} {value:,.0f} ms"
            parts.append(
                f'<circle class="dot {css}" cx="{frame.x(at_s + width_s / 2)}" cy="{frame.y(value)}" r="2.6">'
                f"<title>{escape(hint)}</title></circle>"
            )
    return _svg("Latency over time, median and p99", parts + _kill_lines(frame, kills))


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
    return _svg("Units per option: sold, reserved, left", parts, height)


def bars(rows: Sequence[tuple[str, float, str, str]], what: str) -> str:
    """One horizontal bar per (name, value, words at its end, CSS class)."""
    most = max((value for _, value, _, _ in rows), default=0.0) or 1.0
    step, height = 34, 34 * len(rows) + 6
    names = 390
    scale = (WIDTH - names - 160) / most
    parts = []
    for number, (name, value, words, css) in enumerate(rows):
        y = number * step + 6
        parts.append(f'<text class="label" x="{names - 12}" y="{y + 15}" text-anchor="end">{escape(name)}</text>')
        parts.append(
            f'<rect class="{css}" x="{names}" y="{y}" width="{max(1.5, value * scale):.1f}" height="21" rx="2"/>'
        )
        parts.append(
            f'<text class="value" x="{names + max(1.5, value * scale) + 8:.1f}" y="{y + 15}">{escape(words)}</text>'
        )
    return _svg(what, parts, height)


def _svg(title: str, parts: Sequence[str], height: int = HEIGHT) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def _grid(frame: Frame, values: Sequence[float], unit: str) -> str:
    """Horizontal lines with their values, and the seconds below."""
    parts = []
    for value in values:
        y = frame.y(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{_number(value)}</text>')
    parts.append(f'<text class="tick" x="0" y="{TOP - 20}">{unit}</text>')
    every = _round_up(frame.seconds / 10)
    at_s = 0.0
    while at_s <= frame.seconds:
        parts.append(f'<text class="tick" x="{frame.x(at_s)}" y="{HEIGHT - 12}" text-anchor="middle">{at_s:g} s</text>')
        at_s = round(at_s + every, 6)
    return "".join(parts)


def _kill_lines(frame: Frame, kills: Sequence[KillReport]) -> list[str]:
    parts = []
    for kill in kills:
        x = frame.x(kill.at_s)
        near_the_end = x > WIDTH - 200
        anchor, shift = ("end", -6) if near_the_end else ("start", 6)
        parts.append(f'<line class="kill" x1="{x}" x2="{x}" y1="{TOP - 22}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(
            f'<text class="kill-text" x="{x + shift}" y="{TOP - 12}" text-anchor="{anchor}">kill -9 {escape(kill.what)}'
            "</text>"
        )
    return parts


def _width_of(slices: Sequence[Slice]) -> float:
    return slices[1].from_s - slices[0].from_s if len(slices) > 1 else 0.25


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:g}"


def _round_up(value: float) -> float:
    """The next of 1, 2, 2.5, 5, 10 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(max(value, 1e-6)))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value * 0.999999)
