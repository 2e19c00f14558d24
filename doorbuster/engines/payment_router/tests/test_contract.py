"""Records and functions agree for every provider, references map one to one, and a secret is only where it belongs."""

from __future__ import annotations

import copy
import datetime as dt
import pickle
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from doorbuster.engines.payment_router.outcome import HttpCall, RefundAccount
from doorbuster.engines.payment_router.provider import FLOW_FUNCTIONS, Capability, Flow, Login, Method, Secret
from doorbuster.engines.payment_router.providers import BY_FLOW, PROVIDERS, kakaopay, nicepay, sandbox, stripe, toss
from doorbuster.engines.payment_router.providers import stripe_codes as codes
from doorbuster.engines.payment_router.tests import documented as doc
from doorbuster.platform import money

Module = Any
MODULES: list[Module] = [sandbox, toss, stripe, nicepay, kakaopay]


def disagreements(module: Module) -> list[str]:
    """Flows named without all of their functions, and functions there without their flow being named."""
    flows = module.CAPABILITY.flows
    return [
        f"{flow}: {name}"
        for flow, names in FLOW_FUNCTIONS.items()
        for name in names
        if callable(getattr(module, name, None)) != (flow in flows)
    ]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.CAPABILITY.name)
def test_a_record_names_exactly_the_flows_whose_functions_exist(module: Module) -> None:
    assert disagreements(module) == []
    name = module.CAPABILITY.name
    assert PROVIDERS[name] is module
    assert {flow for flow in Flow if name in BY_FLOW[flow]} == module.CAPABILITY.flows
    assert set(FLOW_FUNCTIONS) == set(Flow) == set(BY_FLOW)


def test_the_check_of_records_finds_a_planted_gap() -> None:
    flows = frozenset({Flow.CHARGE, Flow.VOID})
    gap = SimpleNamespace(
        CAPABILITY=replace(sandbox.CAPABILITY, flows=flows), charge_call=len, read_charge=len, void_call=len,
        refund_call=len,
    )  # fmt: skip
    assert disagreements(gap) == ["void: read_void", "refund: refund_call"]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.CAPABILITY.name)
def test_a_record_is_consistent_with_itself(module: Module) -> None:
    record: Capability = module.CAPABILITY
    assert (Method.WINDOW in record.methods) == (Flow.CONFIRM in record.flows)
    assert (Method.CARD in record.methods) == (Flow.CHARGE in record.flows)
    assert Flow.CONFIRM not in record.flows or record.flows & {Flow.PREPARE, Flow.PREPARE_HERE}
    # Without an inquiry an unknown outcome could never be resolved; without a refund a late success never undone.
    assert {Flow.INQUIRY, Flow.REFUND} <= record.flows
    assert (Flow.WEBHOOK in record.flows) == (record.webhook is not None) == (record.webhook_reply is not None)
    assert (Flow.NETCANCEL in record.flows) == (record.netcancel_within_s is not None)
    assert not record.retryable_declines or Method.CARD in record.methods
    assert record.idempotency is not None or Flow.REFUND_INQUIRY in record.flows
    assert all(money.is_currency(limit.currency) for limit in record.amounts)
    assert all(0 < limit.least_minor <= limit.most_minor <= money.MAX_MINOR for limit in record.amounts)
    assert 0 < record.timeouts.connect_s <= record.timeouts.answer_s <= 120
    if record.netcancel_within_s is not None:
        assert record.not_found_horizon_s is not None
        assert record.not_found_horizon_s > record.netcancel_within_s


def test_a_payment_is_taken_only_within_the_record() -> None:
    assert toss.CAPABILITY.takes(Method.CARD, 50_000, "KRW", 3)
    assert not toss.CAPABILITY.takes(Method.CARD, 49_999, "KRW", 3)
    assert toss.CAPABILITY.takes(Method.VIRTUAL_ACCOUNT, 200, "KRW")
    assert not toss.CAPABILITY.takes(Method.CARD, 199, "KRW")
    assert not toss.CAPABILITY.takes(Method.CARD, 50_000, "USD")
    assert not kakaopay.CAPABILITY.takes(Method.CARD, 50_000, "KRW")
    assert stripe.CAPABILITY.takes(Method.CARD, 50, "USD") and not stripe.CAPABILITY.takes(Method.CARD, 49, "USD")
    assert not stripe.CAPABILITY.takes(Method.CARD, 5_000, "USD", 3)
    for kind, why in (
        ((Method.WINDOW, 50_000, "KRW", 0), "method"), ((Method.CARD, 50_000, "BTC", 0), "currency"),
        ((Method.CARD, 0, "USD", 0), "amount"), ((Method.CARD, 50, "USD", 2), "instalments"),
        (("card", 1, "USD", 1), ""),
    ):  # fmt: skip
        assert sandbox.CAPABILITY.why_not(*kind) == why
    assert stripe.CAPABILITY.separate_capture and not toss.CAPABILITY.separate_capture


payment_ids = st.from_regex(r"[A-Za-z0-9-]{6,40}", fullmatch=True)
numbers = st.integers(0, 999_999).map(str)
references = st.builds(lambda head, tail: ".".join([head, *tail]), payment_ids, st.lists(numbers, max_size=2))


@given(st.sets(references, min_size=2, max_size=20))
def test_references_map_one_to_one_into_what_a_provider_takes(some: set[str]) -> None:
    for module in (toss, nicepay, kakaopay, stripe):
        there = {module.wire_reference(reference) for reference in some}
        assert len(there) == len(some)
        assert {module.our_reference(wire_id) for wire_id in there} == some
        charset = r"[A-Za-z0-9.-]{6,64}" if module is stripe else r"[A-Za-z0-9=_-]{6,64}"
        assert all(re.fullmatch(charset, wire_id) for wire_id in there)


@given(st.text(max_size=70))
def test_what_is_no_reference_of_ours_is_refused_on_the_way_out_and_in(text: str) -> None:
    for module in (toss, nicepay, kakaopay, stripe):
        ours = module.our_reference(text)
        assert ours == "" or module.wire_reference(ours) == text
        try:
            wire_id = module.wire_reference(text)
        except ValueError:
            continue
        assert module.our_reference(wire_id) == text


SECRET = "s3cr3t-that-nobody-may-read"
LOGIN = Login(
    "https://psp.example", Secret(SECRET), "public-client-key", (Secret(SECRET + "-hook"),), "TC0ONETIME", "acct_1"
)  # fmt: skip


def calls(module: Module) -> list[HttpCall]:
    """Every request this provider can build."""
    order = replace(
        doc.KAKAO_ORDER, provider=module.CAPABILITY.name, instrument="pm_1", currency="KRW", began_at=doc.NOW
    )  # fmt: skip
    refund = replace(doc.KAKAO_REFUND, account=RefundAccount("88", "110", "Kim"))
    made: list[HttpCall] = []
    for names in FLOW_FUNCTIONS.values():
        build: Callable[..., HttpCall] | None = getattr(module, names[-2], None) if len(names) > 1 else None
        if build is None:
            continue
        if names[-2] == "settlement_call":
            made.append(build(dt.date(2026, 11, 22), "", LOGIN, doc.NOW))
        elif names[-2] == "prepare_call":
            made.append(build(order, doc.URLS, LOGIN, doc.NOW))
        else:
            made.append(build(refund if "refund" in names[-2] else order, LOGIN, doc.NOW))
    return made


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.CAPABILITY.name)
def test_a_secret_is_in_no_url_no_body_and_no_repr(module: Module) -> None:
    made = calls(module)
    assert len(made) >= 3
    for call in made:
        assert SECRET not in call.path + call.method + repr(call)
        assert SECRET.encode() not in call.body
        assert call.path.startswith("/") and call.path.isascii() and " " not in call.path
        assert all(value.isascii() and "\n" not in value for value in call.headers.values())
        assert "authorization" in call.headers
    if Flow.PREPARE_HERE in module.CAPABILITY.flows:
        client = module.prepare_here(doc.KAKAO_ORDER, doc.URLS, LOGIN, doc.NOW).client
        assert SECRET not in str(client) and client["orderId"] == doc.UNDERSCORED


def test_a_login_shows_no_secret_and_cannot_be_written_down() -> None:
    for shown in (repr(LOGIN), str(LOGIN), f"{LOGIN}", f"{LOGIN.secret}", repr(LOGIN.secret), str(LOGIN.secret)):
        assert SECRET not in shown
    assert LOGIN.secret.reveal() == SECRET and LOGIN.secret and not Secret("")
    for write in (msgspec.json.encode, msgspec.msgpack.encode, msgspec.to_builtins, pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            write(LOGIN)
    session = stripe.read_prepare(doc.STRIPE_ORDER, doc.answer(doc.STRIPE_OPEN))
    assert "secret_Yr" not in repr(session) and doc.STRIPE_ID in repr(session)
    order = replace(doc.STRIPE_ORDER, instrument="pm_secret", token="tok_secret")
    assert "secret" not in repr(order)
    assert "88" not in repr(RefundAccount("88", "110", "Kim"))


@pytest.mark.parametrize(
    "base_url",
    ["https://user:pass@psp.example", "ftp://psp.example", "https://psp.example/v1", "https://", "psp.example",
     "https://psp.example?key=1", "https://psp.example#x", "https://psp.example\r\nx: y"],
)  # fmt: skip
def test_a_base_url_is_a_scheme_and_a_host(base_url: str) -> None:
    with pytest.raises(ValueError, match="base_url"):
        Login(base_url, Secret("s"))


@pytest.mark.parametrize("bad", ["", "..", "a/b", "a?b", "a b", "a\nb", "ä", "x" * 201, "%2e"])
def test_an_id_that_could_leave_its_place_in_a_path_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="not an id"):
        stripe.capture_call(replace(doc.STRIPE_ORDER, provider_id=bad), LOGIN, doc.NOW)
    with pytest.raises(ValueError, match="not an id"):
        nicepay.refund_call(replace(doc.NICE_REFUND, provider_charge_id=bad), LOGIN, doc.NOW)
    with pytest.raises(ValueError, match="not an id"):
        toss.charge_call(replace(doc.TOSS_ORDER, instrument=bad), LOGIN, doc.NOW)


@pytest.mark.parametrize(
    ("currency", "minor", "wire"),
    [("USD", 1099, 1099), ("JPY", 500, 500), ("KRW", 50_000, 50_000), ("ISK", 5, 500),
     ("MGA", 500, 5), ("KWD", 5120, 5120), ("BHD", 10, 10)],
)  # fmt: skip
def test_amounts_are_said_in_stripes_unit_and_understood_again(currency: str, minor: int, wire: int) -> None:
    assert codes.to_wire(minor, currency) == wire
    assert codes.from_wire(wire, currency) == minor


def test_an_amount_that_stripe_cannot_say_is_refused() -> None:
    for minor, currency in ((501, "MGA"), (5124, "KWD")):
        with pytest.raises(ValueError, match="fraction"):
            codes.to_wire(minor, currency)
    assert codes.from_wire(501, "ISK") == -1
    assert not stripe.CAPABILITY.takes(Method.CARD, 10_000, "UGX"), "its unit is documented in two ways"


@given(st.sampled_from(codes.amounts()), st.integers(0, 10**12))
def test_every_amount_within_stripes_limits_comes_back_as_it_went(limit: Any, amount: int) -> None:
    minor = limit.least_minor + amount % (limit.most_minor - limit.least_minor + 1)
    try:
        wire = codes.to_wire(minor, limit.currency)
    except ValueError:
        return
    assert codes.from_wire(wire, limit.currency) == minor
    assert wire <= 99_999_999
