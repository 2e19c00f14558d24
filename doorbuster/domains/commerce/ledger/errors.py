"""What ledger refuses, with stable codes."""

from __future__ import annotations

from doorbuster.platform.errors import Refusal


class UnknownProvider(Refusal):
    code, status, title = "unknown_provider", 404, "The shop has no such account at a provider"


class NoSettlements(Refusal):
    code, status, title = "no_settlements", 409, "This provider has no settlement rows of this kind"


class UnreadableSettlements(Refusal):
    code, status, title = "unreadable_settlements", 422, "This is not the provider's settlement file"


class CaseClosed(Refusal):
    code, status, title = "case_closed", 409, "Somebody has closed this case already"


class TooMuchUnexplained(Refusal):
    """So much does not match that it is no list of cases: something feeds the ledger wrongly, or not at all."""

    code, status, title = "too_much_unexplained", 409, "Too much has no other side to be a list of cases"
