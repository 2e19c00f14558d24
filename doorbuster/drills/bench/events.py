"""The figures of the event log: from commit to handler, drained per second, what a fact costs, who delays whom.

Each on a fresh PostgreSQL with fsync on, with one worker; comparisons alternate inside one run, so that what else the
machine does meets both sides.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import statistics
import subprocess
from collections.abc import Callable, Mapping

import msgspec

from doorbuster.drills.bench.disturbed import (
    Compared,
    SwitchedOff,
    long_transaction,
    poison_key,
    switched_off,
    together,
)
from doorbuster.drills.bench.events_place import (
    RATE,
    SETTLE_S,
    Delivery,
    bench_place,
    deliveries,
    listener,
    publish,
    until_passed,
)
from doorbuster.drills.bench.events_process import Heard, Pace
from doorbuster.drills.events.parts import COUNTED, FAR, NEAR, PUBLISHER
from doorbuster.drills.events.place import Place
from doorbuster.drills.timedeal.findings import Mark
from doorbuster.engines import event_log
from doorbuster.engines.embedded import binary
from doorbuster.engines.event_log import partition_of

CLIENTS = 32
DELIVERY_P50_MS, DELIVERY_P99_MS = 15.0, 60.0
DRAIN_PER_S = 15_000.0
INSERT_COST_SHARE = 0.30
HELD_ADDS_MS = 20.0
POISON_ADDS_SHARE = 0.10
OFF_MAKES_WRITES = 1.5
"""Nothing upstream notices: two windows on a busy machine differ by as much."""
_BACKLOG = 100_000
_BULK = 5_000
_PAIRS = 12

Tell = Callable[[str], None]


class InsertCost(msgspec.Struct, frozen=True):
    """One UPDATE by 32 clients, without and with its fact in the outbox: transactions a second, rounds alternating."""

    without: tuple[float, ...]
    with_fact: tuple[float, ...]

    @property
    def share(self) -> float:
        """How much of the rate the fact takes, 0 to 1: the median over pairs of neighbouring rounds."""
        return statistics.median(1 - b / a for a, b in zip(self.without, self.with_fact, strict=True))


class EventFigures(msgspec.Struct, frozen=True):
    """All figures of the event log on this machine."""

    delivery: Delivery
    drain_per_s: float
    drain_with_effects_per_s: float
    insert: InsertCost
    held_s: float
    held: Compared
    poison: Compared
    off: SwitchedOff


async def measure(
    seconds: float = 10.0, held_s: float = 60.0, off_s: float = 60.0, tell: Tell = lambda said: None
) -> EventFigures:
    """All measurements, about `seconds` * 18 + 2 * `held_s` + 2 * `off_s` in all."""
    tell("events: commit to handler")
    async with bench_place() as place:
        found = await delivery(place, seconds)
    tell("events: drain")
    async with bench_place() as place:
        bare, noted = await drain(place), await drain(place, effects=True)
    tell("events: what a fact costs")
    async with bench_place() as place:
        cost = await insert_cost(place, seconds / 4)
    tell("events: a long transaction next door")
    async with bench_place() as place:
        held = await long_transaction(place, held_s)
    tell("events: a poison key")
    # Each consumer in turn, each time on a fresh log: one of two processes may be the quicker.
    async with bench_place() as place:
        poisoned = await poison_key(place, seconds / 2, refusing=FAR)
    async with bench_place() as place:
        poisoned = together(poisoned, await poison_key(place, seconds / 2, refusing=NEAR))
    tell("events: a consumer is off")
    async with bench_place() as place:
        off = await switched_off(place, off_s)
    return EventFigures(found, bare, noted, cost, held_s, held, poisoned, off)


def marks(found: EventFigures) -> tuple[Mark, ...]:
    """The marks of the event log."""
    once, held, poison, off = found.delivery, found.held, found.poison, found.off
    more_ms = held.disturbed_p99_ms - held.calm_p99_ms
    return (
        Mark(
            "events_delivered_in_time", once.p50_ms <= DELIVERY_P50_MS and once.p99_ms <= DELIVERY_P99_MS,
            f"p50 {once.p50_ms:.1f} ms, p99 {once.p99_ms:.1f} ms at {once.per_s:.0f}/s",
        ),
        Mark(
            "events_drained_fast", found.drain_with_effects_per_s >= DRAIN_PER_S,
            f"{found.drain_with_effects_per_s:,.0f}/s with a row for each, {found.drain_per_s:,.0f}/s without",
        ),
        Mark("events_cost_little", found.insert.share <= INSERT_COST_SHARE, f"{found.insert.share:.0%} of the rate"),
        Mark(
            "events_not_stalled_next_door", more_ms < HELD_ADDS_MS,
            f"p99 {held.calm_p99_ms:.1f} ms, {held.disturbed_p99_ms:.1f} ms in {found.held_s:g} s of open transaction",
        ),
        Mark(
            "events_poison_stays_alone", poison.share < POISON_ADDS_SHARE,
            f"p99 of the others {poison.calm_p99_ms:.1f} ms, {poison.disturbed_p99_ms:.1f} ms beside it"
            f" ({poison.share:+.0%}, the median of {len(poison.calm)} pairs of windows)",
        ),
        Mark(
            "events_missed_are_caught_up",
            off.caught_up_s < off.off_s and off.write_p99_ms["off"] <= OFF_MAKES_WRITES * off.write_p99_ms["calm"],
            f"off for {off.off_s:g} s: {off.missed:,} facts missed, handled {off.caught_up_s:.1f} s after its return;"
            f" p99 of the publisher's commits {off.write_p99_ms['calm']:.1f} ms before,"
            f" {off.write_p99_ms['off']:.1f} ms meanwhile, {off.write_p99_ms['back']:.1f} ms while it caught up",
        ),
    )  # fmt: skip


async def delivery(place: Place, seconds: float, rate: float = RATE, gather_s: float | None = None) -> Delivery:
    """From commit to handler at a steady rate; with the usual `gather_s` unless told otherwise."""
    async with listener(place, gather_s=gather_s) as (file, _):
        await publish(place, Pace(rate, 2.0, "warm"))
        await publish(place, Pace(rate, seconds, "counts"))
        await asyncio.sleep(SETTLE_S)
    return (await deliveries(place, file))["counts"]


async def drain(place: Place, *, effects: bool = False, backlog: int = _BACKLOG) -> float:
    """Facts a second that one worker takes from a long log, from its first to its last call of the handler."""
    consumer = NEAR if not effects else FAR
    publisher = await place.superuser(PUBLISHER)
    try:
        have = await publisher.fetchval("SELECT count(*) FROM outbox")
        keys = [(f"key-{n}", partition_of(f"key-{n}")) for n in range(1_000)]
        for start in range(0, backlog - have, _BULK):
            await publisher.execute(_FILL, *map(list, zip(*keys, strict=True)), start, PUBLISHER, COUNTED, _BULK)
        due = await publisher.fetchval("SELECT count(*) FROM outbox")
        await publisher.execute("VACUUM ANALYZE outbox")
    finally:
        publisher.terminate()
    async with listener(place, consumer, effects=effects) as (file, process):
        await until_passed(place, consumer, process)
    calls = msgspec.msgpack.decode(file.read_bytes(), type=list[Heard])
    heard = sum(len(call.ids) for call in calls)
    assert heard == due, f"{heard} of {due} were heard"
    return (heard - len(calls[0].ids)) / (calls[-1].at - calls[0].at)


_FILL = (
    "INSERT INTO outbox (partition, topic, key, id, type, version, aggregate_version, payload)"
    " SELECT p.partition, $4, p.key, gen_random_uuid(), $5, 1, $3 + n.n,"
    " json_build_object('label', 'backlog', 'amount_minor', n.n, 'currency', 'USD', 'note', repeat('x', 120))"
    " FROM generate_series(0, $6::int - 1) AS n"
    " JOIN unnest($1::text[], $2::int[]) WITH ORDINALITY AS p(key, partition, n) ON p.n = 1 + n.n % 1000"
)


async def insert_cost(place: Place, seconds: float, rounds: int = _PAIRS) -> InsertCost:
    """pgbench with 32 clients: an UPDATE of one of 1,000 rows, and the same with its fact in the same statement."""
    change = "UPDATE aggregate SET version = version + 1 WHERE key = 'key-' || :key"
    payload = {"amount_minor": 1200, "currency": "USD", "note": "about as long as a payment that was captured says"}
    fact = {
        "partition": "3", "topic": "drill.pub", "of": "key-1", "id": "01890a5d-ac96-774b-bcce-b302099a8057",
        "type": "Counted", "version": "1", "at": "1", "payload": json.dumps(payload),
    }  # fmt: skip
    # pgbench sends text only, and services send an array in binary. Column by column costs the server the same as that
    # (decision 0024); an array as text costs it several microseconds more, which nobody pays.
    kinds = ("int", "text", "text", "uuid", "text", "int", "bigint", "json")
    columns = ", ".join(f":{name}::{kind}" for name, kind in zip(fact, kinds, strict=True))
    insert = event_log.insert_facts(f"ARRAY[ROW({columns}, NULL)::outbox_fact]")
    both = f"WITH changed AS ({change} RETURNING key) {insert}"
    without, with_fact = [], []
    for _ in range(rounds):
        without.append(
            await asyncio.to_thread(_pgbench, place, f"\\set key random(0, 999)\n{change};\n", seconds, fact)
        )
        with_fact.append(
            await asyncio.to_thread(_pgbench, place, f"\\set key random(0, 999)\n{both};\n", seconds, fact)
        )
    return InsertCost(tuple(without), tuple(with_fact))


def _pgbench(place: Place, script: str, seconds: float, variables: Mapping[str, str]) -> float:
    login = place.settings.databases[PUBLISHER]
    environment = os.environ | {"PGPASSWORD": login.password}
    file = place.folder / "pgbench.sql"
    file.write_text(script)
    done = subprocess.run(
        [
            binary("pgbench"), "-n", "-f", str(file), "-c", str(CLIENTS), "-j", "2", "-M", "prepared",
            *(f"--define={name}={value}" for name, value in variables.items()),
            "-T", str(max(1, round(seconds))), "-h", login.host, "-U", login.user, login.database,
        ],
        env=environment, check=True, capture_output=True, text=True, timeout=seconds + 60,
    )  # fmt: skip
    found = re.search(r"tps = ([0-9.]+)", done.stdout)
    assert found is not None, done.stdout
    return float(found[1])
