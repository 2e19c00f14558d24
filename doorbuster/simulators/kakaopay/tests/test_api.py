"""The KakaoPay API over real HTTP: what the vendor's documents say is asked and answered."""

import concurrent.futures
import http.client
import re
from typing import TYPE_CHECKING, Any

import pytest

from doorbuster.simulators.host.tests.processes import SECRET

if TYPE_CHECKING:
    from doorbuster.simulators.kakaopay.tests.conftest import Kakao

MINUTE_MS = 60_000


def test_ready_answers_the_fields_a_real_one_did(kakao: "Kakao") -> None:
    """The ready of 2023-05-21 quoted in docs/psp/kakaopay.md."""
    asked = kakao.ready()
    answer = kakao.post("ready", asked).json
    assert set(answer) == {
        "tid",
        "tms_result",
        "next_redirect_app_url",
        "next_redirect_mobile_url",
        "next_redirect_pc_url",
        "android_app_scheme",
        "ios_app_scheme",
        "created_at",
    }
    assert re.fullmatch(r"T[0-9a-f]{19}", answer["tid"]) and answer["tid"] != asked["tid"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", answer["created_at"])
    assert answer["next_redirect_pc_url"].endswith("/info")
    assert answer["android_app_scheme"].startswith("kakaotalk://kakaopay/pg?url=")


def test_approve_answers_the_fields_a_real_one_did(kakao: "Kakao") -> None:
    """The approval of 2023-05-21: 1,000 won of KakaoPay Money have 91 won of VAT."""
    bought = kakao.bought(1_000)
    answer = kakao.approve(bought)
    assert answer.status == 200
    shown = answer.json
    assert shown["amount"] == {"total": 1000, "tax_free": 0, "vat": 91, "point": 0, "discount": 0, "green_deposit": 0}
    expected: dict[str, Any] = {
        "tid": bought["tid"],
        "cid": "TC0ONETIME",
        "partner_order_id": bought["partner_order_id"],
        "partner_user_id": "user-1",
        "payment_method_type": "MONEY",
        "item_name": "초코파이",
        "item_code": "",
        "quantity": 1,
    }
    assert {name: shown[name] for name in expected} == expected
    assert re.fullmatch(r"A[0-9a-f]{19}", shown["aid"])
    assert "sid" not in shown and "card_info" not in shown
    order = kakao.order(bought)
    assert (order["status"], order["cancel_available_amount"]["total"]) == ("SUCCESS_PAYMENT", 1_000)
    (action,) = order["payment_action_details"]
    assert (action["aid"], action["payment_action_type"], action["amount"]) == (shown["aid"], "PAYMENT", 1_000)


def test_a_card_shows_itself(kakao: "Kakao") -> None:
    shown = kakao.paid(method="CARD")
    assert shown["card_info"]["card_type"] == "신용"
    assert kakao.order(shown)["selected_card_info"]["card_bin"]


def test_a_cancel_answers_the_fields_of_the_vendors_example(kakao: "Kakao") -> None:
    """The cancellation of 2,200 won in the vendor's example."""
    payment = kakao.paid(2_200)
    answer = kakao.cancel(payment, 2_200)
    assert answer.status == 200
    whole = {"total": 2200, "tax_free": 0, "vat": 200, "point": 0, "discount": 0, "green_deposit": 0}
    shown = answer.json
    assert shown["status"] == "CANCEL_PAYMENT"
    assert shown["amount"] == shown["approved_cancel_amount"] == shown["canceled_amount"] == whole
    assert set(shown["cancel_available_amount"].values()) == {0}
    assert shown["aid"] != payment["aid"]
    assert {"created_at", "approved_at", "canceled_at"} <= set(shown)
    again = kakao.cancel(payment, 1)
    assert (again.status, again.json["error_code"]) == (400, -784)


def test_parts_are_given_back_until_nothing_is_left_and_not_a_won_more(kakao: "Kakao") -> None:
    payment = kakao.paid(2_200)
    assert kakao.cancel(payment, 1_000).json["status"] == "PART_CANCEL_PAYMENT"
    too_much = kakao.cancel(payment, 1_201)
    assert (too_much.status, too_much.json["error_code"]) == (400, -710)
    wrong = kakao.cancel(payment, 100, cancel_available_amount=2_200)
    assert wrong.json["error_code"] == -722
    assert kakao.cancel(payment, 1_200, cancel_available_amount=1_200).json["status"] == "CANCEL_PAYMENT"
    order = kakao.order(payment)
    assert [a["payment_action_type"] for a in order["payment_action_details"]] == ["PAYMENT", "CANCEL", "CANCEL"]
    assert order["canceled_amount"] == order["amount"]


def test_a_second_approval_and_one_without_the_buyer_are_refused(kakao: "Kakao") -> None:
    bought = kakao.bought()
    assert kakao.approve({**bought, "pg_token": "wrong"}).json["error_code"] == -708
    assert kakao.approve({**bought, "total_amount": 1}).json["error_code"] == -704
    assert kakao.approve(bought).status == 200
    again = kakao.approve(bought)
    assert (again.status, again.json["error_code"]) == (400, -702)
    asked = kakao.ready()
    names = ("cid", "tid", "partner_order_id", "partner_user_id")
    early = kakao.approve({**{name: asked[name] for name in names}, "pg_token": "x"})
    assert (early.status, early.json["error_code"]) == (400, -701)


def test_a_method_that_says_no_ends_the_payment_and_is_quoted(kakao: "Kakao") -> None:
    bought = kakao.bought(result_code="INSUFFICIENT")
    answer = kakao.approve(bought)
    assert (answer.status, answer.json["error_code"]) == (400, -780)
    assert answer.json["error_message"] == "approval failure!"
    assert answer.json["extras"]["method_result_code"] == "INSUFFICIENT"
    assert kakao.order(bought)["status"] == "FAIL_PAYMENT"
    assert kakao.approve(bought).json["error_code"] == -783


def test_a_locked_user_decides_nothing(kakao: "Kakao") -> None:
    bought = kakao.bought(result_code="USER_LOCKED")
    assert kakao.approve(bought).json["extras"]["method_result_code"] == "USER_LOCKED"
    assert kakao.order(bought)["status"] == "AUTH_PASSWORD"


def test_an_error_may_hide_money_that_was_taken(kakao: "Kakao") -> None:
    bought = kakao.bought(result_code="BANK_FIRM_UNKNOWN", captures_all_the_same=True)
    answer = kakao.approve(bought)
    assert (answer.status, answer.json["error_code"]) == (400, -780)
    assert kakao.order(bought)["status"] == "SUCCESS_PAYMENT"


def test_a_subscription_is_approved_with_a_sid_that_charges_until_it_is_ended(kakao: "Kakao") -> None:
    first = kakao.paid(9_900, cid="TCSUBSCRIP", method="CARD")
    sid = {"cid": "TCSUBSCRIP", "sid": first["sid"]}
    assert re.fullmatch(r"S[0-9a-f]{19}", first["sid"])
    charge = {
        **sid,
        "partner_order_id": "sub-order-2",
        "partner_user_id": "user-1",
        "item_name": "박스",
        "quantity": 1,
        "total_amount": 9_900,
        "tax_free_amount": 0,
    }
    answer = kakao.post("subscription", charge)
    assert (answer.status, answer.json["sid"], answer.json["amount"]["total"]) == (200, first["sid"], 9_900)
    assert answer.json["tid"] != first["tid"]
    assert kakao.order(answer.json)["status"] == "SUCCESS_PAYMENT"
    assert kakao.post("subscription", {**charge, "partner_user_id": "other"}).json["error_code"] == -753
    status = kakao.post("manage/subscription/status", sid).json
    assert (status["status"], status["available"], status["payment_method_type"]) == ("ACTIVE", True, "CARD")
    kakao.admin("POST", "sid", {"sid": first["sid"], "result_code": "LOST"})
    declined = kakao.post("subscription", charge)
    assert (declined.status, declined.json["error_code"]) == (400, -782)
    assert declined.json["extras"]["method_result_code"] == "LOST"
    kakao.admin("POST", "sid", {"sid": first["sid"]})
    ended = kakao.post("manage/subscription/inactive", sid)
    assert set(ended.json) == {"cid", "sid", "status", "created_at", "last_approved_at", "inactivated_at"}
    assert kakao.post("manage/subscription/inactive", sid).json == ended.json
    assert kakao.post("subscription", charge).json["error_code"] == -751
    assert kakao.post("subscription", {**charge, "sid": "S0"}).json["error_code"] == -750


def test_a_sid_can_be_issued_without_money(kakao: "Kakao") -> None:
    issued = kakao.paid(0, cid="TCSUBSCRIP")
    assert kakao.order(issued)["status"] == "ISSUED_SID"
    refused = kakao.post("ready", {**kakao.ready(), "total_amount": 0})
    assert refused.json["error_code"] == -724


def test_the_browser_goes_where_the_shop_said(kakao: "Kakao") -> None:
    asked = kakao.ready()
    went = kakao.admin("POST", "buyer", {"tid": asked["tid"], "does": "open"})
    assert (went["status"], went["redirect_url"]) == ("OPEN_PAYMENT", None)
    went = kakao.admin("POST", "buyer", {"tid": asked["tid"]})
    assert went["redirect_url"] == f"https://shop.test/ok?order=1&pg_token={went['pg_token']}"
    quits = kakao.admin("POST", "buyer", {"tid": kakao.ready()["tid"], "does": "quit"})
    assert (quits["status"], quits["redirect_url"]) == ("QUIT_PAYMENT", "https://shop.test/cancel")
    fails = kakao.admin("POST", "buyer", {"tid": kakao.ready()["tid"], "does": "fail_password"})
    assert (fails["status"], fails["redirect_url"]) == ("FAIL_AUTH_PASSWORD", "https://shop.test/fail")


def test_a_browser_that_opens_the_window_pays_and_comes_back_with_a_token(kakao: "Kakao") -> None:
    asked = kakao.ready()
    url = kakao.post("ready", asked).json["next_redirect_pc_url"]
    answer = kakao.call("GET", url.split(str(kakao.port), 1)[1])
    assert answer.status == 302
    assert re.fullmatch(r"https://shop\.test/ok\?order=1&pg_token=[0-9a-f]{20}", answer.headers["location"])


@pytest.mark.parametrize(
    ("header", "status", "code"),
    [
        (None, 400, -400),
        ("SECRET_KEY wrong", 401, -401),
        (f"KakaoAK {SECRET}", 401, -401),
        (f"SECRET_KEY{SECRET}", 401, -401),
    ],
)
def test_only_the_secret_key_lets_one_in(kakao: "Kakao", header: str | None, status: int, code: int) -> None:
    headers = {} if header is None else {"Authorization": header}
    answer = kakao.call("POST", "/online/v1/payment/order", {"cid": "TC0ONETIME", "tid": "T1"}, headers)
    assert (answer.status, answer.json["error_code"]) == (status, code)


def test_the_key_of_development_lets_one_in_too(kakao: "Kakao") -> None:
    headers = {"Authorization": f"DEV_SECRET_KEY {SECRET}"}
    answer = kakao.call("POST", "/online/v1/payment/order", {"cid": "TC0ONETIME", "tid": "T1"}, headers)
    assert answer.json["error_code"] == -721


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"\xff", b"null", b'{"cid":"TC0ONETIME"}', b'{"a":' * 5000, b'{"tid":1}']
)
def test_a_body_that_is_not_as_documented_is_refused(kakao: "Kakao", body: bytes) -> None:
    for path in ("ready", "approve", "order", "cancel", "subscription", "manage/subscription/status"):
        answer = kakao.post(path, body)
        assert (answer.status, answer.json["error_code"]) == (400, -2), path


@pytest.mark.parametrize(
    "fields",
    [
        {"total_amount": "2200"},
        {"total_amount": -1},
        {"tax_free_amount": 2_201},
        {"vat_amount": 2_201},
        {"quantity": 0},
        {"item_name": "x" * 101},
        {"approval_url": "javascript:alert(1)"},
        {"approval_url": "https://shop.test/" + "x" * 255},
        {"cid": "TC0ONETIMEX"},
        {"cid": "TC0UNKNOWN"},
    ],
)
def test_a_ready_that_is_not_as_documented_is_refused(kakao: "Kakao", fields: dict[str, object]) -> None:
    answer = kakao.post("ready", {**kakao.ready(), **fields})
    assert (answer.status, answer.json["error_code"] in (-2, -722, -731)) == (400, True)


def test_what_is_not_there_is_said_so(kakao: "Kakao") -> None:
    assert kakao.post("order", {"cid": "TC0ONETIME", "tid": "T0"}).json["error_code"] == -721
    assert kakao.post("order", {"cid": "TCSUBSCRIP", "tid": kakao.ready()["tid"]}).json["error_code"] == -731
    unknown = kakao.post("nothing", {})
    assert (unknown.status, unknown.json["error_code"]) == (404, -404)
    headers = {"Authorization": f"SECRET_KEY {SECRET}"}
    assert kakao.call("GET", "/online/v1/payment/order", None, headers).status == 404
    assert kakao.post("ready", b" " * 70_000).status == 413


def test_of_approvals_at_once_one_pays(kakao: "Kakao") -> None:
    bought = kakao.bought()
    before = kakao.summary()["captured"]
    kakao.faults(latency_ms=200)
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        answers = [f.result() for f in [pool.submit(kakao.approve, bought) for _ in range(10)]]
    assert [answer.status for answer in answers].count(200) == 1
    assert {a.json["error_code"] for a in answers if a.status != 200} <= {-785, -702}
    assert kakao.summary()["captured"] == before + 1


def test_a_cancel_asked_twice_gives_back_twice_for_no_key_protects_it(kakao: "Kakao") -> None:
    payment = kakao.paid(2_200)
    assert kakao.cancel(payment, 500).json["canceled_amount"]["total"] == 500
    assert kakao.cancel(payment, 500).json["canceled_amount"]["total"] == 1_000


def test_a_provider_that_may_give_back_too_much_does_when_it_is_told_to(kakao: "Kakao") -> None:
    kakao.admin("PUT", "rules", {"over_refund": True})
    payment = kakao.paid(2_200)
    assert [kakao.cancel(payment, 1_500).status for _ in range(3)] == [200, 200, 200]
    assert kakao.order(payment)["canceled_amount"]["total"] == 4_500


def test_a_tid_lives_15_minutes_also_through_a_kill_9(own: "Kakao") -> None:
    bought, asked = own.bought(), own.ready()
    own.advance(15 * MINUTE_MS)
    own.kill_and_restart()
    answer = own.approve(bought)
    assert (answer.status, answer.json["error_code"]) == (400, -723)
    went = own.admin("POST", "buyer", {"tid": asked["tid"]})
    assert (went["pg_token"], went["redirect_url"]) == (None, "https://shop.test/fail")


def test_money_taken_before_a_kill_9_is_still_taken_after_it(own: "Kakao") -> None:
    bought = own.bought(12_345)
    own.faults(timeout_after_capture_rate=1, hold_ms=60_000)
    with pytest.raises(OSError):
        own.approve(bought, timeout_s=2)
    own.kill_and_restart()
    assert own.order(bought)["status"] == "SUCCESS_PAYMENT"
    assert own.approve(bought).json["error_code"] == -702
    summary = own.summary()
    assert (summary["captured"], summary["captured_minor"]) == (1, 12_345)


def test_faults_look_like_kakaopay(kakao: "Kakao") -> None:
    bought = kakao.bought(1_000)
    for faults, status, code in [
        ({"error_rate": 1}, 500, -500),
        ({"rate_limit_rate": 1}, 429, -429),
    ]:
        kakao.faults(**faults)
        answer = kakao.approve(bought)
        assert (answer.status, answer.json["error_code"]) == (status, code)
    kakao.faults(inquiry_down=True)
    inquiry = kakao.post("order", {"cid": bought["cid"], "tid": bought["tid"]})
    assert (inquiry.status, inquiry.json["error_code"]) == (503, -503)
    kakao.faults(decline_rate=1)
    assert kakao.approve(bought).json["error_code"] == -780
    kakao.faults(wrong_amount_rate=1)
    assert kakao.approve(kakao.bought(1_000)).json["amount"]["total"] == 1_001
    kakao.faults(down=True)
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        kakao.ready()


def test_the_books_name_who_was_captured_twice_and_settle_to_the_won(own: "Kakao") -> None:
    for _ in range(2):
        asked = own.ready(3_000, partner_order_id="pay-1.1")
        token = own.admin("POST", "buyer", {"tid": asked["tid"]})["pg_token"]
        names = ("cid", "tid", "partner_order_id", "partner_user_id")
        assert own.approve({**{name: asked[name] for name in names}, "pg_token": token}).status == 200
    payment = own.paid(1_000)
    assert own.cancel(payment, 400).status == 200
    summary = own.summary()
    assert summary["references_captured_twice"] == ["pay-1.1"]
    assert (summary["payments_captured_twice"], summary["refunded_minor"]) == (["pay-1"], 400)
    rows = own.admin("GET", "settlements")
    assert sum(row["amount"] for row in rows) == summary["captured_minor"] - summary["refunded_minor"] == 6_600
    assert all(row["amount"] - row["fee"] == row["pay_out_amount"] for row in rows)
    captures = own.admin("GET", "ledger/captures")
    assert [row["seq"] for row in captures["data"]] == [1, 2, 3]
    assert own.webhooks() == []


def test_every_decline_is_on_record_with_its_time(own: "Kakao") -> None:
    bought = own.bought(result_code="INSUFFICIENT")
    assert own.approve(bought).status == 400
    now_ms = own.admin("GET", "clock")["now_ms"]
    (only,) = own.admin("GET", "ledger/declines")["data"]
    assert (only["psp_key"], only["reference"]) == (bought["tid"], bought["partner_order_id"])
    assert (only["amount_minor"], only["code"]) == (2_200, "INSUFFICIENT")
    assert now_ms - 5_000 < only["at_ms"] <= now_ms
