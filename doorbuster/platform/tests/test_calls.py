"""One verb, two distances: what comes back through the wire is what came back near."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import get_type_hints
from uuid import uuid4

import msgspec
import pytest

from doorbuster.domains.item import price, stock
from doorbuster.platform import calls, db, errors
from doorbuster.platform.calls import SYSTEM, VERBS, Ctx
from doorbuster.platform.settings import Settings


@pytest.fixture
def looped() -> Iterator[None]:
    calls.use_looped(True)
    yield
    calls.use_looped(False)


async def test_a_call_inside_a_transaction_is_an_assertion_failure(shop: Settings) -> None:
    assert shop.databases
    with pytest.raises(AssertionError, match=r"item\.stock\.levels was called inside a transaction of commerce\.order"):
        async with db.of("commerce.order").transaction():
            await stock.levels(SYSTEM, (uuid4(),))


@pytest.mark.usefixtures("looped")
async def test_a_call_inside_a_transaction_fails_from_afar_too(shop: Settings) -> None:
    assert shop.databases
    with pytest.raises(AssertionError, match="nothing leaves a transaction"):
        async with db.of("commerce.order").transaction():
            await price.quote(SYSTEM, price.Ask((uuid4(),)))


@pytest.mark.usefixtures("looped")
async def test_a_refusal_comes_back_as_its_class_with_its_members(shop: Settings) -> None:
    assert shop.databases
    option = uuid4()
    wish = stock.Reserve(uuid4(), uuid4(), (stock.Line(option, 1),), 60)
    with pytest.raises(stock.UnknownOption) as refused:
        await stock.reserve(SYSTEM, wish)
    assert refused.value.members == {"option_id": str(option)}
    assert (refused.value.code, refused.value.status) == ("unknown_option", stock.UnknownOption.status)
    with pytest.raises(stock.HoldLost) as lost:
        await stock.claim(SYSTEM, uuid4())
    assert lost.value.members == {"state": "unknown"}


@pytest.mark.parametrize("code", sorted(errors.refusal_codes()))
def test_every_refusal_survives_the_wire(code: str) -> None:
    kind = errors.refusal_codes()[code]
    back = calls.decode_refusal(calls.encode_refusal(kind("why", left=3, at=datetime(2026, 1, 1, tzinfo=UTC))))
    assert type(back) is kind
    assert isinstance(back, errors.Refusal)
    assert (back.detail, back.members) == ("why", {"left": 3, "at": "2026-01-01T00:00:00Z"})


def test_a_refusal_of_another_version_is_unavailable() -> None:
    wire = msgspec.json.encode({"code": "not_invented_yet", "detail": "", "members": {}})
    assert isinstance(calls.decode_refusal(wire), errors.Unavailable)


@pytest.mark.parametrize("wire_id", sorted(VERBS))
def test_every_verb_names_types_that_the_wire_can_carry(wire_id: str) -> None:
    hints = get_type_hints(VERBS[wire_id].function)
    assert next(iter(hints.values())) is Ctx
    for kind in hints.values():
        msgspec.json.Decoder(kind)


def test_a_context_counts_down_to_its_deadline() -> None:
    assert Ctx().remaining_s(5.0) == 5.0
    assert Ctx(deadline=1.0).remaining_s(5.0) == 0.0
