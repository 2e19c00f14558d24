"""The Toss API over real HTTP: what the vendor's documents say is asked and answered."""

import base64
from typing import TYPE_CHECKING, Any

import pytest

from doorbuster.simulators.host.tests.processes import basic

if TYPE_CHECKING:
    from doorbuster.simulators.toss.tests.conftest import Toss


def test_a_confirm_answers_the_payment_object_of_the_vendors_example(toss: "Toss") -> None:
    bought = toss.buy(15_000, orderName="토스 티셔츠 외 2건")
    answer = toss.confirm(bought)
    assert answer.status == 200
    shown = answer.json
    expected = {
        "version": "2022-11-16",
        "paymentKey": bought["paymentKey"],
        "orderId": bought["orderId"],
        "orderName": "토스 티셔츠 외 2건",
        "currency": "KRW",
        "method": "카드",
        "status": "DONE",
        "useEscrow": False,
        "cultureExpense": False,
        "virtualAccount": None,
        "transfer": None,
        "mobilePhone": None,
        "giftCertificate": None,
        "cashReceipt": None,
        "cashReceipts": None,
        "discount": None,
        "cancels": None,
        "secret": None,
        "type": "NORMAL",
        "easyPay": None,
        "country": "KR",
        "failure": None,
        "totalAmount": 15_000,
        "balanceAmount": 15_000,
        "suppliedAmount": 13_636,
        "vat": 1_364,
        "taxFreeAmount": 0,
        "taxExemptionAmount": 0,
        "isPartialCancelable": True,
    }
    assert {name: shown[name] for name in expected} == expected
    assert shown["requestedAt"].endswith("+09:00") and shown["approvedAt"].endswith("+09:00")
    assert shown["card"]["cardType"] == "신용"
    assert toss.look(bought) == shown
    assert toss.get(f"/v1/payments/orders/{bought['orderId']}").json == shown


def test_a_payment_nobody_authenticated_cannot_be_confirmed_and_one_that_was_can(toss: "Toss") -> None:
    bought = toss.buy(authenticates=False)
    assert (toss.look(bought)["status"], toss.look(bought)["approvedAt"]) == ("READY", None)
    answer = toss.confirm(bought)
    assert (answer.status, answer.json["code"]) == (404, "NOT_FOUND_PAYMENT_SESSION")
    toss.admin("POST", "authenticate", {"paymentKey": bought["paymentKey"]})
    assert toss.look(bought)["status"] == "IN_PROGRESS"
    assert toss.confirm(bought).status == 200


def test_a_declined_payment_is_aborted_and_says_why(toss: "Toss") -> None:
    bought = toss.buy(declineCode="REJECT_CARD_PAYMENT")
    answer = toss.confirm(bought)
    assert (answer.status, answer.json["code"], set(answer.json)) == (403, "REJECT_CARD_PAYMENT", {"code", "message"})
    shown = toss.look(bought)
    assert (shown["status"], shown["failure"]["code"]) == ("ABORTED", "REJECT_CARD_PAYMENT")
    again = toss.confirm(bought)
    assert (again.status, again.json["code"]) == (400, "ALREADY_PROCESSED_PAYMENT")


def test_a_cancel_answers_the_cancels_of_the_vendors_example(toss: "Toss") -> None:
    payment = toss.paid()
    answer = toss.cancel(payment, cancelReason="고객이 취소를 원함")
    assert answer.status == 200
    (cancel,) = answer.json["cancels"]
    expected: dict[str, Any] = {
        "cancelReason": "고객이 취소를 원함",
        "cancelAmount": 10_000,
        "taxFreeAmount": 0,
        "taxExemptionAmount": 0,
        "refundableAmount": 0,
        "easyPayDiscountAmount": 0,
        "receiptKey": None,
    }
    assert {name: cancel[name] for name in expected} == expected
    assert answer.json["status"] == "CANCELED"
    assert answer.json["lastTransactionKey"] == cancel["transactionKey"] != payment["lastTransactionKey"]
    assert (answer.json["totalAmount"], answer.json["balanceAmount"]) == (10_000, 0)
    again = toss.cancel(payment)
    assert (again.status, again.json["code"]) == (400, "ALREADY_CANCELED_PAYMENT")


def test_parts_are_given_back_until_nothing_is_left_and_not_a_won_more(toss: "Toss") -> None:
    """docs.tosspayments.com/guides/apis/cancel-payment: 1,000 and 1,000 of 10,000 leave 9,000 and 8,000."""
    payment = toss.paid()
    first = toss.cancel(payment, cancelAmount=1_000)
    second = toss.cancel(payment, cancelAmount=1_000)
    assert [cancel["refundableAmount"] for cancel in second.json["cancels"]] == [9_000, 8_000]
    assert (first.json["status"], second.json["balanceAmount"]) == ("PARTIAL_CANCELED", 8_000)
    too_much = toss.cancel(payment, cancelAmount=8_001)
    assert (too_much.status, too_much.json["code"]) == (403, "NOT_CANCELABLE_AMOUNT")
    last = toss.cancel(payment)
    assert (last.json["status"], last.json["balanceAmount"]) == ("PARTIAL_CANCELED", 0)
    assert toss.cancel(payment, cancelAmount=1).json["code"] == "NOT_CANCELABLE_AMOUNT"


def test_a_provider_that_may_give_back_too_much_does_when_it_is_told_to(toss: "Toss") -> None:
    toss.admin("PUT", "rules", {"over_refund": True})
    payment = toss.paid()
    for _ in range(2):
        assert toss.cancel(payment, cancelAmount=6_000).status == 200
    assert toss.look(payment)["balanceAmount"] == -2_000


def test_a_second_cancel_within_the_gap_is_refused(toss: "Toss") -> None:
    toss.admin("PUT", "rules", {"cancel_gap_ms": 60_000})
    payment = toss.paid()
    assert toss.cancel(payment, cancelAmount=1).status == 200
    second = toss.cancel(payment, cancelAmount=1)
    assert (second.status, second.json["code"]) == (403, "FORBIDDEN_CONSECUTIVE_REQUEST")


def test_a_virtual_account_is_issued_paid_taken_back_and_paid_again(toss: "Toss") -> None:
    """The fields of techchat.tosspayments.com/m/1444558775297249371."""
    body = {
        "amount": 30_000,
        "orderId": "va-order-1",
        "orderName": "등록금",
        "customerName": "김토스",
        "bank": "11",
        "validHours": 1,
    }
    answer = toss.post("/v1/virtual-accounts", body)
    assert answer.status == 200
    shown = answer.json
    assert (shown["status"], shown["method"], shown["approvedAt"]) == ("WAITING_FOR_DEPOSIT", "가상계좌", None)
    assert (shown["suppliedAmount"], shown["vat"], shown["balanceAmount"]) == (27_273, 2_727, 30_000)
    account = shown["virtualAccount"]
    assert (account["bankCode"], account["customerName"], account["expired"]) == ("11", "김토스", False)
    assert shown["secret"].startswith("ps_")
    key = {"paymentKey": shown["paymentKey"]}
    assert toss.admin("POST", "deposit", key)["status"] == "DONE"
    assert toss.admin("POST", "deposit/reverse", key)["status"] == "WAITING_FOR_DEPOSIT"
    assert toss.admin("POST", "deposit", key)["status"] == "DONE"
    without = toss.cancel(shown)
    assert (without.status, without.json["code"]) == (400, "INVALID_REFUND_ACCOUNT_INFO")
    refund_account = {"bank": "11", "accountNumber": "1234567890", "holderName": "김토스"}
    assert toss.cancel(shown, refundReceiveAccount=refund_account).json["status"] == "CANCELED"
    assert toss.post("/v1/virtual-accounts", body).json["code"] == "DUPLICATED_ORDER_ID"


def test_a_virtual_account_of_the_window_is_issued_by_the_confirm(toss: "Toss") -> None:
    shown = toss.paid(method="가상계좌", customerName="이토스")
    assert (shown["status"], shown["virtualAccount"]["customerName"]) == ("WAITING_FOR_DEPOSIT", "이토스")
    assert toss.cancel(shown, cancelAmount=1).json["code"] == "NOT_ALLOWED_PARTIAL_REFUND_WAITING_DEPOSIT"
    assert toss.cancel(shown).json["status"] == "CANCELED"


def test_a_billing_key_is_issued_once_and_charges_its_own_customer(toss: "Toss") -> None:
    card = toss.admin("POST", "card", {"customerKey": "customer-1"})
    issue = {"authKey": card["auth_key"], "customerKey": "customer-1"}
    other = toss.post("/v1/billing/authorizations/issue", {**issue, "customerKey": "customer-2"})
    assert (other.status, other.json["code"]) == (400, "NOT_MATCHES_CUSTOMER_KEY")
    issued = toss.post("/v1/billing/authorizations/issue", issue)
    assert issued.status == 200
    assert {"mId", "customerKey", "authenticatedAt", "method", "billingKey", "card"} <= set(issued.json)
    assert toss.post("/v1/billing/authorizations/issue", issue).json["code"] == "INVALID_REQUEST"
    path = f"/v1/billing/{issued.json['billingKey']}"
    charge = {"customerKey": "customer-1", "amount": 9_900, "orderId": "billing-order-001", "orderName": "월 구독권"}
    paid = toss.post(path, charge)
    assert (paid.status, paid.json["type"], paid.json["status"]) == (200, "BILLING", "DONE")
    assert toss.post(path, charge).json["code"] == "DUPLICATED_ORDER_ID"
    wrong = toss.post(path, {**charge, "customerKey": "customer-2", "orderId": "billing-order-002"})
    assert wrong.json["code"] == "NOT_MATCHES_CUSTOMER_KEY"
    assert toss.post("/v1/billing/bk_none", charge).json["code"] == "NOT_FOUND_BILLING"


def test_a_registered_card_may_be_declined(toss: "Toss") -> None:
    card = toss.admin("POST", "card", {"customerKey": "customer-3", "declineCode": "INVALID_STOPPED_CARD"})
    issue = {"authKey": card["auth_key"], "customerKey": "customer-3"}
    billing_key = toss.post("/v1/billing/authorizations/issue", issue).json["billingKey"]
    charge = {"customerKey": "customer-3", "amount": 9_900, "orderId": "billing-order-003", "orderName": "월 구독권"}
    answer = toss.post(f"/v1/billing/{billing_key}", charge)
    assert (answer.status, answer.json["code"]) == (400, "INVALID_STOPPED_CARD")
    assert toss.get("/v1/payments/orders/billing-order-003").json["status"] == "ABORTED"


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "UNAUTHORIZED_KEY"),
        ({"Authorization": "Bearer test_sk_of_the_simulator"}, 401, "UNAUTHORIZED_KEY"),
        (basic("test_sk_another"), 401, "UNAUTHORIZED_KEY"),
        ({"Authorization": "Basic " + base64.b64encode(b"test_sk").decode()}, 400, "INCORRECT_BASIC_AUTH_FORMAT"),
        ({"Authorization": "Basic %%%"}, 400, "INCORRECT_BASIC_AUTH_FORMAT"),
    ],
)
def test_only_the_secret_key_and_a_colon_let_one_in(
    toss: "Toss", headers: dict[str, str], status: int, code: str
) -> None:
    answer = toss.call("GET", "/v1/payments/x", None, headers)
    assert (answer.status, answer.json["code"]) == (status, code)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b"null",
        b'{"paymentKey":"x","orderId":"order-1"}',
        b'{"paymentKey":"x","orderId":"order-1","amount":"1"}',
        b'{"paymentKey":"x","orderId":"short","amount":1}',
        b'{"paymentKey":"x","orderId":"order-1","amount":0}',
        b'{"paymentKey":"x","orderId":"order-1","amount":1e400}',
        b'{"paymentKey":"' + b"x" * 201 + b'","orderId":"order-1","amount":1}',
        b'{"a":' * 2000,
    ],
)
def test_a_body_that_is_not_as_documented_is_refused(toss: "Toss", body: bytes) -> None:
    answer = toss.post("/v1/payments/confirm", body)
    assert (answer.status, answer.json["code"]) == (400, "INVALID_REQUEST")


def test_what_is_not_there_is_said_so(toss: "Toss") -> None:
    assert toss.get("/v1/payments/none").json["code"] == "NOT_FOUND_PAYMENT"
    assert toss.get("/v1/payments/orders/none").json["code"] == "NOT_FOUND_PAYMENT"
    assert toss.get("/v1/nothing").json["code"] == "NOT_FOUND"
    assert toss.call("DELETE", "/v1/payments/none", None, basic()).status == 404
    assert toss.post("/v1/payments/none/cancel", {"cancelReason": "why"}).json["code"] == "NOT_FOUND_PAYMENT"
    confirm = {"paymentKey": "none", "orderId": "order-none", "amount": 1}
    assert toss.post("/v1/payments/confirm", confirm).json["code"] == "NOT_FOUND_PAYMENT_SESSION"


def test_a_body_beyond_64_kib_is_not_read(toss: "Toss") -> None:
    answer = toss.post("/v1/payments/confirm", b"{" + b" " * 70_000 + b"}")
    assert answer.status == 413


def test_transactions_and_settlements_list_every_movement_of_money(toss: "Toss") -> None:
    payment = toss.paid(64_601)
    day = payment["approvedAt"][:10]
    toss.cancel(payment, cancelAmount=4_601)
    span = f"startDate={day}T00:00:00&endDate={day}T23:59:59"
    rows = toss.get(f"/v1/transactions?{span}&limit=5000").json
    mine = [row for row in rows if row["paymentKey"] == payment["paymentKey"]]
    assert [(row["amount"], row["status"]) for row in mine] == [(64_601, "DONE"), (-4_601, "PARTIAL_CANCELED")]
    after = toss.get(f"/v1/transactions?{span}&startingAfter={mine[0]['transactionKey']}").json
    assert after[0]["transactionKey"] == mine[1]["transactionKey"]
    wrong = toss.get(f"/v1/transactions?{span}&startingAfter=txrd_none")
    assert (wrong.status, wrong.json["code"]) == (400, "INVALID_TRANSACTION_KEY")
    sold = toss.get(f"/v1/settlements?startDate={day}&endDate={day}&size=5000").json
    settled = [row for row in sold if row["paymentKey"] == payment["paymentKey"]]
    assert [(row["amount"], row["fee"], row["payOutAmount"]) for row in settled] == [
        (64_601, 1_492, 63_109),
        (-4_601, -106, -4_495),
    ]
    assert {row["transactionKey"] for row in settled} == {row["transactionKey"] for row in mine}
    paid_out = settled[0]["paidOutDate"]
    by_pay_out = toss.get(
        f"/v1/settlements?dateType=paidOutDate&startDate={paid_out}&endDate={paid_out}&size=5000"
    ).json
    assert settled[0] in by_pay_out
    pages = [toss.get(f"/v1/settlements?startDate={day}&endDate={day}&size=1&page={page}").json for page in (1, 2)]
    assert [len(page) for page in pages] == [1, 1] and pages[0] != pages[1]
    assert toss.get("/v1/settlements?startDate=x&endDate=y").json["code"] == "INVALID_REQUEST"
    assert toss.get(f"/v1/settlements?startDate={day}&endDate={day}&page=0").json["code"] == "INVALID_REQUEST"


def test_settlement_rows_are_wrong_where_and_only_where_it_was_asked(toss: "Toss") -> None:
    one, two, three = (toss.paid(10_000) for _ in range(3))
    day = one["approvedAt"][:10]
    keys = [payment["lastTransactionKey"] for payment in (one, two, three)]
    seeds = {"missing": [keys[0]], "amount": {keys[1]: 5}, "twice": [keys[2]]}
    toss.admin("PUT", "rules", {"seeds": seeds})
    rows = toss.get(f"/v1/settlements?startDate={day}&endDate={day}&size=5000").json
    mine = [(keys.index(row["transactionKey"]), row["amount"]) for row in rows if row["transactionKey"] in keys]
    assert sorted(mine) == [(1, 10_005), (2, 10_000), (2, 10_000)]
    bearer = {"Authorization": "Bearer test_sk_of_the_simulator"}
    listed = toss.call("GET", "/admin/settlements.csv", None, bearer)
    assert listed.headers["content-type"].startswith("text/csv")
    assert listed.raw.decode().splitlines()[0].startswith("mId,paymentKey,transactionKey,orderId")


def test_every_decline_is_on_record_with_its_time(own: "Toss") -> None:
    bought = own.buy(declineCode="REJECT_CARD_PAYMENT")
    assert own.confirm(bought).status == 403
    own.buy(authenticates=False)
    own.advance(31 * 60_000)
    now_ms = own.admin("GET", "clock")["now_ms"]
    (only,) = own.admin("GET", "ledger/declines")["data"]
    assert (only["psp_key"], only["reference"]) == (bought["paymentKey"], bought["orderId"])
    assert (only["amount_minor"], only["code"], only["currency"]) == (10_000, "REJECT_CARD_PAYMENT", "KRW")
    assert now_ms - 32 * 60_000 < only["at_ms"] <= now_ms - 31 * 60_000
    own.kill_and_restart()
    assert own.admin("GET", "ledger/declines")["data"] == [only]
    assert own.summary()["declined"] == 1
