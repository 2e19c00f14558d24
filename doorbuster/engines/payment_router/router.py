"""Choose a provider for the next attempt of a payment, and count how it did.

The caller has made the attempt durable before it sends anything (flows.py), with the decision that it follows. Another
provider may be tried only when `may_try_another` says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import msgspec
import structlog

from doorbuster.engines.payment_router import lines, routing
from doorbuster.engines.payment_router.health import Key, Limits
from doorbuster.engines.payment_router.keeper import Keeper, Shared
from doorbuster.engines.payment_router.outcome import Outcome, Result
from doorbuster.engines.payment_router.provider import Method
from doorbuster.engines.payment_router.providers import CHARGES, CONFIRMS
from doorbuster.engines.payment_router.routing import Decision, PaymentFacts, RoutingRules, Standing, Weights
from doorbuster.platform import settings
from doorbuster.platform.errors import Unavailable

_SLACK_S = 30.0
_FIRST_ROUND_S = 0.5
_LOG = structlog.get_logger("payment_router")


class Chosen(msgspec.Struct, frozen=True):
    """A decision, with what is given back with the answer: under which counts it falls, and the permit it used."""

    decision: Decision
    generations: dict[Key, int]
    probes: tuple[Key, ...] = ()

    @property
    def provider(self) -> str:
        """The account to charge; empty when nobody is left."""
        return self.decision.chosen


class AccountHealth(msgspec.Struct, frozen=True):
    """How an account does with a method, as all workers together saw it in the last seconds."""

    account: str
    kind: str
    method: str
    state: str
    forced: str
    """What an operator said: `open`, `closed`, or nothing."""
    share: float
    """Of the payments that it would get, how many it does get: 0 to 1."""
    why: str
    good: int
    failed: int


class _Health:
    """Guards the health that this process keeps, and the task that shares it."""

    def __init__(self) -> None:
        self.keeper = Keeper(Limits())
        self._shared: Shared | None = None
        self._sharing: asyncio.Task[None] | None = None

    async def share(self, shared: Shared) -> None:
        """Begin to share, once in each event loop; the first time wait a moment for what the others know."""
        if self._sharing is None or self._sharing.done() or self._sharing.get_loop() is not asyncio.get_running_loop():
            self._shared = shared
            try:
                async with asyncio.timeout(_FIRST_ROUND_S):
                    await self.keeper.round(shared)
            except (TimeoutError, Unavailable) as error:
                _LOG.warning("provider_health_not_shared", why=repr(error))
            if self._sharing is None or self._sharing.done():
                self._sharing = asyncio.create_task(self.keeper.run(shared))

    async def take_probe(self, key: Key) -> bool:
        try:
            lease_s = settings.current().payment_timeout_s + 5
            return self._shared is not None and await self._shared.take_probe(key, self.keeper.limits.probes, lease_s)
        except Unavailable:
            return False  # without the store nobody counts the probes of all, so there are none

    async def end_probe(self, key: Key) -> None:
        try:
            if self._shared is not None:
                await self._shared.lock_and_end_probe(key)
        except Unavailable:
            _LOG.warning("probe_not_ended", provider=key.provider, why="its lease ends it")

    async def stop(self) -> None:
        if self._sharing is not None:
            self._sharing.cancel()
            await asyncio.gather(self._sharing, return_exceptions=True)
        self.__init__()  # type: ignore[misc]  # as new


_HEALTH = _Health()


async def choose(
    facts: PaymentFacts, shared: Shared, tried: Collection[str] = (), knows: Collection[str] | None = None
) -> Chosen:
    """The provider for the next attempt of a payment, of those that know its instrument, where that matters.

    One whose circuit is being probed gets the payments that it would get, as far as there are permits."""
    await _HEALTH.share(shared)
    keeper = _HEALTH.keeper
    accounts = lines.accounts()
    rules = keeper.rules or rules_of_nobody()
    named = _NAMES.of(rules)
    unable = {name: why for name in named if (why := _why_unable(name, accounts, facts, knows))}
    keys = {name: _keys(name, facts) for name in named}
    standings = {name: keeper.standing(keys[name]) for name in keys}
    decision = routing.choose(facts, rules, unable, standings, tried)
    for name in keys:
        if name in unable or name in tried or standings[name].share >= 1.0:
            continue  # who gets all of its payments needs no probe
        probing = keeper.probing(keys[name])
        if not probing:
            continue
        trial = routing.choose(facts, rules, unable, standings | {name: Standing(1.0, "probe")}, tried)
        if trial.chosen == name and await _HEALTH.take_probe(probing[0]):
            return Chosen(trial, keeper.generations(keys[name]), (probing[0],))
    chosen = decision.chosen
    return Chosen(decision, keeper.generations(keys[chosen]) if chosen else {})


def rules_of_nobody() -> RoutingRules:
    """What holds until somebody has made rules: every account has the same weight."""
    return RoutingRules(0, Weights(dict.fromkeys(lines.accounts(), 1)))


def try_choice(facts: PaymentFacts, rules: RoutingRules) -> Decision:
    """Where a payment would go by these rules if every account did well. Sends nothing, keeps nothing."""
    accounts = lines.accounts()
    unable = {name: why for name in _named(rules) if (why := _why_unable(name, accounts, facts, None))}
    return routing.choose(facts, rules, unable, {})


async def refresh(shared: Shared) -> None:
    """Let this process know at once what the shared store knows; the others do within a round."""
    await _HEALTH.share(shared)
    await _HEALTH.keeper.round(shared)


class _Names:
    """Guards whom the rules in force name, which is asked for every payment; a round brings rules as a new object."""

    def __init__(self) -> None:
        self._found: tuple[RoutingRules, tuple[str, ...]] | None = None

    def of(self, rules: RoutingRules) -> tuple[str, ...]:
        if self._found is None or self._found[0] is not rules:
            self._found = (rules, tuple(_named(rules)))
        return self._found[1]


_NAMES = _Names()


def _named(rules: RoutingRules) -> list[str]:
    targets = [rules.otherwise, *(rule.then for rule in rules.rules)]
    return list(dict.fromkeys(
        name for then in targets for name in (then.weights if isinstance(then, Weights) else then.providers)
    ))  # fmt: skip


def _why_unable(name: str, accounts: Collection[str], facts: PaymentFacts, knows: Collection[str] | None) -> str:
    """Why an account cannot take a payment whatever its health; empty when it can."""
    if name not in accounts:
        return "no such account"
    kind = lines.kind_of(name)
    if kind not in (CHARGES if facts.method == Method.CARD else CONFIRMS):
        return "charges no instruments" if facts.method == Method.CARD else "has no window"
    if knows is not None and name not in knows:
        return "does not know the instrument"
    if not lines.capability_of(name).takes(Method(facts.method), facts.amount_minor, facts.currency, facts.instalments):
        return "takes no such payment"
    return ""


def _keys(name: str, facts: PaymentFacts) -> tuple[Key, ...]:
    """A payment counts for everybody's circuit, and for its merchant's own where it has one."""
    everybody = Key(name, facts.method)
    return (everybody, Key(name, facts.method, facts.merchant)) if facts.merchant else (everybody,)


async def note(chosen: Chosen, result: Result) -> None:
    """Count an answer for the provider's health, and give its permit back."""
    _HEALTH.keeper.note(chosen.generations, result.outcome)
    for key in chosen.probes:
        await _HEALTH.end_probe(key)


def note_later(account: str, facts: PaymentFacts, result: Result) -> None:
    """Count an answer of an account that was chosen earlier, perhaps by another process."""
    keeper = _HEALTH.keeper
    keeper.note(keeper.generations(_keys(account, facts)), result.outcome)


async def give_up(chosen: Chosen | None) -> None:
    """Nothing is sent on this decision: give its permit back."""
    for key in chosen.probes if chosen is not None else ():
        await _HEALTH.end_probe(key)


async def standings(shared: Shared) -> tuple[AccountHealth, ...]:
    """How each account does, method by method."""
    await _HEALTH.share(shared)
    keeper = _HEALTH.keeper
    found = []
    for name in lines.accounts():
        for method in sorted(lines.capability_of(name).methods):
            key = Key(name, method)
            circuit, standing, counts = keeper.circuit(key), keeper.standing((key,)), keeper.seen(key)
            found.append(AccountHealth(
                name, lines.kind_of(name), method, circuit.state, circuit.forced, standing.share, standing.why,
                counts.good, counts.failed,
            ))  # fmt: skip
    return tuple(found)


def may_try_another(provider: str, result: Result) -> bool:
    """Whether it is certain that this attempt took nothing, and asking another provider can help."""
    if result.outcome in (Outcome.NOT_SENT, Outcome.NOT_EXECUTED):
        return True
    return result.outcome is Outcome.DECLINED and result.code in lines.capability_of(provider).retryable_declines


def horizon_s() -> float:
    """How long after an attempt its outcome may still be open, at the slowest of our providers: time-out, horizon, and
    slack for a busy machine."""
    horizons = [lines.capability_of(name).not_found_horizon_s or 0.0 for name in lines.accounts()]
    return float(settings.current().payment_timeout_s + max(horizons, default=0.0) + _SLACK_S)


async def close() -> None:
    """Stop sharing, and close the connections to providers."""
    await _HEALTH.stop()
    await lines.close()
