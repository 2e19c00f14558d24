"""Where operators steer the payment router: rules, health, what they say of an account. Nothing here moves money."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from doorbuster.domains.commerce.payment import errors, store_desk
from doorbuster.domains.commerce.payment.models import Note
from doorbuster.domains.commerce.payment.sessions import SHARED
from doorbuster.engines import payment_router
from doorbuster.engines.payment_router import PaymentFacts, routing
from doorbuster.engines.payment_router.health import Key
from doorbuster.engines.payment_router.router import AccountHealth
from doorbuster.engines.payment_router.routing import Decision, Priority, RoutingRules, Rule, Weights
from doorbuster.platform import ids
from doorbuster.platform.calls import Ctx
from doorbuster.platform.errors import PreconditionRequired

_MOST_TRIALS = 10_000


class Force(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an operator says of an account for a method, and why."""

    method: Literal["card", "window", "virtual_account"]
    state: Literal["open", "closed", ""]
    note: Note = ""


class NewRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rules that replace all others. Their version follows from what they replace."""

    otherwise: Weights | Priority
    rules: Annotated[tuple[Rule, ...], msgspec.Meta(max_length=200)] = ()
    note: Note = ""


class Wish(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A payment that somebody might make."""

    method: Literal["card", "window", "virtual_account"] = "card"
    currency: Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$", max_length=3)] = "USD"
    amount_minor: Annotated[int, msgspec.Meta(ge=1, le=10**15)] = 1_000
    instalments: Annotated[int, msgspec.Meta(ge=0, le=60)] = 0
    merchant: Annotated[str, msgspec.Meta(max_length=64)] = ""
    channel: Annotated[str, msgspec.Meta(max_length=64)] = ""


class Trial(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """So many payments of a kind, by these rules or by those in force, as if every account did well."""

    payment: Wish = Wish()
    rules: NewRules | None = None
    payments: Annotated[int, msgspec.Meta(ge=1, le=_MOST_TRIALS)] = 1_000


class Tried(msgspec.Struct, frozen=True):
    """How many of them went to each account (`""`: nobody could take it), and the first decision whole."""

    chosen: dict[str, int]
    example: Decision


async def health(ctx: Ctx) -> tuple[AccountHealth, ...]:
    """How each account does."""
    return await payment_router.standings(SHARED)


async def force(ctx: Ctx, account: str, said: Force) -> tuple[AccountHealth, ...]:
    """Open or close an account for a method whatever its health, or let its health decide again. Kept with who said it.

    Refuses with UnknownAccount.
    """
    if account not in payment_router.accounts():
        raise errors.UnknownAccount(f"There is no account {account}", account=account)
    await SHARED.force(Key(account, said.method), said.state)
    await store_desk.insert_act(str(ctx.subject), f"force {said.state or 'nothing'}", account, said.method, said.note)
    await payment_router.refresh(SHARED)
    return await payment_router.standings(SHARED)


async def rules_in_force(ctx: Ctx) -> RoutingRules:
    """The rules that payments follow now; version 0, the same weight for all, until somebody has made some."""
    return await SHARED.read_rules() or payment_router.rules_of_nobody()


async def replace_rules(ctx: Ctx, wish: NewRules, if_match: str | None) -> RoutingRules:
    """Put rules in force as the version after the one they replace.

    Refuses with PreconditionRequired, RulesChanged, and RulesRefused, which names all that is wrong.
    """
    before = await rules_in_force(ctx)
    if if_match is None:
        raise PreconditionRequired("Send If-Match with the ETag of your last GET, so that no edit is lost")
    rules = RoutingRules(before.version + 1, wish.otherwise, wish.rules)
    _check(rules)
    if if_match.strip().removeprefix("W/").strip('"') != str(before.version):
        raise errors.RulesChanged(f"Version {before.version} is in force: read it and try again")
    if not await SHARED.write_rules(rules, str(ctx.subject), wish.note):
        raise errors.RulesChanged("Another version was put in force just now: read it and try again")
    await payment_router.refresh(SHARED)
    return rules


async def try_rules(ctx: Ctx, trial: Trial) -> Tried:
    """Where payments would go: the same ids each time, so that two sets of rules can be compared."""
    rules = await rules_in_force(ctx)
    if trial.rules is not None:
        rules = RoutingRules(rules.version + 1, trial.rules.otherwise, trial.rules.rules)
        _check(rules)
    made = [
        payment_router.try_choice(PaymentFacts(
            ids.derived_id("trial", str(number)), trial.payment.method, trial.payment.currency,
            trial.payment.amount_minor, trial.payment.instalments, trial.payment.merchant, trial.payment.channel,
        ), rules)
        for number in range(trial.payments)
    ]  # fmt: skip
    chosen: dict[str, int] = {}
    for decision in made:
        chosen[decision.chosen] = chosen.get(decision.chosen, 0) + 1
    return Tried(chosen, made[0])


def _check(rules: RoutingRules) -> None:
    problems = routing.problems_of(rules, payment_router.accounts())
    if problems:
        raise errors.RulesRefused("; ".join(problems[:10]), problems=problems[:50])
