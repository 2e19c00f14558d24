"""The props of reconciliation's tests: a shop whose one account is at a sandbox of its own, and facts about it."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import Counter
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import msgspec

from doorbuster.domains.commerce import ledger
from doorbuster.domains.commerce.ledger import consumers, store
from doorbuster.domains.commerce.payment import MoneyMoved
from doorbuster.engines.event_log import Event
from doorbuster.platform.calls import SYSTEM
from doorbuster.platform.settings import FeeTerms, ProviderLogin, SettlementTerms

TERMS = SettlementTerms(grace_days=0, fees={"*": FeeTerms(29_000, returned=True)})
Told = Counter[tuple[str, str]]
KIND = {
    "missing": "missing_theirs", "twice": "duplicate_capture", "made_up": "missing_ours", "amount": "amount",
    "fee": "fee", "currency": "currency",
}  # fmt: skip
"""What is found where the sandbox was told to be wrong. (A refund that is listed twice is `missing_ours`.)"""


async def hear(*told: MoneyMoved, at: dt.datetime | None = None) -> None:
    """As the event log does: facts and their effect in one transaction."""
    when = at or dt.datetime.now(dt.UTC)
    events = [
        Event(n, 0, str(one.order_id), uuid4(), "MoneyMoved", 1, 1, when, msgspec.json.encode(one))
        for n, one in enumerate(told)
    ]
    async with store.DB.transaction() as conn:
        await consumers.on_money_moved(conn, events)


def back(first: MoneyMoved, amount_minor: int, transaction_id: str, reason: str = "returned") -> MoneyMoved:
    """Some of it goes back."""
    return msgspec.structs.replace(
        first, movement_id=uuid4(), amount_minor=-amount_minor, reason=reason, transaction_id=transaction_id,
        reference=str(uuid4()),
    )  # fmt: skip


class Till:
    """Guards one sandbox and the account at it; what it does there, payment would have told."""

    def __init__(self, sandbox: Any, client: aiohttp.ClientSession) -> None:
        self.sandbox = sandbox
        self._client = client
        self.account = f"till{uuid4().hex[:10]}"
        self.began = dt.datetime.now(dt.UTC).date()

    def login(self, terms: SettlementTerms = TERMS) -> ProviderLogin:
        secret = str(self.sandbox.folder / "psp-secret")
        return ProviderLogin(self.sandbox.url, secret, kind="sandbox", settlement=terms)

    async def take(self, amount_minor: int, order_id: UUID | None = None, reference: str = "") -> MoneyMoved:
        """Capture at the sandbox; what payment would tell of it."""
        payment_id = uuid4()
        named = reference or f"{payment_id}.1"
        body = {"reference": named, "amount_minor": amount_minor, "currency": "USD", "instrument": "tok_visa"}
        charge = await self._post("/v1/charges", uuid4().hex, body)
        return MoneyMoved(
            uuid4(), payment_id, order_id or payment_id, self.account, charge["id"], "", named, amount_minor, "USD",
            "paid",
        )  # fmt: skip

    async def give(self, first: MoneyMoved, amount_minor: int) -> MoneyMoved:
        """Refund there; what payment would tell of it."""
        body = {"charge_id": first.provider_id, "amount_minor": amount_minor, "reference": str(uuid4())}
        refund = await self._post("/v1/refunds", uuid4().hex, body)
        return back(first, amount_minor, refund["id"])

    async def _post(self, path: str, key: str, body: dict[str, Any]) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {self.sandbox.secret}", "idempotency-key": key}
        async with self._client.post(self.sandbox.url + path, json=body, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            return dict(await answer.json())

    async def trade(self, sales: int, refunds: int = 0) -> list[MoneyMoved]:
        """A day of a shop, told to the ledger."""
        taken = await asyncio.gather(*(self.take(1_000 + n) for n in range(sales)))
        given = await asyncio.gather(*(self.give(one, 300) for one in taken[:refunds]))
        await hear(*taken, *given)
        return [*taken, *given]

    def days(self) -> list[dt.date]:
        """All that could have a row, and the day before."""
        last = dt.datetime.now(dt.UTC).date()
        return [self.began + dt.timedelta(days=n) for n in range(-1, (last - self.began).days + 1)]

    async def reconcile(self) -> ledger.Reading:
        """Every day, oldest first; the sums of what that did."""
        done = [await ledger.reconcile(SYSTEM, self.account, day) for day in self.days()]
        figures = {
            name: sum(getattr(one, name) for one in done) for name in ("rows", "new", "matched", "opened", "closed")
        }
        return ledger.Reading(self.account, None, **figures)

    async def cases(self, state: str = "open") -> tuple[ledger.Case, ...]:
        return await ledger.cases(SYSTEM, state, self.account, "", None, 1_000)

    async def told(self) -> Told:
        """What the open cases say, by the provider's id of the movement or payment."""
        return Counter((one.kind, subject(one)) for one in await self.cases())

    async def seeded(self) -> Told:
        """What must be found, as the sandbox says it was wrong."""
        wrong = [one for day in self.days() for one in await self.sandbox.wrong_rows(day.isoformat())]
        return Counter((kind_of(one), one["id"]) for one in wrong)

    async def balance(self) -> int:
        """What the provider still owes us."""
        name = f"provider:{self.account}:USD"
        return next((one.balance_minor for one in await ledger.balances(SYSTEM) if one.account == name), 0)


def kind_of(wrong: dict[str, str]) -> str:
    """What must be found of a row that the sandbox says is wrong."""
    is_refund = wrong["id"].startswith("re_")
    return "missing_ours" if wrong["kind"] == "twice" and is_refund else KIND[wrong["kind"]]


def subject(case: ledger.Case) -> str:
    """The row that a case is about, as the sandbox knows it."""
    if case.theirs:
        return case.theirs[0].transaction_id.removesuffix("_again")
    return case.ours[0].transaction_id or case.ours[0].provider_id
