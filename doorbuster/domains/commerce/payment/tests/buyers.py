"""Buyers in the windows of the simulators: what they do there, and with what the browser comes back to the shop."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID, uuid4

import msgspec

from doorbuster.domains.commerce import payment
from doorbuster.domains.commerce.payment import store, store_sessions
from doorbuster.domains.commerce.payment.tests.psps import AMOUNT, Psp
from doorbuster.platform import ids
from doorbuster.platform.calls import SYSTEM, Ctx

RETURN_URL = "https://shop.test/paid?from=window"
_TRANSFER = {"toss": "가상계좌", "nicepay": "vbank"}
_DECLINED = {"toss": "REJECT_CARD_PAYMENT", "nicepay": "3095"}


def wish(method: str = "window", order_id: UUID | None = None) -> payment.SessionWish:
    """A payment of a new customer in a window."""
    return payment.SessionWish(
        ids.uuid7(), order_id or ids.uuid7(), ids.uuid7(), AMOUNT, "KRW", method, "Two mugs", RETURN_URL, "h",  # type: ignore[arg-type]
    )  # fmt: skip


async def opened(wanted: payment.SessionWish) -> payment.Session:
    """Its window, which is open."""
    stands, session = await payment.open_session(SYSTEM, wanted)
    assert session is not None and stands.state == "waiting", stands
    return session


def as_customer(wanted: payment.SessionWish, key: str = "") -> Ctx:
    """The customer of a payment, with a key of theirs."""
    return msgspec.structs.replace(
        SYSTEM, subject=wanted.customer_id, roles=frozenset({"shopper"}), idempotency_key=key or uuid4().hex
    )


async def pays(psp: Psp, session: payment.Session, *, leaves: bool = False, declined: bool = False) -> dict[str, str]:
    """The buyer pays in the window (or leaves it): the fields with which the browser comes back. `declined`: the
    issuer will refuse what the shop then confirms."""
    match psp.kind:
        case "toss":
            body = {
                "orderId": session.client["orderId"], "amount": session.client["amount"],
                "successUrl": session.client["successUrl"], "method": _method(session, psp, "카드"),
                "declineCode": _DECLINED["toss"] if declined else None,
            }  # fmt: skip
            if leaves:
                return {"code": "PAY_PROCESS_CANCELED", "message": "the buyer left", "orderId": str(body["orderId"])}
            return _query((await psp.admin("POST", "buyer", body))["redirectUrl"])
        case "nicepay":
            body = {
                "orderId": session.client["orderId"], "amount": session.client["amount"],
                "method": _method(session, psp, "card"), "authenticates": not leaves,
                "declineCode": _DECLINED["nicepay"] if declined else None,
            }  # fmt: skip
            return {name: str(value) for name, value in (await psp.admin("POST", "buyer", body)).items()}
        case "stripe":
            card = "pm_card_visa"
            if leaves:
                return {"payment_intent": await _provider_id(session), "redirect_status": "failed"}
            body = {
                "client_secret": session.client["client_secret"], "payment_method": card, "return_url": RETURN_URL,
            }  # fmt: skip
            return _query((await psp.admin("POST", "buyer", body))["redirect_url"])
        case _:
            body = {
                "tid": await _provider_id(session), "does": "quit" if leaves else "authenticate",
                "result_code": "INVALID_CARD" if declined else None,
            }  # fmt: skip
            return _query((await psp.admin("POST", "buyer", body))["redirect_url"])


async def pays_into(psp: Psp, session: payment.Session, *, back: bool = False) -> None:
    """The buyer makes the transfer, or (`back`) the bank takes it back."""
    name = "paymentKey" if psp.kind == "toss" else "tid"
    path = "deposit/reverse" if back else "deposit"
    await psp.admin("POST", path, {name: await _provider_id(session)})


def _method(session: payment.Session, psp: Psp, usual: str) -> str:
    return _TRANSFER[psp.kind] if session.method == "virtual_account" else usual


def _query(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))


async def _provider_id(session: payment.Session) -> str:
    seat = await store_sessions.read_seat(session.payment_id)
    assert seat is not None
    return str(seat.attempt["provider_id"])


async def expire(wanted: payment.SessionWish) -> None:
    """Its window's time is over, now."""
    query = "UPDATE session SET expires_at = now() WHERE payment_id = $1 RETURNING 1"
    await store.DB.write(query, wanted.payment_id)


async def returned(ctx: Ctx, wanted: payment.SessionWish, form: dict[str, str]) -> Any:
    """The browser brings what the window gave it."""
    return await payment.confirm(ctx, wanted.payment_id, payment.Returned(form))
