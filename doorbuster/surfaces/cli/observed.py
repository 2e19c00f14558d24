"""`doorbuster map`: shows the map, draws it, or holds against it what a temporary shop was seen to do."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from doorbuster import client, map
from doorbuster.drills.shopping import Shopped, go_shopping
from doorbuster.drills.span_receiver import Seen, receiver
from doorbuster.drills.temporary_shop import ShopDidNotStart, temporary_shop
from doorbuster.surfaces.cli import map_picture

_OUT = Console()
_ERR = Console(stderr=True)
_ORDER_ROUTES = "/api/v1/order"
_LINGER_S = 2.0
"""After the last answer: facts are heard within 0.2 s, and each sweeper looks at least once."""


BREACH, CANNOT_RUN = 1, 2


class TooMuch(Exception):
    """Only a part of what was to be seen has been kept."""


class Call(msgspec.Struct, frozen=True):
    """Calls from one domain to another, as they were seen. `per_order` counts those for requests about orders."""

    caller: str
    callee: str
    calls: int
    per_order: float
    verbs: tuple[str, ...]
    is_allowed: bool


class Hearing(msgspec.Struct, frozen=True):
    """A fact (`group.domain.Fact`) that a domain was seen to handle; so many pages held it."""

    fact: str
    consumer: str
    pages: int
    is_declared: bool


class Observed(msgspec.Struct, frozen=True):
    """What was seen, held against the map. Nothing is wrong when there are no breaches."""

    orders: int
    spans: int
    calls: tuple[Call, ...]
    hearings: tuple[Hearing, ...]
    breaches: tuple[str, ...]
    unheard: tuple[str, ...]
    """Declared on the map and not seen, as `consumer hears fact`."""
    uncalled: tuple[str, ...]
    """Allowed between built domains and not seen, as `caller -> callee`."""


def judge(spans: Collection[Seen], orders: int) -> Observed:
    """Hold spans against the map: pure."""
    about_orders = {
        span.trace_id for span in spans if str(span.attributes.get("http.route", "")).startswith(_ORDER_ROUTES)
    }
    calls = _calls(spans, about_orders, max(1, orders))
    hearings = _hearings(spans)
    breaches = [
        f"{call.caller} called {', '.join(call.verbs)}, which the map forbids" for call in calls if not call.is_allowed
    ]
    breaches += [
        f"{one.consumer} heard {one.fact}, to which it has no subscription on the map"
        for one in hearings
        if not one.is_declared
    ]
    heard = {(one.consumer, one.fact) for one in hearings}
    called = {(call.caller, call.callee) for call in calls}
    return Observed(
        orders=orders,
        spans=len(spans),
        calls=calls,
        hearings=hearings,
        breaches=tuple(breaches),
        unheard=tuple(
            f"{domain.id} hears {fact}"
            for domain in map.BUILT
            for fact in domain.hears
            if (domain.id, fact) not in heard
        ),
        uncalled=tuple(
            f"{here.id} -> {there.id}"
            for here in map.BUILT
            for there in map.BUILT
            if map.may_see(here.id, there.id) and (here.id, there.id) not in called
        ),
    )


def _calls(spans: Iterable[Seen], about_orders: Collection[str], orders: int) -> tuple[Call, ...]:
    total: Counter[tuple[str, str]] = Counter()
    for_orders: Counter[tuple[str, str]] = Counter()
    verbs: dict[tuple[str, str], set[str]] = {}
    for span in spans:
        # A call to another process has a span at both ends; the caller's counts.
        if span.kind == "server" or "door.callee" not in span.attributes:
            continue
        pair = str(span.attributes.get("door.caller", "")), str(span.attributes["door.callee"])
        if pair[0] in ("", pair[1]):
            continue
        total[pair] += 1
        for_orders[pair] += span.trace_id in about_orders
        verbs.setdefault(pair, set()).add(str(span.attributes.get("rpc.method", span.name)))
    return tuple(
        Call(*pair, count, round(for_orders[pair] / orders, 3), tuple(sorted(verbs[pair])), _may_see(*pair))
        for pair, count in sorted(total.items())
    )


def _may_see(caller: str, callee: str) -> bool:
    return caller in map.BY_ID and callee in map.BY_ID and map.may_see(caller, callee)


def _hearings(spans: Iterable[Seen]) -> tuple[Hearing, ...]:
    pages: Counter[tuple[str, str]] = Counter()
    for span in spans:
        types = span.attributes.get("door.types")
        if isinstance(types, list):
            consumer, source = span.attributes.get("door.consumer", ""), span.attributes.get("door.source", "")
            pages.update((f"{source}.{kind}", str(consumer)) for kind in types)
    return tuple(
        Hearing(fact, consumer, count, consumer in map.BY_ID and fact in map.BY_ID[consumer].hears)
        for (fact, consumer), count in sorted(pages.items())
    )


def watch(orders: int, say: Callable[[str], None]) -> tuple[Observed, Shopped]:
    """Start a shop that traces everything, buy in it, stop it, and judge what it told."""
    with receiver() as received:
        say("a shop that traces every request")
        with temporary_shop(workers=1, overrides={"otlp_endpoint": received.endpoint, "trace_percent": 100.0}) as shop:
            say(f"{orders} orders")
            shopped = asyncio.run(go_shopping(shop, orders))
            time.sleep(_LINGER_S)
            say("what they did")
        # Workers send what they still hold as they stop, so that nothing is missing now.
        spans = received.spans()
        if received.is_full:
            raise TooMuch("More spans came than are kept, so nothing can be said: ask for fewer orders.")
    return judge(spans, orders), shopped


def show_map(
    out: Annotated[Path | None, typer.Option(help="Write the picture as SVG (docs/map.svg is made so).")] = None,
    observed: Annotated[
        bool, typer.Option("--observed", help="Run a shop for a few seconds and hold what it does against the map.")
    ] = False,
    orders: Annotated[int, typer.Option(min=1, max=2_000, help="With --observed: how many orders it takes.")] = 40,
    as_json: Annotated[bool, typer.Option("--json", help="With --observed: for programs.")] = False,
) -> None:
    """Show the domain map: groups, domains, what each publishes and hears; draw it; or see whether a shop keeps to it.

    With --observed, exit code 1 when something was seen that the map does not allow, and 2 when nothing can be said.
    """
    if observed:
        _show_observed(orders, as_json)
    elif out is None:
        _OUT.print(map_picture.map_table())
    else:
        out.write_text(map_picture.draw_map())
        _OUT.print(f"Drawn into {out}.", highlight=False)


def _show_observed(orders: int, as_json: bool) -> None:
    try:
        found, shopped = watch(orders, lambda said: _ERR.print(f"[dim]· {said}[/]", highlight=False))
    except (ShopDidNotStart, TooMuch, client.NotRunning, client.ShopRefused) as fault:
        _ERR.print(f"[red]✗[/] {fault}", highlight=False)
        raise typer.Exit(CANNOT_RUN) from None
    if as_json:
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    else:
        _print(found, shopped)
    if found.breaches:
        raise typer.Exit(BREACH)


def _print(found: Observed, shopped: Shopped) -> None:
    calls = Table(title="Calls between domains, as they were seen", title_justify="left")
    for heading in ("From", "To", "Calls", "Per order", "Verbs"):
        calls.add_column(heading, justify="right" if heading in ("Calls", "Per order") else "left")
    for call in found.calls:
        style = None if call.is_allowed else "red"
        verbs = ", ".join(verb.rpartition(".")[2] for verb in call.verbs)
        calls.add_row(call.caller, call.callee, str(call.calls), f"{call.per_order:.2f}", verbs, style=style)
    facts = Table(title="Facts, as they were heard", title_justify="left")
    for heading in ("Fact", "Heard by", "Pages"):
        facts.add_column(heading, justify="right" if heading == "Pages" else "left")
    for one in found.hearings:
        facts.add_row(one.fact, one.consumer, str(one.pages), style=None if one.is_declared else "red")
    _OUT.print(calls, facts)
    told = f"{found.orders} orders ({shopped.paid} paid, {shopped.cancelled} cancelled), {found.spans} spans."
    _OUT.print(told, highlight=False)
    for line in found.unheard:
        _OUT.print(f"[yellow]![/] On the map, but not seen: {line}", highlight=False)
    if found.uncalled:
        _OUT.print(f"[dim]Allowed, but not seen: {', '.join(found.uncalled)}[/]", highlight=False)
    for breach in found.breaches:
        _OUT.print(f"[red]✗[/] {breach}", highlight=False)
    if not found.breaches:
        _OUT.print("[green]✓[/] Nothing was seen that the map does not allow.", highlight=False)
