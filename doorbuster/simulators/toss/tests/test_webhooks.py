"""Webhooks of Toss at a real server, and what time does to payments."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from doorbuster.simulators.host.tests.processes import Shop
    from doorbuster.simulators.toss.tests.conftest import Toss

MINUTE_MS = 60_000


def bodies(shop: "Shop") -> list[Any]:
    return [body for _, body in shop.got]


def test_each_step_is_told_in_order_and_nothing_before_the_first_verdict(toss: "Toss", shop: "Shop") -> None:
    payment = toss.paid()
    toss.cancel(payment, cancelAmount=1)
    toss.cancel(payment)
    toss.settled_webhooks()
    assert [(b["eventType"], b["data"]["status"], b["data"]["balanceAmount"]) for b in bodies(shop)] == [
        ("PAYMENT_STATUS_CHANGED", "DONE", 10_000),
        ("PAYMENT_STATUS_CHANGED", "PARTIAL_CANCELED", 9_999),
        ("PAYMENT_STATUS_CHANGED", "PARTIAL_CANCELED", 0),
    ]
    assert bodies(shop)[0]["data"] == {**payment}
    ids = [headers["tosspayments-webhook-transmission-id"] for headers, _ in shop.got]
    assert len(set(ids)) == 3
    assert {headers["tosspayments-webhook-transmission-retried-count"] for headers, _ in shop.got} == {"0"}


def test_a_virtual_account_tells_every_step_twice_and_the_deposit_callback_has_its_secret(
    toss: "Toss", shop: "Shop"
) -> None:
    payment = toss.paid(method="가상계좌")
    key = {"paymentKey": payment["paymentKey"]}
    toss.admin("POST", "deposit", key)
    toss.admin("POST", "deposit/reverse", key)
    toss.settled_webhooks()
    got = bodies(shop)
    assert [b["data"]["status"] for b in got[::2]] == ["WAITING_FOR_DEPOSIT", "DONE", "WAITING_FOR_DEPOSIT"]
    assert [b["status"] for b in got[1::2]] == ["WAITING_FOR_DEPOSIT", "DONE", "WAITING_FOR_DEPOSIT"]
    assert all(set(b) == {"createdAt", "secret", "status", "transactionKey", "orderId"} for b in got[1::2])
    assert {b["secret"] for b in got[1::2]} == {payment["secret"]}


def test_a_decline_is_told(toss: "Toss", shop: "Shop") -> None:
    toss.confirm(toss.buy(declineCode="REJECT_CARD_PAYMENT"))
    toss.settled_webhooks()
    assert [b["data"]["status"] for b in bodies(shop)] == ["ABORTED"]


def test_webhooks_may_come_twice_and_turned_round(toss: "Toss", shop: "Shop") -> None:
    toss.admin("PUT", "webhooks", {"held": True})
    payment = toss.paid()
    toss.cancel(payment)
    toss.admin("PUT", "webhooks", {"copies": 2, "newest_first": True})
    toss.settled_webhooks()
    assert [b["data"]["status"] for b in bodies(shop)] == ["CANCELED", "CANCELED", "DONE", "DONE"]


def test_any_webhook_can_be_sent_again_in_any_order(toss: "Toss", shop: "Shop") -> None:
    payment = toss.paid()
    toss.cancel(payment)
    first, second = [hook["id"] for hook in toss.settled_webhooks()][-2:]
    shop.got.clear()
    assert toss.admin("POST", "webhooks/send", {"ids": [second, first, second]})["statuses"] == [200] * 3
    assert [b["data"]["status"] for b in bodies(shop)] == ["CANCELED", "DONE", "CANCELED"]


def test_a_webhook_is_sent_seven_times_more_at_growing_distances_and_then_given_up(own: "Toss", shop: "Shop") -> None:
    """docs.tosspayments.com/guides/webhook: 1, 4, 16, 64, 256, 1024, 4096 minutes; only HTTP 200 is a success."""
    shop.status = 201
    own.paid()
    own.settled_webhooks()
    for count, minutes in enumerate((1, 4, 16, 64, 256, 1024, 4096), start=1):
        own.advance(minutes * MINUTE_MS - 30_000)
        own.settled_webhooks()
        assert len(shop.got) == count, f"too early, before {minutes} minutes"
        own.advance(30_000)
        own.settled_webhooks()
        assert len(shop.got) == count + 1, f"after {minutes} minutes"
    assert [headers["tosspayments-webhook-transmission-retried-count"] for headers, _ in shop.got] == list("01234567")
    assert own.webhooks()[-1]["outcome"] == "given_up"
    own.advance(100_000 * MINUTE_MS)
    own.settled_webhooks()
    assert len(shop.got) == 8


def test_a_webhook_not_taken_before_a_kill_9_is_sent_after_it_and_a_taken_one_is_not(own: "Toss", shop: "Shop") -> None:
    own.paid()
    own.settled_webhooks()
    own.admin("PUT", "webhooks", {"held": True})
    kept_back = own.paid()
    own.kill_and_restart()
    own.settled_webhooks()
    assert [b["data"]["paymentKey"] for b in bodies(shop)][1:] == [kept_back["paymentKey"]]


def test_time_ends_what_nobody_confirms_and_the_clock_survives_a_kill_9(own: "Toss", shop: "Shop") -> None:
    opened, waiting = own.buy(authenticates=False), own.buy()
    account = own.paid(method="가상계좌")
    own.advance(10 * MINUTE_MS)
    assert (own.look(opened)["status"], own.look(waiting)["status"]) == ("READY", "EXPIRED")
    answer = own.confirm(waiting)
    assert (answer.status, answer.json["code"]) == (404, "NOT_FOUND_PAYMENT_SESSION")
    own.settled_webhooks()
    own.kill_and_restart()
    own.advance(20 * MINUTE_MS)
    shown = own.look(opened)
    assert (shown["status"], shown["failure"]["code"]) == ("EXPIRED", "EXPIRED_PAYMENT")
    own.advance(168 * 60 * MINUTE_MS)
    late = own.look(account)
    assert (late["status"], late["virtualAccount"]["expired"]) == ("EXPIRED", True)
    own.settled_webhooks()
    assert [b["data"]["status"] for b in bodies(shop) if "data" in b].count("EXPIRED") == 3
    assert own.summary()["captured"] == 0
