"""What happened to an intent between two states of it, as the events Stripe tells: pure.

Types: docs.stripe.com/api/events/types. An event holds its object as it was when it happened and never changes.
"""

import hashlib
from typing import Any

from msgspec import Struct, structs

from doorbuster.simulators.stripe.expand import finder
from doorbuster.simulators.stripe.intent import Charge, Intent, Refund
from doorbuster.simulators.stripe.views import VERSION

View = dict[str, Any]

BY_STATUS = {
    "requires_action": "payment_intent.requires_action",
    "processing": "payment_intent.processing",
    "requires_capture": "payment_intent.amount_capturable_updated",
    "succeeded": "payment_intent.succeeded",
    "canceled": "payment_intent.canceled",
}


class Fact(Struct, frozen=True):
    """One event: its type, and the intent (as it was) that holds the object it is about."""

    type: str
    object_id: str
    intent: Intent
    previous: dict[str, Any] | None = None


class Happened(Struct, frozen=True):
    """A fact with its id and time; `request` and `key` are those of the API request that caused it, if one did."""

    id: str
    at_ms: int
    fact: Fact
    request: str | None
    key: str | None


def facts_between(before: Intent | None, now: Intent) -> list[Fact]:
    """In the order in which they happened."""
    facts: list[Fact] = []
    if before is None:
        facts.append(Fact("payment_intent.created", now.id, opened(now)))
    old = {charge.id: charge for charge in (before.charges if before is not None else ())}
    for charge in now.charges:
        facts += _of_charge(old.get(charge.id), charge, now)
    old_status = "requires_payment_method" if before is None else before.status
    if now.status != old_status and now.status in BY_STATUS:
        facts.append(Fact(BY_STATUS[now.status], now.id, now))
    if now.problem is not None and (before is None or before.problem != now.problem):
        facts.append(Fact("payment_intent.payment_failed", now.id, now))
    return facts


def opened(intent: Intent) -> Intent:
    """The intent as it was created, before anything was tried."""
    status = "requires_payment_method" if intent.method_id is None else "requires_confirmation"
    return structs.replace(
        intent, status=status, charges=(), problem=None, action_token=None, canceled_at_ms=None, turns_at_ms=None
    )


def _of_charge(old: Charge | None, charge: Charge, intent: Intent) -> list[Fact]:
    facts: list[Fact] = []
    if old is None or old.status != charge.status:
        facts.append(Fact(f"charge.{charge.status}", charge.id, intent))
    elif old.captured_at_ms is None and charge.captured_at_ms is not None:
        facts.append(Fact("charge.captured", charge.id, intent, {"captured": False, "amount_captured": 0}))
    elif old.transaction is None and charge.transaction is not None:
        facts.append(Fact("charge.updated", charge.id, intent, {"balance_transaction": None}))
    if charge.expired and (old is None or not old.expired):
        facts.append(Fact("charge.expired", charge.id, intent))
    known = {refund.id: refund for refund in (old.refunds if old is not None else ())}
    for refund in charge.refunds:
        facts += _of_refund(known.get(refund.id), refund, old, charge, intent)
    return facts


def _of_refund(known: Refund | None, refund: Refund, old: Charge | None, charge: Charge, intent: Intent) -> list[Fact]:
    if known is None:
        given = 0 if old is None else old.refunded
        told = Fact("charge.refunded", charge.id, intent, {"amount_refunded": given})
        # A release is no refund anybody asked for: only a cancelled charge is told as refunded.
        if refund.releases:
            return [told] if charge.captured_at_ms is None else []
        return [Fact("refund.created", refund.id, intent), told]
    if known.status == refund.status:
        return []
    previous = {"status": known.status}
    facts = [
        Fact("refund.updated", refund.id, intent, previous),
        Fact("charge.refund.updated", refund.id, intent, previous),
    ]
    if refund.status == "failed":
        facts.append(Fact("refund.failed", refund.id, intent, previous))
    return facts


def event_id(entry: int, number: int, intent_id: str) -> str:
    """The same after a restart: made from the ledger entry that caused it."""
    return f"evt_3{hashlib.sha256(f'{intent_id} {entry} {number}'.encode()).hexdigest()[:23]}"


def event_view(event: Happened) -> View:
    """Addresses in it are relative: an event does not know by which name its reader reaches the simulator."""
    fact = event.fact
    data: View = {"object": finder(fact.intent, "", event.at_ms)(fact.object_id)}
    if fact.previous is not None:
        data["previous_attributes"] = fact.previous
    shown: View = {
        "id": event.id,
        "object": "event",
        "api_version": VERSION,
        "created": event.at_ms // 1000,
        "data": data,
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": event.request, "idempotency_key": event.key},
        "type": fact.type,
    }
    return shown if fact.intent.account is None else {**shown, "account": fact.intent.account}
