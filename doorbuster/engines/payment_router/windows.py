"""The window of a provider: open a session, read with what the buyer came back, take the money, or end the session.

Never raises for anything a provider or a browser does. A token belongs to the provider whose window gave it.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from doorbuster.engines.payment_router import flows, lines
from doorbuster.engines.payment_router.outcome import (
    AUTHORISED,
    WAITING_FOR_BUYER,
    ChargeOrder,
    HttpAnswer,
    Outcome,
    Result,
)
from doorbuster.engines.payment_router.provider import Flow, Forged, Prepared, ReturnUrls, WindowReturn
from doorbuster.engines.payment_router.providers import CONFIRMS, PREPARES, PREPARES_HERE, VOIDS
from doorbuster.platform import clock

NOT_CONFIRMED = frozenset({AUTHORISED, WAITING_FOR_BUYER})
"""Codes of PENDING that say: nothing was taken so far, and a confirm can still take it."""


async def prepare(order: ChargeOrder, urls: ReturnUrls) -> Prepared | Result:
    """Open a session. After a Result another provider may be asked: nobody has been sent to that window."""
    kind, login = lines.kind_of(order.provider), lines.login(order.provider)
    if kind in PREPARES_HERE:
        return PREPARES_HERE[kind].prepare_here(order, urls, login, clock.utc_now())
    provider, found = PREPARES[kind], list[Prepared]()

    def read(answer: HttpAnswer) -> Result:
        prepared = provider.read_prepare(order, answer)
        if isinstance(prepared, Result):
            return prepared
        found.append(prepared)
        return Result(Outcome.SUCCEEDED, prepared.provider_id)

    call = provider.prepare_call(order, urls, login, clock.utc_now())
    result = await flows.ask(order.provider, "prepare", call, read)
    return found[0] if found else result


def is_prepared_by_a_call(account: str) -> bool:
    """Whether the provider is asked for a session. Else the browser opens it, and nothing is seen of its health."""
    return lines.kind_of(account) in PREPARES


def can_be_prepared_again(account: str) -> bool:
    """Whether the same preparation, sent again, opens the same session: what the browser needs is then not kept."""
    kind = lines.kind_of(account)
    return kind in PREPARES_HERE or lines.capability_of(account).idempotency is not None


def read_return(order: ChargeOrder, form: Mapping[str, str]) -> WindowReturn | Forged:
    """What the window sent the buyer back with, checked against the order. It proves nothing: confirm, or inquire."""
    return CONFIRMS[lines.kind_of(order.provider)].read_return(order, form, lines.login(order.provider))


async def confirm(order: ChargeOrder) -> Result:
    """Take the money with the window's token. That the confirm is under way must already be durable.

    A result that could also mean "not yet" leaves it to an inquiry."""
    provider = CONFIRMS[lines.kind_of(order.provider)]
    call = provider.confirm_call(order, lines.login(order.provider), clock.utc_now())
    result = await flows.ask(order.provider, "confirm", call, lambda answer: provider.read_confirm(order, answer))
    if result.outcome is Outcome.PENDING and result.code in NOT_CONFIRMED:
        return msgspec.structs.replace(result, outcome=Outcome.UNKNOWN)
    return result


async def end_session(order: ChargeOrder) -> Result:
    """Make sure that a window, or an account that waits for a transfer, can take no money any more. NOT_EXECUTED when
    that is so.

    Where the provider has nothing to end it with, its window takes nothing without our confirm, which never comes."""
    kind = lines.kind_of(order.provider)
    if Flow.VOID not in lines.capability_of(order.provider).flows or not order.provider_id:
        return Result(Outcome.NOT_EXECUTED, order.provider_id, "window_closed")
    provider = VOIDS[kind]
    call = provider.void_call(order, lines.login(order.provider), clock.utc_now())
    return await flows.ask(order.provider, "void", call, lambda answer: provider.read_void(order, answer))
