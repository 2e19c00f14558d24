"""Events of Stripe at a real server: signed, in any order, again for three days; and the same events by the API."""

import hmac
import time
from typing import TYPE_CHECKING, Any

import pytest
from stripe import WebhookSignature

from doorbuster.simulators.stripe.__main__ import SCHEDULE_MS, signature

if TYPE_CHECKING:
    from doorbuster.simulators.host.tests.processes import Shop
    from doorbuster.simulators.stripe.tests.conftest import Stripe

SECRET = b"whsec_of_the_tests"
MINUTE_MS = 60_000


def types(shop: "Shop") -> list[str]:
    return [body["type"] for _, body in shop.got]


def test_each_step_is_told_in_order_with_the_object_as_it_was(stripe: "Stripe", shop: "Shop") -> None:
    held = stripe.pay(capture_method="manual", key="wh-1").json
    stripe.post(f"payment_intents/{held['id']}/capture")
    stripe.refund(held, 100)
    stripe.settled_webhooks()
    assert types(shop) == [
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.amount_capturable_updated",
        "charge.captured",
        "payment_intent.succeeded",
        "refund.created",
        "charge.refunded",
    ]
    bodies = [body for _, body in shop.got]
    shown = [body["data"]["object"] for body in bodies]
    assert [o.get("status") for o in shown] == [
        "requires_confirmation",
        "succeeded",
        "requires_capture",
        "succeeded",
        "succeeded",
        "succeeded",
        "succeeded",
    ]
    assert (shown[-1]["amount_refunded"], bodies[-1]["data"]["previous_attributes"]) == (100, {"amount_refunded": 0})
    assert {body["object"] for body in bodies} == {"event"}
    assert {body["api_version"] for body in bodies} == {"2026-10-28.endive"}
    assert bodies[0]["request"]["idempotency_key"] == "wh-1" and bodies[0]["request"]["id"].startswith("req_")
    assert len({body["id"] for body in bodies}) == 7


@pytest.mark.parametrize(
    ("fields", "last"),
    [
        ({"payment_method": "pm_card_chargeDeclined"}, ["charge.failed", "payment_intent.payment_failed"]),
        ({"payment_method": "pm_card_threeDSecure2Required"}, ["payment_intent.requires_action"]),
        (
            {
                "payment_method": "pm_usBankAccount_success",
                "payment_method_types": ["us_bank_account"],
                "currency": "usd",
            },
            ["charge.pending", "payment_intent.processing"],
        ),
        ({}, ["charge.succeeded", "payment_intent.succeeded"]),
    ],
)
def test_what_became_of_a_payment_is_told(
    stripe: "Stripe", shop: "Shop", fields: dict[str, Any], last: list[str]
) -> None:
    stripe.pay(**fields)
    stripe.settled_webhooks()
    assert [t for t in types(shop) if t != "charge.updated"] == ["payment_intent.created", *last]


def test_a_cancel_is_told(stripe: "Stripe", shop: "Shop") -> None:
    intent = stripe.opened()
    stripe.post(f"payment_intents/{intent['id']}/cancel")
    stripe.settled_webhooks()
    assert types(shop) == ["payment_intent.created", "payment_intent.canceled"]


def test_a_delivery_is_signed_over_its_second_and_its_bytes(stripe: "Stripe", shop: "Shop") -> None:
    stripe.paid(description="셔츠")
    stripe.settled_webhooks()
    assert len(shop.raw) >= 3
    for (headers, _), raw in zip(shop.got, shop.raw, strict=True):
        fields = dict(part.split("=", 1) for part in headers["stripe-signature"].split(","))
        assert abs(int(fields["t"]) - time.time()) < 30
        expected = hmac.new(SECRET, fields["t"].encode() + b"." + raw, "sha256").hexdigest()
        assert hmac.compare_digest(fields["v1"], expected)


def test_the_signature_is_that_of_the_vendors_sdk() -> None:
    body = '{"id":"evt_1"}'
    header = signature(SECRET, body.encode(), 1_700_000_000)
    assert header == WebhookSignature.generate_signature_header(body, SECRET.decode(), 1_700_000_000)


def test_webhooks_may_come_twice_and_turned_round(stripe: "Stripe", shop: "Shop") -> None:
    stripe.admin("PUT", "webhooks", {"held": True})
    intent = stripe.opened()
    stripe.post(f"payment_intents/{intent['id']}/cancel")
    stripe.admin("PUT", "webhooks", {"copies": 2, "newest_first": True})
    stripe.settled_webhooks()
    assert types(shop) == ["payment_intent.canceled"] * 2 + ["payment_intent.created"] * 2


def test_any_webhook_can_be_sent_again_in_any_order(stripe: "Stripe", shop: "Shop") -> None:
    intent = stripe.opened()
    stripe.post(f"payment_intents/{intent['id']}/cancel")
    first, second = [hook["id"] for hook in stripe.settled_webhooks()][-2:]
    shop.got.clear()
    assert stripe.admin("POST", "webhooks/send", {"ids": [second, first, second]})["statuses"] == [200] * 3
    assert types(shop) == ["payment_intent.canceled", "payment_intent.created", "payment_intent.canceled"]


def test_a_webhook_is_sent_again_at_growing_distances_for_three_days_and_then_given_up(
    own: "Stripe", shop: "Shop"
) -> None:
    """docs.stripe.com/webhooks: up to three days, with exponential backoff; a redirect is a failure too."""
    assert sum(SCHEDULE_MS) == 3 * 24 * 60 * MINUTE_MS and sorted(SCHEDULE_MS) == list(SCHEDULE_MS)
    shop.status = 302
    own.opened()
    own.settled_webhooks()
    for count, distance_ms in enumerate(SCHEDULE_MS, start=1):
        own.advance(distance_ms - 30_000)
        own.settled_webhooks()
        assert len(shop.got) == count, "too early"
        own.advance(30_000)
        own.settled_webhooks()
        assert len(shop.got) == count + 1
    assert own.webhooks()[-1]["outcome"] == "given_up"
    own.advance(30 * 24 * 60 * MINUTE_MS)
    own.settled_webhooks()
    assert len(shop.got) == len(SCHEDULE_MS) + 1


def test_any_2xx_takes_a_webhook(own: "Stripe", shop: "Shop") -> None:
    shop.status = 204
    own.opened()
    assert [hook["outcome"] for hook in own.settled_webhooks()] == ["delivered"]


def test_a_webhook_not_taken_before_a_kill_9_is_sent_after_it_and_a_taken_one_is_not(
    own: "Stripe", shop: "Shop"
) -> None:
    own.opened()
    own.settled_webhooks()
    own.admin("PUT", "webhooks", {"held": True})
    kept_back = own.opened()
    own.kill_and_restart()
    own.settled_webhooks()
    assert [body["data"]["object"]["id"] for _, body in shop.got][1:] == [kept_back["id"]]


def test_what_happens_by_itself_is_told_when_its_time_comes(own: "Stripe", shop: "Shop") -> None:
    own.paid(payment_method="pm_card_refundFail")
    held = own.pay(capture_method="manual").json
    own.advance(2_000)
    own.settled_webhooks()
    assert types(shop)[-1] == "charge.updated"
    refund = own.refund(own.get("payment_intents", limit=2).json["data"][1]).json
    own.advance(60_000)
    own.settled_webhooks()
    assert types(shop)[-3:] == ["refund.updated", "charge.refund.updated", "refund.failed"]
    assert shop.got[-1][1]["data"]["object"]["id"] == refund["id"]
    assert shop.got[-1][1]["request"] == {"id": None, "idempotency_key": None}
    own.advance(7 * 24 * 60 * MINUTE_MS)
    own.settled_webhooks()
    assert types(shop)[-3:] == ["charge.expired", "charge.refunded", "payment_intent.canceled"]
    assert own.look(held)["cancellation_reason"] == "automatic"


def test_the_api_tells_the_same_events_for_30_days(own: "Stripe", shop: "Shop") -> None:
    own.paid()
    own.settled_webhooks()
    listed = own.get("events", limit=100).json
    told = {body["id"]: body for _, body in shop.got}
    assert [event["id"] for event in listed["data"]] == list(told)[::-1]
    assert all(event == told[event["id"]] for event in listed["data"])
    one = next(iter(told))
    assert own.get(f"events/{one}").json == told[one]
    assert [e["type"] for e in own.get("events", type="charge.*").json["data"]] == ["charge.succeeded"]
    wanted = ["payment_intent.created", "charge.failed"]
    assert [e["type"] for e in own.get("events", types=wanted).json["data"]] == ["payment_intent.created"]
    assert own.get("events", type="x", types=["y"]).status == 400
    own.advance(31 * 24 * 60 * MINUTE_MS)
    assert own.get(f"events/{one}").status == 404
    assert [e["type"] for e in own.get("events").json["data"]] == ["charge.updated"]
