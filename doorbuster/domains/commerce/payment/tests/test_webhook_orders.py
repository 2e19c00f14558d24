"""Webhooks of Toss, NICEPAY and Stripe through the shop's own route: in any order, twice, forged, and as they come."""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from uuid import uuid4

import aiohttp
import msgspec
import pytest

from doorbuster.domains.commerce import payment
from doorbuster.domains.commerce.payment import store
from doorbuster.domains.commerce.payment.models import RefundWish
from doorbuster.domains.commerce.payment.tests import psps
from doorbuster.domains.commerce.payment.tests.deliveries import (
    Delivered,
    Life,
    Post,
    deliver_all,
    lives_of,
    look_now,
    orders_of,
    refunded_at_the_dashboard,
    served,
    signed,
    unknown,
)
from doorbuster.domains.commerce.payment.tests.psps import AMOUNT, KINDS, Psp
from doorbuster.platform.calls import SYSTEM, Ctx
from doorbuster.platform.settings import Settings


@pytest.fixture(scope="module")
async def route(shop: Settings) -> AsyncIterator[str]:
    """Where the shop's webhooks go."""
    async with served() as address:
        yield address


@pytest.fixture(scope="module")
def processes(route: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Psp]]:
    """Simulators that tell the shop; their accounts keep one name, for it is in the address."""
    mark = uuid4().hex[:8]
    urls = {kind: f"{route}/{kind}-{mark}/event" for kind in KINDS}
    with psps.running(KINDS, tmp_path_factory.mktemp("psps"), urls) as found:
        for one in found:
            one.name = f"{one.kind}-{mark}"
        yield found


@pytest.fixture(params=KINDS)
async def psp(request: pytest.FixtureRequest, shop: Settings, processes: list[Psp]) -> AsyncIterator[Psp]:
    """The shop's only account; it tells nothing by itself."""
    (one,) = [one for one in processes if one.kind == request.param]
    await one.admin("PUT", "webhooks", {"held": True})
    async with psps.shop_with(shop, [one]):
        yield one


@pytest.fixture
async def post(route: str) -> AsyncIterator[Post]:
    """Deliver one webhook to an account over HTTP; answers with the status and the body."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session:

        async def deliver(account: str, what: Delivered) -> tuple[int, bytes]:
            headers, body = what
            async with session.post(f"{route}/{account}/event", data=body, headers=headers) as answer:
                return answer.status, await answer.read()

        yield deliver


async def end_of(wish: payment.Charge) -> tuple[object, ...]:
    """All that the books say of a payment in the end, but for times and ids."""
    stands = await psps.found(wish)
    attempts = await store.DB.fetch(
        "SELECT state, code FROM attempt WHERE payment_id = $1 ORDER BY number", wish.payment_id
    )
    refunds = await store.DB.fetch(
        "SELECT state, amount_minor FROM refund WHERE payment_id = $1 ORDER BY created_at", wish.payment_id
    )
    return (
        stands.state, stands.code, stands.returned_minor, tuple(map(tuple, attempts)), tuple(map(tuple, refunds)),
        tuple(await psps.open_cases(wish)),
    )  # fmt: skip


async def ends_of(lives: Sequence[Life]) -> set[tuple[object, ...]]:
    return {await end_of(life.wish) for life in lives}


async def test_in_every_order_what_was_given_back_at_the_dashboard_is_found_gone(psp: Psp, post: Post) -> None:
    parts, events = ((None,), 5) if psp.kind == "stripe" else ((2_000, 3_000, 5_000), 4)
    wishes = await unknown(psp, math.factorial(events))
    await refunded_at_the_dashboard(psp, wishes, *parts)
    lives = await lives_of(psp, wishes, events)
    await deliver_all(psp, post, lives)
    assert await ends_of(lives) == {("failed", "voided", 0, (("not_executed", "voided"),), (), ())}


async def test_in_every_order_what_was_given_back_in_part_is_paid_and_a_person_is_told(psp: Psp, post: Post) -> None:
    events = 5 if psp.kind == "stripe" else 2
    wishes = await unknown(psp, math.factorial(events))
    await refunded_at_the_dashboard(psp, wishes, 3_000)
    lives = await lives_of(psp, wishes, events)
    await deliver_all(psp, post, lives)
    assert await ends_of(lives) == {("succeeded", "", 0, (("succeeded", ""),), (), ("provider_differs",))}


async def test_in_every_order_our_own_refunds_stay_given_once(psp: Psp, post: Post) -> None:
    events = 7 if psp.kind == "stripe" else 3
    keys = {psp.name: await psp.card()}
    wishes = [await psps.charge_with(keys) for _ in orders_of(events)]
    for wish in wishes:
        assert (await payment.charge(SYSTEM, wish)).state == "succeeded"
        assert (await payment.refund(keyed(), wish.payment_id, RefundWish(3_000))).state == "succeeded"
    await psp.faults(reset_after_refund_rate=1.0)
    for wish in wishes:
        assert (await payment.refund(keyed(), wish.payment_id, RefundWish())).state == "sending"
    await psp.faults()
    lives = await lives_of(psp, wishes, events)
    await deliver_all(psp, post, lives)
    for wish in wishes:
        await psps.until_returned(wish)
    ended = ("refunded", "", AMOUNT, (("succeeded", ""),), (("succeeded", 3_000), ("succeeded", 7_000)), ())
    assert await ends_of(lives) == {ended}
    assert {one.refunded_minor for one in await psp.taken(wishes[0].payment_id)} == {AMOUNT}


async def test_money_that_went_back_without_us_is_told_to_a_person_once_and_what_we_sent_is_not(
    psp: Psp, post: Post
) -> None:
    keys = {psp.name: await psp.card()}
    ours, theirs = [await psps.charge_with(keys) for _ in range(2)]
    for wish in (ours, theirs):
        assert (await payment.charge(SYSTEM, wish)).state == "succeeded"
        assert (await payment.refund(keyed(), wish.payment_id, RefundWish(3_000))).state == "succeeded"
    await refunded_at_the_dashboard(psp, [theirs], 7_000)
    bodies = [bytes(one.body) for one in await psp.webhooks()]
    for wish in (ours, theirs):
        for body in bodies:
            if str(wish.payment_id).encode() in body:
                assert (await post(psp.name, signed(psp, body)))[0] == 200
                await look_now([wish])
    assert await psps.open_cases(ours) == []
    assert await psps.open_cases(theirs) == ["provider_differs"]
    assert (await psps.found(theirs)).state == "succeeded", "a person decides"


async def test_in_every_order_a_decline_is_a_decline(psp: Psp, post: Post) -> None:
    events = {"toss": 1, "nicepay": 0, "stripe": 3}[psp.kind]
    wishes = await unknown(psp, math.factorial(events), latency_ms=1_500, answer="final")
    await asyncio.sleep(0.8)
    lives = await lives_of(psp, wishes, events)
    await deliver_all(psp, post, lives)
    if psp.kind == "nicepay":
        assert (await psps.found(wishes[0])).state == "unknown", "it tells of no decline, so somebody has to ask"
        return
    code = {"toss": "INVALID_STOPPED_CARD", "stripe": "insufficient_funds"}[psp.kind]
    assert await ends_of(lives) == {("declined", code, 0, (("declined", code),), (), ())}


async def test_a_provider_tells_the_shop_by_itself_and_the_shop_looks(psp: Psp) -> None:
    await psp.admin("PUT", "webhooks", {})
    wishes = await unknown(psp, 3)
    async with asyncio.timeout(15):
        while [one for wish in wishes if (one := await psps.found(wish)).state != "succeeded"]:
            await payment.resolve(SYSTEM, 100)
            await asyncio.sleep(0.05)
    for wish in wishes:
        told = [one for one in await psp.webhooks() if str(wish.payment_id).encode() in bytes(one.body)]
        assert told and {one.outcome for one in told} <= {"delivered", "pending"}
        assert any(one.outcome == "delivered" for one in told)
        heard = await store.DB.fetch("SELECT account FROM webhook_event WHERE payment_id = $1", wish.payment_id)
        assert heard and {row[0] for row in heard} == {psp.name}


async def heard_of(wish: payment.Charge) -> tuple[int, bool]:
    """How many of its events were taken in, and whether a look is due."""
    row = await store.DB.fetchrow(
        "SELECT (SELECT count(*) FROM webhook_event WHERE payment_id = $1), look_at IS NOT NULL FROM attempt"
        " WHERE payment_id = $1", wish.payment_id,
    )  # fmt: skip
    assert row is not None
    return int(row[0]), bool(row[1])


async def genuine(psp: Psp, wish: payment.Charge) -> bytes:
    """What the provider tells when the money was taken."""
    told = [bytes(one.body) for one in await psp.webhooks() if str(wish.payment_id).encode() in bytes(one.body)]
    return next(body for body in reversed(told) if b"payment_intent.succeeded" in body or psp.kind != "stripe")


def forgeries(psp: Psp, body: bytes) -> list[Delivered]:
    """What is not from the provider, or not from now."""
    headers, _ = signed(psp, body)
    wrong: list[Delivered] = [(headers, b"{"), (headers, b"[]"), (headers, body[:-1]), (headers, b"")]
    match psp.kind:
        case "stripe":
            plain = {"content-type": "application/json"}
            now = time.time()
            wrong += [signed(psp, body, now - 310), signed(psp, body, now + 310), (plain, body)]
            wrong += [signed(psp, body, secret="whsec_of_somebody_else"), (headers, body.replace(b"10000", b"10001"))]
            mac = headers["stripe-signature"].partition("v1=")[2]
            for text in (f"t={int(now) - 1},v1={mac}", f"v1={mac}", f"t=soon,v1={mac}", f"t={int(now)},v0={mac}"):
                wrong.append((plain | {"stripe-signature": text}, body))
        case "nicepay":
            told = msgspec.json.decode(body)
            moment, tid = told["ediDate"], told["tid"]
            key = "another secret"
            theirs = hashlib.sha256(f"{tid}{told['amount']}{moment}{key}".encode()).hexdigest()
            for change in (
                {"amount": told["amount"] + 1}, {"tid": tid[::-1]}, {"ediDate": "2020-01-01T00:00:00.000+0900"},
                {"signature": theirs}, {"signature": ""}, {"signature": None},
            ):  # fmt: skip
                wrong.append((headers, msgspec.json.encode(told | change)))
    return wrong


async def test_what_is_forged_or_stale_is_refused_and_changes_nothing(psp: Psp, post: Post) -> None:
    (wish,) = await unknown(psp, 1)
    body = await genuine(psp, wish)
    for number, forged in enumerate(forgeries(psp, body)):
        status, said = await post(psp.name, forged)
        assert (status, msgspec.json.decode(said)["code"]) == (400, "webhook_refused"), (number, said)
    assert await heard_of(wish) == (0, False)
    assert (await psps.found(wish)).state == "unknown"
    assert (await post(psp.name, signed(psp, body)))[0] == 200
    assert await heard_of(wish) == (1, True)
    await look_now([wish])
    assert (await psps.found(wish)).state == "succeeded"


async def test_an_event_that_comes_again_is_heard_once(psp: Psp, post: Post) -> None:
    (wish,) = await unknown(psp, 1)
    body = await genuine(psp, wish)
    answers = await asyncio.gather(*(post(psp.name, signed(psp, body)) for _ in range(10)))
    assert {status for status, _ in answers} == {200}
    assert await heard_of(wish) == (1, True)
    await look_now([wish])
    assert (await post(psp.name, signed(psp, body)))[0] == 200
    assert await heard_of(wish) == (1, False), "nothing new, so nobody looks"


async def test_what_an_event_says_is_not_believed(psp: Psp, post: Post) -> None:
    """Whoever holds the key, or where there is none, may say what he likes: the provider is asked."""
    (wish,) = await unknown(psp, 1)
    body = await genuine(psp, wish)
    for old, new in ((b'"DONE"', b'"CANCELED"'), (b'"paid"', b'"cancelled"'), (b'"succeeded"', b'"canceled"')):
        body = body.replace(old, new)
    assert (await post(psp.name, signed(psp, body)))[0] == 200
    await look_now([wish])
    assert (await psps.found(wish)).state == "succeeded"


async def test_an_event_for_nobody_is_not_taken_in(psp: Psp, post: Post) -> None:
    (wish,) = await unknown(psp, 1)
    body = await genuine(psp, wish)
    for account in ("nobody", "sandbox"):
        assert (await post(account, signed(psp, body)))[0] == 404
    strange = body.replace(str(wish.payment_id).encode(), str(uuid4()).encode())
    assert (await post(psp.name, signed(psp, strange)))[0] == 200, "a payment that is not ours is the provider's affair"
    assert await heard_of(wish) == (0, False)


def keyed() -> Ctx:
    return msgspec.structs.replace(SYSTEM, idempotency_key=uuid4().hex)
