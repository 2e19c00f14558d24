"""How the Stripe simulator starts and refuses to start, and how its admin door tells the shop's own references."""

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from doorbuster.simulators.host.tests.processes import ROOT, SECRET

if TYPE_CHECKING:
    from doorbuster.simulators.stripe.tests.conftest import Stripe

ADMIN = {"Authorization": f"Bearer {SECRET}"}


@pytest.mark.parametrize("secret", [None, "", "\n"])
def test_without_a_signing_secret_no_webhook_is_sent_and_the_process_says_so(
    tmp_path: Path, secret: str | None
) -> None:
    (tmp_path / "secret").write_text(SECRET)
    options = ["--ledger", str(tmp_path / "ledger"), "--secret-file", str(tmp_path / "secret")]
    options += ["--webhook-url", "http://127.0.0.1:9/"]
    if secret is not None:
        (tmp_path / "whsec").write_text(secret)
        options += ["--webhook-secret-file", str(tmp_path / "whsec")]
    command = [sys.executable, "-m", "doorbuster.simulators.stripe", *options]
    ended = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=10)
    assert (ended.returncode, ended.stderr.count("\n"), "webhook" in ended.stderr) == (1, 1, True)


def test_a_reference_is_the_metadata_that_was_named_or_the_only_one_there_is(own: "Stripe") -> None:
    for metadata in ({"order_id": "a.1", "shop": "x"}, {"attempt": "b.2"}):
        own.paid(metadata=metadata)
    bare = own.post(
        "payment_intents",
        {
            "amount": 100,
            "currency": "krw",
            "payment_method": "pm_card_visa",
            "confirm": True,
            "payment_method_types": ["card"],
        },
    ).json
    assert [row["reference"] for row in own.captured()] == ["a.1", "b.2", bare["id"]]
    own.paid(metadata={"shop": "x", "colour": "red"})
    told = own.call("GET", "/admin/ledger/summary", None, ADMIN)
    assert (told.status, "--reference-key" in told.json["error"]) == (400, True)


def test_a_reference_taken_twice_is_seen_also_under_another_name(own: "Stripe") -> None:
    own.end()
    own.argv.extend(["--reference-key", "attempt"])
    own.start()
    for _ in range(2):
        own.paid(metadata={"attempt": "p.1", "shop": "x"})
    summary = own.summary()
    assert (summary["references_captured_twice"], summary["payments_captured_twice"]) == (["p.1"], ["p"])


def test_a_buyer_in_the_browser_throws_no_dice_of_an_earlier_request(own: "Stripe") -> None:
    own.faults(decline_rate=1)
    assert own.pay().status == 402
    intent = own.opened()
    assert own.admin("POST", "buyer", {"client_secret": intent["client_secret"]})["status"] == "succeeded"


def test_a_refusal_without_a_key_leaves_no_trace(own: "Stripe") -> None:
    intent = own.paid()
    own.advance(5_000)
    own.look(intent)
    size = own.ledger.stat().st_size
    assert own.post(f"payment_intents/{intent['id']}/capture").status == 400
    assert own.ledger.stat().st_size == size
    assert own.post(f"payment_intents/{intent['id']}/capture", {}, "kept").status == 400
    assert own.ledger.stat().st_size > size


def test_the_balance_of_a_connected_account_is_its_own_and_the_admin_door_shows_all(own: "Stripe") -> None:
    own.paid(capture_method="automatic")
    account = {"Stripe-Account": "acct_1"}
    own.post("payment_intents", own.order(2_222, capture_method="automatic"), headers=account)
    assert [row["amount"] for row in own.get("balance_transactions").json["data"]] == [10_000]
    theirs = own.call("GET", "/v1/balance_transactions", None, {**ADMIN, **account}).json["data"]
    assert [row["amount"] for row in theirs] == [2_222]
    assert [row["amount"] for row in own.admin("GET", "settlements")] == [10_000, 2_222]
