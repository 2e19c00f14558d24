"""Which provider a payment goes to: rules, weights by hash of the payment id, priorities; and why the others fell out.

Pure: the same facts, rules, capabilities and health give the same decision, in any process and at any time. A decision
is kept whole, and `replay` finds the same provider from what it kept.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping
from uuid import UUID

import msgspec

_NAME_LENGTH = 64
_MOST_RULES = 200
_MOST_PROVIDERS = 32
_HEAVIEST = 1_000_000
_TWO_TO_64 = float(2**64)


class PaymentFacts(msgspec.Struct, frozen=True):
    """What a payment is decided by. `instalments` counts months, 0 for paid at once."""

    payment_id: UUID
    method: str
    currency: str
    amount_minor: int
    instalments: int = 0
    merchant: str = ""
    channel: str = ""


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """All that is said must hold; an empty list and an absent bound say nothing. Bounds are inclusive."""

    methods: tuple[str, ...] = ()
    currencies: tuple[str, ...] = ()
    merchants: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    amount_from_minor: int | None = None
    amount_to_minor: int | None = None
    instalments_from: int | None = None
    instalments_to: int | None = None

    def holds(self, facts: PaymentFacts) -> bool:
        """Whether a payment is meant."""
        # One comparison after the other: this is asked of every rule for every payment.
        return (
            (not self.methods or facts.method in self.methods)
            and (not self.currencies or facts.currency in self.currencies)
            and (not self.merchants or facts.merchant in self.merchants)
            and (not self.channels or facts.channel in self.channels)
            and (self.amount_from_minor is None or self.amount_from_minor <= facts.amount_minor)
            and (self.amount_to_minor is None or facts.amount_minor <= self.amount_to_minor)
            and (self.instalments_from is None or self.instalments_from <= facts.instalments)
            and (self.instalments_to is None or facts.instalments <= self.instalments_to)
        )


class Weights(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="weights"):
    """Each provider gets its share of all payments; one of weight 0 is asked only when no other is left."""

    weights: dict[str, int]


class Priority(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="priority"):
    """The first that can is asked."""

    providers: tuple[str, ...]


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Payments of a kind go this way."""

    name: str
    when: Condition
    then: Weights | Priority


class RoutingRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first rule that holds decides; `otherwise` when none does. A new version replaces all rules at once."""

    version: int
    otherwise: Weights | Priority
    rules: tuple[Rule, ...] = ()


class Standing(msgspec.Struct, frozen=True):
    """How a provider stands for a kind of payment: the share of its payments that it gets, 0 (none) to 1 (all)."""

    share: float = 1.0
    why: str = ""
    is_said: bool = False
    """An operator said so: then it holds even when nobody else is left."""


_GOOD = Standing()


class Candidate(msgspec.Struct, frozen=True):
    """One provider that the rule named: its place among them (0 is first), and why it fell out, if it did."""

    provider: str
    place: int
    weight: int
    dropped: str = ""


class Decision(msgspec.Struct, frozen=True):
    """Why a payment went where it went. `chosen` is empty when nobody was left.

    `last_resort`: all that could take it stood aside for their health, and the first of them was asked all the same. A
    payment that is tried can fail; one that is not tried has.
    """

    facts: PaymentFacts
    rules_version: int
    rule: str
    candidates: tuple[Candidate, ...]
    standings: dict[str, Standing]
    chosen: str
    last_resort: bool = False


def problems_of(rules: RoutingRules, providers: Collection[str]) -> list[str]:
    """What is wrong with rules, in words; nothing for rules that can be used with these providers."""
    found = [] if len(rules.rules) <= _MOST_RULES else [f"there are more than {_MOST_RULES} rules"]
    names = [rule.name for rule in rules.rules]
    found += [f"the name {name!r} is used twice" for name in sorted({n for n in names if names.count(n) > 1})]
    found += [f"a rule's name has 1 to {_NAME_LENGTH} characters" for n in names if not 0 < len(n) <= _NAME_LENGTH]
    for where, then in [*((f"rule {rule.name!r}", rule.then) for rule in rules.rules), ("otherwise", rules.otherwise)]:
        found += [f"{where}: {problem}" for problem in _problems_of_target(then, providers)]
    for rule in rules.rules:
        when = rule.when
        for low, high, what in (
            (when.amount_from_minor, when.amount_to_minor, "amount"),
            (when.instalments_from, when.instalments_to, "instalments"),
        ):
            if low is not None and high is not None and low > high:
                found.append(f"rule {rule.name!r}: the {what} from {low} to {high} is nothing")
    return found


def _problems_of_target(then: Weights | Priority, providers: Collection[str]) -> list[str]:
    named = list(then.weights) if isinstance(then, Weights) else list(then.providers)
    found = [f"there is no provider {name!r} here" for name in named if name not in providers]
    if not 0 < len(named) <= _MOST_PROVIDERS:
        found.append(f"it names no provider, or more than {_MOST_PROVIDERS}")
    if len(set(named)) < len(named):
        found.append("it names a provider twice")
    if isinstance(then, Weights):
        found += [f"the weight of {n!r} is not from 0 to {_HEAVIEST}" for n, w in then.weights.items()
                  if not 0 <= w <= _HEAVIEST]  # fmt: skip
        if named and not any(then.weights.values()):
            found.append("no provider has a weight above 0")
    return found


def choose(
    facts: PaymentFacts,
    rules: RoutingRules,
    unable: Mapping[str, str],
    standings: Mapping[str, Standing],
    tried: Collection[str] = (),
) -> Decision:
    """Decide. `unable` says of providers why they cannot take this payment at all (capabilities), `tried` names those
    that this payment was at already."""
    name, then = next(
        ((rule.name, rule.then) for rule in rules.rules if rule.when.holds(facts)), ("otherwise", rules.otherwise)
    )
    candidates = []
    for place, (provider, weight) in enumerate(_in_order(facts.payment_id, then)):
        why = unable.get(provider, "") or ("tried before" if provider in tried else "")
        candidates.append(
            Candidate(provider, place, weight, why or _kept_out(facts.payment_id, provider, standings.get(provider)))
        )
    left = [candidate.provider for candidate in candidates if not candidate.dropped]
    seen = {one.provider: standings[one.provider] for one in candidates if one.provider in standings}
    aside = [
        one.provider
        for one in candidates
        if not (unable.get(one.provider) or one.provider in tried or standings.get(one.provider, _GOOD).is_said)
    ]
    chosen = next(iter(left or aside), "")
    return Decision(facts, rules.version, name, tuple(candidates), seen, chosen, bool(aside) and not left)


def replay(decision: Decision, rules: RoutingRules) -> Decision:
    """Decide again from what a decision has kept, with the rules of its version: equal to it, or it was tampered with.

    What was dropped for another reason than its standing is taken as said.
    """
    assert rules.version == decision.rules_version, "a decision is replayed with the rules it was made by"
    said = {c.provider: c.dropped for c in decision.candidates if c.dropped and c.dropped != _why(decision, c.provider)}
    return choose(decision.facts, rules, said, decision.standings)


def _why(decision: Decision, provider: str) -> str:
    return _kept_out(decision.facts.payment_id, provider, decision.standings.get(provider))


def _in_order(payment_id: UUID, then: Weights | Priority) -> list[tuple[str, int]]:
    """Providers with their weights, the one to ask first at the front."""
    if isinstance(then, Priority):
        return [(provider, 0) for provider in then.providers]
    return sorted(then.weights.items(), key=lambda one: (_cost(payment_id, *one), one[0]))


def _cost(payment_id: UUID, provider: str, weight: int) -> float:
    """Weighted rendezvous hashing: the lowest wins with a chance in proportion to its weight, and a provider whose
    weight changes only wins from or loses to others. Source: Schindelhauer and Schomaker, "Weighted Distributed Hash
    Tables", 2005 (the logarithmic method)."""
    if weight == 0:
        return math.inf
    return -math.log(_drawn(payment_id, provider, "weight")) / weight


def _kept_out(payment_id: UUID, provider: str, standing: Standing | None) -> str:
    """Why a provider is not asked for this payment although it could: its circuit is open, or ramps back."""
    if standing is None or standing.share >= 1.0:
        return ""
    if standing.share > 0.0 and _drawn(payment_id, provider, "share") <= standing.share:
        return ""
    return standing.why or "stands aside"


def _drawn(payment_id: UUID, provider: str, purpose: str) -> float:
    """A number in (0, 1], the same for the same arguments for ever, and independent for different ones."""
    digest = hashlib.blake2b(payment_id.bytes + f"{purpose}:{provider}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") + 1) / _TWO_TO_64
