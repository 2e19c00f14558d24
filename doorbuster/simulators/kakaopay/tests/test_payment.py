"""What may happen to a KakaoPay payment, purely."""

import itertools
from typing import get_args

import pytest
from msgspec import structs

from doorbuster.simulators.kakaopay.errors import Refused
from doorbuster.simulators.kakaopay.payment import (
    TID_MS,
    TRANSITIONS,
    ApproveAsk,
    CancelAsk,
    Event,
    NotPossible,
    Payment,
    Status,
    Subscription,
    Sums,
    Urls,
    after,
    approved,
    authenticated,
    cancelled,
    failed,
    is_overdue,
    refuse_approve,
    refuse_cancel,
    refuse_charge,
    stepped,
    vat_of,
)
from doorbuster.simulators.kakaopay.views import cancel_view, kst, order_view, with_pg_token

T0 = 1_700_000_000_000
URLS = Urls("https://shop.test/ok", "https://shop.test/cancel", "https://shop.test/fail")
CID = "TC0ONETIME"
ASK = ApproveAsk(CID, "order-1", "user-1", "token-1")


def ready(total: int = 2_200, tax_free: int = 0) -> Payment:
    sums = Sums(total, tax_free, vat_of(total - tax_free))
    return Payment("T1", CID, "order-1", "user-1", "초코파이", 1, sums, "READY", T0, URLS)


def with_token(total: int = 2_200, tax_free: int = 0) -> Payment:
    return authenticated(ready(total, tax_free), "MONEY", "token-1", None, False)


def paid(total: int = 2_200, tax_free: int = 0) -> Payment:
    return approved(with_token(total, tax_free), "A1", None, T0 + 1)


def give_back(payment: Payment, amount: int, tax_free: int = 0, n: int = 2, vat: int | None = None) -> Payment:
    ask = CancelAsk(CID, amount, tax_free, vat)
    refuse_cancel(payment, ask)
    return cancelled(payment, ask, f"A{n}", T0 + n)


def test_every_step_not_in_the_table_is_refused() -> None:
    steps = set(itertools.product(get_args(Status), get_args(Event)))
    for status, event in steps - set(TRANSITIONS):
        with pytest.raises(NotPossible):
            after(status, event)
    assert all(status in get_args(Status) and event in get_args(Event) for status, event in TRANSITIONS)


@pytest.mark.parametrize(
    ("payment", "ask", "code"),
    [
        (ready(), ASK, -701),
        (paid(), ASK, -702),
        (give_back(paid(), 2_200), ASK, -702),
        (with_token(), structs.replace(ASK, cid="TCSUBSCRIP"), -731),
        (with_token(), structs.replace(ASK, partner_order_id="x"), -706),
        (with_token(), structs.replace(ASK, partner_user_id="x"), -707),
        (with_token(), structs.replace(ASK, pg_token="x"), -708),
        (with_token(), structs.replace(ASK, total_amount=2_201), -704),
        (failed(with_token(), T0), ASK, -783),
        (stepped(ready(), "quit"), ASK, -783),
        (stepped(ready(), "fail_password"), ASK, -783),
    ],
)
def test_an_approval_that_does_not_fit_says_why(payment: Payment, ask: ApproveAsk, code: int) -> None:
    with pytest.raises(Refused) as refusal:
        refuse_approve(payment, ask, T0 + 1)
    assert refusal.value.code == code


def test_a_tid_lives_15_minutes_and_a_paid_one_for_ever() -> None:
    refuse_approve(with_token(), ASK, T0 + TID_MS - 1)
    for payment in (ready(), with_token()):
        with pytest.raises(Refused) as refusal:
            refuse_approve(payment, ASK, T0 + TID_MS)
        assert refusal.value.code == -723
    assert not is_overdue(paid(), T0 + 10**12)


def test_the_buyer_may_take_every_step_of_the_window() -> None:
    payment = stepped(stepped(stepped(stepped(ready(), "send_tms"), "open"), "select"), "wait_for_ars")
    assert payment.status == "ARS_WAITING"
    assert authenticated(payment, "CARD", "t", None, False).status == "AUTH_PASSWORD"


def test_money_moves_with_the_approval_and_comes_back_only_with_a_cancel() -> None:
    assert (ready().captured, with_token().captured, failed(with_token(), T0).captured) == (0, 0, 0)
    payment = give_back(paid(), 1_000)
    assert (payment.status, payment.captured, payment.available.total) == ("PART_CANCEL_PAYMENT", 1_200, 1_200)
    payment = give_back(payment, 1_200, n=3)
    assert (payment.status, payment.captured, payment.available) == ("CANCEL_PAYMENT", 0, Sums())
    assert payment.canceled == payment.sums


def test_parts_given_back_one_by_one_add_up_to_the_whole() -> None:
    payment = paid(10_007, tax_free=3_000)
    for n in range(10):
        payment = give_back(payment, 1_000, tax_free=300, n=n)
    payment = give_back(payment, 7, n=11)
    assert (payment.status, payment.canceled) == ("CANCEL_PAYMENT", payment.sums)


@pytest.mark.parametrize(
    ("payment", "ask", "code"),
    [
        (paid(), CancelAsk(CID, 2_201, 0), -710),
        (give_back(paid(), 2_000), CancelAsk(CID, 201, 0), -710),
        (paid(), CancelAsk("TCSUBSCRIP", 1, 0), -731),
        (paid(), CancelAsk(CID, 1, 0, available=2_199), -722),
        (paid(), CancelAsk(CID, 1_000, 1), -722),
        (paid(), CancelAsk(CID, 1_000, 0, vat=201), -722),
        (paid(2_200, tax_free=2_200), CancelAsk(CID, 1_000, 1_001), -722),
        (give_back(paid(), 2_200), CancelAsk(CID, 1, 0), -784),
        (ready(), CancelAsk(CID, 1, 0), -784),
        (with_token(), CancelAsk(CID, 1, 0), -784),
        (failed(with_token(), T0), CancelAsk(CID, 1, 0), -784),
    ],
)
def test_what_cannot_be_cancelled_says_why(payment: Payment, ask: CancelAsk, code: int) -> None:
    with pytest.raises(Refused) as refusal:
        refuse_cancel(payment, ask)
    assert refusal.value.code == code


def test_a_provider_without_a_cap_gives_back_more_than_it_took() -> None:
    payment = paid()
    for n in range(3):
        ask = CancelAsk(CID, 1_500, 0)
        refuse_cancel(payment, ask, over_refund=True)
        payment = cancelled(payment, ask, f"A{n}", T0 + n)
    assert (payment.status, payment.captured) == ("CANCEL_PAYMENT", -2_300)


def test_an_amount_of_0_issues_a_sid_and_takes_nothing() -> None:
    payment = approved(with_token(0), "A1", "S1", T0)
    assert (payment.status, payment.captured, payment.sid) == ("ISSUED_SID", 0, "S1")


def test_only_its_user_may_be_charged_again_and_only_while_the_sid_is_active() -> None:
    subscription = Subscription("S1", "TCSUBSCRIP", "user-1", "box", "CARD", T0)
    refuse_charge(subscription, "TCSUBSCRIP", "user-1")
    for sub, cid, user, code in [
        (subscription, CID, "user-1", -731),
        (subscription, "TCSUBSCRIP", "user-2", -753),
        (structs.replace(subscription, active=False), "TCSUBSCRIP", "user-1", -751),
    ]:
        with pytest.raises(Refused) as refusal:
            refuse_charge(sub, cid, user)
        assert refusal.value.code == code


@pytest.mark.parametrize(
    ("taxable", "vat"), [(2_200, 200), (1_000, 91), (270_600, 24_600), (1_100_000, 100_000), (1_100, 100)]
)
def test_vat_is_as_in_the_vendors_examples(taxable: int, vat: int) -> None:
    assert vat_of(taxable) == vat


def test_a_part_given_back_looks_as_a_real_answer_did() -> None:
    """The answer of 2024-07-30 quoted in docs/psp/kakaopay.md: 1,100 won of 1,100,000."""
    shown = cancel_view(give_back(paid(1_100_000), 1_100))
    assert shown["status"] == "PART_CANCEL_PAYMENT"
    assert shown["amount"] == {
        "total": 1100000,
        "tax_free": 0,
        "vat": 100000,
        "point": 0,
        "discount": 0,
        "green_deposit": 0,
    }
    assert shown["canceled_amount"] == shown["approved_cancel_amount"]
    assert (shown["canceled_amount"]["total"], shown["canceled_amount"]["vat"]) == (1_100, 100)
    assert (shown["cancel_available_amount"]["total"], shown["cancel_available_amount"]["vat"]) == (1_098_900, 99_900)


def test_an_order_shows_nothing_paid_before_the_approval() -> None:
    shown = order_view(with_token())
    assert (shown["status"], shown["payment_action_details"], "approved_at" in shown) == ("AUTH_PASSWORD", [], False)
    assert shown["cancel_available_amount"]["total"] == 0


def test_pg_token_follows_the_shops_own_query() -> None:
    assert with_pg_token("https://shop.test/ok", "t") == "https://shop.test/ok?pg_token=t"
    assert with_pg_token("https://shop.test/ok?order=1#x", "t") == "https://shop.test/ok?order=1&pg_token=t#x"
    assert kst(T0) == "2023-11-15T07:13:20"
