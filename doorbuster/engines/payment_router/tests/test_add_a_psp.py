"""The provider that docs/how-to/add-a-psp.md builds works as it stands on the page."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doorbuster.engines.payment_router.outcome import ChargeOrder, HttpAnswer, Outcome, RefundOrder
from doorbuster.engines.payment_router.provider import FLOW_FUNCTIONS
from doorbuster.engines.payment_router.tests import documented as doc
from doorbuster.engines.payment_router.tests.test_answers_fuzzed import NASTY, junk, near, seen_as, statuses, written
from doorbuster.engines.payment_router.tests.test_contract import LOGIN, SECRET, disagreements

ROOT = Path(__file__).parents[4]
PAGE = ROOT / "docs" / "how-to" / "add-a-psp.md"
ORDER = ChargeOrder("acorn", doc.REFERENCE, "key-1", 700, "EUR", "card_1")
REFUND = RefundOrder("acorn", doc.REFUND_REFERENCE, "key-2", "ac_1", 300, "EUR")
PAID: dict[str, Any] = {"id": "ac_1", "order": doc.UNDERSCORED, "state": "PAID", "cents": 700, "currency": "EUR"}
BACK = {"id": "rf_1", "order": doc.REFUND_UNDERSCORED, "state": "REFUNDED", "cents": 300, "currency": "EUR"}


def built() -> Any:
    """The module of the page, compiled from its one block of Python."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert len(blocks) == 1
    module = ModuleType("acorn")
    # The structs of the page look for their annotations where they were defined.
    exec(compile(blocks[0], str(PAGE), "exec"), module.__dict__)
    return module


@pytest.fixture(scope="module")
def acorn() -> Any:
    return built()


def test_the_page_builds_what_its_record_says(acorn: Any) -> None:
    assert disagreements(acorn) == []
    assert acorn.our_reference(acorn.wire_reference(doc.REFERENCE)) == doc.REFERENCE
    calls = [
        acorn.charge_call(ORDER, LOGIN, doc.NOW), acorn.inquiry_call(ORDER, LOGIN, doc.NOW),
        acorn.refund_call(REFUND, LOGIN, doc.NOW),
    ]  # fmt: skip
    assert [call.method for call in calls] == ["POST", "GET", "POST"]
    assert all(SECRET not in call.path + repr(call) and SECRET.encode() not in call.body for call in calls)


def test_the_pages_provider_reads_its_answers(acorn: Any) -> None:
    for status, document, outcome in (
        (200, PAID, Outcome.SUCCEEDED),
        (200, PAID | {"cents": 699}, Outcome.UNKNOWN),
        (200, PAID | {"state": "OPEN"}, Outcome.UNKNOWN),
        (402, {"code": "NO_FUNDS"}, Outcome.DECLINED),
        (402, {"code": "NEW_CODE"}, Outcome.UNKNOWN),
        (401, {"code": "BAD_KEY"}, Outcome.NOT_EXECUTED),
        (500, {"code": "NO_FUNDS"}, Outcome.UNKNOWN),
    ):
        assert acorn.read_charge(ORDER, doc.answer(document, status)).outcome is outcome, (status, document)
    absent = doc.answer({"code": "NO_SUCH_ORDER"}, 404)
    assert acorn.read_inquiry(ORDER, absent, age_s=1_799).outcome is Outcome.UNKNOWN
    assert acorn.read_inquiry(ORDER, absent, age_s=1_800).outcome is Outcome.NOT_EXECUTED
    assert acorn.read_refund(REFUND, doc.answer(BACK)).outcome is Outcome.SUCCEEDED
    assert acorn.read_refund(REFUND, doc.answer(BACK | {"cents": 301})).outcome is Outcome.UNKNOWN


def test_the_pages_provider_believes_nothing_but_exact_evidence(acorn: Any) -> None:
    bodies = st.one_of(st.binary(max_size=40), st.sampled_from(NASTY), junk.map(written), near(PAID).map(written))

    @settings(max_examples=200, deadline=None)
    @given(status=statuses, body=bodies)
    def judge(status: int, body: bytes) -> None:
        answer = HttpAnswer(status, body)
        paid = acorn.read_charge(ORDER, answer)
        if paid.outcome is Outcome.SUCCEEDED:
            seen = seen_as(body)
            assert status == 200 and {name: seen[name] for name in PAID if name != "id"} == {
                name: PAID[name] for name in PAID if name != "id"
            }
        assert acorn.read_inquiry(ORDER, answer, age_s=0).outcome is not Outcome.NOT_EXECUTED
        assert acorn.read_refund(REFUND, answer).outcome is not Outcome.DECLINED

    judge()


def test_the_page_names_every_flow_and_the_tests_that_exist() -> None:
    text = PAGE.read_text("utf-8")
    functions = {name for names in FLOW_FUNCTIONS.values() for name in names} - {"netcancel_call", "read_netcancel"}
    assert [name for name in sorted(functions) if name not in text] == []
    here = Path(__file__).parent
    assert all((here / name).exists() for name in re.findall(r"`(?:tests/)?(test_\w+\.py)", text))
