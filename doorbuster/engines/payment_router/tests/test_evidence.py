"""What a provider says is believed only with exact evidence, and nothing it says breaks the reader."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doorbuster.engines.payment_router import ChargeOrder, Outcome, RefundOrder
from doorbuster.engines.payment_router.outcome import HttpAnswer
from doorbuster.engines.payment_router.providers import sandbox

ORDER = ChargeOrder("sandbox", "pay-1.1", "pay-1.1", 700, "USD", "tok_visa")
REFUND = RefundOrder("sandbox", "pay-1", "ref-1", "ch_1", 700, "USD")
CHARGE = {
    "id": "ch_1", "reference": "pay-1.1", "status": "captured", "amount_minor": 700, "currency": "USD",
    "decline_code": None,
}  # fmt: skip
REFUNDED = {"id": "re_1", "charge_id": "ch_1", "reference": "pay-1", "amount_minor": 700, "status": "succeeded"}

junk = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.text(max_size=8)
    | st.floats(allow_nan=False, width=32),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
statuses = st.sampled_from(
    [100, 199, 200, 201, 202, 204, 301, 302, 400, 401, 402, 403, 404, 409, 413, 429, 500, 503, 599]
)


def near(document: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The right document with some members replaced, left out or added: the answers that are nearly believable."""
    changes = st.dictionaries(
        st.sampled_from([*document, "extra"]),
        junk | st.sampled_from(["captured", "declined", "card_declined", "USD", "EUR", "pay-1.1", 700, 699, "ch_1"]),
        max_size=3,
    )
    return st.builds(lambda change, out: {k: v for k, v in (document | change).items() if k not in out}, changes,
                     st.sets(st.sampled_from(list(document)), max_size=1))  # fmt: skip


errors = st.fixed_dictionaries({
    "error": st.fixed_dictionaries({
        "type": st.sampled_from(["card_error", "api_error", "invalid_request", ""]),
        "code": st.sampled_from(["card_declined", "invalid_body", "internal_error", "x\x00y"]) | st.text(),
    })
})  # fmt: skip
bodies = st.one_of(
    st.binary(max_size=64),
    junk.map(msgspec.json.encode),
    near(CHARGE).map(msgspec.json.encode),
    near(REFUNDED).map(msgspec.json.encode),
    errors.map(msgspec.json.encode),
    st.lists(near(CHARGE), max_size=3).map(lambda charges: msgspec.json.encode({"data": charges})),
    st.sampled_from([b"", b"{", b"[" * 100_000, b'{"x":' * 50_000, b'{"id":"\xff"}', b"null", b"\xef\xbb\xbf{}"]),
)


def evidence(document: Any) -> tuple[bool, bool]:
    """(captured, declined): whether this charge says exactly so of our order, judged independently of the reader."""
    if not isinstance(document, dict):
        return False, False
    ours = all(document.get(name) == CHARGE[name] for name in ("reference", "amount_minor", "currency"))
    ours = ours and not isinstance(document.get("amount_minor"), bool | float)
    return ours and document.get("status") == "captured", ours and document.get("status") == "declined"


def decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return None


@settings(max_examples=400, deadline=None)
@given(status=statuses, body=bodies)
def test_a_charge_succeeded_or_was_declined_only_by_exact_evidence(status: int, body: bytes) -> None:
    outcome = sandbox.read_charge(ORDER, HttpAnswer(status, body)).outcome
    document = decoded(body)
    captured, declined = evidence(document)
    if outcome is Outcome.SUCCEEDED:
        assert status == 200 and captured
    if outcome is Outcome.DECLINED:
        error = document.get("error", {}) if isinstance(document, dict) else {}
        allowed = error.get("type") == "card_error" and error.get("code") in sandbox._DECLINES
        assert (status == 402 and allowed) or (status == 200 and declined)
    if outcome is Outcome.NOT_EXECUTED:
        assert status in (400, 401, 413)
    assert outcome is not Outcome.NOT_SENT


@settings(max_examples=400, deadline=None)
@given(status=statuses, body=bodies, age_s=st.floats(0, 100))
def test_an_inquiry_decides_only_by_exact_evidence_or_past_the_horizon(status: int, body: bytes, age_s: float) -> None:
    outcome = sandbox.read_inquiry(ORDER, HttpAnswer(status, body), age_s=age_s).outcome
    document = decoded(body)
    listed = document.get("data") if isinstance(document, dict) else None
    says = [evidence(charge) for charge in listed] if isinstance(listed, list) else []
    if outcome is Outcome.SUCCEEDED:
        assert status == 200 and any(captured for captured, _ in says)
    if outcome is Outcome.DECLINED:
        assert status == 200 and says and all(declined for _, declined in says)
    if outcome is Outcome.NOT_EXECUTED:
        assert status == 200 and listed == [] and age_s >= 20
    assert outcome in (Outcome.SUCCEEDED, Outcome.DECLINED, Outcome.NOT_EXECUTED, Outcome.UNKNOWN)


@settings(max_examples=400, deadline=None)
@given(status=statuses, body=bodies)
def test_money_is_back_only_by_exact_evidence(status: int, body: bytes) -> None:
    outcome = sandbox.read_refund(REFUND, HttpAnswer(status, body)).outcome
    if outcome is Outcome.SUCCEEDED:
        document = decoded(body)
        assert status == 200
        assert {name: document[name] for name in ("charge_id", "reference", "amount_minor", "status")} == {
            name: REFUNDED[name] for name in ("charge_id", "reference", "amount_minor", "status")
        }
    assert outcome in (Outcome.SUCCEEDED, Outcome.NOT_EXECUTED, Outcome.UNKNOWN)


@pytest.mark.parametrize(
    ("status", "document", "outcome"),
    [
        (200, CHARGE, Outcome.SUCCEEDED),
        (200, CHARGE | {"amount_minor": 699}, Outcome.UNKNOWN),
        (200, CHARGE | {"currency": "EUR"}, Outcome.UNKNOWN),
        (200, CHARGE | {"reference": "pay-2.1"}, Outcome.UNKNOWN),
        (200, CHARGE | {"status": "pending"}, Outcome.UNKNOWN),
        (200, CHARGE | {"id": "ch_1\x00"}, Outcome.UNKNOWN),
        (201, CHARGE, Outcome.UNKNOWN),
        (402, {"error": {"type": "card_error", "code": "insufficient_funds"}}, Outcome.DECLINED),
        (402, {"error": {"type": "card_error", "code": "do_not_honor_maybe"}}, Outcome.UNKNOWN),
        (402, {"error": {"type": "api_error", "code": "card_declined"}}, Outcome.UNKNOWN),
        (200, {"error": {"type": "card_error", "code": "card_declined"}}, Outcome.UNKNOWN),
        (400, {"error": {"type": "invalid_request", "code": "invalid_instrument"}}, Outcome.NOT_EXECUTED),
        (401, {"error": {"type": "invalid_request", "code": "invalid_secret"}}, Outcome.NOT_EXECUTED),
        (500, {"error": {"type": "api_error", "code": "invalid_body"}}, Outcome.UNKNOWN),
        (409, {"error": {"type": "invalid_request", "code": "idempotency_in_progress"}}, Outcome.UNKNOWN),
    ],
)
def test_the_reading_of_answers(status: int, document: dict[str, Any], outcome: Outcome) -> None:
    assert sandbox.read_charge(ORDER, HttpAnswer(status, msgspec.json.encode(document))).outcome is outcome


def test_what_was_captured_beats_what_was_declined_and_a_doubt_beats_a_decline() -> None:
    declined = CHARGE | {"status": "declined", "decline_code": "card_declined", "id": "ch_2"}
    doubtful = CHARGE | {"status": "processing"}

    def read(*charges: dict[str, Any]) -> Outcome:
        answer = HttpAnswer(200, msgspec.json.encode({"data": list(charges)}))
        return sandbox.read_inquiry(ORDER, answer, age_s=60).outcome

    assert read(declined, CHARGE) is Outcome.SUCCEEDED
    assert read(declined, doubtful) is Outcome.UNKNOWN
    assert read(declined) is Outcome.DECLINED
    assert read() is Outcome.NOT_EXECUTED
