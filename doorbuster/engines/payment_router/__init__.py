"""The payment router: choose a provider, attempt, classify, resolve. It knows providers, not orders."""

from pathlib import Path

from doorbuster.engines.payment_router.flows import (
    charge,
    inquire,
    inquire_refund,
    may_repeat_charge,
    may_repeat_refund,
    must_netcancel,
    netcancel,
    read_webhook,
    refund,
    repeat_charge,
)
from doorbuster.engines.payment_router.lines import accounts, accounts_that_know, capability_of
from doorbuster.engines.payment_router.outcome import (
    NOT_FOUND_YET,
    WAITING_FOR_DEPOSIT,
    ChargeOrder,
    Deposit,
    Outcome,
    RefundAccount,
    RefundOrder,
    Result,
)
from doorbuster.engines.payment_router.router import (
    Chosen,
    choose,
    close,
    give_up,
    horizon_s,
    may_try_another,
    note,
    note_later,
    refresh,
    rules_of_nobody,
    standings,
    try_choice,
)
from doorbuster.engines.payment_router.routing import PaymentFacts
from doorbuster.engines.payment_router.settlements import (
    SettlementsUnreadable,
    read_settlement_file,
    settlement_rows,
    settling_accounts,
    takes_settlement_files,
)
from doorbuster.engines.payment_router.shared import SharedDatabase
from doorbuster.engines.payment_router.windows import (
    NOT_CONFIRMED,
    can_be_prepared_again,
    confirm,
    end_session,
    is_prepared_by_a_call,
    prepare,
    read_return,
)

SCHEMA_FILES = (Path(__file__).parent / "schema.sql",)
"""Applied in the schema of the domain that pays."""

__all__ = [
    "NOT_CONFIRMED", "NOT_FOUND_YET", "SCHEMA_FILES", "WAITING_FOR_DEPOSIT", "ChargeOrder", "Chosen", "Deposit",
    "Outcome", "PaymentFacts", "RefundAccount", "RefundOrder", "Result", "SettlementsUnreadable", "SharedDatabase",
    "accounts", "accounts_that_know", "can_be_prepared_again", "capability_of", "charge", "choose", "close",
    "confirm", "end_session", "give_up", "horizon_s", "inquire", "inquire_refund", "is_prepared_by_a_call",
    "may_repeat_charge", "may_repeat_refund", "may_try_another", "must_netcancel", "netcancel", "note", "note_later",
    "prepare", "read_return", "read_settlement_file", "read_webhook", "refresh", "refund", "repeat_charge",
    "rules_of_nobody", "settlement_rows", "settling_accounts", "standings", "takes_settlement_files", "try_choice",
]  # fmt: skip
