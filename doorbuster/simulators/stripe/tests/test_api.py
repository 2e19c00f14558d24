"""The Stripe API over real HTTP: what the vendor's documents say is asked and answered."""

import base64
import http.client
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from doorbuster.simulators.host.tests.processes import SECRET, basic

if TYPE_CHECKING:
    from doorbuster.simulators.stripe.tests.conftest import Stripe

AUTH = {"Authorization": f"Bearer {SECRET}"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
RETURN = "https://shop.test/back?order=1"


def error_of(answer: Any) -> Any:
    assert answer.status >= 400, answer.raw
    return answer.json["error"]


def test_a_payment_confirmed_at_once_is_an_intent_with_its_charge(stripe: "Stripe") -> None:
    answer = stripe.pay(15_000, description="shirt", expand=["latest_charge"], receipt_email="kim@shop.test")
    assert answer.status == 200
    shown = answer.json
    expected = {
        "object": "payment_intent",
        "amount": 15_000,
        "amount_capturable": 0,
        "amount_received": 15_000,
        "automatic_payment_methods": None,
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": "automatic_async",
        "confirmation_method": "automatic",
        "currency": "krw",
        "customer": None,
        "description": "shirt",
        "last_payment_error": None,
        "livemode": False,
        "next_action": None,
        "payment_method_types": ["card"],
        "processing": None,
        "receipt_email": "kim@shop.test",
        "status": "succeeded",
    }
    assert {name: shown[name] for name in expected} == expected
    assert shown["client_secret"].startswith(f"{shown['id']}_secret_")
    charge = shown["latest_charge"]
    expected_charge = {
        "object": "charge",
        "amount": 15_000,
        "amount_captured": 15_000,
        "amount_refunded": 0,
        "balance_transaction": None,
        "captured": True,
        "paid": True,
        "refunded": False,
        "status": "succeeded",
        "payment_intent": shown["id"],
        "payment_method": shown["payment_method"],
        "metadata": shown["metadata"],
    }
    assert {name: charge[name] for name in expected_charge} == expected_charge
    assert stripe.look(shown)["latest_charge"] == charge["id"]


def test_each_answer_has_a_request_id_of_its_own_and_the_version(stripe: "Stripe") -> None:
    answers = [stripe.pay(), stripe.pay(), stripe.get("payment_intents"), stripe.get("nothing")]
    ids = [answer.headers["request-id"] for answer in answers]
    assert len(set(ids)) == 4 and all(id_.startswith("req_") for id_ in ids)
    assert {answer.headers["stripe-version"] for answer in answers} == {"2026-10-28.endive"}


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer sk_test_wrong"},
        {"Authorization": "Bearer "},
        {"Authorization": SECRET},
        {"Authorization": "Basic " + base64.b64encode(b"sk_test_wrong:").decode()},
        {"Authorization": "Basic ???"},
    ],
)
def test_without_the_key_nobody_is_let_in(stripe: "Stripe", headers: dict[str, str]) -> None:
    answer = stripe.call("GET", "/v1/payment_intents", None, headers)
    assert (answer.status, error_of(answer)["type"]) == (401, "invalid_request_error")
    assert "www-authenticate" in answer.headers


def test_basic_and_bearer_are_both_taken(stripe: "Stripe") -> None:
    assert stripe.call("GET", "/v1/payment_intents", None, basic()).status == 200
    assert stripe.call("GET", "/v1/payment_intents", None, AUTH).status == 200


def test_json_is_refused(stripe: "Stripe") -> None:
    headers = {**AUTH, "Content-Type": "application/json"}
    answer = stripe.call("POST", "/v1/payment_intents", {"amount": 100, "currency": "usd"}, headers)
    assert (answer.status, error_of(answer)["type"]) == (400, "invalid_request_error")
    pretending = stripe.call("POST", "/v1/payment_intents", {"amount": 100, "currency": "usd"}, {**AUTH, **FORM})
    assert error_of(pretending)["code"] == "parameter_unknown"


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"currency": "usd"}, "parameter_missing", "amount"),
        ({"amount": 100}, "parameter_missing", "currency"),
        ({"amount": 100, "currency": "usd", "colour": "red"}, "parameter_unknown", "colour"),
        ({"amount": 49, "currency": "usd"}, "amount_too_small", "amount"),
        ({"amount": 100, "currency": "xyz"}, None, "currency"),
        ({"amount": 100, "currency": "usd", "confirm": True}, "parameter_missing", "payment_method"),
        ({"amount": 100, "currency": "usd", "return_url": RETURN}, None, "return_url"),
        ({"amount": 100, "currency": "usd", "off_session": True}, None, "off_session"),
        ({"amount": 100, "currency": "usd", "payment_method": "pm_none"}, "resource_missing", "payment_method"),
        ({"amount": 100, "currency": "usd", "customer": "cus_none"}, "resource_missing", "customer"),
        ({"amount": 100, "currency": "usd", "expand": ["customer"]}, None, "expand[0]"),
        (
            {"amount": 100, "currency": "eur", "payment_method": "pm_usBankAccount_success"},
            "payment_intent_incompatible_payment_method",
            "payment_method",
        ),
    ],
)
def test_what_cannot_be_created_says_why(
    stripe: "Stripe", fields: dict[str, Any], code: str | None, param: str
) -> None:
    answer = stripe.post("payment_intents", fields)
    error = error_of(answer)
    assert (answer.status, error["type"], error.get("code"), error.get("param")) == (
        400,
        "invalid_request_error",
        code,
        param,
    )


def test_where_a_method_may_redirect_the_confirmation_needs_a_return_url(stripe: "Stripe") -> None:
    """docs.stripe.com/upgrades/manage-payment-methods: since 2023-08-16 that is what an intent does by itself."""
    order = stripe.order()
    del order["payment_method_types"]
    assert error_of(stripe.post("payment_intents", order))["param"] == "return_url"
    assert stripe.post("payment_intents", {**order, "return_url": RETURN}).json["status"] == "succeeded"
    never = {"enabled": True, "allow_redirects": "never"}
    shown = stripe.post("payment_intents", {**order, "automatic_payment_methods": never}).json
    assert (shown["status"], shown["automatic_payment_methods"]) == ("succeeded", never)


def test_an_intent_goes_through_its_states_step_by_step(stripe: "Stripe") -> None:
    intent = stripe.opened()
    assert (intent["status"], intent["latest_charge"]) == ("requires_payment_method", None)
    without = stripe.post(f"payment_intents/{intent['id']}/confirm")
    assert (without.status, error_of(without)["code"]) == (400, "payment_intent_unexpected_state")
    confirmed = stripe.post(f"payment_intents/{intent['id']}/confirm", {"payment_method": "pm_card_visa"})
    assert confirmed.json["status"] == "succeeded"
    again = stripe.post(f"payment_intents/{intent['id']}/confirm", {"payment_method": "pm_card_visa"})
    assert (again.status, error_of(again)["code"]) == (400, "payment_intent_unexpected_state")
    assert error_of(again)["payment_intent"]["status"] == "succeeded"
    for step in ("capture", "cancel"):
        assert (
            error_of(stripe.post(f"payment_intents/{intent['id']}/{step}"))["code"] == "payment_intent_unexpected_state"
        )


def test_a_hold_is_captured_in_whole_or_part_once(stripe: "Stripe") -> None:
    held = stripe.pay(capture_method="manual").json
    assert (held["status"], held["amount_capturable"], held["amount_received"]) == ("requires_capture", 10_000, 0)
    path = f"payment_intents/{held['id']}/capture"
    too_much = stripe.post(path, {"amount_to_capture": 10_001})
    assert (too_much.status, error_of(too_much)["code"]) == (400, "amount_too_large")
    taken = stripe.post(path, {"amount_to_capture": 6_000, "expand": ["latest_charge.refunds"]}).json
    assert (taken["status"], taken["amount"], taken["amount_received"]) == ("succeeded", 10_000, 6_000)
    charge = taken["latest_charge"]
    assert (charge["amount_captured"], charge["amount_refunded"], charge["refunded"]) == (6_000, 4_000, False)
    assert [refund["amount"] for refund in charge["refunds"]["data"]] == [4_000]
    assert error_of(stripe.post(path))["code"] == "payment_intent_unexpected_state"
    assert error_of(stripe.refund(held, 6_001))["param"] == "amount"
    assert stripe.refund(held).json["amount"] == 6_000
    assert error_of(stripe.refund(held))["code"] == "charge_already_refunded"


def test_a_bank_debit_is_never_held(stripe: "Stripe") -> None:
    refused = stripe.pay(
        payment_method="pm_usBankAccount_success",
        currency="usd",
        payment_method_types=["us_bank_account"],
        capture_method="manual",
    )
    assert (refused.status, error_of(refused)["param"]) == (400, "capture_method")


def test_a_cancel_ends_what_is_not_paid_and_releases_a_hold(stripe: "Stripe") -> None:
    opened = stripe.opened()
    ended = stripe.post(f"payment_intents/{opened['id']}/cancel", {"cancellation_reason": "abandoned"}).json
    assert (ended["status"], ended["cancellation_reason"], ended["canceled_at"] is not None) == (
        "canceled",
        "abandoned",
        True,
    )
    held = stripe.pay(capture_method="manual").json
    assert stripe.post(f"payment_intents/{held['id']}/cancel").json["amount_capturable"] == 0
    charge = stripe.look(held, "latest_charge")["latest_charge"]
    assert (charge["captured"], charge["refunded"], charge["amount_captured"]) == (False, True, 0)
    assert held["id"] not in [row["psp_key"] for row in stripe.captured()]
    assert error_of(stripe.refund(held))["code"] == "charge_not_refundable"


def test_a_card_that_asks_for_the_buyer_sends_them_to_the_bank_and_back(stripe: "Stripe") -> None:
    asked = stripe.pay(payment_method="pm_card_threeDSecure2Required", return_url=RETURN).json
    assert (asked["status"], asked["latest_charge"]) == ("requires_action", None)
    action = asked["next_action"]
    assert (action["type"], action["redirect_to_url"]["return_url"]) == ("redirect_to_url", RETURN)
    url = urlsplit(action["redirect_to_url"]["url"])
    assert url.port == stripe.port
    back = stripe.call("GET", url.path)
    query = parse_qs(urlsplit(back.headers["location"]).query)
    assert (back.status, query["redirect_status"], query["payment_intent"]) == (302, ["succeeded"], [asked["id"]])
    assert query["order"] == ["1"], "what the return_url had is kept"
    assert stripe.look(asked)["status"] == "succeeded"
    assert stripe.call("GET", url.path).status == 401, "the page is gone; what is left is the API"


def test_a_buyer_who_fails_at_the_bank_has_not_paid(stripe: "Stripe") -> None:
    asked = stripe.pay(payment_method="pm_card_threeDSecure2Required").json
    assert asked["next_action"]["type"] == "use_stripe_sdk"
    failed = stripe.admin("POST", "authenticate", {"payment_intent": asked["id"], "succeeds": False})
    assert (failed["status"], failed["latest_charge"]) == ("requires_payment_method", None)
    assert failed["last_payment_error"]["code"] == "payment_intent_authentication_failure"


def test_a_card_that_asks_while_the_buyer_is_away_is_declined(stripe: "Stripe") -> None:
    answer = stripe.pay(payment_method="pm_card_authenticationRequired", off_session=True)
    error = error_of(answer)
    assert (answer.status, error["type"], error["code"]) == (402, "card_error", "authentication_required")
    customer = stripe.admin("POST", "customer")["id"]
    saved = stripe.admin("POST", "card", {"card": "pm_card_authenticationRequired", "customer": customer})["id"]
    paid = stripe.pay(payment_method=saved, customer=customer, off_session=True).json
    assert (paid["status"], paid["payment_method"], paid["customer"]) == ("succeeded", saved, customer)
    assert error_of(stripe.pay(payment_method=saved, off_session=True))["param"] == "payment_method"


def test_a_decline_is_a_402_with_everything_in_it(stripe: "Stripe") -> None:
    answer = stripe.pay(payment_method="pm_card_visa_chargeDeclinedLostCard")
    error = error_of(answer)
    assert (answer.status, error["type"], error["code"], error["decline_code"]) == (
        402,
        "card_error",
        "card_declined",
        "lost_card",
    )
    intent = error["payment_intent"]
    assert (intent["status"], intent["payment_method"]) == ("requires_payment_method", None)
    assert intent["latest_charge"] == error["charge"]
    assert intent["last_payment_error"]["decline_code"] == "lost_card"
    assert error["payment_method"]["card"]["last4"] == "9987"
    charge = stripe.get(f"charges/{error['charge']}").json
    assert (charge["status"], charge["paid"], charge["failure_code"]) == ("failed", False, "card_declined")


def test_the_buyer_confirms_in_the_browser_and_the_shop_sees_it(stripe: "Stripe") -> None:
    order = {"automatic_payment_methods": {"enabled": True}, "payment_method_types": None}
    fields = {name: value for name, value in {**stripe.order(), **order}.items() if value is not None}
    intent = stripe.post(
        "payment_intents", {k: v for k, v in fields.items() if k not in ("confirm", "payment_method")}
    ).json
    buyer = {"client_secret": intent["client_secret"], "return_url": RETURN}
    declined = stripe.admin("POST", "buyer", {**buyer, "payment_method": "pm_card_chargeDeclined"})
    assert (declined["status"], declined["decline_code"]) == ("requires_payment_method", "generic_decline")
    away = stripe.admin(
        "POST", "buyer", {**buyer, "payment_method": "pm_card_threeDSecure2Required", "authenticates": None}
    )
    assert away["status"] == "requires_action"
    paid = stripe.admin("POST", "buyer", {**buyer, "payment_method": "pm_card_threeDSecure2Required"})
    assert paid["status"] == "succeeded"
    assert parse_qs(urlsplit(paid["redirect_url"]).query)["redirect_status"] == ["succeeded"]
    assert stripe.look(intent)["amount_received"] == 10_000
    wrong = stripe.call("POST", "/admin/buyer", {"client_secret": intent["id"] + "_secret_x"}, AUTH)
    assert wrong.status == 400


def test_a_bank_debit_is_processing_until_its_bank_answers(stripe: "Stripe") -> None:
    fields: dict[str, Any] = {"currency": "usd", "payment_method_types": ["us_bank_account"]}
    intent = stripe.pay(payment_method="pm_usBankAccount_success", **fields).json
    assert (intent["status"], intent["amount_received"]) == ("processing", 0)
    for step in ("cancel", "confirm", "capture"):
        assert (
            error_of(stripe.post(f"payment_intents/{intent['id']}/{step}"))["code"] == "payment_intent_unexpected_state"
        )
    assert stripe.admin("POST", "settle", {"payment_intent": intent["id"]})["status"] == "succeeded"
    assert stripe.refund(intent, 100).json["id"].startswith("pyr_")
    other = stripe.pay(payment_method="pm_usBankAccount_insufficientFunds", **fields).json
    refused = stripe.admin("POST", "settle", {"payment_intent": other["id"]})
    assert (refused["status"], refused["latest_charge"]["status"]) == ("requires_payment_method", "failed")


def test_the_version_header_is_read(stripe: "Stripe") -> None:
    assert stripe.post("payment_intents", stripe.order(), headers={"Stripe-Version": "2026-10-28.endive"}).status == 200
    assert stripe.post("payment_intents", stripe.order(), headers={"Stripe-Version": "yesterday"}).status == 400


def test_a_client_secret_that_is_not_the_intents_finds_nothing(stripe: "Stripe") -> None:
    intent = stripe.opened()
    path = f"payment_intents/{intent['id']}"
    assert stripe.get(path, client_secret=intent["client_secret"]).status == 200
    assert stripe.get(path, client_secret="x").status == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/v1/customers"),
        ("DELETE", "/v1/payment_intents/x"),
        ("PUT", "/v1/refunds"),
        ("GET", "/3ds/x/y"),
    ],
)
def test_where_nothing_is_nothing_is_found(stripe: "Stripe", method: str, path: str) -> None:
    answer = stripe.call(method, path, None, AUTH)
    assert (answer.status, error_of(answer)["type"]) == (404, "invalid_request_error")


def test_a_body_that_is_too_large_is_refused_in_the_vendors_form(stripe: "Stripe") -> None:
    answer = stripe.call("POST", "/v1/payment_intents", b"description=" + b"x" * 70_000, {**AUTH, **FORM})
    assert (answer.status, error_of(answer)["type"]) == (413, "invalid_request_error")


@pytest.mark.parametrize(
    "raw", [b"\xff\xfe", b"amount=%ff", b"a[b=1", b"=", b"&&&", b"[]=1", b"\x00=1", b"metadata[]=1"]
)
def test_a_hostile_body_gets_no_more_than_a_refusal(stripe: "Stripe", raw: bytes) -> None:
    assert stripe.call("POST", "/v1/payment_intents", raw, {**AUTH, **FORM}).status == 400


def test_half_a_request_holds_nobody_up(stripe: "Stripe") -> None:
    connection = http.client.HTTPConnection("127.0.0.1", stripe.port, timeout=5)
    connection.putrequest("POST", "/v1/payment_intents")
    connection.putheader("Content-Length", "1000")
    connection.endheaders()
    connection.send(b"amount=1")
    assert stripe.pay().status == 200
    connection.close()
