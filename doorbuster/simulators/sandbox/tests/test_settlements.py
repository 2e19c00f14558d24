"""What the sandbox settles over real sockets: each movement of a day once, and wrong only where it was told to be."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from doorbuster.simulators.sandbox.tests.conftest import Sandbox

ALL = {"missing": 2, "twice": 2, "made_up": 2, "amount": 2, "fee": 2, "currency": 2}


def day(days_back: int = 0) -> str:
    return (datetime.now(UTC).date() - timedelta(days=days_back)).isoformat()


def settled(sandbox: "Sandbox", on: str) -> list[dict[str, Any]]:
    """All rows of a day, over all its pages."""
    rows: list[dict[str, Any]] = []
    page: int | None = 1
    while page is not None:
        answer = sandbox.call("GET", f"/v1/settlements?date={on}&page={page}")
        assert answer.status == 200, answer.raw
        rows += answer.json["data"]
        page = answer.json["next_page"]
    return rows


def wrong(sandbox: "Sandbox", **kinds: int) -> None:
    assert sandbox.call("PUT", "/admin/settlements", kinds).status == 200


def test_a_day_has_each_capture_and_refund_once_with_its_fee_also_after_kill_9(sandbox: "Sandbox") -> None:
    paid = sandbox.charge("k1", reference="pay_1.1", amount_minor=10_000).json
    sandbox.charge("k2", reference="pay_2.1", instrument="tok_declined")
    back = sandbox.refund("k3", paid["id"], 5_000).json
    for _ in range(2):
        sale, refund = settled(sandbox, day())
        assert sale == {
            "id": paid["id"], "charge_id": paid["id"], "reference": "pay_1.1", "type": "charge",
            "amount_minor": 10_000, "fee_minor": 290, "net_minor": 9_710, "currency": "USD", "date": day(),
            "paid_out_on": day(-1),
        }  # fmt: skip
        assert (refund["id"], refund["charge_id"], refund["reference"]) == (back["id"], paid["id"], "pay_1.1")
        assert (refund["amount_minor"], refund["fee_minor"], refund["net_minor"]) == (-5_000, -145, -4_855)
        sandbox.kill_and_restart()
    assert settled(sandbox, day(1)) == []


def test_a_long_day_comes_in_pages(sandbox: "Sandbox") -> None:
    for number in range(205):
        sandbox.charge(f"k{number}", reference=f"pay_{number}.1")
    first = sandbox.call("GET", f"/v1/settlements?date={day()}").json
    assert (len(first["data"]), first["next_page"]) == (200, 2)
    assert len({row["id"] for row in settled(sandbox, day())}) == 205
    assert sandbox.call("GET", f"/v1/settlements?date={day()}&page=9").json == {"data": [], "next_page": None}


def test_rows_are_wrong_as_told_and_the_admin_door_says_which(sandbox: "Sandbox") -> None:
    for number in range(20):
        sandbox.charge(f"k{number}", reference=f"pay_{number}.1")
    honest = {row["id"]: row for row in settled(sandbox, day())}
    wrong(sandbox, seed=3, **ALL)
    shown = settled(sandbox, day())
    assert shown == settled(sandbox, day()), "the same day is wrong in the same way"
    told = sandbox.call("GET", f"/admin/settlements?date={day()}").json["wrong"]
    of = {kind: {one["id"] for one in told if one["kind"] == kind} for kind in ALL}
    assert {kind: len(ids) for kind, ids in of.items()} == ALL
    assert len(set().union(*of.values())) == 12, "a row is wrong in one way"
    found = {row["id"]: row for row in shown}
    assert len(found) == len(shown)
    assert set(honest) - set(found) == of["missing"]
    assert set(found) - set(honest) == of["made_up"] | {f"{one}_again" for one in of["twice"]}
    for name, kind in (("amount_minor", "amount"), ("fee_minor", "fee"), ("currency", "currency")):
        assert {i for i in honest if i in found and found[i][name] != honest[i][name]} == of[kind]
    assert all(row["amount_minor"] - row["fee_minor"] == row["net_minor"] for row in shown)
    wrong(sandbox)
    assert {row["id"]: row for row in settled(sandbox, day())} == honest


def test_time_can_be_as_if_days_had_passed(sandbox: "Sandbox") -> None:
    sandbox.charge("k1")
    wrong(sandbox, days_back=3)
    (row,) = settled(sandbox, day(3))
    assert (row["date"], row["paid_out_on"]) == (day(3), day(2)) and settled(sandbox, day()) == []


@pytest.mark.parametrize("query", ["", "?date=yesterday", "?date=2026-13-01", "?date=2026-01-01&page=0", "?day=1"])
def test_a_day_that_is_none_is_refused(sandbox: "Sandbox", query: str) -> None:
    assert sandbox.call("GET", f"/v1/settlements{query}").status == 400


@pytest.mark.parametrize("body", [{"missing": -1}, {"lost": 1}, {"days_back": 400}, {"fee": "2"}])
def test_what_cannot_be_wrong_is_refused(sandbox: "Sandbox", body: dict[str, object]) -> None:
    answer = sandbox.call("PUT", "/admin/settlements", body)
    assert (answer.status, answer.code) == (400, "invalid_body")
