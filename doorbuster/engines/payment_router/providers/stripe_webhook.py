"""Stripe's webhooks: who signed this, is it fresh, and which payment is to be read again. Pure."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
from collections.abc import Mapping

import msgspec

from doorbuster.engines.payment_router.provider import Forged, Login, NotForUs, WebhookHint
from doorbuster.engines.payment_router.providers import wire

_TOLERANCE_S = 300
_SIGNATURES = 16


class _Subject(msgspec.Struct):
    object: str = ""
    id: str = ""
    payment_intent: str | None = None
    metadata: dict[str, str] | None = None


class _EventData(msgspec.Struct):
    object: _Subject


class _Event(msgspec.Struct):
    id: str
    type: str
    data: _EventData


def read_webhook(
    headers: Mapping[str, str], body: bytes, login: Login, now: dt.datetime
) -> WebhookHint | NotForUs | Forged:
    """Signed over `{t}.{body}`; any of several v1 signatures may fit any of our secrets, within five minutes."""
    parts = [part.partition("=") for part in headers.get("stripe-signature", "").split(",")[: _SIGNATURES + 1]]
    times = [value for name, _, value in parts if name.strip() == "t"]
    given = [value for name, _, value in parts if name.strip() == "v1"]
    if len(times) != 1 or not (times[0].isascii() and times[0].isdigit() and len(times[0]) <= 12) or not given:
        return Forged("no usable signature")
    signed = times[0].encode() + b"." + body
    fits = False
    for secret in login.webhook_secrets:
        right = hmac.new(secret.reveal().encode(), signed, hashlib.sha256).hexdigest()
        fits |= any(hmac.compare_digest(right.encode(), one.encode("utf-8", "replace")) for one in given)
    if not fits:
        return Forged("wrong signature")
    if abs(now.timestamp() - int(times[0])) > _TOLERANCE_S:
        return Forged("too old")
    event = wire.read_json(body, _Event)
    if event is None or wire.ID.fullmatch(event.id) is None:
        return Forged("unreadable")
    subject = event.data.object
    intent = subject.id if subject.object == "payment_intent" else subject.payment_intent or ""
    if subject.object not in ("payment_intent", "charge", "refund") or wire.ID.fullmatch(intent) is None:
        return NotForUs(event.type[:64])
    named = (subject.metadata or {}).get("charge_reference" if subject.object == "refund" else "reference", "")
    return WebhookHint(event.id, event.type[:64], wire.kept(named), intent)
