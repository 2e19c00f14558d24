"""Each fault on demand: what the client sees, and what was captured all the same."""

import http.client
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from doorbuster.simulators.host.faults import CommonFaults, Dice

if TYPE_CHECKING:
    from doorbuster.simulators.sandbox.tests.conftest import Sandbox, Start


def test_an_error_before_captures_nothing_and_leaves_the_key_unused(sandbox: "Sandbox") -> None:
    sandbox.faults(error_rate=1)
    answer = sandbox.charge("k1")
    assert (answer.status, answer.code) == (500, "internal_error")
    sandbox.faults()
    assert sandbox.inquire("pay_1.1") == []
    magic = sandbox.charge("k1", instrument="tok_error")
    assert (magic.status, sandbox.summary()["charges"]) == (500, 0)
    assert sandbox.charge("k1").status == 200


def test_a_reset_before_captures_nothing(sandbox: "Sandbox") -> None:
    sandbox.faults(reset_before_rate=1)
    with pytest.raises(ConnectionResetError):
        sandbox.charge("k1")
    assert sandbox.summary()["charges"] == 0


@pytest.mark.parametrize("how", ["fault", "instrument"])
def test_a_timeout_after_capture_holds_the_connection_then_closes_it(sandbox: "Sandbox", how: str) -> None:
    instrument = "tok_timeout_after_capture" if how == "instrument" else "tok_visa"
    sandbox.faults(hold_ms=300, timeout_after_capture_rate=0 if how == "instrument" else 1)
    began = time.monotonic()
    with pytest.raises(http.client.RemoteDisconnected):
        sandbox.charge("k1", instrument=instrument)
    assert 0.25 < time.monotonic() - began < 2
    assert sandbox.inquire("pay_1.1")[0]["status"] == "captured"
    replay = sandbox.charge("k1", instrument=instrument)
    assert (replay.status, replay.headers["idempotent-replayed"]) == (200, "true")
    sandbox.kill_and_restart()
    assert sandbox.summary()["captured"] == 1


@pytest.mark.parametrize("how", ["fault", "instrument"])
def test_a_reset_after_capture_leaves_the_charge_to_be_found(sandbox: "Sandbox", how: str) -> None:
    instrument = "tok_reset_after_capture" if how == "instrument" else "tok_visa"
    sandbox.faults(reset_after_capture_rate=0 if how == "instrument" else 1)
    with pytest.raises(ConnectionResetError):
        sandbox.charge("k1", instrument=instrument)
    assert sandbox.inquire("pay_1.1")[0]["status"] == "captured"
    assert sandbox.charge("k1", instrument=instrument).status == 200
    assert sandbox.summary()["captured"] == 1


@pytest.mark.parametrize("how", ["fault", "instrument"])
def test_a_malformed_answer_is_sound_http_around_broken_json(sandbox: "Sandbox", how: str) -> None:
    instrument = "tok_malformed" if how == "instrument" else "tok_visa"
    sandbox.faults(malformed_rate=0 if how == "instrument" else 1)
    answer = sandbox.charge("k1", instrument=instrument)
    assert answer.status == 200
    with pytest.raises(ValueError, match=r"Expecting|Unterminated|delimiter"):
        _ = answer.json
    assert sandbox.inquire("pay_1.1")[0]["status"] == "captured"
    assert sandbox.charge("k1", instrument=instrument).json["status"] == "captured"


def test_an_error_after_capture_has_captured(sandbox: "Sandbox") -> None:
    sandbox.faults(error_after_capture_rate=1)
    assert sandbox.charge("k1").status == 500
    assert sandbox.summary()["captured"] == 1
    assert sandbox.charge("k1").json["status"] == "captured"


def test_a_refund_whose_answer_is_lost_happened_once(sandbox: "Sandbox") -> None:
    charge_id = sandbox.charge("k1").json["id"]
    sandbox.faults(reset_after_refund_rate=1)
    with pytest.raises(ConnectionResetError):
        sandbox.refund("r1", charge_id, 1000)
    assert sandbox.refund("r1", charge_id, 1000).headers["idempotent-replayed"] == "true"
    assert sandbox.summary()["refunded_minor"] == 1000


def test_rates_are_shares_and_the_seed_repeats_them(sandbox: "Sandbox") -> None:
    runs = []
    for run in range(2):
        sandbox.faults(decline_rate=0.3, error_rate=0.2, seed=7)
        runs.append([sandbox.charge(f"{run}-{n}").status for n in range(150)])
    assert runs[0] == runs[1]
    assert 15 <= runs[0].count(500) <= 45
    assert 18 <= runs[0].count(402) <= 54
    assert sandbox.summary()["declined"] == 2 * runs[0].count(402)


def test_the_rates_of_one_group_are_disjoint_shares() -> None:
    dice = Dice(CommonFaults(reset_before_rate=0.5, error_rate=0.25, timeout_after_capture_rate=0.25, seed=1))
    before = Counter(dice.before() for _ in range(4000))
    assert abs(before["reset"] - 2000) < 120
    assert abs(before["error"] - 1000) < 100
    assert abs(Counter(dice.after_capture() for _ in range(4000))["timeout"] - 1000) < 100


def test_latency_delays_every_answer_of_v1_but_the_ledger(sandbox: "Sandbox") -> None:
    charge_id = sandbox.charge("k1").json["id"]
    sandbox.faults(latency_ms=150)
    paths = ["/v1/charges?reference=pay_1.1", f"/v1/charges/{charge_id}", "/v1/refunds?reference=r"]
    for path in paths:
        began = time.monotonic()
        assert sandbox.call("GET", path).status == 200
        assert time.monotonic() - began >= 0.14
    began = time.monotonic()
    assert sandbox.charge("k2").status == 200
    assert time.monotonic() - began >= 0.14
    sandbox.faults(latency_ms=5_000)
    began = time.monotonic()
    sandbox.summary()
    assert time.monotonic() - began < 4


def test_the_slow_instrument_is_captured_after_two_seconds(sandbox: "Sandbox") -> None:
    began = time.monotonic()
    assert sandbox.charge("k1", instrument="tok_slow").json["status"] == "captured"
    assert 1.9 < time.monotonic() - began < 6


def test_down_closes_everything_but_admin_and_the_ledger(start: "Start") -> None:
    sandbox = start("--faults", '{"down": true}')
    for method, path in (("GET", "/livez"), ("GET", "/v1/charges?reference=a"), ("POST", "/v1/charges"), ("GET", "/")):
        with pytest.raises(http.client.RemoteDisconnected):
            sandbox.call(method, path)
    assert sandbox.summary()["charges"] == 0
    assert sandbox.call("GET", "/admin/faults").json["down"] is True
    sandbox.faults()
    assert sandbox.call("GET", "/livez", secret="").json == {"status": "ok"}


def test_inquiry_can_be_down_while_charges_go_on(sandbox: "Sandbox") -> None:
    sandbox.faults(inquiry_down=True)
    assert sandbox.charge("k1").status == 200
    answer = sandbox.call("GET", "/v1/charges?reference=pay_1.1")
    assert (answer.status, answer.code) == (503, "inquiry_unavailable")


def test_put_replaces_all_faults_and_refuses_what_it_does_not_know(sandbox: "Sandbox") -> None:
    sandbox.faults(latency_ms=5, decline_rate=0.5)
    sandbox.faults(error_rate=0.25, seed=3)
    shown = sandbox.call("GET", "/admin/faults").json
    assert (shown["latency_ms"], shown["decline_rate"], shown["error_rate"], shown["seed"]) == (0, 0, 0.25, 3)
    assert shown["hold_ms"] == 30000
    wrong: tuple[dict[str, object], ...] = (
        {"decline_rate": 1.1},
        {"decline_rate": -0.1},
        {"decline_rate": "0.1"},
        {"latency_ms": 1.5},
        {"latency_ms": -1},
        {"down": 1},
        {"seed": "a"},
        {"unknown": 0},
        {"error_after_capture_rate": 0.6, "malformed_rate": 0.6},
    )
    for faults in wrong:
        answer = sandbox.call("PUT", "/admin/faults", faults)
        assert (answer.status, answer.code) == (400, "invalid_body"), faults
    assert sandbox.call("PUT", "/admin/faults", b"[" * 5000).status == 400
    assert sandbox.call("GET", "/admin/faults").json == shown
