"""What may happen to a NICEPAY payment, purely."""

import itertools
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from doorbuster.simulators.nicepay.errors import DECLINES, ERRORS, NET_CANCELLED, Refused
from doorbuster.simulators.nicepay.payment import (
    AUTHENTICATION_MS,
    CANCEL_CARD_MS,
    HOUR_MS,
    NET_CANCEL_MS,
    REFUND_ACCOUNT_MS,
    TRANSITIONS,
    CancelAsk,
    Event,
    NotPossible,
    Payment,
    Status,
    account_issued,
    after,
    approved,
    cancelled,
    declined,
    deposited,
    expired,
    is_overdue,
    network_refusal,
    refuse_approval,
    refuse_cancel,
    refuse_net_cancel,
)
from doorbuster.simulators.nicepay.views import compact, day, iso, iso_or_zero, payment_view

T0 = 1_700_000_000_000
WHOLE = CancelAsk("why")


def authenticated(amount: int = 10_000, **fields: object) -> Payment:
    return Payment("tid-1", "order-1", amount, "authenticated", T0, **fields)  # type: ignore[arg-type]


def paid(amount: int = 10_000, **fields: object) -> Payment:
    return approved(authenticated(amount, **fields), T0 + 1)


def waiting() -> Payment:
    return account_issued(authenticated(pay_method="vbank"), "N1", T0 + 1)


def part(amount: int, tax_free: int = 0) -> CancelAsk:
    return CancelAsk("why", amount, tax_free)


def give_back(payment: Payment, ask: CancelAsk, n: int = 1) -> Payment:
    refuse_cancel(payment, ask, T0 + 10 + n)
    return cancelled(payment, ask, f"tid-c{n}", T0 + 10 + n)


def refusal(refuse: object, *args: object) -> str:
    with pytest.raises(Refused) as caught:
        refuse(*args)  # type: ignore[operator]
    return caught.value.code


def test_every_step_not_in_the_table_is_refused() -> None:
    steps = set(itertools.product(get_args(Status), get_args(Event)))
    for status, event in steps - set(TRANSITIONS):
        with pytest.raises(NotPossible):
            after(status, event)
    assert set(TRANSITIONS) < steps
    assert set(TRANSITIONS.values()) <= set(get_args(Status)) - {"authenticated"}


@pytest.mark.parametrize(
    ("payment", "amount", "at_ms", "code"),
    [
        (paid(), 10_000, T0, "U114"),
        (waiting(), 10_000, T0, "U114"),
        (declined(authenticated(), "3095", T0), 10_000, T0, "U114"),
        (give_back(paid(), WHOLE), 10_000, T0, "U114"),
        (authenticated(), 9_999, T0, "A123"),
        (authenticated(), 10_000, T0 + AUTHENTICATION_MS, "A245"),
    ],
)
def test_only_what_was_authenticated_a_moment_ago_is_approved_and_once(
    payment: Payment, amount: int, at_ms: int, code: str
) -> None:
    assert refusal(refuse_approval, payment, amount, at_ms) == code
    refuse_approval(authenticated(), 10_000, T0 + AUTHENTICATION_MS - 1)


@pytest.mark.parametrize(
    ("payment", "code"),
    [
        (authenticated(999), "3041"),
        (authenticated(1_000), None),
        (authenticated(49_999, card_quota=2), "3024"),
        (authenticated(50_000, card_quota=2), None),
        (authenticated(50_000, card_quota=1), "3022"),
        (authenticated(50_000, card_quota=37), "3022"),
        (authenticated(expires="2310"), "3021"),
        (authenticated(expires="2311"), None),
        (authenticated(1, pay_method="vbank"), None),
    ],
)
def test_the_network_refuses_what_the_code_table_says_it_does(payment: Payment, code: str | None) -> None:
    assert network_refusal(payment, compact(T0)[:4]) == code


def test_money_moves_only_with_an_approval_or_a_deposit_and_comes_back_only_with_a_cancel() -> None:
    assert authenticated().captured == waiting().captured == declined(authenticated(), "3095", T0).captured == 0
    payment = give_back(give_back(paid(), part(3_000)), part(2_000), 2)
    assert (payment.captured, payment.status) == (5_000, "partialCancelled")
    payment = give_back(payment, part(5_000), 3)
    assert (payment.captured, payment.status) == (0, "cancelled")
    whole = give_back(paid(), WHOLE)
    assert (whole.captured, whole.status) == (0, "cancelled")
    never = give_back(waiting(), WHOLE)
    assert (never.captured, never.status, never.paid_at_ms) == (0, "cancelled", None)


@pytest.mark.parametrize(
    ("payment", "ask", "code"),
    [
        (paid(), part(10_001), "U123"),
        (paid(part_cancelable=False), part(1), "1534"),
        (paid(tax_free=4_000), part(5_000, 4_001), "U319"),
        (paid(tax_free=4_000), part(6_001), "U318"),
        (paid(tax_free=4_000), part(1_000, 1_001), "U321"),
        (give_back(paid(), WHOLE), WHOLE, "2015"),
        (give_back(paid(), WHOLE), part(1), "2015"),
        (give_back(paid(), part(1)), WHOLE, "2031"),
        (declined(authenticated(), "3095", T0), WHOLE, "2014"),
        (expired(waiting()), WHOLE, "2014"),
        (waiting(), part(1), "1534"),
        (deposited(waiting(), T0), WHOLE, "U100"),
    ],
)
def test_what_cannot_be_cancelled_says_why(payment: Payment, ask: CancelAsk, code: str) -> None:
    assert refusal(refuse_cancel, payment, ask, T0 + 10) == code


@pytest.mark.parametrize(
    ("payment", "ask", "period_ms"),
    [
        (paid(), WHOLE, CANCEL_CARD_MS),
        (deposited(waiting(), T0 + 1), structs.replace(WHOLE, has_refund_account=True), REFUND_ACCOUNT_MS),
    ],
)
def test_a_card_can_be_cancelled_for_a_year_and_a_deposit_for_180_days(
    payment: Payment, ask: CancelAsk, period_ms: int
) -> None:
    refuse_cancel(payment, ask, T0 + 1 + period_ms)
    assert refusal(refuse_cancel, payment, ask, T0 + 2 + period_ms) == "2016"


def test_a_net_cancel_is_for_one_hour_and_for_what_is_whole() -> None:
    refuse_net_cancel(paid(), T0 + 1 + NET_CANCEL_MS)
    assert refusal(refuse_net_cancel, paid(), T0 + 2 + NET_CANCEL_MS) == "2020"
    assert refusal(refuse_net_cancel, give_back(paid(), WHOLE), T0 + 2) == "2015"
    assert refusal(refuse_net_cancel, give_back(paid(), part(1)), T0 + 2) == "2031"
    assert refusal(refuse_net_cancel, expired(waiting()), T0 + 2) == "2014"
    assert refusal(refuse_net_cancel, deposited(waiting(), T0 + 2), T0 + 3) == "2014"
    refuse_net_cancel(waiting(), T0 + 2)


def test_a_provider_without_a_cap_gives_back_more_than_it_took() -> None:
    payment = paid()
    for n in (1, 2, 3):
        refuse_cancel(payment, part(7_000), T0 + n, over_refund=True)
        payment = cancelled(payment, part(7_000), f"tid-c{n}", T0 + n)
    assert payment.captured == 10_000 - 21_000
    assert refusal(refuse_cancel, payment, part(1), T0 + 9) == "2015"


@given(
    amount=st.integers(1_000, 100_000),
    tax_free=st.integers(0, 100_000),
    asks=st.lists(st.tuples(st.none() | st.integers(1, 60_000), st.integers(0, 60_000)), max_size=8),
)
def test_no_row_of_cancels_gives_back_more_than_was_paid(
    amount: int, tax_free: int, asks: list[tuple[int | None, int]]
) -> None:
    payment = paid(amount, tax_free=min(tax_free, amount))
    for n, (asked, free) in enumerate(asks):
        before = payment
        try:
            payment = give_back(payment, CancelAsk("why", asked, free), n)
        except Refused as refused:
            assert refused.code in ERRORS
            assert payment is before
        assert 0 <= payment.captured <= before.captured
        assert 0 <= payment.tax_free_left <= payment.captured
        assert (payment.captured == 0) == (payment.status == "cancelled")


def test_an_account_ends_when_its_hours_are_over() -> None:
    payment = waiting()
    assert not is_overdue(payment, T0 + 168 * HOUR_MS)
    assert is_overdue(payment, T0 + 1 + 168 * HOUR_MS)
    assert not is_overdue(deposited(payment, T0 + 2), T0 + 10**12)


def test_a_declined_payment_is_shown_with_the_networks_code_and_without_a_signature() -> None:
    shown = payment_view(declined(authenticated(), "3021", T0), T0, "secret")
    assert (shown["resultCode"], shown["status"], shown["failedAt"]) == ("3021", "failed", iso_or_zero(T0))
    assert (shown["signature"], shown["card"], shown["balanceAmt"], shown["paidAt"]) == (None, None, 0, "0")


def test_times_are_those_of_seoul_in_the_vendors_form() -> None:
    assert iso(T0 + 7) == "2023-11-15T07:13:20.007+0900"
    assert (iso_or_zero(T0 + 7), iso_or_zero(None)) == ("2023-11-15T07:13:20.000+0900", "0")
    assert (compact(T0), day(T0)) == ("231115071320", "20231115")


def test_no_code_is_both_a_refusal_and_a_decline() -> None:
    assert not set(ERRORS) & set(DECLINES)
    assert set(ERRORS) >= NET_CANCELLED
    assert all(status in (200, 401, 403, 404, 405, 429, 500, 503) for status, _ in ERRORS.values())
