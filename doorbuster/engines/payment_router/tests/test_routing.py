"""Where payments go: in proportion to the weights, the same way every time, and for reasons that are kept."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from uuid import UUID

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from doorbuster.engines.payment_router import routing
from doorbuster.engines.payment_router.routing import (
    Condition,
    Decision,
    PaymentFacts,
    Priority,
    RoutingRules,
    Rule,
    Standing,
    Weights,
)

DICE = random.Random(7)
IDS = [UUID(int=DICE.getrandbits(128)) for _ in range(100_000)]
PROVIDERS = ("kakaopay", "nicepay", "stripe", "toss")


def facts(payment_id: UUID = IDS[0], **more: object) -> PaymentFacts:
    return msgspec.structs.replace(PaymentFacts(payment_id, "card", "KRW", 50_000), **more)


def by_weight(**weights: int) -> RoutingRules:
    return RoutingRules(1, Weights(weights))


def chosen(rules: RoutingRules, ids: list[UUID] = IDS, **standings: Standing) -> list[str]:
    return [routing.choose(facts(one), rules, {}, standings).chosen for one in ids]


def test_each_share_of_a_hundred_thousand_payments_is_within_half_a_point_of_its_weight() -> None:
    weights = {"toss": 50, "nicepay": 30, "kakaopay": 15, "stripe": 5}
    count = Counter(chosen(by_weight(**weights)))
    for provider, weight in weights.items():
        assert abs(count[provider] / len(IDS) * 100 - weight) < 0.5, (provider, count)


BEFORE = {"toss": 50, "nicepay": 30, "kakaopay": 20}


def in_points(weights: dict[str, int], provider: str) -> float:
    return 100 * weights.get(provider, 0) / sum(weights.values())


@pytest.mark.parametrize(
    "change",
    [{"nicepay": 31}, {"nicepay": 60}, {"nicepay": 10}, {"nicepay": 0}, {"stripe": 25}, {"stripe": 0}],
    ids=["a little more", "twice", "a third", "nothing any more", "somebody new", "somebody new with nothing"],
)
def test_a_changed_weight_moves_only_what_it_must(change: dict[str, int]) -> None:
    ((changed, weight),) = change.items()
    weights = BEFORE | change
    before, after = chosen(by_weight(**BEFORE)), chosen(by_weight(**weights))
    count = Counter(after)
    for provider in weights:
        share = 100 * count[provider] / len(IDS)
        assert abs(share - in_points(weights, provider)) < 0.5, (provider, count)
    moved = Counter((a, b) for a, b in zip(before, after, strict=True) if a != b)
    rises = weight > BEFORE.get(changed, 0)
    assert {to if rises else source for source, to in moved} <= {changed}, "others neither win from each other nor lose"
    must = abs(in_points(weights, changed) - in_points(BEFORE, changed))
    assert abs(100 * moved.total() / len(IDS) - must) < 0.5
    assert bool(moved) is (must > 0), "a provider of weight 0 takes nothing from anybody"
    assert chosen(by_weight(**BEFORE)) == before, "and all come back when the weight does"


def test_weights_that_all_change_alike_move_nothing() -> None:
    alike = {provider: 7 * weight for provider, weight in BEFORE.items()}
    assert chosen(by_weight(**alike)) == chosen(by_weight(**BEFORE))


def test_a_provider_that_leaves_gives_its_payments_to_the_others_in_proportion() -> None:
    rules = by_weight(toss=50, nicepay=30, kakaopay=20)
    before, after = chosen(rules), chosen(rules, toss=Standing(0.0, "circuit open"))
    assert all(a == b for a, b in zip(before, after, strict=True) if a != "toss")
    took = Counter(b for a, b in zip(before, after, strict=True) if a == "toss")
    assert abs(took["nicepay"] / took.total() - 0.6) < 0.01


def test_a_provider_that_ramps_back_gets_its_part_and_the_same_payments_at_each_step() -> None:
    rules = by_weight(toss=1, nicepay=1)
    steps = [chosen(rules, toss=Standing(share, "ramping")) for share in (0.1, 0.5, 1.0)]
    shares = [step.count("toss") / len(IDS) for step in steps]
    assert [round(share, 2) for share in shares] == [0.05, 0.25, 0.5]
    assert all(later == "toss" for now, later in zip(steps[0], steps[1], strict=True) if now == "toss")


def test_another_process_chooses_the_same() -> None:
    asked = (
        "import sys, msgspec; from uuid import UUID; from doorbuster.engines.payment_router import routing as r;"
        "rules = msgspec.json.decode(sys.argv[1], type=r.RoutingRules);"
        "print(*(r.choose(r.PaymentFacts(UUID(i), 'card', 'KRW', 50000), rules, {}, {}).chosen for i in sys.argv[2:]))"
    )
    rules = by_weight(toss=50, nicepay=30, kakaopay=20)
    argv = [sys.executable, "-c", asked, msgspec.json.encode(rules).decode(), *map(str, IDS[:200])]
    answer = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout
    assert answer.split() == chosen(rules, IDS[:200])


@pytest.mark.parametrize(
    ("condition", "meant"),
    [
        (Condition(), True),
        (Condition(methods=("card", "window")), True),
        (Condition(methods=("window",)), False),
        (Condition(currencies=("USD",)), False),
        (Condition(merchants=("m1",), channels=("app",)), True),
        (Condition(merchants=("m1",), channels=("web",)), False),
        (Condition(amount_from_minor=50_000, amount_to_minor=50_000), True),
        (Condition(amount_from_minor=50_001), False),
        (Condition(amount_to_minor=49_999), False),
        (Condition(instalments_from=2, instalments_to=6), True),
        (Condition(instalments_to=2), False),
    ],
)
def test_a_condition_holds_when_all_it_says_does(condition: Condition, meant: bool) -> None:
    assert condition.holds(facts(instalments=3, merchant="m1", channel="app")) is meant


def test_the_first_rule_that_holds_decides_and_names_itself() -> None:
    rules = RoutingRules(
        3,
        Priority(("toss",)),
        (
            Rule("large", Condition(amount_from_minor=1_000_000), Priority(("nicepay", "toss"))),
            Rule("cards", Condition(methods=("card",)), Priority(("stripe", "toss"))),
        ),
    )
    small = routing.choose(facts(), rules, {}, {})
    assert (small.rule, small.chosen) == ("cards", "stripe")
    large = routing.choose(facts(amount_minor=1_000_000), rules, {}, {})
    assert (large.rule, large.chosen) == ("large", "nicepay")
    other = routing.choose(facts(method="window"), rules, {}, {})
    assert (other.rule, other.chosen, other.rules_version) == ("otherwise", "toss", 3)


def test_who_falls_out_is_kept_with_the_reason_and_the_next_is_asked() -> None:
    rules = RoutingRules(1, Priority(("stripe", "kakaopay", "nicepay", "toss")))
    found = routing.choose(
        facts(), rules, {"stripe": "takes no KRW"}, {"kakaopay": Standing(0.0, "circuit open")}, tried=["nicepay"]
    )
    assert found.chosen == "toss"
    assert [candidate.dropped for candidate in found.candidates] == [
        "takes no KRW", "circuit open", "tried before", "",
    ]  # fmt: skip
    last = routing.choose(facts(), rules, dict.fromkeys(["stripe", "toss"], "is off"), {
        "kakaopay": Standing(0.0, "forced open", is_said=True), "nicepay": Standing(0.0, "circuit open"),
    })  # fmt: skip
    assert (last.chosen, last.last_resort) == ("nicepay", True), "who only stands aside is better than nobody"
    nobody = routing.choose(facts(), rules, dict.fromkeys(PROVIDERS, "is off"), {})
    assert nobody.chosen == ""


standings = st.builds(
    Standing, st.sampled_from([0.0, 0.1, 0.5, 1.0]), st.sampled_from(["", "circuit open"]), st.booleans()
)
targets = st.one_of(
    st.builds(Weights, st.dictionaries(st.sampled_from(PROVIDERS), st.integers(0, 100), min_size=1)),
    st.builds(Priority, st.lists(st.sampled_from(PROVIDERS), min_size=1, unique=True).map(tuple)),
)
ruled = st.builds(
    RoutingRules,
    version=st.integers(1, 9),
    otherwise=targets,
    rules=st.lists(
        st.builds(
            Rule,
            st.sampled_from(["a", "b"]),
            st.builds(Condition, methods=st.sampled_from([(), ("card",), ("window",)])),
            targets,
        ),
        max_size=2,
    ).map(tuple),
)


@settings(max_examples=200, deadline=None)
@given(
    st.uuids(),
    ruled,
    st.dictionaries(st.sampled_from(PROVIDERS), standings),
    st.dictionaries(st.sampled_from(PROVIDERS), st.just("takes no KRW")),
    st.sets(st.sampled_from(PROVIDERS)),
)
def test_a_decision_that_was_kept_replays_to_the_same_choice(
    payment_id: UUID, rules: RoutingRules, stood: dict[str, Standing], unable: dict[str, str], tried: set[str]
) -> None:
    made = routing.choose(facts(payment_id), rules, unable, stood, tried)
    kept = msgspec.json.decode(msgspec.json.encode(made), type=Decision)
    assert routing.replay(kept, rules) == made
    dropped = {candidate.provider for candidate in made.candidates if candidate.dropped}
    assert made.chosen not in set(unable) | tried
    assert made.last_resort == (made.chosen in dropped)
    if made.last_resort:
        assert len(dropped) == len(made.candidates) and not stood[made.chosen].is_said


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (by_weight(toss=1, paypal=1), "no provider 'paypal'"),
        (by_weight(toss=0), "no provider has a weight above 0"),
        (by_weight(toss=-1, nicepay=1), "the weight of 'toss'"),
        (RoutingRules(1, Priority(())), "names no provider"),
        (RoutingRules(1, Priority(("toss", "toss"))), "a provider twice"),
        (
            RoutingRules(1, Priority(("toss",)), (Rule("a", Condition(), Priority(("toss",))),) * 2),
            "the name 'a' is used twice",
        ),
        (
            RoutingRules(
                1,
                Priority(("toss",)),
                (Rule("a", Condition(amount_from_minor=2, amount_to_minor=1), Priority(("toss",))),),
            ),
            "the amount from 2 to 1 is nothing",
        ),
        (RoutingRules(1, Priority(("toss",)), (Rule("", Condition(), Priority(("toss",))),)), "1 to 64 characters"),
    ],
)
def test_rules_that_make_no_sense_are_named(rules: RoutingRules, words: str) -> None:
    assert words in "; ".join(routing.problems_of(rules, PROVIDERS))


def test_sensible_rules_have_no_problems() -> None:
    rules = RoutingRules(
        1, Weights({"toss": 2, "nicepay": 1, "stripe": 0}), (Rule("a", Condition(), Priority(("stripe",))),)
    )
    assert routing.problems_of(rules, PROVIDERS) == []
