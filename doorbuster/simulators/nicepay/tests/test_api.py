"""The NICEPAY API over real HTTP: who is let in, what an approval and an inquiry answer, and which code a wrong one."""

import base64
import concurrent.futures
from pathlib import Path
from urllib.parse import quote

import pytest

from doorbuster.simulators.nicepay.__main__ import CLIENT_KEY
from doorbuster.simulators.nicepay.payment import AUTHENTICATION_MS, DAY_MS
from doorbuster.simulators.nicepay.signing import answer_signature, auth_signature, hashed
from doorbuster.simulators.nicepay.tests.caller import Nicepay, new_order

NOW = "2026-11-23T18:52:25.961+0900"


def code(answer: object) -> tuple[int, str]:
    return answer.status, answer.json["resultCode"]  # type: ignore[attr-defined]


def test_what_the_window_posts_and_what_is_answered_is_signed(nicepay: Nicepay) -> None:
    bought = nicepay.buy(10_000, mallReserved="a note")
    assert bought["mallReserved"] == "a note"
    assert bought["clientId"] == CLIENT_KEY
    assert bought["signature"] == auth_signature(bought["authToken"], CLIENT_KEY, 10_000, nicepay.secret)
    shown = nicepay.approve(bought).json
    assert shown["mallReserved"] == "a note"
    for answer in (shown, nicepay.look(bought), nicepay.cancel(shown).json):
        signature = answer_signature(answer["tid"], 10_000, answer["ediDate"], nicepay.secret)
        assert answer["signature"] == signature


def test_a_buyer_who_walks_away_leaves_nothing_to_approve(nicepay: Nicepay) -> None:
    bought = nicepay.buy(authenticates=False)
    assert bought["authResultCode"] == "I002"
    assert not {"tid", "signature"} & set(bought)
    assert code(nicepay.find(bought["orderId"])) == (404, "U107")


def test_what_is_not_approved_yet_is_no_transaction(nicepay: Nicepay) -> None:
    bought = nicepay.buy()
    assert code(nicepay.get(f"/v1/payments/{bought['tid']}")) == (404, "U107")
    assert code(nicepay.find(bought["orderId"])) == (404, "U107")
    assert code(nicepay.net_cancel(bought["orderId"])) == (404, "U107")
    assert code(nicepay.cancel(bought)) == (404, "U107")
    assert nicepay.approve(bought).json["status"] == "paid"


def test_another_amount_is_refused_and_takes_nothing(nicepay: Nicepay) -> None:
    bought = nicepay.buy(10_000)
    assert code(nicepay.approve(bought, amount=9_999)) == (200, "A123")
    assert code(nicepay.find(bought["orderId"])) == (404, "U107")


def test_a_second_approval_is_refused(nicepay: Nicepay) -> None:
    bought = nicepay.buy()
    assert code(nicepay.approve(bought)) == (200, "0000")
    assert code(nicepay.approve(bought)) == (200, "U114")
    assert nicepay.look(bought)["balanceAmt"] == 10_000


def test_one_of_many_approvals_at_once_pays_and_the_others_are_told_that_it_is_in_work(nicepay: Nicepay) -> None:
    before = nicepay.summary()["captured"]
    bought = nicepay.buy()
    nicepay.faults(latency_ms=300)
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = [job.result() for job in [pool.submit(nicepay.approve, bought) for _ in range(20)]]
    codes = [answer.json["resultCode"] for answer in answers]
    assert codes.count("0000") == 1
    assert set(codes) == {"0000", "P049"}
    assert nicepay.summary()["captured"] == before + 1


def test_an_order_is_paid_once_however_many_windows_it_had(nicepay: Nicepay) -> None:
    first = nicepay.buy()
    second = nicepay.admin("POST", "buyer", {"orderId": first["orderId"], "amount": 10_000})
    nicepay.faults(latency_ms=100)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        answers = [job.result() for job in [pool.submit(nicepay.approve, b) for b in (first, second)]]
    assert sorted(a.json["resultCode"] for a in answers) == ["0000", "U112"]
    nicepay.faults()
    late = first if answers[0].json["resultCode"] == "U112" else second
    assert code(nicepay.approve(late)) == (200, "U112")
    body = {"orderId": first["orderId"], "amount": 10_000}
    again = nicepay.call("POST", "/admin/buyer", body, {"Authorization": f"Bearer {nicepay.secret}"})
    assert (again.status, "U112" in again.raw.decode()) == (400, True)


def test_a_provider_that_does_not_look_at_order_ids_takes_money_twice(nicepay: Nicepay) -> None:
    nicepay.admin("PUT", "rules", {"reused_order_ids": True})
    first = nicepay.paid()
    second = nicepay.admin("POST", "buyer", {"orderId": first["orderId"], "amount": 10_000})
    assert code(nicepay.approve(second)) == (200, "0000")
    assert first["orderId"] in nicepay.summary()["references_captured_twice"]
    assert code(nicepay.net_cancel(first["orderId"])) == (200, "P035")


@pytest.mark.parametrize("refused", ["3011", "3021", "3095", "3081", "A110"])
def test_a_decline_has_the_networks_code_and_frees_its_order(nicepay: Nicepay, refused: str) -> None:
    bought = nicepay.buy(declineCode=refused)
    answer = nicepay.approve(bought)
    assert code(answer) == (200, refused)
    assert (answer.json["status"], answer.json["tid"], answer.json["signature"]) == ("failed", bought["tid"], None)
    assert nicepay.look(bought)["status"] == "failed"
    assert code(nicepay.find(bought["orderId"])) == (404, "U107")
    assert code(nicepay.approve(bought)) == (200, "U114")
    again = nicepay.admin("POST", "buyer", {"orderId": bought["orderId"], "amount": 10_000})
    assert code(nicepay.approve(again)) == (200, "0000")


def test_a_card_number_says_its_own_decline(nicepay: Nicepay) -> None:
    assert code(nicepay.approve(nicepay.buy(cardNo="1234567890123021"))) == (200, "3021")
    assert code(nicepay.approve(nicepay.buy(cardNo="1234567890121234"))) == (200, "0000")


def test_a_failure_of_nicepay_itself_takes_the_payment_back(nicepay: Nicepay) -> None:
    bought = nicepay.buy(declineCode="U504")
    answer = nicepay.approve(bought)
    assert code(answer) == (200, "U504")
    assert set(answer.json) == {"resultCode", "resultMsg"}
    assert (nicepay.look(bought)["status"], nicepay.look(bought)["balanceAmt"]) == ("cancelled", 0)


def test_an_authentication_ends_after_half_an_hour(own: Nicepay) -> None:
    late = own.buy()
    own.advance(AUTHENTICATION_MS - 60_000)
    in_time = own.buy()
    own.advance(60_000)
    assert code(own.approve(late)) == (200, "A245")
    assert code(own.approve(in_time)) == (200, "0000")
    assert code(own.find(late["orderId"])) == (404, "U107")


def test_an_order_is_found_on_its_day_and_on_no_other(own: Nicepay) -> None:
    payment = own.paid()
    today = own.look(payment)["paidAt"][:10].replace("-", "")
    assert own.find(payment["orderId"], today).json["tid"] == payment["tid"]
    assert code(own.find(payment["orderId"], "20200101")) == (404, "U107")
    path = f"/v1/payments/find/{payment['orderId']}"
    assert code(own.get(path)) == (200, "U100")
    for wrong in ("2026-1-1", "20261301", "2026W011", "today"):
        assert code(own.get(f"{path}?orderDate={wrong}")) == (200, "U130"), wrong
    own.advance(DAY_MS)
    assert own.find(payment["orderId"], today).status == 200
    own.admin("PUT", "rules", {"any_order_date": True})
    assert own.get(path).json["tid"] == payment["tid"]


def test_an_order_id_may_need_to_be_encoded(nicepay: Nicepay) -> None:
    order_id = f"주문/{new_order()}"
    bought = nicepay.admin("POST", "buyer", {"orderId": order_id, "amount": 10_000})
    nicepay.approve(bought)
    assert nicepay.find(quote(order_id, safe="")).json["orderId"] == order_id


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Basic"},
        {"Authorization": "Basic %%%"},
        {"Authorization": "Basic " + base64.b64encode(b"someone:else").decode()},
        {"Authorization": "Basic " + base64.b64encode(f"{CLIENT_KEY}:{Nicepay.secret}\n".encode()).decode()},
        {"Authorization": f"Bearer {Nicepay.secret}"},
        {"Authorization": f"SECRET_KEY {Nicepay.secret}"},
    ],
)
def test_who_is_not_known_is_not_let_in(nicepay: Nicepay, headers: dict[str, str]) -> None:
    bought = nicepay.buy()
    answer = nicepay.post(f"/v1/payments/{bought['tid']}", {"amount": 10_000}, headers)
    assert code(answer) == (401, "U104")
    assert code(nicepay.find(bought["orderId"])) == (404, "U107")


def test_a_client_key_of_ones_own(tmp_path: Path) -> None:
    nicepay = Nicepay(tmp_path, "--client-key", "S2_mine")
    try:
        assert nicepay.buy()["clientId"] == "S2_mine"
        assert code(nicepay.get("/v1/payments/x")) == (401, "U104")
        mine = nicepay.call("GET", "/v1/payments/x", None, nicepay.basic("S2_mine"))
        assert code(mine) == (404, "U107")
    finally:
        assert nicepay.end() == 0


def test_a_token_is_bought_once_and_lasts_half_an_hour_also_over_a_kill_9(tmp_path: Path) -> None:
    nicepay = Nicepay(tmp_path, "--bearer")
    try:
        bought = nicepay.buy()
        assert code(nicepay.approve(bought)) == (403, "U103"), "the secret itself is not taken"
        first = nicepay.post("/v1/access-token", b"").json
        assert list(first) == ["resultCode", "resultMsg", "accessToken", "tokenType", "expireAt", "now"]
        assert (first["tokenType"], len(first["accessToken"])) == ("Bearer", 40)
        nicepay.kill_and_restart()
        second = nicepay.post("/v1/access-token", {}).json
        assert (second["accessToken"], second["expireAt"]) == (first["accessToken"], first["expireAt"])
        bearer = {"Authorization": f"Bearer {first['accessToken']}"}
        path = f"/v1/payments/{bought['tid']}"
        assert code(nicepay.post(path, {"amount": 10_000}, bearer)) == (200, "0000")
        nicepay.advance(30 * 60_000)
        assert code(nicepay.call("GET", path, None, bearer)) == (401, "U104")
        assert nicepay.post("/v1/access-token", {}).json["accessToken"] != first["accessToken"]
    finally:
        assert nicepay.end() == 0


@pytest.mark.parametrize(
    ("credential", "expected"),
    [
        ("", (401, "U304")),
        ("%%%", (401, "U101")),
        (base64.b64encode(b"no colon").decode(), (401, "U304")),
        (base64.b64encode(b"client:").decode(), (401, "U117")),
        (base64.b64encode(b"some:one").decode(), (401, "U116")),
        (base64.b64encode(f"{CLIENT_KEY}:{Nicepay.secret}".encode()).decode(), (403, "U103")),
    ],
)
def test_the_token_call_says_what_is_wrong(nicepay: Nicepay, credential: str, expected: tuple[int, str]) -> None:
    """The last: a key that is sent itself buys no token."""
    answer = nicepay.post("/v1/access-token", b"", {"Authorization": f"Basic {credential}"})
    assert code(answer) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"amount": None}, "U100"),
        ({"amount": "10000"}, "U133"),
        ({"amount": 10_000.5}, "U133"),
        ({"amount": True}, "U133"),
        ({"amount": 0}, "U127"),
        ({"amount": 10**12}, "U127"),
        ({"amount": 10**30}, "U127"),
        ({"signData": "0" * 64}, "U100"),
        ({"signData": "0" * 64, "ediDate": NOW}, "U312"),
        ({"signData": "0" * 257, "ediDate": NOW}, "U105"),
        ({"returnCharSet": "latin-1"}, "U132"),
    ],
)
def test_a_wrong_field_is_named_by_its_code_and_takes_nothing(
    nicepay: Nicepay, fields: dict[str, object], expected: str
) -> None:
    bought = nicepay.buy()
    answer = nicepay.approve(bought, **fields)
    assert code(answer) == (200, expected)
    assert code(nicepay.find(bought["orderId"])) == (404, "U107")


def test_sign_data_is_looked_at_where_it_is_sent(nicepay: Nicepay) -> None:
    bought = nicepay.buy()
    right = hashed(bought["tid"], 10_000, NOW, nicepay.secret)
    assert code(nicepay.approve(bought, ediDate=NOW, signData=right.upper())) == (200, "U312")
    assert code(nicepay.approve(bought, ediDate=NOW, signData=right)) == (200, "0000")
    right = hashed(bought["tid"], NOW, nicepay.secret)
    path = f"/v1/payments/{bought['tid']}?signData={right}&ediDate="
    assert code(nicepay.get(path + quote(NOW, safe=""))) == (200, "0000")
    assert code(nicepay.get(path + NOW)) == (200, "U312"), "a plus in a query is a blank"


def test_an_answer_comes_in_euc_kr_when_that_is_asked_for(nicepay: Nicepay) -> None:
    bought = nicepay.buy(goodsName="나이스페이-상품")
    answer = nicepay.approve(bought, returnCharSet="euc-kr")
    assert answer.headers["content-type"] == "application/json; charset=euc-kr"
    assert '"goodsName":"나이스페이-상품"' in answer.raw.decode("euc-kr")
    with pytest.raises(UnicodeDecodeError):
        answer.raw.decode()
    refused = nicepay.approve(bought, returnCharSet="EUC-KR")
    assert "이미 사용된 TID" in refused.raw.decode("euc-kr")
    assert nicepay.look(bought)["goodsName"] == "나이스페이-상품"


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/v1/payments/netcancel", (404, "U107")),
        ("PUT", "/v1/payments/x", (405, "U308")),
        ("GET", "/v1/payments/x/cancel", (405, "U308")),
        ("POST", "/v1/payments/find/x", (405, "U308")),
        ("GET", "/v1/subscribe/regist", (405, "U308")),
        ("GET", "/v1/settlements", (404, "U320")),
        ("POST", "/v2/payments/x", (404, "U320")),
        ("POST", "/v1/payments/x", (404, "U121")),
        ("POST", "/v1/subscribe/x/payments", (200, "U345")),
    ],
)
def test_what_is_not_there_says_so(nicepay: Nicepay, method: str, path: str, expected: tuple[int, str]) -> None:
    body = None if method == "GET" else {"amount": 1_000, "orderId": "o"}
    assert code(nicepay.call(method, path, body, nicepay.basic())) == expected


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"', b"amount=10000", b"\xff\xfe", b"[" * 5_000])
def test_what_is_no_json_object_is_refused(nicepay: Nicepay, body: bytes) -> None:
    bought = nicepay.buy()
    assert code(nicepay.post(f"/v1/payments/{bought['tid']}", body)) == (200, "U125")


def test_a_body_that_is_too_large_is_refused(nicepay: Nicepay) -> None:
    assert code(nicepay.post("/v1/payments/x", b" " * (65 * 1024))) == (413, "U105")


def test_an_amount_can_be_checked_and_is_never_an_error(nicepay: Nicepay) -> None:
    payment = nicepay.paid(10_000)
    for amount, is_valid in ((10_000, True), (9_999, False)):
        shown = nicepay.post(f"/v1/check-amount/{payment['tid']}", {"amount": amount}).json
        assert (shown["resultCode"], shown["isValid"], shown["tid"]) == ("0000", is_valid, payment["tid"])
        assert shown["signature"] == hashed(payment["tid"], shown["ediDate"], nicepay.secret)
