"""What may happen to a Toss payment, purely."""

import itertools
from typing import get_args

import pytest

from doorbuster.simulators.toss.errors import Refused
from doorbuster.simulators.toss.payment import (
    CONFIRM_MS,
    READY_MS,
    TRANSITIONS,
    Account,
    CancelAsk,
    Event,
    NotPossible,
    Payment,
    Status,
    account_issued,
    after,
    approved,
    authenticated,
    cancelled,
    declined,
    deposit_reversed,
    deposited,
    expired,
    is_overdue,
    refuse_cancel,
    refuse_confirm,
    vat_of,
)
from doorbuster.simulators.toss.settlement import fee_of, settlement_view
from doorbuster.simulators.toss.views import kst, payment_view

T0 = 1_700_000_000_000


def ready(amount: int = 10_000, tax_free: int = 0, **fields: object) -> Payment:
    return Payment("pk1", "order-1", "shirt", "카드", amount, "READY", T0, tax_free=tax_free, **fields)  # type: ignore[arg-type]


def done(amount: int = 10_000, tax_free: int = 0, **fields: object) -> Payment:
    return approved(authenticated(ready(amount, tax_free, **fields), T0 + 1), "tx-0", T0 + 2)


def waiting() -> Payment:
    payment = Payment("pk1", "order-1", "shirt", "가상계좌", 10_000, "READY", T0)
    account = Account("88", "X123", "Kim", T0 + 3_600_000)
    return account_issued(authenticated(payment, T0), account, "ps_1", "tx-0")


def give_back(payment: Payment, amount: int | None, n: int = 1, **ask: object) -> Payment:
    asked = CancelAsk("why", amount, **ask)  # type: ignore[arg-type]
    refuse_cancel(payment, asked)
    return cancelled(payment, asked, f"tx-{n}", T0 + 10 + n)


def test_every_step_not_in_the_table_is_refused() -> None:
    steps = set(itertools.product(get_args(Status), get_args(Event)))
    for status, event in steps - set(TRANSITIONS):
        with pytest.raises(NotPossible):
            after(status, event)
    assert all(status in get_args(Status) and event in get_args(Event) for status, event in TRANSITIONS)


def test_a_ready_payment_ends_after_30_minutes_and_an_authenticated_one_after_10() -> None:
    payment = ready()
    assert not is_overdue(payment, T0 + READY_MS - 1)
    assert is_overdue(payment, T0 + READY_MS)
    later = authenticated(payment, T0 + READY_MS - 1)
    assert not is_overdue(later, T0 + READY_MS - 1 + CONFIRM_MS - 1)
    assert is_overdue(later, T0 + READY_MS - 1 + CONFIRM_MS)
    assert not is_overdue(done(), T0 + 10**12)
    shown = payment_view(expired(later))
    assert (shown["status"], shown["failure"]["code"]) == ("EXPIRED", "EXPIRED_PAYMENT")


@pytest.mark.parametrize(
    ("payment", "code"),
    [
        (ready(), "NOT_FOUND_PAYMENT_SESSION"),
        (expired(ready()), "NOT_FOUND_PAYMENT_SESSION"),
        (done(), "ALREADY_PROCESSED_PAYMENT"),
        (waiting(), "ALREADY_PROCESSED_PAYMENT"),
        (declined(authenticated(ready(), T0), "REJECT_CARD_PAYMENT", T0), "ALREADY_PROCESSED_PAYMENT"),
        (give_back(done(), None), "ALREADY_PROCESSED_PAYMENT"),
    ],
)
def test_only_an_authenticated_payment_can_be_confirmed(payment: Payment, code: str) -> None:
    with pytest.raises(Refused) as refusal:
        refuse_confirm(payment, "order-1", 10_000)
    assert refusal.value.code == code


@pytest.mark.parametrize(
    ("order_id", "amount", "code"), [("other-1", 10_000, "FORBIDDEN_REQUEST"), ("order-1", 9_999, "INVALID_REQUEST")]
)
def test_a_confirm_must_name_the_order_and_the_amount_of_the_window(order_id: str, amount: int, code: str) -> None:
    with pytest.raises(Refused) as refusal:
        refuse_confirm(authenticated(ready(), T0), order_id, amount)
    assert refusal.value.code == code


def test_money_moves_only_with_an_approval_and_comes_back_only_with_a_cancel() -> None:
    assert ready().captured == waiting().captured == 0
    payment = give_back(give_back(done(), 3_000), 2_000, 2)
    assert (payment.captured, payment.balance, payment.status) == (5_000, 5_000, "PARTIAL_CANCELED")
    payment = give_back(payment, None, 3)
    assert (payment.captured, payment.balance) == (0, 0)
    assert payment.status == "PARTIAL_CANCELED", "as measured: only the balance says that all came back"
    whole = give_back(done(), None)
    assert (whole.captured, whole.balance, whole.status) == (0, 0, "CANCELED")


@pytest.mark.parametrize(
    ("payment", "ask", "code"),
    [
        (done(), CancelAsk("why", 10_001), "NOT_CANCELABLE_AMOUNT"),
        (done(), CancelAsk("why", 0), "INVALID_REQUEST"),
        (done(), CancelAsk("why", -5), "INVALID_REQUEST"),
        (done(), CancelAsk("why", refundable=9_999), "NOT_MATCHES_REFUNDABLE_AMOUNT"),
        (done(partial_cancelable=False), CancelAsk("why", 1), "NOT_ALLOWED_PARTIAL_REFUND"),
        (done(tax_free=4_000), CancelAsk("why", 5_000, tax_free=4_001), "INVALID_REQUEST"),
        (done(tax_free=4_000), CancelAsk("why", 6_001), "INVALID_REQUEST"),
        (done(tax_free=4_000), CancelAsk("why", 1_000, tax_free=1_001), "INVALID_REQUEST"),
        (give_back(done(), None), CancelAsk("why"), "ALREADY_CANCELED_PAYMENT"),
        (give_back(give_back(done(), 1), None, 2), CancelAsk("why"), "NOT_CANCELABLE_AMOUNT"),
        (ready(), CancelAsk("why"), "NOT_CANCELABLE_PAYMENT"),
        (expired(ready()), CancelAsk("why"), "NOT_CANCELABLE_PAYMENT"),
        (waiting(), CancelAsk("why", 1), "NOT_ALLOWED_PARTIAL_REFUND_WAITING_DEPOSIT"),
        (deposited(waiting(), "tx-1", T0), CancelAsk("why"), "INVALID_REFUND_ACCOUNT_INFO"),
    ],
)
def test_what_cannot_be_cancelled_says_why(payment: Payment, ask: CancelAsk, code: str) -> None:
    with pytest.raises(Refused) as refusal:
        refuse_cancel(payment, ask)
    assert refusal.value.code == code


def test_a_provider_without_a_cap_gives_back_more_than_it_took() -> None:
    ask = CancelAsk("why", 7_000)
    payment = done()
    for n in (1, 2):
        refuse_cancel(payment, ask, over_refund=True)
        payment = cancelled(payment, ask, f"tx-{n}", T0 + n)
    assert (payment.captured, payment.balance) == (-4_000, -4_000)


def test_the_tax_free_part_is_given_back_to_the_won() -> None:
    payment = give_back(done(10_000, tax_free=4_000), 5_000, tax_free=1_000)
    shown = payment_view(payment)
    assert (shown["balanceAmount"], shown["taxFreeAmount"], shown["vat"], shown["suppliedAmount"]) == (
        5_000,
        3_000,
        182,
        1_818,
    )
    payment = give_back(payment, None, 2)
    assert payment.tax_free_balance == 0
    assert [c["taxFreeAmount"] for c in payment_view(payment)["cancels"]] == [1_000, 3_000]


def test_a_deposit_may_be_taken_back_and_made_again() -> None:
    payment = deposited(waiting(), "tx-1", T0 + 1)
    assert (payment.status, payment.captured) == ("DONE", 10_000)
    payment = deposit_reversed(payment, "tx-2", T0 + 2)
    assert (payment.status, payment.captured, payment.approved_at_ms) == ("WAITING_FOR_DEPOSIT", 0, None)
    payment = deposited(payment, "tx-3", T0 + 3)
    assert (payment.status, payment.captured) == ("DONE", 10_000)
    back = give_back(payment, None, 4, has_refund_account=True)
    assert (back.status, back.captured) == ("CANCELED", 0)
    with pytest.raises(NotPossible):
        deposit_reversed(done(), "tx-9", T0)


def test_a_cancel_before_the_deposit_moves_no_money() -> None:
    payment = give_back(waiting(), None)
    assert (payment.status, payment.captured, payment.moves) == ("CANCELED", 0, ())


@pytest.mark.parametrize(
    ("taxable", "vat"), [(15_000, 1_364), (9_026, 821), (30_000, 2_727), (50_000_000_000, 4_545_454_545), (0, 0)]
)
def test_vat_is_as_in_the_vendors_examples(taxable: int, vat: int) -> None:
    assert vat_of(taxable) == vat


def test_a_settlement_row_is_as_in_the_vendors_example_and_a_cancel_takes_the_fee_back() -> None:
    payment = give_back(done(64_601), None)
    rows = [settlement_view(payment, move) for move in payment.moves]
    assert [(r["amount"], r["fee"], r["supplyAmount"], r["vat"], r["payOutAmount"]) for r in rows] == [
        (64_601, 1_492, 1_356, 136, 63_109),
        (-64_601, -1_492, -1_356, -136, -63_109),
    ]
    assert rows[0]["cancel"] is None
    assert rows[1]["cancel"]["transactionKey"] == rows[1]["transactionKey"] == "tx-1"
    assert fee_of(0) == 0


def test_times_are_those_of_seoul() -> None:
    assert kst(T0) == "2023-11-15T07:13:20+09:00"
    assert kst(None) is None
