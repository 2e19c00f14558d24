"""Charges and refunds over real sockets: kept once per key, visible when doubled, never refunded beyond capture."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from doorbuster.simulators.sandbox.tests.conftest import Sandbox


def test_a_capture_answers_and_is_found_by_reference_and_by_id(sandbox: "Sandbox") -> None:
    answer = sandbox.charge("k1", reference="pay_9.1", amount_minor=1234)
    charge = answer.json
    assert answer.status == 200
    assert re.fullmatch(r"ch_[0-9a-f]{24}", charge["id"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", charge.pop("created_at"))
    assert charge == {
        "id": charge["id"],
        "reference": "pay_9.1",
        "status": "captured",
        "amount_minor": 1234,
        "currency": "USD",
    }
    (found,) = sandbox.inquire("pay_9.1")
    assert found.items() >= charge.items()
    assert sandbox.call("GET", f"/v1/charges/{charge['id']}").json == found
    assert sandbox.inquire("pay_9.2") == []


def test_the_same_key_replays_the_first_answer_byte_for_byte_also_after_kill_9(sandbox: "Sandbox") -> None:
    paid = sandbox.charge("k1")
    declined = sandbox.charge("k2", reference="pay_2.1", instrument="tok_expired")
    refunded = sandbox.refund("k3", paid.json["id"], 400)
    assert "idempotent-replayed" not in paid.headers
    for _ in range(2):
        replays = (
            (paid, sandbox.charge("k1")),
            (declined, sandbox.charge("k2", reference="pay_2.1", instrument="tok_expired")),
            (refunded, sandbox.refund("k3", paid.json["id"], 400)),
        )
        for first, replay in replays:
            assert (replay.status, replay.raw) == (first.status, first.raw)
            assert replay.headers["idempotent-replayed"] == "true"
        sandbox.kill_and_restart()
    assert sandbox.summary().items() >= {"charges": 2, "captured": 1, "declined": 1, "refunds": 1}.items()


def test_a_key_with_another_body_or_at_another_endpoint_is_a_conflict(sandbox: "Sandbox") -> None:
    charge_id = sandbox.charge("k1").json["id"]
    sandbox.refund("k2", charge_id, 100)
    reused = (
        sandbox.charge("k1", amount_minor=1001),
        sandbox.charge("k1", instrument="tok_other"),
        sandbox.charge("k2"),
        sandbox.refund("k1", charge_id, 100),
        sandbox.refund("k2", charge_id, 101),
    )
    assert [(answer.status, answer.code) for answer in reused] == [(409, "idempotency_key_reused")] * 5
    assert sandbox.summary()["charges"] == 1


def test_a_key_in_progress_is_a_conflict_until_the_first_is_decided(sandbox: "Sandbox") -> None:
    sandbox.faults(latency_ms=400)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: sandbox.charge("k1"), range(8)))
    statuses = sorted(answer.status for answer in answers)
    assert statuses == [200] + [409] * 7
    assert {answer.code for answer in answers if answer.status == 409} == {"idempotency_in_progress"}
    assert sandbox.charge("k1").headers["idempotent-replayed"] == "true"
    assert sandbox.summary()["captured"] == 1


def test_a_client_that_left_is_charged_all_the_same(sandbox: "Sandbox") -> None:
    sandbox.faults(latency_ms=300)
    with pytest.raises(TimeoutError):
        sandbox.charge("k1", timeout_s=0.1)
    assert sandbox.summary()["captured"] == 0
    time.sleep(0.4)
    assert sandbox.summary()["captured"] == 1


def test_the_magic_instruments_decline_with_their_codes(sandbox: "Sandbox") -> None:
    declines = {
        "tok_declined": "card_declined",
        "tok_insufficient_funds": "insufficient_funds",
        "tok_expired": "expired_card",
    }
    for instrument, code in declines.items():
        answer = sandbox.charge(f"k-{instrument}", reference=f"{instrument}.1", instrument=instrument)
        assert (answer.status, answer.json["error"]["type"], answer.code) == (402, "card_error", code)
        assert answer.json["charge"]["status"] == "declined"
        (found,) = sandbox.inquire(f"{instrument}.1")
        assert (found["status"], found["decline_code"]) == ("declined", code)
    assert sandbox.summary().items() >= {"captured": 0, "captured_minor": 0, "declined": 3}.items()


def test_two_captures_of_a_reference_or_a_payment_are_visible_gross_and_net(sandbox: "Sandbox") -> None:
    sandbox.charge("k0", reference="pay_0.1", instrument="tok_declined")
    sandbox.charge("k1", reference="pay_0.2")
    assert sandbox.summary()["payments_captured_twice_count"] == 0
    sandbox.charge("k2", reference="pay_1.1")
    second = sandbox.charge("k3", reference="pay_1.1").json
    sandbox.charge("k4", reference="pay_2.1")
    third = sandbox.charge("k5", reference="pay_2.2").json
    for _ in range(2):
        summary = sandbox.summary()
        assert summary["references_captured_twice"] == ["pay_1.1"]
        assert summary["references_captured_twice_count"] == 1
        assert summary["payments_captured_twice"] == ["pay_1", "pay_2"]
        assert (summary["payments_captured_twice_count"], summary["payments_captured_twice_count_net"]) == (2, 2)
        sandbox.kill_and_restart()
    sandbox.refund("r1", second["id"], 1000)
    sandbox.refund("r2", third["id"], 999)
    assert sandbox.summary()["payments_captured_twice_count_net"] == 1
    sandbox.refund("r3", third["id"], 1)
    summary = sandbox.summary()
    assert (summary["payments_captured_twice_count"], summary["payments_captured_twice_count_net"]) == (2, 0)
    assert summary.items() >= {"charges": 6, "captured": 5, "captured_minor": 5000, "refunded_minor": 2000}.items()


def test_refunds_never_exceed_the_capture_however_many_run_at_once(sandbox: "Sandbox") -> None:
    charge_id = sandbox.charge("k1", amount_minor=1000).json["id"]
    sandbox.faults(latency_ms=20, jitter_ms=50, seed=1)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: sandbox.refund(f"r{n}", charge_id, 150), range(16)))
    assert sorted(answer.status for answer in answers) == [200] * 6 + [400] * 10
    assert {answer.code for answer in answers if answer.status == 400} == {"refund_exceeds_capture"}
    sandbox.faults()
    assert sandbox.refund("last", charge_id, 100).status == 200
    assert sandbox.refund("over", charge_id, 1).code == "refund_exceeds_capture"
    assert sandbox.inquire("pay_1.1")[0]["refunded_minor"] == sandbox.summary()["refunded_minor"] == 1000


def test_only_a_captured_charge_can_be_refunded_and_refunds_are_found(sandbox: "Sandbox") -> None:
    unknown = sandbox.refund("r1", "ch_none", 1)
    assert (unknown.status, unknown.code) == (404, "charge_not_found")
    declined = sandbox.charge("k1", instrument="tok_declined").json["charge"]["id"]
    assert sandbox.refund("r1", declined, 1).code == "charge_not_captured"
    paid = sandbox.charge("k2").json["id"]
    refund = sandbox.refund("r1", paid, 300, reference="ref_7").json
    assert refund.pop("id").startswith("re_")
    assert refund == {"charge_id": paid, "reference": "ref_7", "amount_minor": 300, "status": "succeeded"}
    found = sandbox.call("GET", "/v1/refunds?reference=ref_7").json["data"]
    assert [entry["amount_minor"] for entry in found] == [300]
    assert sandbox.call("GET", "/v1/refunds?reference=ref_8").json["data"] == []


def test_the_ledger_pages_every_charge_once_in_order(sandbox: "Sandbox") -> None:
    for n in range(7):
        sandbox.charge(f"k{n}", reference=f"pay_{n}.1")
    seen, after = [], 0
    for _ in range(10):
        page = sandbox.call("GET", f"/v1/ledger/charges?after={after}&limit=3").json
        seen += [(entry["seq"], entry["idempotency_key"], entry["reference"]) for entry in page["data"]]
        if page["next_after"] is None:
            break
        after = page["next_after"]
    assert seen == [(n + 1, f"k{n}", f"pay_{n}.1") for n in range(7)]
    assert sandbox.call("GET", "/v1/ledger/charges?limit=1001").status == 400
    assert sandbox.call("GET", "/v1/ledger/charges?after=-1").status == 400
