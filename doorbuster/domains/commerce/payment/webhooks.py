"""What providers tell by themselves. It is verified, counted once, and never believed: it makes us ask.

So the order of events, their duplicates and their contents cannot matter: what the provider answers when it is asked
is all that moves a payment.
"""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

import asyncpg
import structlog
from prometheus_client import Counter

from doorbuster.domains.commerce.payment import errors, store_refunds, store_webhooks
from doorbuster.engines import payment_router
from doorbuster.engines.payment_router import Outcome, Result
from doorbuster.engines.payment_router.provider import Forged, NotForUs, WebhookReply
from doorbuster.platform import ids
from doorbuster.platform.errors import NotFound

_LOG = structlog.get_logger("payment")
_PAUSE_S = 2.0
"""So long between two looks at the same attempt, however often somebody knocks."""
KEPT_DAYS = 30
HEARD = Counter("doorbuster_webhooks_total", "Webhooks of payment providers", ["account", "verdict"])


async def hear(account: str, headers: Mapping[str, str], body: bytes) -> WebhookReply:
    """Take a webhook in; durable when this returns. Raises NotFound for an account that sends none, and
    WebhookRefused for what is unreadable, unsigned, wrongly signed or too old."""
    if account not in payment_router.accounts():
        raise NotFound("There is no such account")
    reply = payment_router.capability_of(account).webhook_reply
    if reply is None:
        raise NotFound("This provider sends no webhooks")
    found = payment_router.read_webhook(account, headers, body)
    if isinstance(found, Forged):
        HEARD.labels(account, "refused").inc()
        _LOG.warning("webhook_refused", account=account, why=found.why)
        raise errors.WebhookRefused(found.why)
    if isinstance(found, NotForUs) or (named := _named(found.reference)) is None:
        HEARD.labels(account, "not_ours").inc()
        return reply
    news = await store_webhooks.hear(account, found.event_id, found.kind, *named, _PAUSE_S)
    HEARD.labels(account, "heard" if news else "again").inc()
    return reply


def _named(reference: str) -> tuple[UUID, int] | None:
    """The attempt of a reference of ours; None when it names none."""
    payment_id, _, number = reference.partition(".")
    try:
        return (UUID(payment_id), int(number)) if len(number) <= 4 and number.isdecimal() else None
    except ValueError:
        return None


async def differs(row: asyncpg.Record, result: Result) -> None:
    """Tell a person when more of a payment's money is gone at its provider than we have asked to go back: nothing here
    undoes that by itself. `result` has been settled."""
    by_outcome = {Outcome.NOT_EXECUTED: row["amount_minor"], Outcome.SUCCEEDED: result.refunded_minor}
    gone_minor = by_outcome.get(result.outcome, 0)
    if gone_minor == 0:
        return
    # As it stands now: somebody else's answer may have been quicker than this one.
    state, returning_minor = await store_refunds.standing_of(row["payment_id"], row["number"])
    if state != "succeeded" or gone_minor <= returning_minor:
        return
    await store_refunds.open_matter(
        ids.uuid7(), "provider_differs", row["payment_id"], row["provider"], result.code, row["number"], None
    )
    _LOG.error(
        "provider_differs", payment_id=str(row["payment_id"]), provider=row["provider"], code=result.code,
        what_to_do="money went back there that we did not send: ask why, then cancel the order, or charge again",
    )  # fmt: skip
