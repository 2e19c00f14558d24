"""Draws the map: a picture (SVG) for readers of the project and a table for the terminal, both made from map.py.

`python -m doorbuster.surfaces.cli.map_picture docs/map.svg` writes the picture that is committed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path

from rich.table import Table

from doorbuster.map import BUILT, BY_ID, DOMAINS, GROUPS, SIBLINGS, Domain

WIDTH = 1200
MARGIN, TOP, BOTTOM = 36, 112, 598
HEAD, PAD, GAP = 44, 12, 12
LEAVES_HEAD, LEAVES_GAP = 36, 8
"""Siblings share one column, so their headings and rooms stand closer."""
PLANNED, BUILT_ROOM, FACT = 34, 60, 19
"""Heights in pixels: a planned room, a built room without facts, one line of a fact."""

STYLE = """
text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", sans-serif; }
.ground { fill: #faf9f6; stroke: #e5e3dc; }
.title { font-size: 23px; font-weight: 650; fill: #1a1f1c; letter-spacing: -.3px; }
.said { font-size: 14px; fill: #59615c; }
.panel { fill: #f1efe9; }
.group { font-size: 14px; font-weight: 650; fill: #17614a; letter-spacing: .2px; }
.flow { fill: none; stroke: #b5d3c6; stroke-width: 5; stroke-linecap: round; stroke-linejoin: round; }
.built { fill: #ffffff; stroke: #17614a; stroke-width: 1.5; }
.planned { fill: none; stroke: #bcbab1; stroke-width: 1.25; stroke-dasharray: 4 4; }
.name { font-size: 16px; font-weight: 650; fill: #1a1f1c; }
.later { font-size: 14px; fill: #6a716c; }
.why { font-size: 12.5px; fill: #59615c; }
.fact { font-size: 12.5px; fill: #8f4310; font-weight: 500; }
.dot { fill: #faf9f6; stroke: #c2611f; stroke-width: 1.5; }
.heard { fill: #c2611f; stroke: #c2611f; stroke-width: 1.5; }
.halo { fill: none; stroke: #f1efe9; stroke-width: 6; stroke-linejoin: round; }
.wire { fill: none; stroke: #c2611f; stroke-width: 1.75; stroke-linejoin: round; }
"""


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels from the upper left."""

    x: int
    y: int
    w: int
    h: int

    @property
    def right(self) -> int:
        return self.x + self.w

    @property
    def bottom(self) -> int:
        return self.y + self.h


@dataclass(frozen=True)
class Layout:
    """Where everything stands: panels by group, rooms by domain id, and columns with the groups they hold."""

    columns: tuple[tuple[str, ...], ...]
    panels: dict[str, Box]
    rooms: dict[str, Box]

    @property
    def bottom(self) -> int:
        return max(panel.bottom for panel in self.panels.values())

    def column_of(self, domain_id: str) -> int:
        group = BY_ID[domain_id].group
        return next(number for number, groups in enumerate(self.columns) if group in groups)


def draw_map() -> str:
    """The map as an SVG document, the same text for the same map."""
    layout = _layout()
    legend = layout.bottom + 33
    height = legend + 27
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
        ' role="img" aria-labelledby="map-title map-text">',
        '<title id="map-title">The domains of Doorbuster</title>',
        f'<desc id="map-text">{escape(_in_words())}</desc>',
        f"<style>{STYLE}</style>",
        f'<rect class="ground" x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1}" rx="16"/>',
        *_heading(),
        *_groups(layout),
        *_flow(layout),
        *_rooms(layout),
        *_wires(layout),
        *_legend(legend),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def map_table() -> Table:
    """The map for the terminal: one row per domain, in the order in which they may use each other."""
    table = Table(title="The map: a domain may use what stands above it, but for sibling groups", title_justify="left")
    for heading in ("Group", "Domain", "What it owns", "State", "Publishes", "Hears", "Routes"):
        table.add_column(heading, justify="right" if heading == "Routes" else "left")
    last = ""
    for domain in DOMAINS:
        if last and domain.group != last:
            table.add_section()
        table.add_row(
            "" if domain.group == last else domain.group,
            domain.name,
            domain.purpose,
            "[green]built[/]" if domain.built else "planned",
            "\n".join(domain.publishes),
            "\n".join(domain.hears),
            str(len(domain.routes) or ""),
            style=None if domain.built else "dim",
        )
        last = domain.group
    return table


def _in_words() -> str:
    built = ", ".join(domain.id for domain in BUILT)
    heard = "; ".join(f"{domain.id} hears {fact}" for domain in DOMAINS for fact in domain.hears)
    return f"Groups from upstream to downstream: {', '.join(GROUPS)}. Built: {built}. {heard}."


def _columns() -> tuple[tuple[str, ...], ...]:
    """Groups from left to right; siblings that follow each other share a column."""
    columns: list[tuple[str, ...]] = []
    for group in GROUPS:
        if columns and group in SIBLINGS and columns[-1][0] in SIBLINGS:
            columns[-1] = (*columns[-1], group)
        else:
            columns.append((group,))
    return tuple(columns)


def _layout() -> Layout:
    columns = _columns()
    widths = [_width(groups) for groups in columns]
    between = (WIDTH - 2 * MARGIN - sum(widths)) // (len(columns) - 1)
    panels: dict[str, Box] = {}
    rooms: dict[str, Box] = {}
    x = MARGIN
    for groups, width in zip(columns, widths, strict=True):
        y, alone = TOP, len(groups) == 1
        for group in groups:
            start = y
            y += HEAD if alone else LEAVES_HEAD
            for domain in _of(group):
                rooms[domain.id] = Box(x + PAD, y, width - 2 * PAD, _room_height(domain, alone))
                y = rooms[domain.id].bottom + (GAP if alone else LEAVES_GAP)
            y += PAD - (GAP if alone else LEAVES_GAP)
            panels[group] = Box(x, start, width, y - start)
            y += LEAVES_GAP + 2
        x += width + between
    lowest = max(panel.bottom for panel in panels.values())
    for groups in columns:
        # Panels end on one line, however many rooms they have.
        last = panels[groups[-1]]
        panels[groups[-1]] = Box(last.x, last.y, last.w, lowest - last.y)
    return Layout(columns, panels, rooms)


def _of(group: str) -> tuple[Domain, ...]:
    return tuple(domain for domain in DOMAINS if domain.group == group)


def _width(groups: tuple[str, ...]) -> int:
    """Wide enough for the longest line: 7.4 pixels a letter is on the safe side of the fonts we name."""
    domains = [domain for group in groups for domain in _of(group)]
    lines = [fact for domain in domains for fact in domain.publishes if domain.built]
    lines += [_short(domain) for domain in domains if domain.built]
    return max([120, *(round(len(line) * 7.4) + 2 * PAD + 36 for line in lines)])


def _short(domain: Domain) -> str:
    return domain.purpose.partition(":")[0]


def _room_height(domain: Domain, alone: bool) -> int:
    if not domain.built:
        return PLANNED if alone else PLANNED - 4
    return BUILT_ROOM + (FACT * len(domain.publishes) + 5 if domain.publishes else 0)


def _heading() -> Iterator[str]:
    said = "A group may call the groups to its left and hear their facts; inside a group, the rooms above."
    yield f'<text class="title" x="{MARGIN}" y="50">The domains of Doorbuster</text>'
    yield f'<text class="said" x="{MARGIN}" y="76">{said}</text>'
    count = f"{len(BUILT)} of {len(DOMAINS)} are built"
    yield f'<text class="said" x="{WIDTH - MARGIN}" y="76" text-anchor="end">{count}</text>'


def _groups(layout: Layout) -> Iterator[str]:
    for group, panel in layout.panels.items():
        yield f'<rect class="panel" {_rect(panel)} rx="12"/>'
        down = 28 if layout.columns[_column(layout, group)] == (group,) else 24
        yield f'<text class="group" x="{panel.x + PAD + 2}" y="{panel.y + down}">{escape(group)}</text>'


def _column(layout: Layout, group: str) -> int:
    return next(number for number, groups in enumerate(layout.columns) if group in groups)


def _flow(layout: Layout) -> Iterator[str]:
    """The broad arrows from column to column, beside the headings."""
    y = TOP + HEAD // 2 + 1
    for left, right in pairwise(layout.columns):
        start, end = layout.panels[left[0]].right + 9, layout.panels[right[0]].x - 9
        yield f'<path class="flow" d="M{start} {y}H{end}M{end - 8} {y - 8}L{end} {y}L{end - 8} {y + 8}"/>'


def _rooms(layout: Layout) -> Iterator[str]:
    heard = {fact for domain in DOMAINS for fact in domain.hears}
    for domain in DOMAINS:
        room = layout.rooms[domain.id]
        x = room.x + 14
        yield f'<rect class="{"built" if domain.built else "planned"}" {_rect(room)} rx="8"/>'
        if not domain.built:
            yield f'<text class="later" x="{x}" y="{room.y + room.h // 2 + 5}">{escape(domain.name)}</text>'
            continue
        yield f'<text class="name" x="{x}" y="{room.y + 25}">{escape(domain.name)}</text>'
        yield f'<text class="why" x="{x}" y="{room.y + 45}">{escape(_short(domain))}</text>'
        for fact in domain.publishes:
            y = _fact_y(layout, domain, fact)
            kind = "heard" if f"{domain.id}.{fact}" in heard else "dot"
            yield f'<circle class="{kind}" cx="{x + 4}" cy="{y}" r="3.5"/>'
            yield f'<text class="fact" x="{x + 15}" y="{y + 4}">{escape(fact)}</text>'


def _fact_y(layout: Layout, domain: Domain, fact: str) -> int:
    return layout.rooms[domain.id].y + BUILT_ROOM + FACT * domain.publishes.index(fact) + 3


def _wires(layout: Layout) -> Iterator[str]:
    """One thin arrow for each fact that is heard, from its line to the room of the hearer."""
    number = 0
    for hearer in DOMAINS:
        for heard in hearer.hears:
            publisher, _, fact = heard.rpartition(".")
            source = BY_ID[publisher]
            points = _road(layout, source, hearer, _fact_y(layout, source, fact), 6 * (number % 3))
            path = _rounded(points)
            head = _arrow_head(points)
            yield f'<path class="halo" d="{path}"/><path class="wire" d="{path}{head}"/>'
            number += 1


def _road(layout: Layout, source: Domain, hearer: Domain, y: int, aside: int) -> list[tuple[int, int]]:
    """Corners from a fact's line to the hearer: down beside the rooms of one column, or through the gaps of others."""
    start, end = layout.rooms[source.id], layout.rooms[hearer.id]
    first, last = layout.column_of(source.id), layout.column_of(hearer.id)
    if first == last:
        lane = layout.panels[source.group].right + 8
        into = end.y + 20
        return [(start.right, y), (lane, y), (lane, into), (end.right + 3, into)]
    into = end.y + end.h // 2
    points = [(start.right, y)]
    for number in range(first + 1, last):
        lane = layout.panels[layout.columns[number][0]].x - 14 - aside
        through = _gap(layout, number, (points[-1][1] + into) // 2)
        points += [(lane, points[-1][1]), (lane, through)]
    lane = layout.panels[layout.columns[last][0]].x - 14 - aside
    return [*points, (lane, points[-1][1]), (lane, into), (end.x - 3, into)]


def _gap(layout: Layout, column: int, wished: int) -> int:
    """The height between two rooms of a column that is nearest to the wished one."""
    rooms = [layout.rooms[domain.id] for group in layout.columns[column] for domain in _of(group)]
    gaps = [(upper.bottom + lower.y) // 2 for upper, lower in pairwise(rooms)]
    return min([*gaps, rooms[-1].bottom + GAP // 2], key=lambda y: (abs(y - wished), y))


def _rounded(points: list[tuple[int, int]]) -> str:
    """A path through right-angled corners, rounded by at most 8 pixels."""
    path = f"M{points[0][0]} {points[0][1]}"
    for before, here, after in zip(points, points[1:], points[2:], strict=False):
        near, far = _towards(here, before), _towards(here, after)
        path += f"L{near[0]} {near[1]}Q{here[0]} {here[1]} {far[0]} {far[1]}"
    return f"{path}L{points[-1][0]} {points[-1][1]}"


def _towards(corner: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    (x, y), (ox, oy) = corner, other
    reach = min(8, (abs(ox - x) + abs(oy - y)) // 2)
    return x + reach * ((ox > x) - (ox < x)), y + reach * ((oy > y) - (oy < y))


def _arrow_head(points: list[tuple[int, int]]) -> str:
    (before, _), (x, y) = points[-2], points[-1]
    back = 6 if before > x else -6
    return f"M{x + back} {y - 4.5:g}L{x} {y}L{x + back} {y + 4.5:g}"


def _legend(y: int) -> Iterator[str]:
    x = MARGIN
    for sign, words, width in (
        (f'<rect class="built" x="0" y="{y - 14}" width="30" height="18" rx="5"/>', "built", 100),
        (f'<rect class="planned" x="0" y="{y - 14}" width="30" height="18" rx="5"/>', "planned", 122),
        (f'<path class="flow" d="M3 {y - 5}H27M19 {y - 13}L27 {y - 5}L19 {y + 3}"/>', "may be used by", 168),
        (f'<circle class="dot" cx="21" cy="{y - 5}" r="3.5"/>', "publishes a fact", 174),
        (
            f'<circle class="heard" cx="4" cy="{y - 5}" r="3.5"/>'
            f'<path class="wire" d="M8 {y - 5}H29M23 {y - 9.5:g}L29 {y - 5}L23 {y - 0.5:g}"/>',
            "a fact that another domain hears",
            0,
        ),
    ):
        yield f'<g transform="translate({x} 0)">{sign}<text class="said" x="40" y="{y}">{words}</text></g>'
        x += width


def _rect(box: Box) -> str:
    return f'x="{box.x}" y="{box.y}" width="{box.w}" height="{box.h}"'


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(draw_map())
