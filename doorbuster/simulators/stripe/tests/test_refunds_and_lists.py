"""Refunds, search, lists and connected accounts of the Stripe API over real HTTP."""

from typing import TYPE_CHECKING, Any

import pytest

from doorbuster.simulators.host.tests.processes import SECRET

if TYPE_CHECKING:
    from doorbuster.simulators.stripe.tests.conftest import Stripe

AUTH = {"Authorization": f"Bearer {SECRET}"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
RETURN = "https://shop.test/back?order=1"


def error_of(answer: Any) -> Any:
    assert answer.status >= 400, answer.raw
    return answer.json["error"]


def test_refunds_are_given_in_parts_never_more_than_was_taken(stripe: "Stripe") -> None:
    intent = stripe.paid()
    first = stripe.refund(intent, 4_000, reason="requested_by_customer", metadata={"line": "1"}).json
    assert (first["object"], first["status"], first["reason"], first["metadata"]) == (
        "refund",
        "succeeded",
        "requested_by_customer",
        {"line": "1"},
    )
    too_much = stripe.refund(intent, 6_001)
    assert (too_much.status, error_of(too_much)["param"]) == (400, "amount")
    assert stripe.refund(intent).json["amount"] == 6_000
    assert error_of(stripe.refund(intent))["code"] == "charge_already_refunded"
    charge = stripe.look(intent, "latest_charge")["latest_charge"]
    assert (charge["amount_refunded"], charge["refunded"]) == (10_000, True)
    assert stripe.look(intent)["status"] == "succeeded", "an intent does not tell that it was refunded"
    updated = stripe.post(f"refunds/{first['id']}", {"metadata": {"line": "", "note": "x"}}).json
    assert updated["metadata"] == {"note": "x"}


def test_a_provider_that_may_give_back_too_much_does_when_it_is_told_to(stripe: "Stripe") -> None:
    stripe.admin("PUT", "rules", {"over_refund": True})
    intent = stripe.paid()
    assert [stripe.refund(intent, 6_000).status for _ in range(2)] == [200, 200]
    (row,) = [row for row in stripe.captured() if row["psp_key"] == intent["id"]]
    assert (row["amount_minor"], row["refunded_minor"]) == (10_000, 12_000)


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({}, 400, "parameter_missing"),
        ({"payment_intent": "pi_none"}, 404, "resource_missing"),
        ({"charge": "ch_none"}, 404, "resource_missing"),
        ({"payment_intent": "pi_1", "charge": "ch_1"}, 400, None),
        ({"payment_intent": "pi_none", "amount": 0}, 400, "parameter_invalid_integer"),
        ({"payment_intent": "pi_none", "reason": "mood"}, 400, None),
        ({"payment_intent": "pi_none", "cause": "x"}, 400, "parameter_unknown"),
    ],
)
def test_what_cannot_be_refunded_says_why(
    stripe: "Stripe", fields: dict[str, Any], status: int, code: str | None
) -> None:
    answer = stripe.post("refunds", fields)
    assert (answer.status, error_of(answer).get("code")) == (status, code)


def test_a_refund_waits_or_fails_as_its_card_says(stripe: "Stripe") -> None:
    pending = stripe.refund(stripe.paid(payment_method="pm_card_pendingRefund")).json
    assert pending["status"] == "pending"
    stripe.admin("POST", "refund", {"refund": pending["id"]})
    assert stripe.get(f"refunds/{pending['id']}").json["status"] == "succeeded"
    intent = stripe.paid(payment_method="pm_card_refundFail")
    refund = stripe.refund(intent).json
    assert refund["status"] == "succeeded"
    stripe.admin("POST", "refund", {"refund": refund["id"]})
    failed = stripe.get(f"refunds/{refund['id']}").json
    assert (failed["status"], failed["failure_reason"]) == ("failed", "expired_or_canceled_card")
    assert stripe.look(intent, "latest_charge")["latest_charge"]["amount_refunded"] == 0
    assert stripe.refund(intent).status == 200


def test_metadata_can_be_changed_and_searched_for(stripe: "Stripe") -> None:
    intent = stripe.paid(metadata={"order_id": "find-me.1", "colour": "red"})
    changed = stripe.post(f"payment_intents/{intent['id']}", {"metadata": {"colour": "", "size": "m"}}).json
    assert changed["metadata"] == {"order_id": "find-me.1", "size": "m"}
    found = stripe.get("payment_intents/search", query="metadata['order_id']:'find-me.1' AND status:'succeeded'")
    assert [hit["id"] for hit in found.json["data"]] == [intent["id"]]
    assert (found.json["object"], found.json["has_more"], found.json["next_page"]) == ("search_result", False, None)
    assert stripe.get("payment_intents/search", query="metadata['colour']:'red'").json["data"] == []


def test_search_does_not_find_what_was_just_written(stripe: "Stripe") -> None:
    """docs.stripe.com/search: searchable in less than a minute; not for reading what was just written."""
    stripe.admin("PUT", "rules", {})
    stripe.paid(metadata={"order_id": "too-young.1"})
    query = "metadata['order_id']:'too-young.1'"
    assert stripe.get("payment_intents/search", query=query).json["data"] == []
    stripe.admin("PUT", "rules", {"search_delay_ms": 0})
    assert len(stripe.get("payment_intents/search", query=query).json["data"]) == 1


def test_more_searches_in_a_second_than_are_allowed_are_too_many(stripe: "Stripe") -> None:
    """docs.stripe.com/search: 20 a second; here the second is made short with a limit of 1."""
    stripe.admin("PUT", "rules", {})
    assert stripe.admin("GET", "rules")["searches_per_second"] == 20
    stripe.admin("PUT", "rules", {"searches_per_second": 1})
    answers = [stripe.get("payment_intents/search", query="amount:1") for _ in range(12)]
    limited = [answer for answer in answers if answer.status != 200]
    assert limited and {(a.status, a.json["error"]["code"]) for a in limited} == {(429, "rate_limit")}


def test_search_pages_go_on_where_the_last_ended(stripe: "Stripe") -> None:
    made = [stripe.paid(metadata={"batch": "pages"})["id"] for _ in range(5)]
    query, seen, token = "metadata['batch']:'pages'", [], None
    for _ in range(3):
        page = stripe.get("payment_intents/search", query=query, limit=2, **({"page": token} if token else {})).json
        seen += [hit["id"] for hit in page["data"]]
        token = page["next_page"]
    assert (seen, token) == (made[::-1], None)
    assert stripe.get("payment_intents/search", query=query, page="???").status == 400


def test_lists_are_newest_first_and_go_both_ways(stripe: "Stripe") -> None:
    made = [stripe.paid()["id"] for _ in range(5)][::-1]
    first = stripe.get("payment_intents", limit=2).json
    assert ([i["id"] for i in first["data"]], first["has_more"], first["object"]) == (made[:2], True, "list")
    second = stripe.get("payment_intents", limit=2, starting_after=made[1]).json
    assert [i["id"] for i in second["data"]] == made[2:4]
    back = stripe.get("payment_intents", limit=2, ending_before=made[2]).json
    assert ([i["id"] for i in back["data"]], back["has_more"]) == (made[:2], False)
    newest = stripe.look({"id": made[0]})["created"]
    assert stripe.get("payment_intents", created={"gt": newest}).json["data"] == []
    assert made[0] in [i["id"] for i in stripe.get("payment_intents", created={"gte": newest}, limit=100).json["data"]]
    for wrong in ({"limit": 0}, {"limit": 101}, {"starting_after": "pi_none"}, {"colour": "red"}):
        assert stripe.get("payment_intents", **wrong).status == 400


def test_a_connected_account_has_payments_of_its_own(stripe: "Stripe") -> None:
    account = {"Stripe-Account": "acct_1Seoul"}
    theirs = stripe.post("payment_intents", stripe.order(), headers=account).json
    assert stripe.get(f"payment_intents/{theirs['id']}").status == 404
    seen = stripe.call("GET", f"/v1/payment_intents/{theirs['id']}", None, {**AUTH, **account})
    assert seen.json["id"] == theirs["id"]
    assert error_of(stripe.refund(theirs))["code"] == "resource_missing"
    assert stripe.post("payment_intents", stripe.order(), headers={"Stripe-Account": "x"}).status == 403


def test_every_decline_is_on_record_and_a_capture_names_its_currency(own: "Stripe") -> None:
    answer = own.pay(payment_method="pm_card_chargeDeclinedInsufficientFunds")
    assert answer.status == 402
    own.paid(500, currency="usd")
    (declined,) = own.admin("GET", "ledger/declines")["data"]
    intent = answer.json["error"]["payment_intent"]
    assert (declined["psp_key"], declined["reference"]) == (intent["id"], intent["metadata"]["order_id"])
    assert (declined["amount_minor"], declined["code"], declined["currency"]) == (10_000, "insufficient_funds", "KRW")
    assert [row["currency"] for row in own.captured()] == ["USD"]
    own.kill_and_restart()
    assert own.admin("GET", "ledger/declines")["data"] == [declined]
    assert own.summary()["declined"] == 1
