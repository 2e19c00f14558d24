"""Real provider simulators as accounts of the shop: a process each, cards that pay or are declined, their ledgers."""

from __future__ import annotations

import asyncio
import base64
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

import aiohttp
import msgspec
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from doorbuster.domains.commerce import payment
from doorbuster.domains.commerce.payment import store
from doorbuster.domains.commerce.payment.models import InstrumentWish, KeyAtAccount
from doorbuster.domains.commerce.payment.tests import times
from doorbuster.engines import payment_router
from doorbuster.engines.payment_router.health import Key
from doorbuster.engines.payment_router.routing import Priority, RoutingRules
from doorbuster.platform import ids, settings
from doorbuster.platform.calls import SYSTEM
from doorbuster.platform.settings import ProviderLogin, Settings

KINDS = ("toss", "nicepay", "stripe")
AMOUNT = 10_000
SHARED = payment_router.SharedDatabase(store.DB)
_CLIENT_KEY = "S2_0123456789abcdef0123456789abcdef"
_DECLINED: Mapping[str, Mapping[str, str]] = {
    "toss": {"elsewhere": "REJECT_CARD_COMPANY", "final": "INVALID_STOPPED_CARD"},
    "nicepay": {"elsewhere": "3091", "final": "3095"},
    "stripe": {
        "elsewhere": "pm_card_chargeDeclined", "final": "pm_card_chargeDeclinedInsufficientFunds",
        "refunds_slowly": "pm_card_pendingRefund",
    },
}  # fmt: skip
"""By kind, what a card is told to be declined with: so that another provider may be asked, and so that none may."""
_CALM_RULES: Mapping[str, Mapping[str, object]] = {
    "toss": {}, "nicepay": {}, "kakaopay": {}, "stripe": {"search_delay_ms": 0, "searches_per_second": 100_000},
}  # fmt: skip
_TIMEOUT = aiohttp.ClientTimeout(total=20)
_START_S = 20.0


class Taken(msgspec.Struct, frozen=True):
    """Money that a ledger says was taken, under the reference that we gave; minor units."""

    provider_id: str
    reference: str
    amount_minor: int
    refunded_minor: int


class Webhook(msgspec.Struct, frozen=True):
    """What a simulator sent, or would have, byte for byte."""

    id: str
    body: msgspec.Raw
    outcome: str


class _Webhooks(msgspec.Struct, frozen=True):
    idle: bool
    webhooks: list[Webhook]


class Psp:
    """Guards one simulator process, and what the shop calls its account."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.name = kind
        self.url = ""
        # As long as NICEPAY's, whose secret is the key of a cipher too.
        self.secret = secrets.token_hex(16)
        self.webhook_secret = f"whsec_{secrets.token_hex(16)}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "secret").write_text(self.secret)
        (folder / "webhook-secret").write_text(self.webhook_secret)

    def launch(self, webhook_url: str = "") -> None:
        """Begin to start it; `wait` for it then."""
        here = self._folder
        argv = [sys.executable, "-m", f"doorbuster.simulators.{self.kind}", "--ledger", str(here / "ledger")]
        argv += ["--secret-file", str(here / "secret"), "--ready-file", str(here / "ready")]
        argv += ["--client-key", _CLIENT_KEY] if self.kind == "nicepay" else []
        argv += ["--reference-key", "reference"] if self.kind == "stripe" else []
        if webhook_url:
            argv += ["--webhook-url", webhook_url]
            argv += ["--webhook-secret-file", str(here / "webhook-secret")] if self.kind == "stripe" else []
        with (here / "log").open("ab") as log:
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def wait(self) -> None:
        """Until it listens."""
        give_up, ready = time.monotonic() + _START_S, self._folder / "ready"
        while not ready.exists():
            assert self._process is not None and self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < give_up, f"the {self.kind} simulator did not start"
            time.sleep(0.01)
        where = msgspec.json.decode(ready.read_bytes())
        self.url = f"http://{where['host']}:{where['port']}"

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(10)

    def start_again(self) -> None:
        """After a stop, at another port, with the same ledger: a new login finds it."""
        (self._folder / "ready").unlink(missing_ok=True)
        self.launch()
        self.wait()

    @property
    def login(self) -> ProviderLogin:
        """What the shop's settings say of this account."""
        return ProviderLogin(
            self.url, str(self._folder / "secret"), kind=self.kind,
            webhook_secret_files=(str(self._folder / "webhook-secret"),),
            client_key=_CLIENT_KEY if self.kind == "nicepay" else "",
            merchant="TC0ONETIME" if self.kind == "kakaopay" else "",
        )  # fmt: skip

    async def admin(self, method: str, path: str, body: object = None) -> Any:
        """One request at the admin door."""
        headers = {"authorization": f"Bearer {self.secret}", "content-type": "application/json"}
        content = None if body is None else msgspec.json.encode(body)
        return msgspec.json.decode(await self._send(method, f"/admin/{path}", content, headers))

    async def call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
        """One request of the merchant's, as if made at the provider's dashboard."""
        kind, content = "application/json", None if body is None else msgspec.json.encode(body)
        if self.kind == "stripe":
            kind, content = "application/x-www-form-urlencoded", urlencode(body or {}).encode()
        user = f"{_CLIENT_KEY}:{self.secret}" if self.kind == "nicepay" else f"{self.secret}:"
        headers = {"authorization": "Basic " + base64.b64encode(user.encode()).decode(), "content-type": kind}
        return msgspec.json.decode(await self._send(method, path, content, headers))

    async def _send(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> bytes:
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT, headers=headers) as session,
            session.request(method, self.url + path, data=body) as answer,
        ):
            said = await answer.read()
            assert answer.status == 200, f"{self.kind} {method} {path}: {answer.status} {said!r}"
            return said

    async def faults(self, **faults: object) -> None:
        """Its faults; without arguments none."""
        await self.admin("PUT", "faults", faults)

    async def rules(self, **rules: object) -> None:
        """How it deviates; without arguments not at all, but for a search that lags."""
        await self.admin("PUT", "rules", {**_CALM_RULES[self.kind], **rules})

    async def card(self, answer: str = "pays") -> KeyAtAccount:
        """A card that is known there; `answer` is pays, elsewhere or final (how it is declined), refunds_slowly."""
        told = _DECLINED[self.kind].get(answer)
        match self.kind:
            case "toss":
                customer = f"customer-{uuid4().hex}"
                opened = {"customerKey": customer} | ({"declineCode": told} if told else {})
                auth_key = (await self.admin("POST", "card", opened))["auth_key"]
                issued = {"authKey": auth_key, "customerKey": customer}
                made = await self.call("POST", "/v1/billing/authorizations/issue", issued)
                return KeyAtAccount(made["billingKey"], customer)
            case "nicepay":
                data = _encrypted("cardNo=1234567890123456&expYear=49&expMonth=12", self.secret.encode())
                made = await self.call("POST", "/v1/subscribe/regist", {"encData": data, "orderId": uuid4().hex})
                if told:
                    await self.admin("POST", "bid", {"bid": made["bid"], "declineCode": told})
                return KeyAtAccount(made["bid"])
            case _:
                customer = (await self.admin("POST", "customer"))["id"]
                saved = await self.admin("POST", "card", {"card": told or "pm_card_visa", "customer": customer})
                return KeyAtAccount(saved["id"], customer)

    async def taken(self, payment_id: UUID | None = None) -> list[Taken]:
        """What its ledger has captured: of all attempts of a payment, or of everybody."""
        found: list[Taken] = []
        after: int | None = 0
        while after is not None:
            page = await self.admin("GET", f"ledger/captures?after={after}")
            found += [
                Taken(row["psp_key"], row["reference"].replace("_", "."), row["amount_minor"], row["refunded_minor"])
                for row in page["data"]
            ]
            after = page["next_after"]
        return [one for one in found if payment_id is None or one.reference.startswith(f"{payment_id}.")]

    async def gone_back(self, provider_id: str) -> list[tuple[str, int]]:
        """What the provider itself lists as given back of a payment: its id of each, and how much."""
        if self.kind == "stripe":
            listed = await self.call("GET", f"/v1/refunds?payment_intent={provider_id}&limit=100")
            return [(one["id"], one["amount"]) for one in reversed(listed["data"])]
        shown = await self.call("GET", f"/v1/payments/{provider_id}")
        key, amount = ("transactionKey", "cancelAmount") if self.kind == "toss" else ("tid", "amount")
        return [(one[key], one[amount]) for one in shown["cancels"] or []]

    async def give_back_elsewhere(self, provider_id: str, amount: int | None) -> None:
        """Somebody refunds a part, or all that is left, at the provider's dashboard: the shop is not told."""
        match self.kind:
            case "toss":
                body: dict[str, object] = {"cancelReason": "by hand"} | ({"cancelAmount": amount} if amount else {})
                await self.call("POST", f"/v1/payments/{provider_id}/cancel", body)
            case "nicepay":
                body = {"reason": "by hand", "orderId": uuid4().hex} | ({"cancelAmt": amount} if amount else {})
                said = await self.call("POST", f"/v1/payments/{provider_id}/cancel", body)
                assert said["resultCode"] == "0000", said
            case _:
                body = {"payment_intent": provider_id} | ({"amount": amount} if amount else {})
                await self.call("POST", "/v1/refunds", body)

    async def webhooks(self) -> list[Webhook]:
        """All that it has made so far, in the order of the events."""
        headers = {"authorization": f"Bearer {self.secret}"}
        raw = await self._send("GET", "/admin/webhooks", None, headers)
        return msgspec.json.decode(raw, type=_Webhooks).webhooks


class Accounts:
    """Guards the simulators as accounts of the shop; the first one is asked first."""

    def __init__(self, psps: Sequence[Psp]) -> None:
        self.all = tuple(psps)

    def __getitem__(self, kind: str) -> Psp:
        return next(one for one in self.all if one.kind == kind)

    async def wish(self, **answers: str) -> payment.Charge:
        """A payment with a card that all accounts know; by kind, how it is answered there."""
        keys = {one.name: await one.card(answers.get(one.kind, "pays")) for one in self.all}
        return await charge_with(keys)

    async def taken(self, wish: payment.Charge) -> dict[str, list[Taken]]:
        """By kind, what the ledgers took for a payment; a kind that took nothing is left out."""
        found = {one.kind: await one.taken(wish.payment_id) for one in self.all}
        return {kind: taken for kind, taken in found.items() if taken}


async def charge_with(keys: Mapping[str, KeyAtAccount], amount_minor: int = AMOUNT) -> payment.Charge:
    """A wish of a new customer, who keeps a card under these keys."""
    customer = ids.uuid7()
    ctx = msgspec.structs.replace(SYSTEM, subject=customer, idempotency_key=uuid4().hex)
    card = await payment.keep_instrument(ctx, InstrumentWish("my card", dict(keys)))
    return payment.Charge(ids.uuid7(), ids.uuid7(), customer, amount_minor, "KRW", str(card.id), "h")


@contextmanager
def running(kinds: Sequence[str], folder: Path, webhook_urls: Mapping[str, str] | None = None) -> Iterator[list[Psp]]:
    """A process of each kind, started together; stopped at the end."""
    found = []
    for kind in kinds:
        home = folder / kind
        home.mkdir()
        found.append(Psp(kind, home))
    try:
        for one in found:
            one.launch((webhook_urls or {}).get(one.kind, ""))
        for one in found:
            one.wait()
        yield found
    finally:
        for one in found:
            one.stop()


@asynccontextmanager
async def shop_with(shop: Settings, psps: Sequence[Psp], *, case_after_s: float = 900.0) -> AsyncIterator[Accounts]:
    """The shop with these accounts, under their names, asked in this order whatever their health."""
    if any(one.kind == "nicepay" for one in psps):
        await times.not_at_korean_midnight()
    await payment_router.close()
    logins = {one.name: one.login for one in psps}
    # The shop's own account stays: what other tests left open there is asked about here too.
    settings.use(msgspec.structs.replace(shop, providers=shop.providers | logins, payment_case_after_s=case_after_s))
    newest = await SHARED.read_rules()
    version = 1 if newest is None else newest.version + 1
    rules = RoutingRules(version, Priority(tuple(logins)))
    assert await SHARED.write_rules(rules, "test", "in this order")
    for one in psps:
        # A fault is to hit every payment here; that a circuit opens has its own tests.
        for method in ("card", "window", "virtual_account"):
            await SHARED.force(Key(one.name, method), "closed")
        await one.rules()
    try:
        yield Accounts(psps)
    finally:
        for one in psps:
            await one.faults()
        await payment_router.close()
        settings.use(shop)
        await store.DB.write("DELETE FROM routing_rules RETURNING 1")
        await _forget([one.name for one in psps])


async def _forget(accounts: list[str]) -> None:
    """These accounts are gone: what is left open there is not asked about by the tests after this one."""
    later = "now() + interval '10 years'"
    await store.DB.write(
        f"UPDATE attempt SET next_inquiry_at = {later}, look_at = NULL WHERE provider = ANY($1) RETURNING 1", accounts
    )
    await store.DB.write(f"UPDATE refund SET next_try_at = {later} WHERE provider = ANY($1) RETURNING 1", accounts)


def renamed(psps: Sequence[Psp], first: str) -> list[Psp]:
    """The same with names of their own, as circuits and logins are kept by name; this kind at the front."""
    mark = uuid4().hex[:8]
    for one in psps:
        one.name = f"{one.kind}-{mark}"
    return sorted(psps, key=lambda one: one.kind != first)


async def attempts_of(wish: payment.Charge) -> list[tuple[str, str]]:
    """By kind and state, in order."""
    rows = await store.DB.fetch(
        "SELECT provider, state FROM attempt WHERE payment_id = $1 ORDER BY number", wish.payment_id
    )
    return [(row[0].split("-")[0], row[1]) for row in rows]


async def provider_id_of(wish: payment.Charge) -> str:
    """Of its last attempt."""
    row = await store.DB.fetchrow(
        "SELECT provider_id FROM attempt WHERE payment_id = $1 ORDER BY number DESC LIMIT 1", wish.payment_id
    )
    assert row is not None
    return str(row[0])


async def ask_now(*wishes: payment.Charge) -> None:
    """The sweeper's next look at these payments, at once."""
    which = [wish.payment_id for wish in wishes]
    await store.DB.write("UPDATE attempt SET next_inquiry_at = now() WHERE payment_id = ANY($1) RETURNING 1", which)
    await store.DB.write(
        "UPDATE refund SET next_try_at = now() WHERE payment_id = ANY($1) AND state = 'sending' RETURNING 1", which
    )
    await payment.resolve(SYSTEM, 1_000)


async def found(wish: payment.Charge) -> payment.Payment:
    stands = await payment.find(SYSTEM, wish.payment_id)
    assert stands is not None
    return stands


async def until_known(wish: payment.Charge, within_s: float = 15.0) -> payment.Payment:
    """Ask until its outcome is known."""
    async with asyncio.timeout(within_s):
        while not (stands := await found(wish)).is_settled:
            await ask_now(wish)
            await asyncio.sleep(0.02)
    return stands


async def until_returned(wish: payment.Charge, within_s: float = 20.0) -> payment.Payment:
    """Send and ask until all that is owed has gone back."""
    async with asyncio.timeout(within_s):
        while (stands := await found(wish)).returned_minor != stands.returning_minor:
            await ask_now(wish)
            await asyncio.sleep(0.02)
    return stands


async def open_cases(wish: payment.Charge) -> list[str]:
    """What a person must look at, of this payment."""
    rows = await store.DB.fetch(
        "SELECT kind FROM matter WHERE payment_id = $1 AND closed_at IS NULL ORDER BY opened_at", wish.payment_id
    )
    return [row[0] for row in rows]


def _encrypted(plain: str, key: bytes) -> str:
    """hex(AES-128-CBC), key and vector the first 16 of the secret, as NICEPAY's manual has it for cards."""
    padder = padding.PKCS7(128).padder()
    padded = padder.update(plain.encode()) + padder.finalize()
    encryptor = Cipher(algorithms.AES(key[:16]), modes.CBC(key[:16])).encryptor()
    return (encryptor.update(padded) + encryptor.finalize()).hex()
