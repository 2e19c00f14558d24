"""What becomes of attempts and payments: literal tables without dead ends."""

from __future__ import annotations

from datetime import timedelta

import pytest

from doorbuster.domains.commerce.payment import rules
from doorbuster.engines.payment_router import Outcome


def test_a_settled_attempt_moves_only_when_money_turns_up_late() -> None:
    settled = {before for before, _ in rules.ATTEMPT_NEXT} - rules.LIVE_ATTEMPT - rules.IN_WINDOW
    moves = {(before, outcome, after) for (before, outcome), after in rules.ATTEMPT_NEXT.items() if before in settled}
    assert moves == {(before, Outcome.SUCCEEDED, "late_success") for before in ("not_executed", "declined", "not_sent")}


@pytest.mark.parametrize("state", sorted(rules.IN_WINDOW))
def test_a_window_that_was_not_confirmed_is_moved_by_what_is_certain_and_nothing_else(state: str) -> None:
    for outcome in Outcome:
        certain = outcome not in (Outcome.UNKNOWN, Outcome.PENDING)
        assert rules.ATTEMPT_NEXT.get((state, outcome)) == (outcome.value if certain else None)


@pytest.mark.parametrize("state", sorted(rules.LIVE_ATTEMPT))
def test_a_live_attempt_takes_every_outcome_but_never_comes_back_to_sending(state: str) -> None:
    for outcome in Outcome:
        after = rules.ATTEMPT_NEXT.get((state, outcome))
        if outcome is Outcome.NOT_SENT and state != "sending":
            assert after is None, "what may have been sent can not become unsent"
        else:
            assert after == outcome.value


def test_nothing_but_evidence_of_success_makes_a_payment_succeed() -> None:
    assert [state for state, after in rules.PAYMENT_AFTER.items() if after == "succeeded"] == ["succeeded"]
    assert {rules.PAYMENT_AFTER[state] for state in ("unknown", "pending")} == {"unknown"}


def test_inquiries_come_at_growing_pauses_up_to_a_minute() -> None:
    pauses = [rules.inquiry_pause(number) for number in range(40)]
    assert pauses[0] == timedelta(seconds=1)
    assert pauses == sorted(pauses)
    assert pauses[-1] == timedelta(seconds=60)
