"""Settlement rows are read with their signs, and half a day is never passed off as a whole one."""

from __future__ import annotations

import datetime as dt
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from doorbuster.engines.payment_router.provider import SettlementPage, SettlementRow, Unreadable
from doorbuster.engines.payment_router.providers import stripe, toss
from doorbuster.engines.payment_router.tests import documented as doc

TOSS_DAY = dt.date(2025, 2, 9)
STRIPE_DAY = dt.date(2023, 4, 6)
BEGIN = 1_680_739_200
SALE: dict[str, Any] = {
    "id": "txn_3MmlLrLkdIwHu7ix", "object": "balance_transaction", "type": "charge", "amount": 2000, "fee": 88,
    "net": 1912, "currency": "usd", "created": BEGIN + 61_304, "available_on": BEGIN + 7 * 86_400,
    "reporting_category": "charge", "status": "pending",
    "source": {
        "id": "ch_3MmlLrLkdIwHu7ix0snN0B15", "object": "charge", "amount": 2000, "currency": "usd",
        "payment_intent": doc.STRIPE_ID, "metadata": {"reference": doc.REFERENCE},
    },
}  # fmt: skip
BACK: dict[str, Any] = SALE | {
    "id": "txn_refund", "type": "refund", "amount": -1000, "fee": 0, "net": -1000, "source": doc.STRIPE_REFUNDED,
}  # fmt: skip
PAYOUT = SALE | {"id": "txn_payout", "type": "payout", "amount": -900, "fee": 0, "net": -900, "source": "po_1"}


def test_tosss_sale_and_its_cancel_are_a_pair() -> None:
    call = toss.settlement_call(TOSS_DAY, "", doc.TOSS_LOGIN, doc.NOW)
    assert (call.method, urlsplit(call.path).path) == ("GET", "/v1/settlements")
    assert dict(parse_qsl(urlsplit(call.path).query)) == {
        "startDate": "2025-02-09", "endDate": "2025-02-09", "dateType": "soldDate", "page": "1", "size": "1000",
    }  # fmt: skip
    page = toss.read_settlement(TOSS_DAY, "", doc.answer([doc.TOSS_SALE, doc.TOSS_SALE_BACK]))
    assert isinstance(page, SettlementPage) and page.next_page == "2"
    sale, back = page.rows
    assert sale == SettlementRow(
        "toss", "TP01020250209065811VYdf1", "txrd_a01jkks4kdkvhqr2kge21gqawf8", doc.REFERENCE, 64601, 1492, "KRW",
        TOSS_DAY, dt.date(2025, 2, 13),
    )  # fmt: skip
    assert (back.amount_minor, back.fee_minor, back.is_refund) == (-99800, -2250, True)
    assert not sale.is_refund


def test_only_an_empty_page_of_toss_is_the_last() -> None:
    page = toss.read_settlement(TOSS_DAY, "3", doc.answer([doc.TOSS_SALE] * 1000))
    assert isinstance(page, SettlementPage) and (len(page.rows), page.next_page) == (1000, "4")
    assert isinstance(toss.read_settlement(TOSS_DAY, "", doc.answer([doc.TOSS_SALE] * 1001)), Unreadable)
    assert toss.read_settlement(TOSS_DAY, "4", doc.answer([])) == SettlementPage(())


@pytest.mark.parametrize(
    "change",
    [
        {"fee": 1493}, {"amount": -64601}, {"soldDate": "2025-02-10"}, {"soldDate": "soon"}, {"paymentKey": ""},
        {"amount": 64601.0}, {"transactionKey": "a b"}, {"cancel": {"cancelAmount": 1}},
    ],
)  # fmt: skip
def test_one_wrong_row_of_toss_spoils_its_page(change: dict[str, Any]) -> None:
    page = toss.read_settlement(TOSS_DAY, "", doc.answer([doc.TOSS_SALE, doc.TOSS_SALE | change]))
    assert isinstance(page, Unreadable)
    assert isinstance(toss.read_settlement(TOSS_DAY, "", doc.answer([doc.TOSS_SALE], 500)), Unreadable)


def test_stripes_movements_are_read_with_their_signs() -> None:
    call = stripe.settlement_call(STRIPE_DAY, "txn_1", doc.STRIPE_LOGIN, doc.NOW)
    query = dict(parse_qsl(urlsplit(call.path).query))
    assert query == {
        "created[gte]": str(BEGIN), "created[lt]": str(BEGIN + 86_400), "limit": "100", "expand[]": "data.source",
        "starting_after": "txn_1",
    }  # fmt: skip
    movements = {"data": [SALE, PAYOUT, BACK], "has_more": True}
    page = stripe.read_settlement(STRIPE_DAY, "", doc.answer(movements))
    assert isinstance(page, SettlementPage) and page.next_page == "txn_refund"
    sale, back = page.rows
    assert sale == SettlementRow(
        "stripe", doc.STRIPE_ID, "ch_3MmlLrLkdIwHu7ix0snN0B15", doc.REFERENCE, 2000, 88, "USD", STRIPE_DAY,
        STRIPE_DAY + dt.timedelta(days=7),
    )  # fmt: skip
    assert (back.amount_minor, back.transaction_id, back.reference) == (-1000, doc.STRIPE_REFUNDED["id"], doc.REFERENCE)


def test_a_sale_settled_in_another_currency_keeps_what_the_buyer_paid() -> None:
    euro = SALE | {"amount": 1800, "fee": 80, "net": 1720, "currency": "eur"}
    page = stripe.read_settlement(STRIPE_DAY, "", doc.answer({"data": [euro], "has_more": False}))
    assert isinstance(page, SettlementPage)
    row = page.rows[0]
    assert (row.amount_minor, row.currency, row.fee_minor, row.fee_currency) == (2000, "USD", 80, "EUR")


def test_a_failed_refund_comes_back_as_money() -> None:
    failed = BACK | {"type": "refund_failure", "amount": 1000, "net": 1000}
    page = stripe.read_settlement(STRIPE_DAY, "", doc.answer({"data": [failed], "has_more": False}))
    assert isinstance(page, SettlementPage) and page.rows[0].amount_minor == 1000


@pytest.mark.parametrize(
    "change",
    [
        {"net": 1}, {"source": "ch_1"}, {"amount": -2000, "net": -2088}, {"created": BEGIN - 1},
        {"created": 10**18}, {"fee": "88"},
    ],
)  # fmt: skip
def test_one_wrong_movement_of_stripe_spoils_its_page(change: dict[str, Any]) -> None:
    page = stripe.read_settlement(STRIPE_DAY, "", doc.answer({"data": [BACK, SALE | change], "has_more": False}))
    assert isinstance(page, Unreadable)
    assert isinstance(stripe.read_settlement(STRIPE_DAY, "", doc.answer({"data": [], "has_more": True})), Unreadable)


HEAD = (
    "balance_transaction_id,created_utc,available_on_utc,currency,gross,fee,net,reporting_category,source_id,"
    "description,customer_facing_amount,customer_facing_currency,payment_intent_id,payment_metadata[reference]\r\n"
)
LINES = (
    f'txn_1,2026-05-01 12:00:00,2026-05-03 00:00:00,usd,10.00,0.59,9.41,charge,ch_1,"Acme, Inc. ""plan""",10.00,usd,'
    f"pi_1,{doc.REFERENCE}\r\n"
    "txn_2,2026-05-01 13:00:00,2026-05-03 00:00:00,usd,-2.50,0.00,-2.50,refund,re_1,,-2.50,usd,pi_1,\r\n"
    "txn_3,2026-05-01 14:00:00,2026-05-03 00:00:00,usd,3.30,0.30,3.00,charge,ch_2,,500,jpy,pi_2,\r\n"
    "txn_4,2026-05-01 15:00:00,2026-05-03 00:00:00,usd,-20.00,0.00,-20.00,payout,po_1,,,,,\r\n"
)


def test_the_itemised_report_is_read_as_the_interface_is() -> None:
    page = stripe.read_settlement_csv(b"\xef\xbb\xbf" + (HEAD + LINES).encode())
    assert isinstance(page, SettlementPage)
    sale, back, yen = page.rows
    day = dt.date(2026, 5, 1)
    assert sale == SettlementRow("stripe", "pi_1", "ch_1", doc.REFERENCE, 1000, 59, "USD", day)
    assert (back.amount_minor, back.fee_minor, back.transaction_id) == (-250, 0, "re_1")
    assert (yen.amount_minor, yen.currency, yen.fee_minor, yen.fee_currency) == (500, "JPY", 30, "USD")


@pytest.mark.parametrize(
    ("file", "why"),
    [
        (b"", "columns"), (b"a,b\r\n1,2\r\n", "columns"), (b"\xff\xfe", "not the report"),
        ((HEAD + LINES).replace("9.41", "9.42").encode(), "not the report"),
        ((HEAD + LINES).replace("10.00,0.59", "10.005,0.59").encode(), "not the report"),
        ((HEAD + LINES).replace("-2.50,0.00,-2.50", "NaN,0.00,NaN").encode(), "not the report"),
        ((HEAD + LINES).replace("2026-05-01 12:00:00", "yesterday").encode(), "not the report"),
        ((HEAD + LINES).replace(",pi_2,", ",,").encode(), "not the report"),
        ((HEAD + LINES)[:-40].encode(), "not the report"),
        ((HEAD + LINES + '"unfinished').encode(), "not the report"),
        ((HEAD + "txn_9,2026-05-01 12:00:00\r\n").encode(), "not the report"),
    ],
)  # fmt: skip
def test_a_report_that_is_cut_or_does_not_add_up_is_not_used(file: bytes, why: str) -> None:
    page = stripe.read_settlement_csv(file)
    assert isinstance(page, Unreadable) and why in page.why
