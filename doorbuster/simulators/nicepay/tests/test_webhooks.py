"""Webhooks of NICEPAY at a real server: what is told, what is a receipt, and how often it is told again."""

import itertools
from typing import Any

import pytest

from doorbuster.simulators.host.tests.processes import Shop
from doorbuster.simulators.nicepay.payment import HOUR_MS
from doorbuster.simulators.nicepay.signing import answer_signature
from doorbuster.simulators.nicepay.tests.caller import REFUND_ACCOUNT, Nicepay

MINUTE_MS = 60_000


def bodies(shop: Shop) -> list[Any]:
    return [body for _, body in shop.got]


def test_each_step_is_told_with_the_answer_the_caller_got(nicepay: Nicepay, shop: Shop) -> None:
    payment = nicepay.paid()
    part = nicepay.part(payment, 1).json
    last = nicepay.part(payment, 9_999).json
    nicepay.settled_webhooks()
    assert bodies(shop) == [payment, part, last]
    assert [headers["content-type"] for headers, _ in shop.got] == ["application/json;charset=utf-8"] * 3
    assert "authorization" not in shop.got[0][0], "only the signature in the body says who sent it"


def test_every_webhook_is_signed_over_tid_amount_and_edi_date(nicepay: Nicepay, shop: Shop) -> None:
    payment = nicepay.paid(method="vbank")
    nicepay.admin("POST", "deposit", {"tid": payment["tid"]})
    nicepay.part(payment, 1, **REFUND_ACCOUNT)
    nicepay.settled_webhooks()
    assert [b["status"] for b in bodies(shop)] == ["ready", "paid", "partialCancelled"]
    for body in bodies(shop):
        signature = answer_signature(body["tid"], 10_000, body["ediDate"], nicepay.secret)
        assert (body["signature"], body["resultCode"]) == (signature, "0000")
    assert len({(b["tid"], b["status"], b["cancelledTid"]) for b in bodies(shop)}) == 3


def test_a_charge_of_a_billing_key_is_told_with_its_bid(nicepay: Nicepay, shop: Shop) -> None:
    bid = nicepay.bid()
    charged = nicepay.charge(bid).json
    nicepay.settled_webhooks()
    assert bodies(shop) == [{**charged, "bid": bid}]


def test_neither_a_decline_nor_an_end_nor_a_walk_away_is_told(own: Nicepay, shop: Shop) -> None:
    own.buy(authenticates=False)
    own.approve(own.buy(declineCode="3095"))
    own.paid(method="vbank", vbankValidHours=1)
    own.advance(HOUR_MS)
    own.settled_webhooks()
    assert [b["status"] for b in bodies(shop)] == ["ready"]


def test_what_nicepay_took_back_itself_is_told_as_a_cancel_of_what_was_never_seen_paid(
    nicepay: Nicepay, shop: Shop
) -> None:
    bought = nicepay.buy(declineCode="U504")
    nicepay.approve(bought)
    nicepay.settled_webhooks()
    assert [(b["tid"], b["status"], b["balanceAmt"]) for b in bodies(shop)] == [(bought["tid"], "cancelled", 0)]


def test_any_order_and_any_number_of_a_payments_webhooks_can_be_sent(nicepay: Nicepay, shop: Shop) -> None:
    payment = nicepay.paid()
    nicepay.part(payment, 1)
    nicepay.part(payment, 9_999)
    ids = [hook["id"] for hook in nicepay.settled_webhooks()][-3:]
    told = {hook_id: body["status"] for hook_id, body in zip(ids, bodies(shop), strict=True)}
    for order in itertools.permutations(ids):
        shop.got.clear()
        twice = [*order, order[0]]
        assert nicepay.admin("POST", "webhooks/send", {"ids": twice})["statuses"] == [200] * 4
        assert [b["status"] for b in bodies(shop)] == [told[id_] for id_ in twice]


def test_webhooks_may_come_twice_and_turned_round(nicepay: Nicepay, shop: Shop) -> None:
    nicepay.admin("PUT", "webhooks", {"held": True})
    payment = nicepay.paid()
    nicepay.cancel(payment)
    nicepay.admin("PUT", "webhooks", {"copies": 2, "newest_first": True})
    nicepay.settled_webhooks()
    assert [b["status"] for b in bodies(shop)] == ["cancelled", "cancelled", "paid", "paid"]


@pytest.mark.parametrize(
    ("status", "content_type", "answer", "outcome"),
    [
        (200, "text/html", b"OK", "delivered"),
        (200, "text/html; charset=utf-8", b" ok\n", "delivered"),
        (200, "text/html", b"", "pending"),
        (200, "text/html", b"<p>OK</p>", "pending"),
        (200, "application/json", b"OK", "pending"),
        (200, "application/json", b'{"result":"OK"}', "pending"),
        (201, "text/html", b"OK", "pending"),
        (500, "text/html", b"OK", "pending"),
    ],
)
def test_only_ok_as_html_is_a_receipt(
    nicepay: Nicepay, shop: Shop, status: int, content_type: str, answer: bytes, outcome: str
) -> None:
    shop.status, shop.content_type, shop.answer = status, content_type, answer
    nicepay.paid()
    assert nicepay.settled_webhooks()[-1]["outcome"] == outcome


def test_a_webhook_is_sent_ten_times_a_minute_apart_the_same_each_time_and_then_given_up(
    own: Nicepay, shop: Shop
) -> None:
    shop.answer = b"NO"
    own.paid()
    own.settled_webhooks()
    for count in range(1, 10):
        own.advance(MINUTE_MS - 30_000)
        own.settled_webhooks()
        assert len(shop.got) == count, "too early"
        own.advance(30_000)
        own.settled_webhooks()
        assert len(shop.got) == count + 1
    own.advance(1_000 * MINUTE_MS)
    own.settled_webhooks()
    assert len(shop.got) == 10
    assert all(body == shop.got[0][1] for body in bodies(shop))
    assert own.webhooks()[-1]["outcome"] == "given_up"


def test_a_webhook_not_taken_before_a_kill_9_is_sent_after_it_and_a_taken_one_is_not(own: Nicepay, shop: Shop) -> None:
    own.paid()
    own.settled_webhooks()
    own.admin("PUT", "webhooks", {"held": True})
    kept_back = own.paid()
    own.kill_and_restart()
    own.settled_webhooks()
    assert bodies(shop)[1:] == [kept_back], "signature and ediDate too: it is the same event"
