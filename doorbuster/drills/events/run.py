"""One run of the drill: a server of its own, writers and consumers, blows, a drain, and the judgement of the tables."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec

from doorbuster.drills.events import place as tables
from doorbuster.drills.events import plants, watch
from doorbuster.drills.events.crew import Crew
from doorbuster.drills.events.findings import Evidence, Heard, Report, Wanted
from doorbuster.drills.events.history import Published, delays_ms, faults, publish_faults, quantile
from doorbuster.drills.events.kills import Conductor, plan
from doorbuster.drills.events.marks import marks, worst
from doorbuster.drills.events.parts import FAR, HEARS, NEAR, WORKERS, Load
from doorbuster.drills.events.place import Place, furnish
from doorbuster.drills.events.server import killable_postgres
from doorbuster.drills.events.transport import Carrier, Transport, transport_of

SERVER = {
    "track_commit_timestamp": "on",
    "max_connections": "150",
    # A recovery begins with one sync of the whole disk, rather than one of each of thousands of files.
    "recovery_init_sync_method": "syncfs",
}
CONSUMERS = (NEAR, FAR)
_LOOK_S = 0.1
_READY_WITHIN_S = 30.0
_WRITE_LIMIT_S = 900.0

Tell = Callable[[str], None]
Advance = Callable[[int], None]


async def run(wanted: Wanted, tell: Tell = lambda said: None, advance: Advance = lambda done: None) -> Report:
    """The whole drill on a fresh server, which is gone afterwards.

    `tell` hears what happens, `advance` how many facts are written. Raises StartError when PostgreSQL does not start,
    TimeoutError when the crew does not get to work, CannotCarry when the transport is not to be had.
    """
    began = time.monotonic()
    transport = transport_of(wanted.transport, wanted.plant)
    wanted = msgspec.structs.replace(wanted, drain_s=wanted.drain_s + transport.slack_s)
    with tempfile.TemporaryDirectory(prefix="doorbuster-events-") as folder:
        async with killable_postgres({**SERVER, **transport.server}, Path(folder)) as server:
            place = await furnish(server, Path(folder))
            async with transport.opens(place) as carrier:
                seen = await _history(place, transport, carrier, wanted, tell, advance)
    return _report(seen, time.monotonic() - began)


async def _history(
    place: Place, transport: Transport, carrier: Carrier, wanted: Wanted, tell: Tell, advance: Advance
) -> Evidence:
    ears = msgspec.structs.replace(carrier.ears, lease_s=wanted.lease_s, plant=wanted.plant)
    crew = Crew(place, Load("", wanted.seed, 0, wanted.events), CONSUMERS, ears)
    recorder = watch.Recorder()
    conductor = Conductor(place, carrier, crew, recorder, wanted, tell, transport.dawdle_s)
    blows = plan(wanted, carrier.kinds)
    beside = [recorder.watch(place, carrier, consumer) for consumer in CONSUMERS]
    # By xmin nothing at all is read while that transaction is open; the plant is to show what it does to the order.
    if wanted.plant != plants.XMIN_CURSOR:
        beside.append(watch.stay_open(place))
    try:
        async with watch.in_background(*beside):
            crew.start_workers()
            tell("consumers begin")
            await _until(_READY_WITHIN_S, lambda: _all_at_work(recorder), "the consumers did not begin")
            crew.start_writers()
            tell("writing")
            wrote = time.monotonic()
            await _written(crew, asyncio.create_task(conductor.conduct(blows, wanted.events)), advance)
            writing_s = time.monotonic() - wrote
            advance(crew.acknowledged())
            tell("draining")
            drained, drain_s = await _drain(place, wanted, transport.slack_s)
            # What a woken worker still has in hand would come now.
            await asyncio.sleep(wanted.lease_s)
    finally:
        await crew.stop()
    tell("judging")
    published = await tables.published(place)
    promised, rolled_back = crew.promises()
    return Evidence(
        wanted=wanted,
        published=len(published),
        transactions=len(promised),
        publishing=publish_faults(published, await tables.versions(place), promised, rolled_back),
        heard=tuple([await _heard(place, consumer, published) for consumer in CONSUMERS]),
        kills=tuple(conductor.kills),
        planned_kills=len(blows),
        crashes=tuple(crew.crashes()),
        cursor_samples=recorder.samples,
        regressions=tuple(recorder.regressions),
        epoch_faults=tuple(recorder.epoch_faults),
        drained=drained,
        drain_s=round(drain_s, 3),
        writing_s=writing_s,
        taken_over_leases=transport.taken_over_leases,
    )


async def _written(crew: Crew, conducting: asyncio.Task[None], advance: Advance) -> None:
    """Wait until all facts are written and all blows are done. TimeoutError after 15 minutes."""
    began = time.monotonic()
    while not (crew.wrote_all() and conducting.done()):
        if conducting.done():
            conducting.result()  # what the conductor could not do ends the run now, not after the last fact
        if time.monotonic() - began > _WRITE_LIMIT_S:
            raise TimeoutError(f"the writers were not done after {_WRITE_LIMIT_S:g} s")
        advance(crew.acknowledged())
        await asyncio.sleep(_LOOK_S)
    await conducting


def _all_at_work(recorder: watch.Recorder) -> bool:
    """Each consumer's partitions are shared out among all its workers."""
    return all(
        len(recorder.owners(consumer)) == WORKERS and "" not in recorder.owners(consumer) for consumer in CONSUMERS
    )


async def _drain(place: Place, wanted: Wanted, slack_s: float) -> tuple[bool, float]:
    """Wait until every consumer has as many effects as there are facts for it, at most `drain_s`.

    Gives up early when nothing has moved for three leases, by when a dead worker's share has long been taken over, and
    the transport's own slack.
    """
    began = moved = time.monotonic()
    before: list[int] = []
    while time.monotonic() - began < wanted.drain_s:
        missing = [await tables.missing(place, consumer, HEARS[consumer]) for consumer in CONSUMERS]
        if not any(missing):
            return True, time.monotonic() - began
        if missing != before:
            before, moved = missing, time.monotonic()
        if time.monotonic() - moved > 3 * wanted.lease_s + slack_s:
            break
        await asyncio.sleep(_LOOK_S)
    return False, time.monotonic() - began


async def _heard(place: Place, consumer: str, published: list[Published]) -> Heard:
    effects, sums, set_aside = await tables.effects(place, consumer)
    types = HEARS[consumer]
    due = Counter(fact.key for fact in published if fact.type in types)
    delays = delays_ms(published, effects)
    return Heard(
        consumer=consumer,
        expected=due.total(),
        effects=len(effects),
        faults=faults(published, types, effects),
        sums_wrong=sum(sums.get(key, (0, 0))[1] != count for key, count in due.items()),
        set_aside=set_aside,
        p50_ms=round(quantile(delays, 0.5), 1),
        p99_ms=round(quantile(delays, 0.99), 1),
        max_ms=round(quantile(delays, 1.0), 1),
    )


async def _until(seconds: float, happens: Callable[[], bool], otherwise: str) -> None:
    give_up = time.monotonic() + seconds
    while not happens():
        if time.monotonic() > give_up:
            raise TimeoutError(f"{otherwise} within {seconds:g} s")
        await asyncio.sleep(_LOOK_S)


def _report(seen: Evidence, seconds: float) -> Report:
    judged = marks(seen)
    wanted = seen.wanted
    return Report(
        transport=wanted.transport,
        seed=wanted.seed,
        plant=wanted.plant,
        events=seen.published,
        transactions=seen.transactions,
        events_per_s=round(seen.published / seen.writing_s, 1),
        kills=dict(sorted(Counter(kill.kind for kill in seen.kills).items())),
        lost=worst(seen.heard, lambda f: f.lost),
        duplicated=worst(seen.heard, lambda f: f.duplicated),
        inversions=worst(seen.heard, lambda f: f.inversions),
        cursor_regressions=len(seen.regressions),
        drain_s=seen.drain_s,
        delivery_p50_ms=max(heard.p50_ms for heard in seen.heard),
        delivery_p99_ms=max(heard.p99_ms for heard in seen.heard),
        seconds=round(seconds, 1),
        passed=all(mark.passed for mark in judged),
        marks=judged,
        consumers=seen.heard,
        blows=seen.kills,
    )
