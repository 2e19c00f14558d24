"""What payment refuses, with stable codes."""

from __future__ import annotations

from doorbuster.platform.errors import Refusal


class PaymentInProgress(Refusal):
    code, status, title = "payment_in_progress", 409, "Another payment of this order is live"


class NotCaptured(Refusal):
    code, status, title = "not_captured", 409, "There is no captured money to give back"


class RefundTooLarge(Refusal):
    code, status, title = "refund_too_large", 409, "More would go back than is left of what was taken"


class NoPartialRefund(Refusal):
    code, status, title = "no_partial_refund", 409, "This provider gives back all or nothing"


class MatterSettled(Refusal):
    code, status, title = "matter_settled", 409, "This matter is settled already"


class OutcomeDoesNotFit(Refusal):
    code, status, title = "outcome_does_not_fit", 422, "This case is not settled that way"


class WebhookRefused(Refusal):
    code, status, title = "webhook_refused", 400, "This webhook is not believed"


class WindowReturnRefused(Refusal):
    code, status, title = "window_return_refused", 422, "This does not fit the payment's window"


class NotInWindow(Refusal):
    code, status, title = "not_in_window", 409, "This payment is not waiting in a window"


class ReselectPsp(Refusal):
    code, status, title = "reselect_psp", 409, "This provider surely took nothing: pay again, with another one"


class UnknownAccount(Refusal):
    code, status, title = "unknown_account", 422, "There is no such account at a payment provider"


class RulesRefused(Refusal):
    code, status, title = "routing_rules_refused", 422, "These rules cannot be used"


class RulesChanged(Refusal):
    code, status, title = "routing_rules_changed", 412, "Somebody else has changed the rules"
