"""The idempotency rules of Toss, and money under kill -9."""

import concurrent.futures
from typing import TYPE_CHECKING

import pytest

from doorbuster.simulators.host.tests.processes import basic

if TYPE_CHECKING:
    from doorbuster.simulators.toss.tests.conftest import Toss

DAY_MS = 86_400_000


def test_the_same_key_replays_the_first_answer_byte_for_byte(toss: "Toss") -> None:
    bought = toss.buy()
    first = toss.confirm(bought, "key-1")
    toss.cancel(bought, cancelAmount=1)
    assert toss.confirm(bought, "key-1").raw == first.raw
    assert toss.confirm(bought, "key-2").json["code"] == "ALREADY_PROCESSED_PAYMENT"


def test_an_error_is_replayed_too(toss: "Toss") -> None:
    """docs.tosspayments.com/en/api-guide: the same response even in the case of an error."""
    bought = toss.buy(authenticates=False)
    first = toss.confirm(bought, "key-error")
    assert first.status == 404
    toss.admin("POST", "authenticate", {"paymentKey": bought["paymentKey"]})
    assert toss.confirm(bought, "key-error").raw == first.raw
    assert toss.confirm(bought, "key-error-2").status == 200


def test_a_key_shared_on_confirm_replays_another_payments_answer(toss: "Toss") -> None:
    """The body is not part of the scope: techchat.tosspayments.com/m/1186570706016809030."""
    one, two = toss.buy(), toss.buy()
    assert toss.confirm(one, "key-shared").json["paymentKey"] == one["paymentKey"]
    assert toss.confirm(two, "key-shared").json["paymentKey"] == one["paymentKey"]
    assert toss.look(two)["status"] == "IN_PROGRESS"


def test_a_key_means_nothing_at_another_url(toss: "Toss") -> None:
    one, two = toss.paid(), toss.paid()
    assert toss.cancel(one, "key-url", cancelAmount=1).json["paymentKey"] == one["paymentKey"]
    assert toss.cancel(two, "key-url", cancelAmount=1).json["paymentKey"] == two["paymentKey"]


def test_one_of_many_confirms_at_once_pays_and_the_others_are_told_to_wait(toss: "Toss") -> None:
    bought = toss.buy()
    toss.faults(latency_ms=300)
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = [f.result() for f in [pool.submit(toss.confirm, bought, "key-many") for _ in range(20)]]
    assert sorted({answer.status for answer in answers}) == [200, 409]
    assert [answer.status for answer in answers].count(200) == 1
    assert {a.json["code"] for a in answers if a.status == 409} == {"IDEMPOTENT_REQUEST_PROCESSING"}
    toss.faults()
    assert toss.confirm(bought, "key-many").status == 200


def test_confirms_at_once_with_keys_of_their_own_pay_once(toss: "Toss") -> None:
    before = toss.summary()["captured"]
    bought = toss.buy()
    toss.faults(latency_ms=100)
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = [f.result() for f in [pool.submit(toss.confirm, bought, f"key-own-{n}") for n in range(20)]]
    assert [answer.status for answer in answers].count(200) == 1
    assert toss.summary()["captured"] == before + 1


def test_parts_given_back_at_once_never_add_up_to_more_than_was_paid(toss: "Toss") -> None:
    payment = toss.paid(10_000)
    toss.faults(latency_ms=50)
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        jobs = [pool.submit(toss.cancel, payment, f"part-{n}", cancelAmount=700) for n in range(20)]
        statuses = [job.result().status for job in jobs]
    assert statuses.count(200) == 14
    assert toss.look(payment)["balanceAmount"] == 200


def test_a_key_longer_than_300_characters_is_refused(toss: "Toss") -> None:
    bought = toss.buy()
    answer = toss.confirm(bought, "k" * 301)
    assert (answer.status, answer.json["code"]) == (400, "INVALID_IDEMPOTENCY_KEY")
    assert toss.confirm(bought, "k" * 300).status == 200


def test_a_key_is_forgotten_after_15_days(own: "Toss") -> None:
    payment = own.paid()
    first = own.cancel(payment, "key-old", cancelAmount=100)
    own.advance(15 * DAY_MS - 60_000)
    assert own.cancel(payment, "key-old", cancelAmount=100).raw == first.raw
    own.advance(60_000)
    assert own.cancel(payment, "key-old", cancelAmount=100).json["balanceAmount"] == 9_800


@pytest.mark.parametrize("fault", ["timeout_after_capture_rate", "reset_after_capture_rate"])
def test_money_taken_before_a_kill_9_is_still_taken_after_it_and_its_key_still_answers(own: "Toss", fault: str) -> None:
    bought = own.buy(12_345)
    own.faults(**{fault: 1, "hold_ms": 60_000})
    with pytest.raises(OSError):
        own.call(
            "POST", "/v1/payments/confirm", _body(bought), {**basic(), "Idempotency-Key": "key-kill"}, timeout_s=0.5
        )
    own.kill_and_restart()
    assert own.look(bought)["status"] == "DONE"
    assert own.summary()["captured_minor"] == 12_345
    replay = own.confirm(bought, "key-kill")
    assert (replay.status, replay.json["totalAmount"]) == (200, 12_345)
    assert own.summary()["captured"] == 1


def test_a_torn_last_line_is_a_payment_that_never_was_and_any_other_keeps_the_process_down(own: "Toss") -> None:
    one, two = own.paid(), own.buy()
    assert own.confirm(two).status == 200
    own.end()
    lines = own.ledger.read_bytes()
    own.ledger.write_bytes(lines[:-10])
    own.start()
    assert (own.look(one)["status"], own.look(two)["status"]) == ("DONE", "IN_PROGRESS")
    own.end()
    own.ledger.write_bytes(lines[:200] + b"x" + lines[200:])
    with pytest.raises(AssertionError, match="cannot be read"):
        own.start()


def _body(bought: dict[str, object]) -> dict[str, object]:
    return {name: bought[name] for name in ("paymentKey", "orderId", "amount")}
