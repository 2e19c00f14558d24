"""The answers in the providers' documents and SDKs are read as what they say, and near misses as UNKNOWN."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from msgspec.structs import replace

from doorbuster.engines.payment_router.outcome import (
    AUTHORISED,
    EXPIRED,
    VOIDED,
    WAITING_FOR_BUYER,
    WAITING_FOR_DEPOSIT,
    ChargeOrder,
    Deposit,
    Outcome,
    Result,
)
from doorbuster.engines.payment_router.provider import Forged, Prepared, WindowReturn
from doorbuster.engines.payment_router.providers import kakaopay, nicepay, stripe, toss
from doorbuster.engines.payment_router.tests import documented as doc

KEY = doc.TOSS_KEY
KAKAO_PART = {"status": "PART_CANCEL_PAYMENT", "canceled_amount": {"total": 200}}
TOSS_CASES = [
    pytest.param({}, Result(Outcome.SUCCEEDED, KEY), id="done"),
    pytest.param(
        {"totalAmount": 163021, "balanceAmount": 163021}, Result(Outcome.UNKNOWN, code="another_amount"), id="amount"
    ),
    pytest.param({"balanceAmount": 1}, Result(Outcome.UNKNOWN, KEY, "DONE"), id="done, yet something gone"),
    pytest.param({"currency": "USD"}, Result(Outcome.UNKNOWN, code="another_amount"), id="currency"),
    pytest.param({"orderId": "a4CWyWY5m89PNh7xJwhk1"}, Result(Outcome.UNKNOWN, code="another_reference"), id="order"),
    pytest.param(
        {"status": "PARTIAL_CANCELED", "balanceAmount": 20}, Result(Outcome.SUCCEEDED, KEY, refunded_minor=163000),
        id="partly back",
    ),
    pytest.param(
        {"status": "PARTIAL_CANCELED", "balanceAmount": 0}, Result(Outcome.NOT_EXECUTED, KEY, VOIDED), id="all back"
    ),
    pytest.param({"status": "CANCELED", "balanceAmount": 0}, Result(Outcome.NOT_EXECUTED, KEY, VOIDED), id="void"),
    pytest.param(
        {"status": "WAITING_FOR_DEPOSIT", "virtualAccount": doc.TOSS_ACCOUNT},
        Result(
            Outcome.PENDING, KEY, WAITING_FOR_DEPOSIT,
            deposit=Deposit("11", "79019639679511", "2025-11-30T15:17:19+09:00"),
        ),
        id="deposit",
    ),
    pytest.param({"status": "IN_PROGRESS"}, Result(Outcome.PENDING, KEY, WAITING_FOR_BUYER), id="window"),
    pytest.param({"status": "EXPIRED"}, Result(Outcome.NOT_EXECUTED, KEY, EXPIRED), id="expired"),
    pytest.param(
        {"status": "ABORTED", "failure": {"code": "REJECT_CARD_PAYMENT", "message": "한도초과"}},
        Result(Outcome.DECLINED, KEY, "REJECT_CARD_PAYMENT"), id="declined",
    ),
    pytest.param(
        {"status": "ABORTED", "failure": {"code": "COMMON_ERROR", "message": "일시적인 오류"}},
        Result(Outcome.NOT_EXECUTED, KEY, "COMMON_ERROR"), id="aborted",
    ),
    pytest.param({"status": "SETTLED"}, Result(Outcome.UNKNOWN, KEY, "SETTLED"), id="unheard of"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "result"), TOSS_CASES)
def test_what_a_toss_payment_says(change: dict[str, Any], result: Result) -> None:
    stands = doc.answer(doc.TOSS_PAYMENT | change)
    assert toss.read_inquiry(doc.TOSS_ORDER, stands, age_s=0) == result
    assert toss.read_confirm(doc.TOSS_ORDER, stands) == result
    assert toss.read_confirm(replace(doc.TOSS_ORDER, token="another"), stands).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("change", "outcome", "code"),
    [
        ({}, Outcome.SUCCEEDED, ""),
        ({"amount": 1005, "balanceAmt": 1005}, Outcome.UNKNOWN, "another_amount"),
        ({"orderId": doc.UNDERSCORED}, Outcome.UNKNOWN, "another_reference"),
        ({"tid": "UT2"}, Outcome.UNKNOWN, "another_payment"),
        ({"status": "ready", "vbank": {"vbankCode": "003", "vbankNumber": "12"}}, Outcome.PENDING, WAITING_FOR_DEPOSIT),
        ({"status": "cancelled", "balanceAmt": 0}, Outcome.NOT_EXECUTED, VOIDED),
        ({"status": "cancelled"}, Outcome.UNKNOWN, "cancelled"),
        ({"status": "expired"}, Outcome.NOT_EXECUTED, EXPIRED),
        ({"status": "failed"}, Outcome.DECLINED, "failed"),
        ({"resultCode": "3095"}, Outcome.DECLINED, "3095"),
        ({"resultCode": "2201"}, Outcome.UNKNOWN, "2201"),
    ],
)
def test_what_a_nicepay_payment_says(change: dict[str, Any], outcome: Outcome, code: str) -> None:
    result = nicepay.read_confirm(doc.NICE_ORDER, doc.answer(doc.NICE_PAYMENT | change))
    assert (result.outcome, result.code) == (outcome, code)


@pytest.mark.parametrize(
    ("change", "outcome", "code"),
    [
        ({}, Outcome.SUCCEEDED, ""),
        (KAKAO_PART, Outcome.SUCCEEDED, ""),
        ({"canceled_amount": {"total": 1}}, Outcome.UNKNOWN, "SUCCESS_PAYMENT"),
        ({"status": "CANCEL_PAYMENT", "canceled_amount": {"total": 2200}}, Outcome.NOT_EXECUTED, VOIDED),
        ({"status": "CANCEL_PAYMENT"}, Outcome.UNKNOWN, "CANCEL_PAYMENT"),
        ({"status": "AUTH_PASSWORD"}, Outcome.PENDING, WAITING_FOR_BUYER),
        ({"status": "READY"}, Outcome.PENDING, WAITING_FOR_BUYER),
        ({"status": "FAIL_PAYMENT"}, Outcome.DECLINED, "FAIL_PAYMENT"),
        ({"status": "QUIT_PAYMENT"}, Outcome.NOT_EXECUTED, "QUIT_PAYMENT"),
        ({"status": "ISSUED_SID"}, Outcome.UNKNOWN, "ISSUED_SID"),
        ({"tid": "T2"}, Outcome.UNKNOWN, "another_payment"),
        ({"amount": {"total": 2201}}, Outcome.UNKNOWN, "another_amount"),
    ],
)
def test_what_a_kakaopay_order_says(change: dict[str, Any], outcome: Outcome, code: str) -> None:
    result = kakaopay.read_inquiry(doc.KAKAO_ORDER, doc.answer(doc.KAKAO_PAID | change), age_s=60)
    assert (result.outcome, result.code) == (outcome, code)
    assert result.refunded_minor == (200 if change is KAKAO_PART else 0)


def test_a_kakaopay_session_that_was_never_approved_ends_by_itself() -> None:
    still_open = doc.answer(doc.KAKAO_PAID | {"status": "READY"})
    assert kakaopay.read_inquiry(doc.KAKAO_ORDER, still_open, age_s=3_599).outcome is Outcome.PENDING
    over = kakaopay.read_inquiry(doc.KAKAO_ORDER, still_open, age_s=3_600)
    assert (over.outcome, over.code) == (Outcome.NOT_EXECUTED, EXPIRED)
    paid = kakaopay.read_inquiry(doc.KAKAO_ORDER, doc.answer(doc.KAKAO_PAID), age_s=1e9)
    assert paid.outcome is Outcome.SUCCEEDED


def test_a_kakaopay_session_is_opened_and_approved() -> None:
    session = kakaopay.read_prepare(doc.KAKAO_ORDER, doc.answer(doc.KAKAO_SESSION))
    assert isinstance(session, Prepared) and session.provider_id == doc.KAKAO_TID
    assert session.client["pc_url"] == doc.KAKAO_SESSION["next_redirect_pc_url"]
    evil = doc.KAKAO_SESSION | {"next_redirect_pc_url": "javascript:alert(1)"}
    assert isinstance(kakaopay.read_prepare(doc.KAKAO_ORDER, doc.answer(evil)), Result)
    assert kakaopay.read_confirm(doc.KAKAO_ORDER, doc.answer(doc.KAKAO_APPROVAL)) == Result(
        Outcome.SUCCEEDED, doc.KAKAO_TID
    )
    unapproved = doc.answer(doc.KAKAO_APPROVAL | {"approved_at": ""})
    assert kakaopay.read_confirm(doc.KAKAO_ORDER, unapproved).outcome is Outcome.UNKNOWN
    assert kakaopay.read_confirm(replace(doc.KAKAO_ORDER, currency="JPY"), doc.answer(doc.KAKAO_APPROVAL)).outcome is (
        Outcome.UNKNOWN
    )


@pytest.mark.parametrize(
    ("change", "outcome", "code"),
    [
        ({}, Outcome.SUCCEEDED, ""),
        ({"amount_received": 1999}, Outcome.UNKNOWN, "another_amount"),
        ({"amount": 2001, "amount_received": 2001}, Outcome.UNKNOWN, "another_amount"),
        ({"currency": "eur"}, Outcome.UNKNOWN, "another_amount"),
        ({"metadata": {}}, Outcome.UNKNOWN, "another_reference"),
        ({"latest_charge": {"id": "ch_1", "amount_refunded": 2000}}, Outcome.NOT_EXECUTED, VOIDED),
        ({"status": "requires_capture", "amount_capturable": 2000}, Outcome.PENDING, AUTHORISED),
        ({"status": "requires_capture", "amount_capturable": 1}, Outcome.UNKNOWN, "another_amount"),
        ({"status": "processing"}, Outcome.PENDING, "processing"),
        ({"status": "requires_action"}, Outcome.PENDING, WAITING_FOR_BUYER),
        ({"status": "canceled"}, Outcome.NOT_EXECUTED, VOIDED),
        ({"status": "requires_payment_method"}, Outcome.UNKNOWN, "requires_payment_method"),
        (
            {"status": "requires_payment_method", "last_payment_error": doc.STRIPE_DECLINE["error"]},
            Outcome.DECLINED, "insufficient_funds",
        ),
        ({"status": "partially_funded"}, Outcome.UNKNOWN, "partially_funded"),
    ],
)  # fmt: skip
def test_what_a_stripe_intent_says(change: dict[str, Any], outcome: Outcome, code: str) -> None:
    intent = doc.STRIPE_INTENT | change
    result = stripe.read_charge(doc.STRIPE_ORDER, doc.answer(intent))
    assert (result.outcome, result.code) == (outcome, code)
    found = stripe.read_inquiry(doc.STRIPE_ORDER, doc.answer({"data": [intent], "has_more": False}), age_s=0)
    assert found == result
    known = replace(doc.STRIPE_ORDER, provider_id=doc.STRIPE_ID)
    assert stripe.read_inquiry(known, doc.answer(intent), age_s=0) == result


def test_a_stripe_window_stays_open_after_a_declined_card_until_it_is_voided() -> None:
    window = replace(doc.STRIPE_ORDER, method="window", provider_id=doc.STRIPE_ID)
    tried = doc.STRIPE_OPEN | {"last_payment_error": doc.STRIPE_DECLINE["error"]}
    assert stripe.read_inquiry(window, doc.answer(tried), age_s=1e9).outcome is Outcome.PENDING
    ended = stripe.read_void(window, doc.answer(doc.STRIPE_OPEN | {"status": "canceled"}))
    assert (ended.outcome, ended.code) == (Outcome.NOT_EXECUTED, VOIDED)
    state = {"error": {"type": "invalid_request_error", "code": "payment_intent_unexpected_state"}}
    assert stripe.read_void(window, doc.answer(state, 400)).outcome is Outcome.UNKNOWN
    denied = {"error": {"type": "invalid_request_error", "code": "resource_missing"}}
    assert stripe.read_void(window, doc.answer(denied, 404)).outcome is Outcome.UNKNOWN


def test_a_stripe_decline_of_another_payment_declines_nothing() -> None:
    mine = stripe.read_charge(doc.STRIPE_ORDER, doc.answer(doc.STRIPE_DECLINE, 402))
    assert mine == Result(Outcome.DECLINED, doc.STRIPE_ID, "insufficient_funds")
    for change in ({"metadata": {"reference": "pay-other.1"}}, {"status": "succeeded"}):
        body = {"error": doc.STRIPE_DECLINE["error"] | {"payment_intent": doc.STRIPE_OPEN | change}}
        assert stripe.read_charge(doc.STRIPE_ORDER, doc.answer(body, 402)).outcome is Outcome.UNKNOWN
    assert stripe.read_charge(doc.STRIPE_ORDER, doc.answer(doc.STRIPE_DECLINE, 200)).outcome is Outcome.UNKNOWN


def test_two_stripe_intents_under_one_reference_are_for_a_person() -> None:
    twice = {"data": [doc.STRIPE_INTENT, doc.STRIPE_INTENT | {"id": "pi_2"}], "has_more": False}
    assert stripe.read_inquiry(doc.STRIPE_ORDER, doc.answer(twice), age_s=1e9).code == "more_than_one"


def test_refunds_are_found_under_our_name_and_no_other() -> None:
    for provider, order, answered, other in (
        (toss, doc.TOSS_REFUND, doc.TOSS_REFUNDED, {"cancels": [doc.TOSS_CANCEL | {"cancelReason": "단순 변심"}]}),
        (nicepay, doc.NICE_REFUND, doc.NICE_REFUNDED, {"cancels": [doc.NICE_CANCEL | {"reason": "sample-code"}]}),
        (kakaopay, doc.KAKAO_REFUND, doc.KAKAO_CANCEL, {"payload": "another"}),
        (stripe, doc.STRIPE_REFUND, doc.STRIPE_REFUNDED, {"metadata": {"reference": "another"}}),
    ):
        result = provider.read_refund(order, doc.answer(answered))
        assert result.outcome is Outcome.SUCCEEDED and result.provider_id, provider.CAPABILITY.name
        assert provider.read_refund(order, doc.answer(answered | other)).outcome is Outcome.UNKNOWN
        for amount in (order.amount_minor + 1, order.amount_minor - 1):
            another = replace(order, amount_minor=amount)
            assert provider.read_refund(another, doc.answer(answered)).outcome is Outcome.UNKNOWN
        foreign = replace(order, currency="JPY")
        assert provider.read_refund(foreign, doc.answer(answered)).outcome is Outcome.UNKNOWN
        later = replace(order, charge_reference="pay-other.1")
        assert provider is stripe or provider.read_refund(later, doc.answer(answered)).outcome is Outcome.UNKNOWN
        elsewhere = replace(order, provider_charge_id="another")
        assert provider.read_refund(elsewhere, doc.answer(answered)).outcome is Outcome.UNKNOWN


def test_no_such_payment_is_final_only_past_the_horizon() -> None:
    for provider, order, absent in (
        (toss, doc.TOSS_ORDER, doc.answer({"code": "NOT_FOUND_PAYMENT", "message": "존재하지 않는 결제 입니다."}, 404)),
        (stripe, doc.STRIPE_ORDER, doc.answer({"object": "search_result", "data": [], "has_more": False})),
        (nicepay, doc.NICE_ORDER, doc.answer({"resultCode": "A118", "resultMsg": "조회 결과데이터 없음"})),
    ):
        horizon = provider.CAPABILITY.not_found_horizon_s
        assert horizon is not None
        assert provider.read_inquiry(order, absent, age_s=horizon - 1).outcome is Outcome.UNKNOWN
        final = provider.read_inquiry(order, absent, age_s=horizon)
        assert (final.outcome, final.code) == (Outcome.NOT_EXECUTED, "not_found")
        for status in (401, 403, 404, 429, 500):
            broken = provider.read_inquiry(order, doc.answer({"code": "NOT_FOUND"}, status), age_s=1e9)
            assert broken.outcome is Outcome.UNKNOWN, (provider.CAPABILITY.name, status)


def test_an_unknown_refund_is_asked_about_and_given_up_only_past_the_horizon() -> None:
    def stripe_list(*refunds: dict[str, Any]) -> dict[str, Any]:
        return {"data": list(refunds), "has_more": False}

    for provider, order, there, absent in (
        (toss, doc.TOSS_REFUND, doc.TOSS_REFUNDED, doc.TOSS_PAYMENT),
        (nicepay, doc.NICE_REFUND, doc.NICE_REFUNDED, doc.NICE_PAYMENT),
        (kakaopay, doc.KAKAO_REFUND, doc.KAKAO_REFUNDED, doc.KAKAO_PAID),
        (stripe, doc.STRIPE_REFUND, stripe_list(doc.STRIPE_REFUNDED), stripe_list()),
    ):
        horizon = provider.CAPABILITY.not_found_horizon_s
        assert horizon is not None
        assert provider.read_refund_inquiry(order, doc.answer(there), age_s=0).outcome is Outcome.SUCCEEDED
        early = provider.read_refund_inquiry(order, doc.answer(absent), age_s=horizon - 1)
        assert early.outcome is Outcome.UNKNOWN
        late = provider.read_refund_inquiry(order, doc.answer(absent), age_s=horizon)
        assert late.outcome is Outcome.NOT_EXECUTED
        somebody = provider.read_refund_inquiry(replace(order, refunded_minor=1), doc.answer(absent), age_s=horizon)
        assert provider is stripe or somebody.outcome is Outcome.UNKNOWN, "more or less went back than we know of"
        broken = provider.read_refund_inquiry(order, doc.answer(b"[]", 502), age_s=horizon)
        assert broken.outcome is Outcome.UNKNOWN


def test_a_refund_that_stripe_could_not_finish_is_said_to_have_failed() -> None:
    for status, outcome in (
        ("pending", Outcome.PENDING), ("requires_action", Outcome.PENDING), ("failed", Outcome.DECLINED),
        ("canceled", Outcome.DECLINED), (None, Outcome.UNKNOWN), ("new", Outcome.UNKNOWN),
    ):  # fmt: skip
        document = doc.STRIPE_REFUNDED | {"status": status, "failure_reason": None}
        assert stripe.read_refund(doc.STRIPE_REFUND, doc.answer(document)).outcome is outcome


def test_a_netcancel_is_done_only_when_the_payment_stands_cancelled() -> None:
    undone = doc.NICE_PAYMENT | {"status": "cancelled", "balanceAmt": 0}
    assert nicepay.read_netcancel(doc.NICE_ORDER, doc.answer(undone)) == Result(
        Outcome.NOT_EXECUTED, doc.NICE_TID, VOIDED
    )
    for document in (doc.NICE_PAYMENT, {"resultCode": "2012"}, {"resultCode": "U126"}, undone | {"amount": 1}):
        assert nicepay.read_netcancel(doc.NICE_ORDER, doc.answer(document)).outcome is Outcome.UNKNOWN


def _days_asked(order: ChargeOrder) -> set[str]:
    moments = [doc.NOW.replace(second=second) for second in range(10)]
    return {nicepay.inquiry_call(order, doc.NICE_LOGIN, now).path[-8:] for now in moments}


def test_nothing_found_near_midnight_is_never_final_at_nicepay() -> None:
    absent = doc.answer({"resultCode": "U126", "resultMsg": "orderId가 존재 하지 않습니다."})
    by_day = replace(doc.NICE_ORDER, token="")
    assert nicepay.read_inquiry(by_day, absent, age_s=3_899).outcome is Outcome.UNKNOWN
    assert nicepay.read_inquiry(by_day, absent, age_s=3_900).outcome is Outcome.NOT_EXECUTED
    # 15:00 UTC is midnight in Korea: close to it, it may have been booked on either day, so both are asked in turns.
    midnight = dt.datetime(2026, 11, 23, 15, tzinfo=dt.UTC)
    for after_s in (-30, 0, 30):
        late = replace(by_day, began_at=midnight + dt.timedelta(seconds=after_s))
        assert nicepay.read_inquiry(late, absent, age_s=1e9).outcome is Outcome.UNKNOWN
        assert _days_asked(late) == {"20261123", "20261124"}
    early = replace(by_day, began_at=midnight - dt.timedelta(seconds=90))
    assert nicepay.read_inquiry(early, absent, age_s=3_900).outcome is Outcome.NOT_EXECUTED
    assert _days_asked(early) == {"20261123"}
    assert nicepay.read_inquiry(replace(by_day, began_at=None), absent, age_s=1e9).outcome is Outcome.UNKNOWN


def test_what_the_buyer_brings_back_must_fit_the_order() -> None:
    good = {"paymentKey": KEY, "orderId": doc.UNDERSCORED, "amount": "163020", "paymentType": "NORMAL"}
    assert toss.read_return(doc.TOSS_ORDER, good, doc.TOSS_LOGIN) == WindowReturn(token=KEY)
    for change in ({"amount": "1"}, {"orderId": "other"}, {"paymentKey": "../x"}):
        assert isinstance(toss.read_return(doc.TOSS_ORDER, good | change, doc.TOSS_LOGIN), Forged)
    left = {"code": "PAY_PROCESS_CANCELED", "message": "사용자에 의해 결제가 취소되었습니다."}
    assert toss.read_return(doc.TOSS_ORDER, left, doc.TOSS_LOGIN) == WindowReturn(code="PAY_PROCESS_CANCELED")

    assert nicepay.read_return(doc.NICE_ORDER, doc.NICE_RETURN, doc.NICE_LOGIN) == WindowReturn(token=doc.NICE_TID)
    for change in ({"amount": "1005"}, {"signature": "0" * 64}, {"authToken": "x"}, {"clientId": "S2_other"}):
        assert isinstance(nicepay.read_return(doc.NICE_ORDER, doc.NICE_RETURN | change, doc.NICE_LOGIN), Forged)
    gone = nicepay.read_return(doc.NICE_ORDER, {"authResultCode": "I002"}, doc.NICE_LOGIN)
    assert gone == WindowReturn(code="I002")

    assert kakaopay.read_return(doc.KAKAO_ORDER, {"pg_token": "abc"}, doc.KAKAO_LOGIN) == WindowReturn(token="abc")
    assert kakaopay.read_return(doc.KAKAO_ORDER, {}, doc.KAKAO_LOGIN) == WindowReturn(code="no_token")
    window = replace(doc.STRIPE_ORDER, provider_id=doc.STRIPE_ID)
    back = {"payment_intent": doc.STRIPE_ID, "redirect_status": "succeeded"}
    assert stripe.read_return(window, back, doc.STRIPE_LOGIN) == WindowReturn(token=doc.STRIPE_ID)
    assert isinstance(stripe.read_return(window, back | {"payment_intent": "pi_2"}, doc.STRIPE_LOGIN), Forged)


def test_a_stripe_session_gives_the_browser_its_secret_and_keeps_none() -> None:
    made = stripe.read_prepare(doc.STRIPE_ORDER, doc.answer(doc.STRIPE_OPEN))
    assert isinstance(made, Prepared)
    assert (made.provider_id, made.client) == (doc.STRIPE_ID, {"client_secret": doc.STRIPE_INTENT["client_secret"]})
    assert isinstance(stripe.read_prepare(doc.STRIPE_ORDER, doc.answer(doc.STRIPE_INTENT)), Result)


def test_an_account_that_nobody_paid_into_is_closed_only_when_it_stands_cancelled() -> None:
    closed = doc.answer(doc.TOSS_PAYMENT | {"status": "CANCELED", "balanceAmount": 0})
    assert toss.read_void(doc.TOSS_ORDER, closed) == Result(Outcome.NOT_EXECUTED, KEY, VOIDED)
    for said in (doc.answer(doc.TOSS_PAYMENT), doc.answer({"code": "INVALID_REFUND_ACCOUNT_INFO"}, 400)):
        assert toss.read_void(doc.TOSS_ORDER, said).outcome is Outcome.UNKNOWN
    closed = doc.answer(doc.NICE_PAYMENT | {"status": "cancelled", "balanceAmt": 0})
    assert nicepay.read_void(doc.NICE_ORDER, closed).code == VOIDED
    for said in (doc.answer(doc.NICE_PAYMENT), doc.answer({"resultCode": "2032"}, 400)):
        assert nicepay.read_void(doc.NICE_ORDER, said).outcome is Outcome.UNKNOWN
