"""Runs the router's part: orders at an even pace, a fault in the middle, the wait for rest, the evidence."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Sequence

import msgspec

from doorbuster import client, invariants
from doorbuster.drills.load import NOT_SENT, Progress, Result, RunningLoad, TryRow, run_process
from doorbuster.drills.psp import kills, plants, recorder
from doorbuster.drills.psp.accounts import CALM, Simulator
from doorbuster.drills.psp.evidence import Charge, Evidence, Kill, Served, Told
from doorbuster.drills.psp.plan import SHOPPERS, Episode, Phases, Wanted, episodes, load_plan, losing
from doorbuster.drills.psp.stage import Stage, keep_cards, set_up
from doorbuster.drills.temporary_shop import DrilledShop

SETTLE_WITHIN_S = 150.0
"""An unknown outcome is asked about after 1, 2, 4 … 60 s, and "no such charge" is final 20 s after the attempt."""
_RESTS = frozenset({"paid", "cancelled", "expired", "refunded_no_stock", "awaiting_payment"})
_POLL_S = 0.05
_NAMED_MOST = 20


class Tellers(msgspec.Struct, frozen=True):
    """Where progress goes: `step` what is being done, `event` what has struck, `load` how far shoppers are."""

    step: Callable[[str], None] = lambda said: None
    event: Callable[[str], None] = lambda said: None
    load: Callable[[Progress], None] = lambda progress: None


async def rush(stage: Stage, wanted: Wanted, phases: Phases, tell: Tellers) -> Evidence:
    """Everything from the first order to the audit's evidence; nothing is judged here."""
    plant = plants.plant_of(wanted.plant)
    tell.step("goods on sale, routing rules in force")
    sale = await set_up(stage, wanted.payments)
    tokens = await asyncio.to_thread(client.shopper_tokens, client.read_settings(stage.shop.data), SHOPPERS)
    authority = str(stage.shop.as_client().authority)
    cards = await keep_cards(stage, tokens)
    plan = load_plan(wanted, phases, sale, tokens, cards, port=stage.shop.port, ca_file=authority)
    faulty = stage.simulators.all[0]
    acts = episodes(wanted.fault, phases, wanted.seed)
    for number, one in enumerate(stage.simulators.all[1:], 1):
        await one.behave(losing(wanted, number))
    stop = asyncio.Event()
    tell.step(f"{wanted.payments:,} orders, {phases.per_s:.0f} a second")
    with run_process(plan, tell.load) as load:
        zero = await _first_due(load)
        sampling = asyncio.create_task(recorder.sample_until(stop, stage.payment_dsn, stage.simulators, zero))
        planted = asyncio.create_task(plant(stop, stage.payment_dsn, stage.simulators)) if plant else None
        playing = asyncio.create_task(_play(acts, faulty, zero, tell.event))
        killing = asyncio.create_task(_kill(stage.shop, wanted, phases, zero, tell.event))
        try:
            result = await _result_of(load)
            felt = await playing
            killed = await killing
            settled_s, restless = await _until_at_rest(stage, tell.step)
        finally:
            stop.set()
            for task in (playing, killing):
                task.cancel()
            await asyncio.gather(playing, killing, return_exceptions=True)
        samples = await sampling
        if planted is not None:
            await planted
    shift = result.started_unix_s - zero
    tell.step("the audit")
    books = await recorder.read_books(stage.payment_dsn, stage.shop.dsn, zero)
    checked, breaches = await invariants.check_by(stage.shop.dsn_of)
    return Evidence(
        faulty=faulty.account.name,
        fault_s=felt[0],
        heal_s=felt[-1],
        payments=books.payments,
        attempts=books.attempts,
        changes=books.changes,
        charges=await _ledgers(stage, zero),
        circuits=books.circuits,
        most_permits=books.most_permits,
        samples=samples,
        kills=killed,
        told=told_of(result, shift),
        cases=books.cases,
        unknown_without_case=books.unknown_without_case,
        restless=restless,
        settled_after_s=settled_s,
        invariants_checked=checked,
        invariant_breaches=tuple(f"{one.domain}.{one.name}: {one.promise} {one.rows[0]}" for one in breaches),
        decisions=books.decisions,
        decisions_that_differ=books.decisions_that_differ[:_NAMED_MOST],
    )


async def _first_due(load: RunningLoad) -> float:
    """The Unix time at which the first order was due, as exactly as the load tells while it runs."""
    while load.poll() is None:
        progress = load.progress()
        if progress is not None:
            return time.time() - progress.elapsed_s
        await asyncio.sleep(0.01)
    load.wait()  # raises LoadFailed, with what the process said
    raise AssertionError("a load that has begun tells how far it is")


async def _play(
    acts: Sequence[Episode], faulty: Simulator, zero: float, tell: Callable[[str], None]
) -> tuple[float, ...]:
    """The failing provider's part, act by act; when each was in force, in seconds since `zero`."""
    felt = []
    try:
        for act in acts:
            await asyncio.sleep(max(0.0, zero + act.at_s - time.time()))
            if act.faults is None:
                # The moment before: a connection that is cut while the process dies is part of the fault.
                felt.append(time.time() - zero)
                await asyncio.to_thread(faulty.stop, signal.SIGKILL)
            elif faulty.is_up:
                await faulty.behave(act.faults)
                felt.append(time.time() - zero)
            else:
                await asyncio.to_thread(faulty.start, act.faults)
                felt.append(time.time() - zero)
            tell(f"{faulty.account.name}: {act.words}")
    finally:
        if not faulty.is_up:
            await asyncio.to_thread(faulty.start, CALM)
    return tuple(round(at, 3) for at in felt)


async def _kill(
    shop: DrilledShop, wanted: Wanted, phases: Phases, zero: float, tell: Callable[[str], None]
) -> tuple[Kill, ...]:
    if not wanted.kill:
        return ()
    return await kills.wreak(shop, kills.moments(phases, wanted.seed), zero, wanted.seed, tell)


async def _result_of(load: RunningLoad) -> Result:
    while load.poll() is None:
        await asyncio.sleep(_POLL_S)
    return load.wait()


async def _until_at_rest(stage: Stage, tell: Callable[[str], None]) -> tuple[float, tuple[str, ...]]:
    """Wait until no attempt is open, no refund is owed and every order rests, or a person was told of it; returns the
    seconds it took, and what is still under way after SETTLE_WITHIN_S."""
    began = time.monotonic()
    async with recorder.connected(stage.payment_dsn) as payments, recorder.connected(stage.shop.dsn) as orders:
        while True:
            attempts = await payments.fetch(recorder.UNDER_WAY)
            refunds = await payments.fetch(recorder.OWED)
            told = [row["payment_id"] for row in await payments.fetch(recorder.TOLD)]
            waiting = await orders.fetch(
                'SELECT id, state FROM "order".orders WHERE NOT state = ANY($1)'
                " AND NOT coalesce(payment_id = ANY($2), false)",
                sorted(_RESTS), told,
            )  # fmt: skip
            found = [f"attempt {row['reference']} is {row['state']}" for row in attempts]
            found += [f"refund {row['id']} is being sent" for row in refunds]
            found += [f"order {row['id']} is {row['state']}" for row in waiting]
            waited = time.monotonic() - began
            if not found or waited >= SETTLE_WITHIN_S:
                return round(waited, 2), tuple(found[:_NAMED_MOST])
            tell(f"{len(attempts)} attempts whose outcome is unknown, {len(waiting)} orders that wait for them")
            await asyncio.sleep(0.25)


async def _ledgers(stage: Stage, zero: float) -> tuple[Charge, ...]:
    found: list[Charge] = []
    for one in stage.simulators.all:
        found += recorder.read_ledger(one.account.name, await one.charges(), zero)
    return tuple(found)


def told_of(result: Result, shift_s: float) -> Told:
    """What shoppers were told, from the rows of the load; `shift_s` brings its clock to the drill's."""
    last: dict[int, TryRow] = {}
    for row in result.rows:
        if row.index not in last or row.try_no >= last[row.index].try_no:
            last[row.index] = row
    served = tuple(
        Served(
            round(row.due + shift_s, 3), round((row.done - row.due) * 1_000, 2), row.status,
            row.state or row.code or "",
        )
        for row in last.values()
        if row.sent != NOT_SENT
    )  # fmt: skip
    unanswered = sum(one.status <= 0 or one.status >= 500 for one in served) + len(last) - len(served)
    return Told(served, unanswered, result.not_issued, result.error or "")
