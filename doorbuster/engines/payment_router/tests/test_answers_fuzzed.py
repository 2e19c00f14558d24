"""Whatever bytes a provider answers with: no exception, and no SUCCEEDED or DECLINED without the exact evidence."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from doorbuster.engines.payment_router.outcome import HttpAnswer, Outcome, Result
from doorbuster.engines.payment_router.provider import Prepared
from doorbuster.engines.payment_router.providers import kakaopay, nicepay, stripe, toss
from doorbuster.engines.payment_router.tests import documented as doc
from doorbuster.engines.payment_router.tests.test_error_codes import (
    KAKAO_APPROVE,
    NICE_CHARGE,
    STRIPE_DECLINES,
    STRIPE_ERRORS,
    TOSS_CHARGE,
)

junk = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=8) | st.floats(width=32),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
statuses = st.sampled_from([100, 200, 200, 200, 201, 204, 302, 400, 401, 402, 403, 404, 409, 413, 424, 429, 500, 503])
NASTY = [
    b"", b"{", b"null", b"[]", b'"x"', b"[" * 100_000, b'{"x":' * 50_000, b'{"id":"\xff"}', b"\xef\xbb\xbf{}",
    b'{"amount":' + b"9" * 5_000 + b"}", b'{"amount":NaN}', b'{"amount":1e999}', b'{"status":"\\ud800"}', b"\x00" * 99,
    "{}".encode("utf-16"), b"<html><body>502 Bad Gateway</body></html>",
]  # fmt: skip

Reader = Callable[[HttpAnswer], Result]
Judge = Callable[[int, Any], bool]


def same(document: Any, right: Mapping[str, Any], *names: str) -> bool:
    """Whether these members stand in the document exactly so, in value and in kind."""
    return all(type(document.get(name)) is type(right[name]) and document[name] == right[name] for name in names)


def toss_paid(status: int, seen: Any) -> bool:
    ours = status == 200 and same(seen, doc.TOSS_PAYMENT, "orderId", "totalAmount", "paymentKey")
    back = seen.get("status") == "PARTIAL_CANCELED" and 0 < seen.get("balanceAmount", 0) < 163020
    done = seen.get("status") == "DONE" and seen.get("balanceAmount") == 163020
    return ours and str(seen.get("currency")).upper() == "KRW" and (done or back)


def kakao_found(status: int, seen: Any) -> bool:
    amount, gone = seen.get("amount"), seen.get("canceled_amount")
    ours = status == 200 and same(seen, doc.KAKAO_PAID, "tid", "partner_order_id") and isinstance(amount, dict)
    back = gone["total"] if isinstance(gone, dict) else 0
    whole = seen.get("status") == "SUCCESS_PAYMENT" and back == 0
    part = seen.get("status") == "PART_CANCEL_PAYMENT" and 0 < back < 2200
    return ours and type(amount.get("total")) is int and amount["total"] == 2200 and (whole or part)


def kakao_failed(status: int, seen: Any) -> bool:
    ours = status == 200 and same(seen, doc.KAKAO_PAID, "tid", "partner_order_id")
    return ours and seen.get("status") in ("FAIL_PAYMENT", "FAIL_AUTH_PASSWORD")


def toss_declined(status: int, seen: Any) -> bool:
    codes = [code for by_status in TOSS_CHARGE[Outcome.DECLINED].values() for code in by_status.split()]
    if status == 200:
        failure = seen.get("failure")
        ours = same(seen, doc.TOSS_PAYMENT, "orderId", "totalAmount")
        return ours and seen.get("status") == "ABORTED" and isinstance(failure, dict) and failure.get("code") in codes
    return status in (400, 403) and seen.get("code") in codes


def nice_paid(status: int, seen: Any) -> bool:
    ours = status == 200 and same(seen, doc.NICE_PAYMENT, "resultCode", "orderId", "tid", "amount")
    part = seen.get("status") == "partialCancelled" and 0 < seen.get("balanceAmt", 0) < 1004
    return ours and (part or (seen.get("status") == "paid" and seen.get("balanceAmt") == 1004))


def nice_declined(status: int, seen: Any) -> bool:
    if status == 200 and seen.get("resultCode") == "0000":
        return same(seen, doc.NICE_PAYMENT, "orderId", "tid", "amount") and seen.get("status") == "failed"
    return status in (200, 400, 404) and seen.get("resultCode") in NICE_CHARGE[Outcome.DECLINED].split()


def kakao_paid(status: int, seen: Any) -> bool:
    amount = seen.get("amount")
    ours = status == 200 and same(seen, doc.KAKAO_APPROVAL, "tid", "partner_order_id") and isinstance(amount, dict)
    return ours and type(amount.get("total")) is int and amount["total"] == 2200 and bool(seen.get("approved_at"))


def kakao_declined(status: int, seen: Any) -> bool:
    return status == 400 and str(seen.get("error_code")) in KAKAO_APPROVE[Outcome.DECLINED].split()


def stripe_paid(status: int, seen: Any) -> bool:
    ours = status == 200 and same(seen, doc.STRIPE_INTENT, "amount", "amount_received", "status", "metadata")
    return ours and str(seen.get("currency")).upper() == "USD"


def stripe_declined(status: int, seen: Any) -> bool:
    error = seen.get("error") if status == 402 else seen.get("last_payment_error")
    if status not in (200, 402) or not isinstance(error, dict) or error.get("type") != "card_error":
        return False
    if status == 200 and not same(seen, doc.STRIPE_INTENT, "amount", "metadata"):
        return False
    known = {code for number, _, code, outcome in STRIPE_ERRORS if number == 402 and outcome is Outcome.DECLINED}
    codes = known | {"payment_intent_authentication_failure", "incorrect_address"}
    plain = error.get("code") == "card_declined" and error.get("decline_code") in (None, *STRIPE_DECLINES.split())
    return plain or error.get("code") in codes


CASES: dict[str, tuple[Reader, dict[str, Any], dict[str, Any], Judge, Judge]] = {
    "toss": (
        lambda answer: toss.read_confirm(doc.TOSS_ORDER, answer), doc.TOSS_PAYMENT,
        {"code": "REJECT_CARD_PAYMENT", "message": "한도초과"}, toss_paid, toss_declined,
    ),
    "nicepay": (
        lambda answer: nicepay.read_confirm(doc.NICE_ORDER, answer), doc.NICE_PAYMENT,
        {"resultCode": "3095", "resultMsg": "카드사 실패 응답"}, nice_paid, nice_declined,
    ),
    "kakaopay": (
        lambda answer: kakaopay.read_confirm(doc.KAKAO_ORDER, answer), doc.KAKAO_APPROVAL,
        {"error_code": -797, "error_message": "1회 결제 한도금액 초과"}, kakao_paid, kakao_declined,
    ),
    "stripe": (
        lambda answer: stripe.read_charge(doc.STRIPE_ORDER, answer), doc.STRIPE_INTENT,
        doc.STRIPE_DECLINE, stripe_paid, stripe_declined,
    ),
    # An inquiry by our order takes whatever paymentKey it finds; the fuzz leaves the key as it is.
    "toss inquiry": (
        lambda answer: toss.read_inquiry(doc.TOSS_ORDER, answer, age_s=1e9), doc.TOSS_PAYMENT,
        doc.TOSS_PAYMENT | {"status": "ABORTED", "failure": {"code": "REJECT_CARD_PAYMENT"}},
        lambda status, seen: toss_paid(status, seen | {"paymentKey": doc.TOSS_KEY}), toss_declined,
    ),
    "nicepay inquiry": (
        lambda answer: nicepay.read_inquiry(doc.NICE_ORDER, answer, age_s=1e9), doc.NICE_PAYMENT,
        doc.NICE_PAYMENT | {"status": "failed"},
        lambda status, seen: nice_paid(status, seen | {"tid": doc.NICE_TID}),
        lambda status, seen: nice_declined(status, seen | {"tid": doc.NICE_TID}),
    ),
    "kakaopay inquiry": (
        lambda answer: kakaopay.read_inquiry(doc.KAKAO_ORDER, answer, age_s=1e9), doc.KAKAO_PAID,
        doc.KAKAO_PAID | {"status": "FAIL_PAYMENT"}, kakao_found, kakao_failed,
    ),
    "stripe inquiry": (
        lambda answer: stripe.read_inquiry(replace(doc.STRIPE_ORDER, provider_id=doc.STRIPE_ID), answer, age_s=1e9),
        doc.STRIPE_INTENT, doc.STRIPE_OPEN | {"last_payment_error": doc.STRIPE_DECLINE["error"]}, stripe_paid,
        stripe_declined,
    ),
}  # fmt: skip


def near(document: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The document with members replaced, left out or added: answers that are nearly believable."""
    values = junk | st.sampled_from([
        *(value for value in document.values() if not isinstance(value, dict | list)), "DONE", "ABORTED", "CANCELED",
        "PARTIAL_CANCELED", "paid", "failed", "cancelled", "succeeded", "requires_payment_method",
        "REJECT_CARD_PAYMENT", {"code": "REJECT_CARD_PAYMENT"}, doc.STRIPE_DECLINE["error"], 163019, 1003, 2199, 1999,
        2000.0, True, "KRW",
    ])  # fmt: skip
    changes = st.dictionaries(st.sampled_from([*document, "failure", "extra"]), values, max_size=3)
    return st.builds(
        lambda change, out: {k: v for k, v in (document | change).items() if k not in out}, changes,
        st.sets(st.sampled_from(list(document)), max_size=1),
    )  # fmt: skip


def written(document: Any) -> bytes:
    """As JSON, floats that JSON does not know included: a provider's bug may write them."""
    return json.dumps(document).encode()


def seen_as(body: bytes) -> Any:
    """The document, judged apart from the adapters; {} when it is none."""
    try:
        document = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


@pytest.mark.parametrize("name", CASES)
def test_an_answer_says_paid_or_declined_only_by_exact_evidence(name: str) -> None:
    read, paid, refused, is_paid, is_declined = CASES[name]
    verdicts: set[Outcome] = set()
    bodies = st.one_of(
        st.binary(max_size=64), st.sampled_from(NASTY), junk.map(written), near(paid).map(written),
        near(refused).map(written), st.just(written(paid)), st.just(written(refused)),
    )  # fmt: skip

    @settings(max_examples=600, deadline=None)
    @given(status=statuses, body=bodies)
    @example(status=200, body=written(paid))
    @example(status=200 if "inquiry" in name else 402 if name == "stripe" else 400, body=written(refused))
    def judge(status: int, body: bytes) -> None:
        result = read(HttpAnswer(status, body))
        verdicts.add(result.outcome)
        if result.outcome is Outcome.SUCCEEDED:
            assert is_paid(status, seen_as(body))
        if result.outcome is Outcome.DECLINED:
            assert is_declined(status, seen_as(body))
        assert result.outcome is not Outcome.NOT_SENT
        assert status < 500 or result.outcome is Outcome.UNKNOWN
        assert isinstance(result.provider_id, str) and isinstance(result.code, str)

    judge()
    assert {Outcome.SUCCEEDED, Outcome.DECLINED, Outcome.UNKNOWN} <= verdicts, "the fuzz never came near"


OTHER_READERS: dict[str, Callable[[HttpAnswer], Any]] = {
    "toss inquiry": lambda answer: toss.read_inquiry(doc.TOSS_ORDER, answer, age_s=10),
    "toss charge": lambda answer: toss.read_charge(doc.TOSS_ORDER, answer),
    "toss refund": lambda answer: toss.read_refund(doc.TOSS_REFUND, answer),
    "toss refund inquiry": lambda answer: toss.read_refund_inquiry(doc.TOSS_REFUND, answer, age_s=10),
    "toss settlement": lambda answer: toss.read_settlement(doc.NOW.date(), "", answer),
    "nicepay inquiry": lambda answer: nicepay.read_inquiry(doc.NICE_ORDER, answer, age_s=10),
    "nicepay refund": lambda answer: nicepay.read_refund(doc.NICE_REFUND, answer),
    "nicepay refund inquiry": lambda answer: nicepay.read_refund_inquiry(doc.NICE_REFUND, answer, age_s=10),
    "nicepay netcancel": lambda answer: nicepay.read_netcancel(doc.NICE_ORDER, answer),
    "kakaopay prepare": lambda answer: kakaopay.read_prepare(doc.KAKAO_ORDER, answer),
    "kakaopay inquiry": lambda answer: kakaopay.read_inquiry(doc.KAKAO_ORDER, answer, age_s=10),
    "kakaopay refund": lambda answer: kakaopay.read_refund(doc.KAKAO_REFUND, answer),
    "kakaopay refund inquiry": lambda answer: kakaopay.read_refund_inquiry(doc.KAKAO_REFUND, answer, age_s=10),
    "stripe prepare": lambda answer: stripe.read_prepare(doc.STRIPE_ORDER, answer),
    "stripe inquiry": lambda answer: stripe.read_inquiry(doc.STRIPE_ORDER, answer, age_s=10),
    "toss void": lambda answer: toss.read_void(doc.TOSS_ORDER, answer),
    "nicepay void": lambda answer: nicepay.read_void(doc.NICE_ORDER, answer),
    "stripe void": lambda answer: stripe.read_void(doc.STRIPE_ORDER, answer),
    "stripe refund": lambda answer: stripe.read_refund(doc.STRIPE_REFUND, answer),
    "stripe refund inquiry": lambda answer: stripe.read_refund_inquiry(doc.STRIPE_REFUND, answer, age_s=10),
    "stripe settlement": lambda answer: stripe.read_settlement(doc.NOW.date(), "", answer),
    "stripe report": lambda answer: stripe.read_settlement_csv(answer.body),
}
ALMOST = [
    doc.TOSS_REFUNDED, doc.NICE_REFUNDED, doc.KAKAO_CANCEL, doc.KAKAO_REFUNDED, doc.KAKAO_SESSION,
    doc.STRIPE_REFUNDED, doc.STRIPE_OPEN,
]  # fmt: skip
refund_bodies = st.one_of(
    st.binary(max_size=64), st.sampled_from(NASTY), junk.map(written),
    st.sampled_from(ALMOST).flatmap(near).map(written),
    st.sampled_from(ALMOST).flatmap(near).map(lambda one: written({"data": [one], "has_more": False})),
    st.lists(near(doc.TOSS_SALE), max_size=2).map(written),
)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(status=statuses, body=refund_bodies)
def test_no_reader_raises_and_none_gives_up_early(status: int, body: bytes) -> None:
    for name, read in OTHER_READERS.items():
        result = read(HttpAnswer(status, body))
        if isinstance(result, Result) and name != "kakaopay prepare":
            assert status < 500 or result.outcome is Outcome.UNKNOWN, name
            if "inquiry" in name:
                assert result.code != "not_found", name
        assert not (isinstance(result, Prepared) and status != 200), name
        assert "prepare" not in name or not isinstance(result, Result) or result.outcome is not Outcome.SUCCEEDED


REFUNDS: dict[str, tuple[Reader, dict[str, Any], Callable[[Any], bool]]] = {
    "toss": (
        lambda answer: toss.read_refund(doc.TOSS_REFUND, answer), doc.TOSS_REFUNDED,
        lambda seen: same(seen, doc.TOSS_REFUNDED, "paymentKey", "orderId", "cancels"),
    ),
    "nicepay": (
        lambda answer: nicepay.read_refund(doc.NICE_REFUND, answer), doc.NICE_REFUNDED,
        lambda seen: same(seen, doc.NICE_REFUNDED, "resultCode", "tid", "orderId", "cancels"),
    ),
    "kakaopay": (
        lambda answer: kakaopay.read_refund(doc.KAKAO_REFUND, answer), doc.KAKAO_CANCEL,
        lambda seen: same(seen, doc.KAKAO_CANCEL, "tid", "partner_order_id", "approved_cancel_amount", "payload"),
    ),
    "stripe": (
        lambda answer: stripe.read_refund(doc.STRIPE_REFUND, answer), doc.STRIPE_REFUNDED,
        lambda seen: same(seen, doc.STRIPE_REFUNDED, "amount", "metadata", "payment_intent", "status"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUNDS)
def test_money_is_back_only_by_exact_evidence(name: str) -> None:
    read, right, is_back = REFUNDS[name]
    verdicts: set[Outcome] = set()

    @settings(max_examples=400, deadline=None)
    @given(status=statuses, document=near(right))
    @example(status=200, document=right)
    def judge(status: int, document: dict[str, Any]) -> None:
        body = written(document)
        outcome = read(HttpAnswer(status, body)).outcome
        verdicts.add(outcome)
        if outcome is Outcome.SUCCEEDED:
            assert status == 200 and is_back(seen_as(body))

    judge()
    assert {Outcome.SUCCEEDED, Outcome.UNKNOWN} <= verdicts


DUPLICATES = [
    (toss.read_confirm, doc.TOSS_ORDER, b'"status":"DONE"', b'"status":"CANCELED","status":"DONE"', doc.TOSS_PAYMENT),
    (nicepay.read_confirm, doc.NICE_ORDER, b'"amount":1004', b'"amount":1,"amount":1004', doc.NICE_PAYMENT),
    (kakaopay.read_confirm, doc.KAKAO_ORDER, b'"total":2200', b'"total":1,"total":2200', doc.KAKAO_APPROVAL),
    (stripe.read_charge, doc.STRIPE_ORDER, b'"amount":2000', b'"amount":1,"amount":2000', doc.STRIPE_INTENT),
]


@pytest.mark.parametrize(("read", "order", "once", "twice", "document"), DUPLICATES)
def test_a_key_that_stands_twice_makes_the_answer_unreadable(
    read: Callable[..., Result], order: Any, once: bytes, twice: bytes, document: Any
) -> None:
    body = msgspec.json.encode(document)
    assert once in body and read(order, HttpAnswer(200, body)).outcome is Outcome.SUCCEEDED
    doubtful = read(order, HttpAnswer(200, body.replace(once, twice, 1)))
    assert (doubtful.outcome, doubtful.code) == (Outcome.UNKNOWN, "unreadable_200")
