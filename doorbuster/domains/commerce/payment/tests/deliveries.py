"""Real webhooks of the simulators, each order in which they may come, and the shop's own route that takes them."""

from __future__ import annotations

import asyncio
import hmac
import itertools
import math
import random
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from granian.constants import Interfaces
from granian.server.embed import Server

from doorbuster.app import create_app, create_served
from doorbuster.domains.commerce import payment
from doorbuster.domains.commerce.payment import store
from doorbuster.domains.commerce.payment.tests import psps
from doorbuster.domains.commerce.payment.tests.psps import Psp
from doorbuster.platform.calls import SYSTEM

_MOST_ORDERS = 120
"""Of a life with more orders than these so many are drawn."""
_AT_ONCE = 8
Delivered = tuple[dict[str, str], bytes]
Post = Callable[[str, Delivered], Coroutine[Any, Any, tuple[int, bytes]]]


class Life(msgspec.Struct, frozen=True):
    """A payment, what its provider told of it in the order in which it happened, and the order in which it comes."""

    wish: payment.Charge
    events: tuple[bytes, ...]
    order: tuple[int, ...]


@asynccontextmanager
async def served() -> AsyncIterator[str]:
    """The shop's own worker, as it is served, without its background work: where its webhooks go."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    server = Server(
        create_served(create_app()), address="127.0.0.1", port=port, interface=Interfaces.RSGI, log_enabled=False,
        websockets=False,
    )  # fmt: skip
    serving = asyncio.create_task(server.serve())
    async with asyncio.timeout(10):
        while not await _listens(port):
            assert not serving.done(), serving
            await asyncio.sleep(0.02)
    yield f"http://127.0.0.1:{port}/api/v1/payment/webhook"
    server.stop()  # type: ignore[no-untyped-call]
    await serving


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def signed(psp: Psp, body: bytes, at: float | None = None, secret: str = "") -> Delivered:
    """As the provider would send it; NICEPAY's signature is in the body, and Toss signs nothing."""
    headers = {"content-type": "application/json"}
    if psp.kind == "stripe":
        second = int(time.time() if at is None else at)
        key = (secret or psp.webhook_secret).encode()
        mac = hmac.new(key, f"{second}.".encode() + body, "sha256").hexdigest()
        headers["stripe-signature"] = f"t={second},v1={mac}"
    return headers, body


async def unknown(psp: Psp, number: int, latency_ms: int = 0, answer: str = "pays") -> list[payment.Charge]:
    """Payments of which the shop knows nothing, and asks nobody by itself: only a webhook makes it look."""
    keys = {psp.name: await psp.card(answer)}
    wishes = [await psps.charge_with(keys) for _ in range(number)]
    await psp.faults(**({"latency_ms": latency_ms} if latency_ms else {"reset_after_capture_rate": 1.0}))
    # Not all at once: on a loaded machine a request that waits its turn may time out before it has arrived.
    for start in range(0, number, _AT_ONCE):
        for one in await asyncio.gather(*(payment.charge(SYSTEM, wish) for wish in wishes[start : start + _AT_ONCE])):
            assert one.state == "unknown"
    await psp.faults()
    await store.DB.write(
        "UPDATE attempt SET next_inquiry_at = now() + interval '1 hour' WHERE payment_id = ANY($1) RETURNING 1",
        [wish.payment_id for wish in wishes],
    )
    if latency_ms:
        return wishes
    arrived = {one.reference for one in await psp.taken()}
    here = [wish for wish in wishes if f"{wish.payment_id}.1" in arrived]
    lost = number - len(here)
    assert lost <= number // 4, f"{lost} of {number} charges did not arrive"
    return here + (await unknown(psp, lost, answer=answer) if lost else [])


async def refunded_at_the_dashboard(psp: Psp, wishes: Sequence[payment.Charge], *parts: int | None) -> None:
    """Somebody gives these parts of each payment back at the provider, None for all that is left."""
    ids = {one.reference: one.provider_id for one in await psp.taken()}

    async def give(wish: payment.Charge) -> None:
        for part in parts:
            await psp.give_back_elsewhere(ids[f"{wish.payment_id}.1"], part)

    for start in range(0, len(wishes), _AT_ONCE):
        await asyncio.gather(*(give(wish) for wish in wishes[start : start + _AT_ONCE]))


async def lives_of(psp: Psp, wishes: Sequence[payment.Charge], events: int, seed: int = 7) -> list[Life]:
    """Each payment with its events, of which there are so many, and an order of its own in which they come."""
    ids = {one.reference: one.provider_id for one in await psp.taken()}
    told = [bytes(one.body) for one in await psp.webhooks()]
    orders = orders_of(events, seed)
    assert len(wishes) == len(orders)
    found = []
    for wish, order in zip(wishes, orders, strict=True):
        # What was refunded at the dashboard bears no reference of ours, only the provider's own.
        names = [str(wish.payment_id), ids.get(f"{wish.payment_id}.1", str(wish.payment_id))]
        mine = tuple(body for body in told if any(name.encode() in body for name in names))
        assert len(mine) == events, [body[:300] for body in mine]
        found.append(Life(wish, mine, order))
    return found


def orders_of(events: int, seed: int = 7) -> list[tuple[int, ...]]:
    """Every order in which so many events may come, or as many as are drawn; each with two events once more."""
    dice = random.Random(seed)
    if math.factorial(events) <= _MOST_ORDERS:
        found = list(itertools.permutations(range(events)))
    else:
        found = [tuple(dice.sample(range(events), events)) for _ in range(_MOST_ORDERS // 4)]
    return [_with_repeats(order, dice) for order in found]


def _with_repeats(order: Sequence[int], dice: random.Random) -> tuple[int, ...]:
    repeated = list(order)
    for event in dice.sample(order, min(2, len(order))):
        repeated.insert(dice.randrange(len(repeated) + 1), event)
    return tuple(repeated)


async def deliver_all(psp: Psp, post: Post, lives: Sequence[Life]) -> None:
    """Each payment's events in its own order, while the sweeper goes on; then until no look is due."""
    gate, done = asyncio.Semaphore(8), asyncio.Event()

    async def one(life: Life) -> None:
        async with gate:
            for event in life.order:
                assert (await post(psp.name, signed(psp, life.events[event])))[0] == 200

    async def sweep() -> None:
        while not done.is_set():
            await payment.resolve(SYSTEM, 100)
            await asyncio.sleep(0.05)

    sweeping = asyncio.create_task(sweep())
    try:
        await asyncio.gather(*(one(life) for life in lives))
    finally:
        done.set()
        await sweeping
    await look_now([life.wish for life in lives])


async def look_now(wishes: Sequence[payment.Charge]) -> None:
    """What was told is looked at now, not two seconds after the last look."""
    which = [wish.payment_id for wish in wishes]
    due = "UPDATE attempt SET look_at = now() WHERE payment_id = ANY($1) AND look_at IS NOT NULL RETURNING 1"
    async with asyncio.timeout(20):
        while await store.DB.write(due, which):
            await payment.resolve(SYSTEM, 1_000)
