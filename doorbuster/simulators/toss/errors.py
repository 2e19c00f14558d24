"""The error codes of Toss Payments the simulator answers with, each with its HTTP status.

Codes and statuses: docs.tosspayments.com/reference/error-codes. The sentences are our own: Toss promises codes, not
wording, so nothing may read them.
"""

import msgspec
from msgspec import Struct

ERRORS: dict[str, tuple[int, str]] = {
    "ALREADY_PROCESSED_PAYMENT": (400, "The payment was processed before."),
    "ALREADY_CANCELED_PAYMENT": (400, "The payment was cancelled before."),
    "ALREADY_REFUND_PAYMENT": (400, "The payment was refunded before."),
    "BELOW_MINIMUM_AMOUNT": (400, "A card pays 100 or more, an account 200 or more."),
    "DUPLICATED_ORDER_ID": (400, "The order id was approved or cancelled before; take another."),
    "EXCEED_MAX_CARD_INSTALLMENT_PLAN": (400, "More instalments than the card allows."),
    "EXCEED_MAX_DAILY_PAYMENT_COUNT": (400, "More payments in a day than the card allows."),
    "EXCEED_MAX_PAYMENT_AMOUNT": (400, "More in a day than the card allows."),
    "FORBIDDEN_BANK_REFUND_REQUEST": (400, "The account takes no deposits."),
    "INCORRECT_BASIC_AUTH_FORMAT": (400, "The credential is base64 of the secret key and a colon."),
    "INVALID_API_KEY": (400, "The key does not fit this call."),
    "INVALID_AUTHORIZE_AUTH": (400, "The way of authenticating is not valid."),
    "INVALID_BANK": (400, "There is no such bank."),
    "INVALID_CARD_EXPIRATION": (400, "The card's expiry is wrong."),
    "INVALID_CARD_INSTALLMENT_PLAN": (400, "The instalments are wrong."),
    "INVALID_CARD_LOST_OR_STOLEN": (400, "The card was reported lost or stolen."),
    "INVALID_CARD_NUMBER": (400, "The card number is wrong."),
    "INVALID_IDEMPOTENCY_KEY": (400, "An idempotency key has at most 300 characters."),
    "INVALID_REFUND_ACCOUNT_INFO": (400, "The refund account is missing or does not match its holder."),
    "INVALID_REFUND_ACCOUNT_NUMBER": (400, "The refund account number is wrong."),
    "INVALID_REJECT_CARD": (400, "The card was rejected; ask its issuer."),
    "INVALID_REQUEST": (400, "The request is wrong."),
    "INVALID_STOPPED_CARD": (400, "The card is stopped."),
    "INVALID_TRANSACTION_KEY": (400, "The paging key is wrong."),
    "NOT_ALLOWED_POINT_USE": (400, "The card's points cannot be used."),
    "NOT_MATCHES_CUSTOMER_KEY": (400, "The billing key belongs to another customer."),
    "NOT_MATCHES_REFUNDABLE_AMOUNT": (400, "The refundable amount is not what the caller thought."),
    "NOT_SUPPORTED_INSTALLMENT_PLAN_CARD_OR_MERCHANT": (400, "This card or shop has no instalments."),
    "PROVIDER_ERROR": (400, "A passing error; try again."),
    "REFUND_REJECTED": (400, "The refund was rejected."),
    "UNAUTHORIZED_KEY": (401, "The secret key is not valid."),
    "EXCEED_MAX_AUTH_COUNT": (403, "Too many authentications."),
    "EXCEED_MAX_ONE_DAY_AMOUNT": (403, "More than the daily limit."),
    "EXCEED_MAX_REFUND_DUE": (403, "The time to refund is over."),
    "FDS_ERROR": (403, "The payment looks dangerous."),
    "FORBIDDEN_CONSECUTIVE_REQUEST": (403, "Too soon after the last request; try again later."),
    "FORBIDDEN_REQUEST": (403, "The request is not allowed."),
    "INVALID_PASSWORD": (403, "The payment password is wrong."),
    "NOT_ALLOWED_PARTIAL_REFUND": (403, "This payment can only be refunded whole."),
    "NOT_ALLOWED_PARTIAL_REFUND_WAITING_DEPOSIT": (
        403,
        "A payment that waits for its deposit can only be cancelled whole.",
    ),
    "NOT_AVAILABLE_BANK": (403, "The bank is closed."),
    "NOT_CANCELABLE_AMOUNT": (403, "This amount cannot be cancelled."),
    "NOT_CANCELABLE_PAYMENT": (403, "This payment cannot be cancelled."),
    "REJECT_ACCOUNT_PAYMENT": (403, "The account has too little money."),
    "REJECT_CARD_COMPANY": (403, "The issuer declined."),
    "REJECT_CARD_PAYMENT": (403, "Over the limit, or too little money."),
    "NOT_FOUND": (404, "There is nothing here."),
    "NOT_FOUND_BILLING": (404, "There is no such billing key."),
    "NOT_FOUND_PAYMENT": (404, "There is no such payment."),
    "NOT_FOUND_PAYMENT_SESSION": (404, "The time to pay is over, or the payment was not authenticated."),
    "IDEMPOTENT_REQUEST_PROCESSING": (409, "The first request with this key is still in progress."),
    "CARD_PROCESSING_ERROR": (500, "The issuer had an error."),
    "COMMON_ERROR": (500, "A passing error; try again."),
    "FAILED_INTERNAL_SYSTEM_PROCESSING": (500, "An internal step failed; try again."),
    "FAILED_METHOD_HANDLING_CANCEL": (500, "The method failed while cancelling."),
    "FAILED_PARTIAL_REFUND": (500, "The bank failed the partial refund."),
    "FAILED_PAYMENT_INTERNAL_SYSTEM_PROCESSING": (500, "The payment was not completed; try again."),
    "FAILED_REFUND_PROCESS": (500, "The bank was slow or failed the refund."),
    "UNKNOWN_PAYMENT_ERROR": (500, "The payment failed; ask the issuer if it goes on."),
}

# What an issuer or bank may say to a confirm or a charge: the payment is ABORTED and `failure` says why.
DECLINES = frozenset(
    {
        "BELOW_MINIMUM_AMOUNT",
        "EXCEED_MAX_AUTH_COUNT",
        "EXCEED_MAX_CARD_INSTALLMENT_PLAN",
        "EXCEED_MAX_DAILY_PAYMENT_COUNT",
        "EXCEED_MAX_ONE_DAY_AMOUNT",
        "EXCEED_MAX_PAYMENT_AMOUNT",
        "FDS_ERROR",
        "INVALID_CARD_EXPIRATION",
        "INVALID_CARD_INSTALLMENT_PLAN",
        "INVALID_CARD_LOST_OR_STOLEN",
        "INVALID_CARD_NUMBER",
        "INVALID_PASSWORD",
        "INVALID_REJECT_CARD",
        "INVALID_STOPPED_CARD",
        "NOT_ALLOWED_POINT_USE",
        "NOT_SUPPORTED_INSTALLMENT_PLAN_CARD_OR_MERCHANT",
        "REJECT_ACCOUNT_PAYMENT",
        "REJECT_CARD_COMPANY",
        "REJECT_CARD_PAYMENT",
    }
)


class ErrorBody(Struct, frozen=True):
    """docs.tosspayments.com/reference/error-codes: an error is `{code, message}` and nothing else."""

    code: str
    message: str


class Refused(Exception):
    """Expected: the request is answered with the error of this code and changed nothing."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(code, detail)
        status, message = ERRORS[code]
        self.code = code
        self.status = status
        self.body = msgspec.json.encode(ErrorBody(code, f"{message} {detail}".strip()))
