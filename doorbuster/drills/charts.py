"""Charts as inline SVG, drawn by hand: no library, no request; colours are CSS classes, so dark mode works."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import msgspec

WIDTH, HEIGHT = 960, 280
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 34, 34
TICKS = 4


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


class Line(msgspec.Struct, frozen=True):
    """One line of a chart: its CSS class, its words, and (seconds, value) from left to right."""

    css: str
    words: str
    points: tuple[tuple[float, float], ...]


class Moment(msgspec.Struct, frozen=True):
    """Something that happened: a dashed line across the chart, with a word or two."""

    at_s: float
    words: str


def log_frame(seconds: float, values: Sequence[float]) -> Frame:
    """A frame on a logarithmic scale, from the power of ten below the least to the one above the most."""
    lowest = 10.0 ** math.floor(math.log10(max(0.1, min(values))))
    highest = 10.0 ** math.ceil(math.log10(max(values) + 0.01))
    return Frame(seconds=seconds, most=max(highest, lowest * 10), log_from=lowest)


def even_grid(frame: Frame, unit: str) -> str:
    """A grid of TICKS steps; of powers of ten where the frame is logarithmic."""
    if frame.log_from:
        decades = round(math.log10(frame.most / frame.log_from))
        return _grid(frame, [frame.log_from * 10**step for step in range(decades + 1)], unit)
    return _grid(frame, [frame.most * step / TICKS for step in range(TICKS + 1)], unit)


def lines(frame: Frame, wanted: Sequence[Line], unit: str) -> list[str]:
    """Lines with a dot at each point; pointed at, it says its value."""
    parts = []
    for line in wanted:
        points = " ".join(f"{frame.x(at_s)},{frame.y(value)}" for at_s, value in line.points)
        parts.append(f'<polyline class="line {line.css}" points="{points}"/>')
        for at_s, value in line.points:
            hint = f"{at_s:.2f} s: {line.words} {value:,.0f} {unit}"
            parts.append(
                f'<circle class="dot {line.css}" cx="{frame.x(at_s)}" cy="{frame.y(value)}" r="2.6">'
                f"<title>{escape(hint)}</title></circle>"
            )
    return parts


def stack(frame: Frame, from_s: float, width_s: float, parts: Sequence[tuple[str, float, str]]) -> list[str]:
    """One column of a stacked chart: (CSS class, value, words when it is pointed at) from the bottom up."""
    drawn, base = [], 0.0
    for css, value, words in parts:
        if value:
            left, right = frame.x(from_s), frame.x(from_s + width_s)
            top, bottom = frame.y(base + value), frame.y(base)
            drawn.append(
                f'<rect class="{css}" x="{left}" y="{top}" width="{max(0.5, right - left - 1):.1f}"'
                f' height="{bottom - top:.1f}"><title>{escape(f"{from_s:.2f} s: {words}")}</title></rect>'
            )
        base += value
    return drawn


def moments(frame: Frame, wanted: Sequence[Moment]) -> list[str]:
    """What happened when, across the whole height."""
    parts = []
    for moment in wanted:
        x = frame.x(moment.at_s)
        near_the_end = x > WIDTH - 200
        anchor, shift = ("end", -6) if near_the_end else ("start", 6)
        parts.append(f'<line class="kill" x1="{x}" x2="{x}" y1="{TOP - 22}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(
            f'<text class="kill-text" x="{x + shift}" y="{TOP - 12}" text-anchor="{anchor}">{escape(moment.words)}'
            "</text>"
        )
    return parts


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
    return svg(what, parts, height)


def svg(title: str, parts: Sequence[str], height: int = HEIGHT) -> str:
    """The drawing itself, named for who cannot see it."""
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def round_up(value: float) -> float:
    """The next of 1, 2, 2.5, 5, 10 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(max(value, 1e-6)))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= value * 0.999999)


def _grid(frame: Frame, values: Sequence[float], unit: str) -> str:
    """Horizontal lines with their values, and the seconds below."""
    parts = []
    for value in values:
        y = frame.y(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{_number(value)}</text>')
    parts.append(f'<text class="tick" x="0" y="{TOP - 20}">{unit}</text>')
    every = round_up(frame.seconds / 10)
    at_s = 0.0
    while at_s <= frame.seconds:
        parts.append(f'<text class="tick" x="{frame.x(at_s)}" y="{HEIGHT - 12}" text-anchor="middle">{at_s:g} s</text>')
        at_s = round(at_s + every, 6)
    return "".join(parts)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:g}"
