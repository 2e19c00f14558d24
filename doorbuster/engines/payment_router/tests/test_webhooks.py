"""A webhook is believed only when it is signed, fresh and readable; where nobody signs it, it is a hint."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from doorbuster.engines.payment_router.provider import Forged, NotForUs, Secret, WebhookHint
from doorbuster.engines.payment_router.providers import nicepay, stripe, toss
from doorbuster.engines.payment_router.tests import documented as doc
from doorbuster.engines.payment_router.tests.test_answers_fuzzed import NASTY, junk, written

EVENT: dict[str, Any] = {
    "id": "evt_1NG8Du2eZvKYlo2CUI79vXWy", "object": "event", "api_version": "2026-10-28.endive", "created": 1686089970,
    "data": {"object": doc.STRIPE_INTENT}, "livemode": False, "pending_webhooks": 0,
    "request": {"id": None, "idempotency_key": None}, "type": "payment_intent.succeeded",
}  # fmt: skip
BODY = msgspec.json.encode(EVENT)
SENT = int(doc.NOW.timestamp())
HINT = WebhookHint("evt_1NG8Du2eZvKYlo2CUI79vXWy", "payment_intent.succeeded", doc.REFERENCE, doc.STRIPE_ID)


def mac(body: bytes, secret: str = "whsec_test_secret", at: int = SENT) -> str:
    """The signature as stripe-python's WebhookSignature computes it."""
    return hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()


def read(header: str, body: bytes = BODY, now: dt.datetime = doc.NOW) -> WebhookHint | NotForUs | Forged:
    return stripe.read_webhook({"stripe-signature": header}, body, doc.STRIPE_LOGIN, now)


def test_a_signed_event_names_the_payment_to_read_again() -> None:
    assert read(f"t={SENT},v1={mac(BODY)}") == HINT
    # Computed with another tool: openssl dgst -sha256 -hmac whsec_test_secret.
    known = "t=1700000000,v1=929fbf631339acff4a8b6cb63f98bbf36800ae29fa293b216871373422b1eab6"
    then = dt.datetime.fromtimestamp(1_700_000_000, dt.UTC)
    assert read(known, b'{"id": "evt_test_webhook"}', then) == Forged("unreadable"), "signed, and no event"


@pytest.mark.parametrize(
    "header",
    [
        f"t={SENT},v1={mac(BODY)},v0={'0' * 64}",
        f"t={SENT},v1={'0' * 64},v1={mac(BODY)}",
        f"t={SENT},v1={mac(BODY, 'whsec_old_secret')}",
        f"t={SENT},v1=bad_signature,v1={mac(BODY, 'whsec_old_secret')},v1=x",
        f"v1={mac(BODY)},t={SENT}",
    ],
)
def test_one_right_signature_of_several_is_enough(header: str) -> None:
    assert read(header) == HINT


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ("", "no usable signature"),
        ("i'm not even a real signature header", "no usable signature"),
        (f"t={SENT}", "no usable signature"),
        (f"t={SENT},v0={mac(BODY)}", "no usable signature"),
        (f"v1={mac(BODY)}", "no usable signature"),
        (f"t=,v1={mac(BODY)}", "no usable signature"),
        (f"t=-1,v1={mac(BODY)}", "no usable signature"),
        (f"t={'9' * 400},v1={mac(BODY)}", "no usable signature"),
        (f"t=١٢٣,v1={mac(BODY)}", "no usable signature"),
        (f"t={SENT},t={SENT + 1},v1={mac(BODY)}", "no usable signature"),
        (f"t={SENT},v1=bad_signature", "wrong signature"),
        (f"t={SENT},v1=é", "wrong signature"),
        (f"t={SENT},v1={mac(BODY, 'whsec_of_somebody_else')}", "wrong signature"),
        (f"t={SENT},v1={mac(BODY + b' ')}", "wrong signature"),
        (f"t={SENT + 1},v1={mac(BODY)}", "wrong signature"),
        (f"t={SENT - 301},v1={mac(BODY, at=SENT - 301)}", "too old"),
        (f"t={SENT + 301},v1={mac(BODY, at=SENT + 301)}", "too old"),
        (f"t={SENT}," + "v1=x," * 16 + f"v1={mac(BODY)}", "wrong signature"),
    ],
)
def test_what_is_unsigned_wrongly_signed_or_stale_is_forged(header: str, why: str) -> None:
    assert read(header) == Forged(why)


def test_a_changed_body_breaks_the_signature() -> None:
    assert read(f"t={SENT},v1={mac(BODY)}", BODY.replace(b"2000", b"2001", 1)) == Forged("wrong signature")
    without = replace(doc.STRIPE_LOGIN, webhook_secrets=())
    assert stripe.read_webhook({"stripe-signature": f"t={SENT},v1={mac(BODY)}"}, BODY, without, doc.NOW) == Forged(
        "wrong signature"
    )
    # An empty secret signs nothing, whoever knows that it is empty.
    assert stripe.read_webhook({}, BODY, replace(without, webhook_secrets=(Secret(""),)), doc.NOW) == Forged(
        "no usable signature"
    )


def test_a_replay_within_the_tolerance_is_the_same_event() -> None:
    header = f"t={SENT},v1={mac(BODY)}"
    again = read(header, now=doc.NOW + dt.timedelta(seconds=299))
    assert again == read(header) == HINT
    assert read(header, now=doc.NOW + dt.timedelta(seconds=301)) == Forged("too old")


def signed(event: dict[str, Any]) -> WebhookHint | NotForUs | Forged:
    body = msgspec.json.encode(event)
    return read(f"t={SENT},v1={mac(body)}", body)


def test_charges_and_refunds_lead_to_their_intent_and_the_rest_to_nothing() -> None:
    charge = {"object": "charge", "id": "ch_1", "payment_intent": doc.STRIPE_ID, "metadata": {"reference": "x"}}
    hint = signed(EVENT | {"type": "charge.refunded", "data": {"object": charge}})
    assert hint == WebhookHint(EVENT["id"], "charge.refunded", "", doc.STRIPE_ID)
    hint = signed(EVENT | {"type": "refund.updated", "data": {"object": doc.STRIPE_REFUNDED}})
    assert hint == WebhookHint(EVENT["id"], "refund.updated", doc.REFERENCE, doc.STRIPE_ID)
    reader = {"id": "rdr_123", "object": "terminal.reader"}
    assert signed(EVENT | {"data": {"object": reader}}) == NotForUs("payment_intent.succeeded")
    assert signed({"id": "evt_234", "object": "v2.core.event", "type": "v1.billing.x"}) == Forged("unreadable")


def test_a_toss_webhook_is_a_hint_and_its_retry_the_same_hint() -> None:
    changed = {
        "createdAt": "2026-01-02T14:46:59.65327", "eventType": "PAYMENT_STATUS_CHANGED", "data": doc.TOSS_PAYMENT,
    }  # fmt: skip
    hint = toss.read_webhook({}, msgspec.json.encode(changed), doc.TOSS_LOGIN, doc.NOW)
    assert isinstance(hint, WebhookHint)
    assert (hint.kind, hint.reference, hint.provider_id) == ("PAYMENT_STATUS_CHANGED", doc.REFERENCE, doc.TOSS_KEY)
    retried = {"tosspayments-webhook-transmission-retried-count": "3"}
    assert toss.read_webhook(retried, msgspec.json.encode(changed), doc.TOSS_LOGIN, doc.NOW) == hint
    later = msgspec.json.encode(changed | {"createdAt": "2026-01-02T14:47:59.65327"})
    assert toss.read_webhook({}, later, doc.TOSS_LOGIN, doc.NOW) != hint
    deposit = {
        "createdAt": "2022-01-01T00:00:00.000000", "secret": "ps_x", "status": "DONE",
        "transactionKey": "9FF15E1A29D0E77C218F57262BFA4986", "orderId": doc.UNDERSCORED,
    }  # fmt: skip
    called = toss.read_webhook({}, msgspec.json.encode(deposit), doc.TOSS_LOGIN, doc.NOW)
    assert isinstance(called, WebhookHint) and (called.kind, called.reference) == ("DEPOSIT_CALLBACK", doc.REFERENCE)
    for other in ({"eventType": "BILLING_DELETED", "data": {}}, deposit | {"orderId": "somebody's"}):
        assert isinstance(toss.read_webhook({}, msgspec.json.encode(other), doc.TOSS_LOGIN, doc.NOW), NotForUs)


def test_a_nicepay_webhook_is_believed_by_its_signature() -> None:
    body = msgspec.json.encode(doc.NICE_PAYMENT)
    hint = nicepay.read_webhook({}, body, doc.NICE_LOGIN, doc.NOW)
    assert isinstance(hint, WebhookHint)
    assert (hint.kind, hint.reference, hint.provider_id) == ("paid", doc.NICE_REFERENCE, doc.NICE_TID)
    assert nicepay.read_webhook({}, body, doc.NICE_LOGIN, doc.NOW) == hint
    forgeries: list[dict[str, Any]] = [
        {"amount": 1}, {"tid": "UT1"}, {"ediDate": "2026-11-23T00:00:00.000+0900"}, {"signature": ""},
        {"signature": "0" * 64}, {"signature": "é" * 64},
    ]  # fmt: skip
    for change in forgeries:
        changed = msgspec.json.encode(doc.NICE_PAYMENT | change)
        assert nicepay.read_webhook({}, changed, doc.NICE_LOGIN, doc.NOW) == Forged("wrong signature")
    wrong = replace(doc.NICE_LOGIN, secret=Secret("of somebody else"))
    assert nicepay.read_webhook({}, body, wrong, doc.NOW) == Forged("wrong signature")


@settings(max_examples=300, deadline=None)
@given(body=st.one_of(st.binary(max_size=80), st.sampled_from(NASTY), junk.map(written)), header=st.text(max_size=90))
def test_no_bytes_break_the_readers_of_webhooks(body: bytes, header: str) -> None:
    right = f"t={SENT},v1={mac(body)}"
    for given_header in (header, right):
        hint = stripe.read_webhook({"stripe-signature": given_header}, body, doc.STRIPE_LOGIN, doc.NOW)
        assert isinstance(hint, Forged), "none of these is an event of Stripe"
    assert isinstance(nicepay.read_webhook({}, body, doc.NICE_LOGIN, doc.NOW), Forged)
    assert not isinstance(toss.read_webhook({}, body, doc.TOSS_LOGIN, doc.NOW), WebhookHint)
