"""The balance: every movement of money is a row, pages show each once, and wrong rows are exactly those asked for."""

import csv
import io
from typing import TYPE_CHECKING, Any

from doorbuster.simulators.host.tests.processes import SECRET

if TYPE_CHECKING:
    from doorbuster.simulators.stripe.tests.conftest import Stripe


def rows_of(own: "Stripe", **fields: Any) -> list[Any]:
    """All pages, newest first."""
    rows: list[Any] = []
    page: dict[str, Any] = {}
    for _ in range(100):
        found = own.get("balance_transactions", **fields, **page).json
        rows += found["data"]
        if not found["has_more"]:
            return rows
        page = {"starting_after": found["data"][-1]["id"]}
    raise AssertionError("the pages do not end")


def seeds(own: "Stripe", **wrong: Any) -> None:
    own.admin("PUT", "rules", {"seeds": wrong})


def test_each_movement_is_a_row_with_fee_net_and_source(own: "Stripe") -> None:
    intent = own.paid(2_000, currency="usd", capture_method="automatic")
    refund = own.refund(intent, 500).json
    given, taken = rows_of(own)
    expected = {
        "object": "balance_transaction",
        "amount": 2_000,
        "currency": "usd",
        "exchange_rate": None,
        "fee": 88,
        "net": 1_912,
        "reporting_category": "charge",
        "source": intent["latest_charge"],
        "status": "pending",
        "type": "charge",
    }
    assert {name: taken[name] for name in expected} == expected
    assert sum(part["amount"] for part in taken["fee_details"]) == 88
    assert (given["amount"], given["fee"], given["net"], given["type"]) == (-500, 0, -500, "refund")
    assert (given["source"], given["id"]) == (refund["id"], refund["balance_transaction"])
    assert taken["available_on"] > taken["created"] and taken["available_on"] % 86_400 == 0
    own.advance(6 * 86_400_000)
    assert {row["status"] for row in rows_of(own)} == {"available"}
    assert own.get(f"balance_transactions/{taken['id']}").json["net"] == 1_912
    assert own.get("balance_transactions/txn_none").status == 404


def test_an_asynchronous_capture_comes_into_the_balance_later(own: "Stripe") -> None:
    intent = own.paid()
    assert rows_of(own) == []
    own.advance(2_000)
    assert [row["source"] for row in rows_of(own)] == [intent["latest_charge"]]
    charge = own.look(intent, "latest_charge.balance_transaction")["latest_charge"]
    assert charge["balance_transaction"]["amount"] == 10_000


def test_rows_are_found_by_time_type_source_and_currency(own: "Stripe") -> None:
    won = own.paid(10_000, capture_method="automatic")
    own.advance(86_400_000)
    dollars = own.paid(2_000, currency="usd", capture_method="automatic")
    own.refund(won, 10)
    assert len(rows_of(own)) == 3
    assert [row["amount"] for row in rows_of(own, type="charge")] == [2_000, 10_000]
    assert [row["amount"] for row in rows_of(own, currency="usd")] == [2_000]
    assert [row["amount"] for row in rows_of(own, source=won["latest_charge"])] == [10_000]
    day = own.look(dollars)["created"]
    assert [row["amount"] for row in rows_of(own, created={"lt": day - 3_600})] == [10_000]
    assert [row["amount"] for row in rows_of(own, created={"gte": day - 3_600})] == [-10, 2_000]
    assert own.get("balance_transactions", payout="po_1").json["error"]["code"] == "not_simulated"


def test_the_rows_add_up_to_the_ledger(own: "Stripe") -> None:
    for amount in range(1_000, 1_025):
        intent = own.paid(amount, capture_method="automatic")
        if amount % 3 == 0:
            own.refund(intent, amount // 2)
    held = own.pay(9_000, capture_method="manual").json
    own.post(f"payment_intents/{held['id']}/capture", {"amount_to_capture": 4_000})
    rows = rows_of(own, limit=7)
    assert len({row["id"] for row in rows}) == len(rows)
    summary = own.summary()
    assert sum(row["amount"] for row in rows) == summary["captured_minor"] - summary["refunded_minor"]
    assert all(row["net"] == row["amount"] - row["fee"] for row in rows)
    assert [row["reporting_category"] for row in rows].count("partial_capture_reversal") == 1


def test_wrong_rows_are_those_that_were_asked_for(own: "Stripe") -> None:
    for amount in range(1_001, 1_006):
        own.paid(amount, capture_method="automatic")
    ids = [row["id"] for row in rows_of(own)][::-1]
    seeds(own, missing=[ids[0]], twice=[ids[1]], amount={ids[2]: 7}, fee={ids[3]: -2}, made_up=["txn_made_up"])
    for limit in (1, 2, 3, 100):
        rows = rows_of(own, limit=limit)[::-1]
        assert [row["id"] for row in rows] == [ids[1], ids[1], ids[2], ids[3], ids[4], "txn_made_up"]
    assert (rows[2]["amount"], rows[2]["net"]) == (1_010, 1_010 - rows[2]["fee"])
    assert [part["amount"] for part in rows[3]["fee_details"]] == [rows[3]["fee"]]
    assert own.get(f"balance_transactions/{ids[0]}").status == 404
    assert own.captured()[2]["amount_minor"] == 1_003, "the ledger stays true"
    seeds(own)
    assert len(rows_of(own)) == 5


def test_the_report_is_the_same_rows_in_major_units(own: "Stripe") -> None:
    intent = own.paid(2_000, currency="usd", capture_method="automatic")
    refund = own.refund(intent, 500).json
    own.paid(3_000, capture_method="automatic")
    answer = own.call("GET", "/admin/settlements.csv", None, {"Authorization": f"Bearer {SECRET}"})
    assert (answer.status, answer.headers["content-type"].startswith("text/csv")) == (200, True)
    rows = list(csv.DictReader(io.StringIO(answer.raw.decode())))
    assert [(row["gross"], row["fee"], row["net"]) for row in rows] == [
        ("20.00", "0.88", "19.12"),
        ("-5.00", "0.00", "-5.00"),
        ("3000", "108", "2892"),
    ]
    assert [row["reporting_category"] for row in rows] == ["charge", "refund", "charge"]
    assert [row["source_id"] for row in rows][:2] == [intent["latest_charge"], refund["id"]]
    assert {row["payment_intent_id"] for row in rows[:2]} == {intent["id"]}
    assert {row["payment_metadata[order_id]"] for row in rows[:2]} == {intent["metadata"]["order_id"]}
    assert len(own.admin("GET", "settlements")) == 3
