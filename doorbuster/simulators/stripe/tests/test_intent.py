"""What may happen to a PaymentIntent and what is told and booked of it, purely."""

import itertools
from collections.abc import Callable
from typing import Any, get_args

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec import structs

from doorbuster.simulators.stripe.balance import available_on, fee_of, flat, transaction_view, transactions_of
from doorbuster.simulators.stripe.cards import METHODS
from doorbuster.simulators.stripe.confirmation import (
    ASYNC_MS,
    REFUND_MS,
    Attempt,
    confirmed,
    refund_of,
    release,
    turned,
    unauthenticated,
)
from doorbuster.simulators.stripe.events import facts_between
from doorbuster.simulators.stripe.intent import (
    HOLD_MS,
    TRANSITIONS,
    Event,
    Intent,
    NotPossible,
    Refund,
    Status,
    after,
    attached,
    canceled,
    captured,
    with_refund,
)
from doorbuster.simulators.stripe.report import major

T0 = 1_700_000_000_000


def counter() -> Callable[[str], str]:
    numbers = itertools.count(1)
    return lambda prefix: f"{prefix}_{next(numbers)}"


IDS = counter()


def fresh(**fields: Any) -> Intent:
    return Intent("pi_1", "pi_1_secret_x", 10_000, "usd", "requires_payment_method", T0, **fields)


def tried(method: str = "pm_card_visa", intent: Intent | None = None, **attempt: Any) -> Intent:
    return confirmed(intent or fresh(), Attempt("pm_1", METHODS[method], T0, **attempt), IDS)


def told(before: Intent | None, now: Intent) -> list[str]:
    return [fact.type for fact in facts_between(before, now)]


def test_every_step_not_in_the_table_is_refused() -> None:
    steps = set(itertools.product(get_args(Status), get_args(Event)))
    for status, event in steps - set(TRANSITIONS):
        with pytest.raises(NotPossible):
            after(status, event)
    assert all(status in get_args(Status) and event in get_args(Event) for status, event in TRANSITIONS)


def test_what_is_canceled_or_succeeded_stays_so() -> None:
    assert not [step for step in TRANSITIONS if step[0] in ("canceled", "succeeded")]


@pytest.mark.parametrize(
    ("method", "code", "decline_code"),
    [
        ("pm_card_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("pm_card_visa_chargeDeclinedLostCard", "card_declined", "lost_card"),
        ("pm_card_visa_chargeDeclinedStolenCard", "card_declined", "stolen_card"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", "expired_card"),
        ("pm_card_chargeDeclinedProcessingError", "processing_error", "processing_error"),
        ("pm_card_chargeDeclinedIncorrectCvc", "incorrect_cvc", "incorrect_cvc"),
    ],
)
def test_a_declined_card_leaves_a_failed_charge_and_waits_for_another(
    method: str, code: str, decline_code: str
) -> None:
    intent = tried(method)
    assert (intent.status, intent.method_id, intent.received) == ("requires_payment_method", None, 0)
    assert intent.problem is not None and intent.latest is not None
    assert (intent.problem.code, intent.problem.decline_code) == (code, decline_code)
    assert (intent.latest.status, intent.problem.charge) == ("failed", intent.latest.id)
    assert transactions_of(intent) == []
    assert told(None, intent) == ["payment_intent.created", "charge.failed", "payment_intent.payment_failed"]
    paid = tried(intent=intent)
    assert (paid.status, paid.problem, len(paid.charges)) == ("succeeded", None, 2)


def test_money_of_an_asynchronous_capture_is_taken_at_once_and_in_the_balance_later() -> None:
    intent = tried()
    assert (intent.status, intent.received, transactions_of(intent)) == ("succeeded", 10_000, [])
    assert told(None, intent) == ["payment_intent.created", "charge.succeeded", "payment_intent.succeeded"]
    assert turned(intent, T0 + ASYNC_MS - 1, counter()) == intent
    later = turned(intent, T0 + ASYNC_MS, counter())
    assert [t.amount for t in transactions_of(later)] == [10_000]
    assert told(intent, later) == ["charge.updated"]
    assert turned(later, T0 + 10**12, counter()) == later


def test_an_automatic_capture_is_in_the_balance_at_once() -> None:
    assert [t.amount for t in transactions_of(tried(intent=fresh(capture_method="automatic")))] == [10_000]


def test_a_capture_of_a_part_has_the_whole_and_its_reversal_in_the_balance() -> None:
    """docs.stripe.com/reports/reporting-categories."""
    held = tried(intent=fresh(capture_method="manual"))
    assert (held.status, held.capturable, held.received, transactions_of(held)) == ("requires_capture", 10_000, 0, [])
    assert told(None, held)[1:] == ["charge.succeeded", "payment_intent.amount_capturable_updated"]
    rest = Refund("re_1", 4_000, "succeeded", T0, "txn_9", releases=True)
    taken = captured(held, 6_000, "txn_1", rest, T0)
    assert (taken.status, taken.received, taken.capturable) == ("succeeded", 6_000, 0)
    rows = [(t.reporting_category, t.amount, t.fee) for t in transactions_of(taken)]
    assert rows == [("charge", 10_000, fee_of(6_000, "usd")), ("partial_capture_reversal", -4_000, 0)]
    assert told(held, taken) == ["charge.captured", "payment_intent.succeeded"]
    assert taken.latest is not None and (taken.latest.refunded, taken.latest.returned) == (4_000, 0)


def test_a_hold_is_released_by_a_cancel_and_by_time_and_nothing_is_booked() -> None:
    held = tried(intent=fresh(capture_method="manual"))
    ended = canceled(held, "abandoned", release(held, counter(), T0), T0)
    assert (ended.status, transactions_of(ended)) == ("canceled", [])
    assert ended.latest is not None and ended.latest.refunded == 10_000
    assert told(held, ended) == ["charge.refunded", "payment_intent.canceled"]
    assert turned(held, T0 + HOLD_MS - 1, counter()).status == "requires_capture"
    expired = turned(held, T0 + HOLD_MS, counter())
    assert (expired.status, expired.cancellation_reason) == ("canceled", "automatic")
    assert told(held, expired) == ["charge.expired", "charge.refunded", "payment_intent.canceled"]


def test_a_card_that_asks_for_the_buyer_is_charged_only_after_they_came() -> None:
    asked = tried("pm_card_threeDSecure2Required", return_url="https://shop.test/")
    assert (asked.status, asked.charges, asked.action_token is not None) == ("requires_action", (), True)
    assert told(None, asked) == ["payment_intent.created", "payment_intent.requires_action"]
    paid = tried("pm_card_threeDSecure2Required", asked, has_authenticated=True)
    assert (paid.status, paid.action_token) == ("succeeded", None)
    gone = unauthenticated(asked)
    assert gone.problem is not None
    assert (gone.status, gone.charges, gone.problem.code) == (
        "requires_payment_method",
        (),
        "payment_intent_authentication_failure",
    )
    assert told(asked, gone) == ["payment_intent.payment_failed"]


@pytest.mark.parametrize(("is_away", "must_not_ask"), [(True, False), (False, True)])
def test_a_card_that_must_ask_and_may_not_is_declined(is_away: bool, must_not_ask: bool) -> None:
    intent = tried("pm_card_authenticationRequired", is_away=is_away, must_not_ask=must_not_ask)
    assert intent.problem is not None
    assert (intent.status, intent.problem.code) == ("requires_payment_method", "authentication_required")
    assert tried("pm_card_authenticationRequired", is_away=True, is_set_up=True).status == "succeeded"


@pytest.mark.parametrize(
    ("method", "ends", "says"),
    [
        ("pm_usBankAccount_success", "succeeded", ["charge.succeeded", "payment_intent.succeeded"]),
        (
            "pm_usBankAccount_insufficientFunds",
            "requires_payment_method",
            ["charge.failed", "payment_intent.payment_failed"],
        ),
    ],
)
def test_a_bank_debit_is_processing_until_the_bank_answers(method: str, ends: str, says: list[str]) -> None:
    intent = tried(method)
    assert (intent.status, intent.received) == ("processing", 0)
    assert told(None, intent) == ["payment_intent.created", "charge.pending", "payment_intent.processing"]
    later = turned(intent, T0 + 10**9, counter())
    assert (later.status, len(later.charges)) == (ends, 1)
    assert told(intent, later) == says


@pytest.mark.parametrize(
    ("method", "first", "last", "says"),
    [
        ("pm_card_pendingRefund", "pending", "succeeded", ["refund.updated", "charge.refund.updated"]),
        ("pm_card_refundFail", "succeeded", "failed", ["refund.updated", "charge.refund.updated", "refund.failed"]),
    ],
)
def test_a_refund_may_turn_later_and_a_failed_one_brings_the_money_back(
    method: str, first: str, last: str, says: list[str]
) -> None:
    ids = counter()
    paid = turned(tried(method), T0 + ASYNC_MS, counter())
    given = with_refund(paid, refund_of(paid, 3_000, T0, ids))
    assert given.latest is not None and given.latest.refunds[0].status == first
    assert told(paid, given) == ["refund.created", "charge.refunded"]
    later = turned(given, T0 + REFUND_MS, ids)
    assert later.latest is not None and later.latest.refunds[0].status == last
    assert told(given, later) == says
    booked = sum(t.amount for t in transactions_of(later))
    assert booked == 10_000 - later.latest.returned == (7_000 if last == "succeeded" else 10_000)


STEPS = st.lists(st.tuples(st.sampled_from(["confirm", "capture", "cancel", "refund", "wait"]), st.integers(1, 4_000)))


@given(st.sampled_from(["automatic", "automatic_async", "manual"]), st.sampled_from(sorted(METHODS)), STEPS)
def test_the_balance_is_always_what_was_taken_less_what_was_given_back(
    way: str, method: str, steps: list[tuple[str, int]]
) -> None:
    assume(way != "manual" or not METHODS[method].settles)  # the API refuses to hold a bank debit (see test_api)
    ids, now = counter(), T0
    intent = attached(fresh(capture_method=way), "pm_1", METHODS[method])
    for step, number in steps:
        before = intent
        try:
            intent = step_of(intent, step, number, now, ids, method)
        except NotPossible:
            continue
        now += number
        facts_between(before, intent)
        assert structs.astuple(intent)[:4] == structs.astuple(before)[:4]
    intent = turned(turned(intent, now + 10**12, ids), now + 2 * 10**12, ids)
    charge = intent.latest
    kept = 0 if charge is None else charge.captured - charge.returned
    assert sum(row.amount for row in transactions_of(intent)) == kept >= 0
    assert intent.received <= intent.amount
    assert (kept > 0) <= (intent.status == "succeeded")


def step_of(intent: Intent, step: str, number: int, now: int, ids: Callable[[str], str], method: str) -> Intent:
    charge = intent.latest
    match step:
        case "confirm":
            after(intent.status, "attach" if intent.status == "processing" else "pay")
            return confirmed(intent, Attempt("pm_2", METHODS[method], now, has_authenticated=number > 2_000), ids)
        case "capture":
            rest = Refund(ids("re"), intent.amount - number, "succeeded", now, ids("txn"), releases=True)
            after(intent.status, "capture")
            return captured(intent, number, ids("txn"), rest, now)
        case "cancel":
            return canceled(intent, None, release(intent, ids, now), now)
        case "refund" if charge is not None and 0 < number <= charge.captured - charge.returned:
            return with_refund(intent, refund_of(intent, number, now, ids))
        case _:
            return turned(intent, now, ids)


@pytest.mark.parametrize(
    ("amount", "currency", "fee"), [(2_000, "usd", 88), (50, "usd", 31), (10_000, "krw", 360), (0, "jpy", 0)]
)
def test_the_fee_is_rounded_to_the_nearest(amount: int, currency: str, fee: int) -> None:
    assert fee_of(amount, currency) == fee


def test_money_is_available_two_workdays_on() -> None:
    friday = 1_700_222_400_000
    assert available_on(friday) == (friday + 4 * 86_400_000) // 1000 // 86_400 * 86_400
    row = flat(transactions_of(tried(intent=fresh(capture_method="automatic")))[0])
    assert transaction_view(row, T0)["status"] == "pending"
    assert transaction_view(row, T0 + 5 * 86_400_000)["status"] == "available"


def test_a_report_is_in_major_units() -> None:
    cases = [(1050, "usd"), (1050, "krw"), (1050, "kwd"), (-7, "usd")]
    assert [major(amount, currency) for amount, currency in cases] == ["10.50", "1050", "1.050", "-0.07"]
