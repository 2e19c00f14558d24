"""A day of a shop whose provider settles wrongly: every fault becomes a case, nothing else, and the books close."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from doorbuster.domains.commerce import ledger, order
from doorbuster.domains.commerce.ledger.tests.till import TERMS, kind_of, subject
from doorbuster.domains.commerce.order.tests import story
from doorbuster.engines import payment_router
from doorbuster.engines.event_log import replay
from doorbuster.engines.schedule import list_runs, run_now
from doorbuster.platform.calls import SYSTEM
from doorbuster.platform.settings import ProviderLogin
from tests.journeys.conftest import Change

pytestmark = pytest.mark.one_process
PATIENCE_S = 0.5
JOB = "ledger.reconcile"
BOOKS = ("movements", "journal", "entries", "balances", "settlement_rows", "cases")


class Provider:
    """Guards a sandbox of this story's own, and the name of the shop's account there."""

    def __init__(self, process: Any) -> None:
        self.process = process
        self.account = f"main{uuid4().hex[:8]}"


@pytest.fixture
async def provider(sandbox: Any, tmp_path: Path, change: Change) -> AsyncIterator[Provider]:
    """The only one the shop pays at."""
    folder = tmp_path / "psp"
    folder.mkdir()
    made = Provider(type(sandbox)(folder))
    login = ProviderLogin(made.process.url, str(folder / "psp-secret"), kind="sandbox", settlement=TERMS)
    await change(providers={made.account: login})
    yield made
    await payment_router.close()
    made.process.stop()


async def until(done: Callable[[], Awaitable[bool]], what: str, within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not await done():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.05)


async def sold(dsn: str, here: story.Shelf, orders: int, cancelled: int) -> None:
    """So many orders, some of which are cancelled; two lose the provider's answer after it captured."""
    buyers = [story.shopper() for _ in range(orders)]
    placed = [await order.place(buyer, story.wish(here, 1, card="tok_visa")) for buyer in buyers]
    for buyer, one in list(zip(buyers, placed, strict=True))[:cancelled]:
        await order.cancel(story.again(buyer), one.id, order.Cancel("changed my mind"))
        await story.settled(dsn, buyer, one.id, "cancelled")
    for _ in range(2):
        buyer = story.shopper()
        lost = await order.place(buyer, story.wish(here, 1, card="tok_reset_after_capture"))
        await story.settled(dsn, buyer, lost.id, "paid")


async def heard(dsn: str, account: str) -> list[asyncpg.Record]:
    return await story.execute(dsn, "SELECT * FROM ledger.movements WHERE provider = $1", account)


async def run_job(dsn: str) -> None:
    """The shop's own scheduler runs a tick as of now."""
    connection = await asyncpg.connect(dsn, server_settings={"search_path": "ledger"})
    try:
        tick = await run_now(connection, JOB, None)

        async def done() -> bool:
            line = next(one for one in await list_runs(connection, JOB, 100) if one.scheduled_for == tick)
            assert line.state != "failed", line.error
            return line.state == "done"

        await until(done, "the job did not end")
    finally:
        await connection.close()


async def books(dsn: str) -> list[Any]:
    return [
        await story.execute(dsn, f"SELECT count(*), md5(string_agg(t::text, ',' ORDER BY t::text)) FROM ledger.{one} t")
        for one in BOOKS
    ]


async def test_every_fault_of_a_days_settlement_is_found_and_nothing_else(
    api: Any, dsn: str, provider: Provider
) -> None:
    here = await story.shelf(40)
    await sold(dsn, here, 16, 5)

    async def all_heard() -> bool:
        return len(await heard(dsn, provider.account)) == 16 + 5 + 2

    await until(all_heard, "the ledger did not hear of everything")
    # Somebody captured one payment a second time there, under our own reference.
    first = next(one for one in await heard(dsn, provider.account) if one["amount_minor"] > 0)
    again = {"reference": first["reference"], "amount_minor": 5_000, "currency": "USD", "instrument": "tok_visa"}
    second = await provider.process.post("/v1/charges", uuid4().hex, again)

    # A day passes.
    await story.execute(
        dsn, "UPDATE ledger.movements SET moved_at = moved_at - interval '1 day' WHERE provider = $1", provider.account
    )
    wrong = {"missing": 2, "twice": 1, "made_up": 1, "amount": 2, "fee": 2, "currency": 1}
    days = [dt.datetime.now(dt.UTC).date() - dt.timedelta(days=n) for n in (1, 2)]
    for seed in range(100):
        await provider.process.settle_wrongly(seed=seed, days_back=1, **wrong)
        seeded = [one for day in days for one in await provider.process.wrong_rows(day.isoformat())]
        if second["id"] not in {one["id"] for one in seeded}:
            break
    await run_job(dsn)
    expected = Counter((kind_of(one), one["id"]) for one in seeded) + Counter([("duplicate_capture", second["id"])])
    assert expected.total() == 8 + 2 + 1, "made up on both days, and the second capture"
    cases = await ledger.cases(SYSTEM, "open", provider.account, "", None, 100)
    assert Counter((one.kind, subject(one)) for one in cases) == expected

    # Hearing everything again, and another run, change nothing.
    before = await books(dsn)
    await replay("commerce.ledger", "commerce.payment", None, actor="test")
    await asyncio.sleep(1.0)
    assert await books(dsn) == before

    # The provider corrects itself: what is left is what it never takes back, and it owes us nothing.
    await provider.process.settle_wrongly(days_back=1)
    await run_job(dsn)
    left = await ledger.cases(SYSTEM, "open", provider.account, "", None, 100)
    assert {one.kind for one in left} <= {"duplicate_capture", "missing_ours", "fee"}
    owed = [one for one in await ledger.balances(SYSTEM) if one.account == f"provider:{provider.account}:USD"]
    assert [one.balance_minor for one in owed] == [0]
