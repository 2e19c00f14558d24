"""The incident's second half: a small program that fails over on every time-out and error, as it is usually written.

Nothing of the shop takes part. The program keeps the same notes of its attempts as the shop does, so that the same
judge reads them.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import aiohttp
import msgspec

from doorbuster.drills.psp import judge, recorder
from doorbuster.drills.psp.accounts import CALM, Simulator, Simulators
from doorbuster.drills.psp.evidence import Attempt, Change, Charge
from doorbuster.drills.psp.plan import HOLD_MS

TIMEOUT_S = 0.5
"""Short, so that the program is soon done; a longer one loses fewer answers and charges as often twice for each."""
AMOUNT_MINOR, CURRENCY = 12_900, "USD"
_AT_ONCE = 64
_ANSWERS_LOST = 0.2


class NaiveReport(msgspec.Struct, frozen=True):
    """What came of naive failover, by the providers' own ledgers. Amounts are minor units."""

    payments: int
    captured: int
    orders_captured_twice: int
    second_provider_calls_while_unknown: int
    answers_lost: int
    told_paid: int
    told_failed: int
    captured_minor: int
    owed_minor: int
    """What buyers paid beyond their orders."""
    examples: tuple[str, ...]


class _Notes:
    """Guards what the program writes down of its attempts, in order."""

    def __init__(self) -> None:
        self.zero = time.time()
        self.attempts: list[Attempt] = []
        self.changes: list[Change] = []

    def begin(self, payment: str, number: int, account: str) -> None:
        at = time.time() - self.zero
        self.attempts.append(
            Attempt(payment, number, account, f"{payment}.{number}", "", AMOUNT_MINOR, CURRENCY, "sending", at)
        )
        self.changes.append(Change(payment, number, "sending", at))

    def end(self, payment: str, number: int, state: str) -> None:
        self.changes.append(Change(payment, number, state, time.time() - self.zero))


async def run_naive(
    simulators: Simulators, payments: int, seed: int, on_done: Callable[[int], None] = lambda done: None
) -> NaiveReport:
    """Charge `payments` orders, one of five of which loses its answer at the first provider after the money was taken.

    Raises AccountDown.
    """
    dice = random.Random(seed * 4_447 + 5)  # noqa: S311  repeatable, no secret
    first, *others = simulators.all
    faults = {**CALM, "timeout_after_capture_rate": _ANSWERS_LOST, "hold_ms": HOLD_MS, "seed": seed}
    await first.behave(faults)
    notes, gate, told = _Notes(), asyncio.Semaphore(_AT_ONCE), {"paid": 0, "failed": 0}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session:

        async def one(payment: str) -> None:
            async with gate:
                told["paid" if await _pay(session, notes, payment, [first, *others]) else "failed"] += 1
                on_done(sum(told.values()))

        await asyncio.gather(*(one(str(UUID(int=dice.getrandbits(128)))) for _ in range(payments)))
    await first.behave(CALM)
    charges: list[Charge] = []
    for simulator in simulators.all:
        charges += recorder.read_ledger(simulator.account.name, await simulator.charges(), notes.zero)
    return _read(notes, charges, told)


async def _pay(session: aiohttp.ClientSession, notes: _Notes, payment: str, ask: Sequence[Simulator]) -> bool:
    """The naive way: one provider after the other until one says yes."""
    for number, simulator in enumerate(ask, start=1):
        notes.begin(payment, number, simulator.account.name)
        try:
            captured = await _charge(session, simulator, f"{payment}.{number}")
        except (aiohttp.ClientError, TimeoutError, OSError):
            notes.end(payment, number, "unknown")  # what it is; the program takes it for a no
            continue
        notes.end(payment, number, "succeeded" if captured else "declined")
        if captured:
            return True
    return False


async def _charge(session: aiohttp.ClientSession, simulator: Simulator, reference: str) -> bool:
    body = {"reference": reference, "amount_minor": AMOUNT_MINOR, "currency": CURRENCY, "instrument": "tok_visa"}
    headers = simulator.headers | {"idempotency-key": reference}
    url = f"{simulator.url}/v1/charges"
    async with session.post(url, data=msgspec.json.encode(body), headers=headers) as answer:
        if answer.status >= 500:
            raise aiohttp.ClientError(f"the provider answered {answer.status}")
        said: dict[str, Any] = msgspec.json.decode(await answer.read())
        return said.get("status") == "captured"


def _read(notes: _Notes, charges: Sequence[Charge], told: dict[str, int]) -> NaiveReport:
    twice = judge.captured_twice(charges, {})
    taken = [charge for charge in charges if charge.captured]
    orders = len({charge.payment_id for charge in taken})
    return NaiveReport(
        payments=sum(told.values()),
        captured=len(taken),
        orders_captured_twice=len(twice),
        second_provider_calls_while_unknown=len(judge.calls_while_unknown(notes.attempts, notes.changes, charges)),
        answers_lost=sum(change.state == "unknown" for change in notes.changes),
        told_paid=told["paid"],
        told_failed=told["failed"],
        captured_minor=sum(charge.amount_minor for charge in taken),
        owed_minor=sum(charge.amount_minor for charge in taken) - orders * AMOUNT_MINOR,
        examples=tuple(f"{order}: {' and '.join(ids)}" for order, ids in list(twice.items())[:3]),
    )
