"""kill -9 at every step of an attempt, a refund and a confirm: charged at most once, nothing open, the same answer."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

import msgspec
import pytest

from doorbuster.domains.commerce import payment
from doorbuster.domains.commerce.payment import store
from doorbuster.domains.commerce.payment.tests import buyers, psps, times
from doorbuster.domains.commerce.payment.tests.one_payment import Step, Task
from doorbuster.domains.commerce.payment.tests.psps import AMOUNT, Psp
from doorbuster.engines import payment_router
from doorbuster.engines.payment_router import routing
from doorbuster.platform import ids, settings
from doorbuster.platform.calls import SYSTEM
from doorbuster.platform.settings import ProviderLogin, Settings

_HERE = "doorbuster.domains.commerce.payment"
_SEND = "doorbuster.engines.payment_router.lines:send"
_SUBMIT = "doorbuster.platform.batching:Batcher.submit"
_ROUTER = "doorbuster.engines.payment_router"

_SLOW_MS = 400
CHARGE = {
    "before it begins": Step(f"{_HERE}.store:start"),
    "begun, nobody was asked": Step(f"{_ROUTER}:charge"),
    "asked, not answered": Step(_SEND, "during"),
    "answered, not written": Step(f"{_ROUTER}:note"),
    "written, not committed": Step(f"{_HERE}.store:write_settled", "after"),
    "committed, nobody told": Step(_SUBMIT, "after", 2),
}
REFUND = {
    "owed, not sent": Step(f"{_HERE}.refunding:send_of"),
    "sent, not answered": Step(_SEND, "during"),
    "answered, not written": Step(f"{_HERE}.refunding:_settle"),
    "written, not committed": Step(f"{_HERE}.store_refunds:settle_refund", "after"),
    "committed, nobody told": Step(f"{_HERE}.refunding:_settle", "after"),
}
CONFIRM = {
    "before it is taken": Step(f"{_HERE}.store_sessions:lock_and_take"),
    "taken, not sent": Step(f"{_HERE}.sessions:take_money"),
    "sent, not answered": Step(_SEND, "during"),
    "answered, not written": Step(f"{_HERE}.sessions:take_money", "after"),
    "written, not committed": Step(f"{_HERE}.store:write_settled", "after"),
    "committed, nobody told": Step(_SUBMIT, "after"),
}
FAILOVER = {
    "the first took nothing, the second is not chosen": Step(f"{_ROUTER}:choose", "before", 2),
    "the second is chosen, not begun": Step(f"{_HERE}.store:write_settled"),
    "the second stands, not committed": Step(f"{_HERE}.store:insert_attempts", "after"),
    "the second stands, nobody was asked": Step(f"{_ROUTER}:charge", "before", 2),
    "the second was asked, not answered": Step(_SEND, "during", 2),
}


async def killed(step: Step, seen: Settings | None = None, **what: Any) -> None:
    """A process does it and is killed there; a provider that was asked finishes what it was asked for."""
    task = Task(seen or settings.current(), step, **what)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "doorbuster.domains.commerce.payment.tests.one_payment",
        msgspec.json.encode(task).decode(), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(30):
        _, said = await process.communicate()
    assert process.returncode == -signal.SIGKILL, said.decode()[-500:]
    await asyncio.sleep(_SLOW_MS / 1_000)


async def charges_of(sandbox: Any, payment_id: UUID) -> list[dict[str, Any]]:
    """What its ledger captured, over all attempts of a payment."""
    found = [one for number in (1, 2) for one in await sandbox.charges(f"{payment_id}.{number}")]
    return [one for one in found if one["status"] == "captured" or one["refunded_minor"]]


def kept(charges: list[dict[str, Any]]) -> int:
    return sum(one["amount_minor"] - one["refunded_minor"] for one in charges)


@pytest.fixture
async def slow(sandbox: Any) -> AsyncIterator[Any]:
    """A provider that takes long enough to be killed while it is at it."""
    await sandbox.faults(latency_ms=_SLOW_MS)
    yield sandbox
    await sandbox.faults()


def wish() -> payment.Charge:
    return payment.Charge(ids.uuid7(), ids.uuid7(), ids.uuid7(), AMOUNT, "USD", "tok_visa", "h")


async def finished(one: Any) -> payment.Payment | None:
    """What the sweeper makes of it, some hours later; None when it never began."""
    if await payment.find(SYSTEM, one.payment_id) is None:
        return None
    for _ in range(8):
        await times.let_hours_pass(one)
        await psps.ask_now(one)
        if (await psps.found(one)).is_settled:
            break
    stands = await psps.found(one)
    assert stands.is_settled, stands
    return stands


@pytest.mark.parametrize("step", CHARGE.values(), ids=CHARGE.keys())
async def test_a_charge_that_is_killed_is_taken_once_or_not_at_all(step: Step, slow: Any) -> None:
    one = wish()
    await killed(step, charge=one)
    await slow.faults()
    stands = await finished(one)
    again = await payment.charge(SYSTEM, one)
    assert again == (stands or again)
    taken = await charges_of(slow, one.payment_id)
    assert kept(taken) == (AMOUNT if again.state == "succeeded" else 0)
    assert len(taken) <= 1
    assert again.state in ("succeeded", "failed")


@pytest.mark.parametrize("step", REFUND.values(), ids=REFUND.keys())
async def test_a_refund_that_is_killed_is_given_back_once(step: Step, slow: Any) -> None:
    one = wish()
    await slow.faults()
    assert (await payment.charge(SYSTEM, one)).state == "succeeded"
    await slow.faults(latency_ms=_SLOW_MS)
    await killed(step, give_back=one.payment_id)
    await slow.faults()
    assert (await psps.until_returned(one)).state == "refunded"
    assert (await payment.give_back(SYSTEM, one.payment_id, "again")).state == "refunded"
    (taken,) = await charges_of(slow, one.payment_id)
    assert taken["refunded_minor"] == AMOUNT


@pytest.fixture
async def gone_first(shop: Settings, sandbox: Any) -> AsyncIterator[Settings]:
    """Two accounts. For who is killed nobody listens at the first; it is back for who asks later."""
    await payment_router.close()
    mark = ids.uuid7().hex[-8:]
    secret = str(sandbox.folder / "psp-secret")
    logins = {
        f"first-{mark}": ProviderLogin(sandbox.url, secret, kind="sandbox"),
        f"second-{mark}": ProviderLogin(sandbox.url, secret, kind="sandbox"),
    }
    settings.use(msgspec.structs.replace(shop, providers=logins))
    newest = await psps.SHARED.read_rules()
    version = 1 if newest is None else newest.version + 1
    rules = routing.RoutingRules(version, routing.Priority(tuple(logins)))
    assert await psps.SHARED.write_rules(rules, "test", "the first is asked first")
    gone = ProviderLogin("http://127.0.0.1:9", secret, kind="sandbox")
    yield msgspec.structs.replace(shop, providers=logins | {f"first-{mark}": gone})
    await payment_router.close()
    settings.use(shop)
    await store.DB.write("DELETE FROM routing_rules RETURNING 1")


@pytest.mark.parametrize("step", FAILOVER.values(), ids=FAILOVER.keys())
async def test_a_payment_that_is_killed_between_two_providers_is_taken_once_or_not_at_all(
    step: Step, slow: Any, gone_first: Settings
) -> None:
    one = wish()
    await killed(step, gone_first, charge=one)
    await slow.faults()
    stands = await finished(one)
    again = await payment.charge(SYSTEM, one)
    assert stands == again
    taken = await charges_of(slow, one.payment_id)
    assert kept(taken) == (AMOUNT if again.state == "succeeded" else 0)
    assert len(taken) <= 1


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Psp]]:
    with psps.running(("toss",), tmp_path_factory.mktemp("psps")) as found:
        yield found


@pytest.mark.parametrize("step", CONFIRM.values(), ids=CONFIRM.keys())
async def test_a_confirm_that_is_killed_is_taken_once_or_not_at_all(
    step: Step, shop: Settings, processes: list[Psp]
) -> None:
    async with psps.shop_with(shop, psps.renamed(processes, "toss")) as accounts:
        wanted, toss = buyers.wish(), accounts["toss"]
        form = await buyers.pays(toss, await buyers.opened(wanted))
        await toss.faults(latency_ms=_SLOW_MS)
        await killed(step, confirm=wanted.payment_id, form=form)
        await toss.faults()
        if step is CONFIRM["before it is taken"]:
            await buyers.returned(buyers.as_customer(wanted), wanted, form)
        stands = await psps.until_known(wanted)  # type: ignore[arg-type]
        assert stands.state == "succeeded", "the buyer had agreed, and its token was kept"
        (taken,) = await toss.taken(wanted.payment_id)
        assert (taken.amount_minor, taken.refunded_minor) == (AMOUNT, 0)
        assert (await buyers.returned(buyers.as_customer(wanted), wanted, form)).state == "succeeded"
        assert len(await toss.taken(wanted.payment_id)) == 1
