"""The bodies of KakaoPay as typed values: everything is hostile until it was decoded here.

Fields and limits: docs/payment/online/{single-payment,subscription,cancellation,payment-detail} of the vendor.
Unknown fields are ignored; a wrong type, a missing field or a length is 400 with error_code -2.
"""

from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from doorbuster.simulators.kakaopay.errors import Refused
from doorbuster.simulators.kakaopay.payment import Method

MAX_AMOUNT = 999_999_999_999
ONE_TIME, SUBSCRIPTION = "TC0ONETIME", "TCSUBSCRIP"

Cid = Annotated[str, Meta(pattern=r"\A[A-Z0-9]{10}\Z")]
Id20 = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9]{1,20}\Z")]
Text100 = Annotated[str, Meta(min_length=1, max_length=100)]
Url = Annotated[str, Meta(max_length=255, pattern=r"\Ahttps?://[!-~]+\Z")]
Amount = Annotated[int, Meta(ge=0, le=MAX_AMOUNT)]
ResultCode = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_]{1,50}\Z")]


class ReadyBody(Struct, frozen=True):
    cid: Cid
    partner_order_id: Text100
    partner_user_id: Text100
    item_name: Text100
    quantity: Annotated[int, Meta(ge=1, le=1_000_000)]
    total_amount: Amount
    tax_free_amount: Amount
    approval_url: Url
    cancel_url: Url
    fail_url: Url
    item_code: Annotated[str, Meta(max_length=100)] | None = None
    vat_amount: Amount | None = None
    payment_method_type: Method | None = None
    install_month: Annotated[int, Meta(ge=0, le=12)] | None = None


class ApproveBody(Struct, frozen=True):
    cid: Cid
    tid: Id20
    partner_order_id: Text100
    partner_user_id: Text100
    pg_token: Annotated[str, Meta(min_length=1, max_length=100)]
    total_amount: Amount | None = None


class OrderBody(Struct, frozen=True):
    cid: Cid
    tid: Id20


class CancelBody(Struct, frozen=True):
    cid: Cid
    tid: Id20
    cancel_amount: Annotated[int, Meta(ge=1, le=MAX_AMOUNT)]
    cancel_tax_free_amount: Amount
    cancel_vat_amount: Amount | None = None
    cancel_available_amount: Amount | None = None
    payload: Annotated[str, Meta(max_length=200)] | None = None


class SubscriptionBody(Struct, frozen=True):
    cid: Cid
    sid: Id20
    partner_order_id: Text100
    partner_user_id: Text100
    quantity: Annotated[int, Meta(ge=1, le=1_000_000)]
    total_amount: Annotated[int, Meta(ge=1, le=MAX_AMOUNT)]
    tax_free_amount: Amount
    item_name: Text100 | None = None
    item_code: Annotated[str, Meta(max_length=100)] | None = None
    vat_amount: Amount | None = None


class SidBody(Struct, frozen=True):
    cid: Cid
    sid: Id20


class BuyerBody(Struct, frozen=True, forbid_unknown_fields=True):
    """What the test says the buyer does. `result_code` is what the card or bank answers to the approval.

    `captures_all_the_same`: the answer is an error, and the money moved, as with BANK_FIRM_UNKNOWN.
    """

    tid: Id20
    does: Literal["send_tms", "open", "select", "wait_for_ars", "authenticate", "fail_password", "quit"] = (
        "authenticate"
    )
    method: Method = "MONEY"
    result_code: ResultCode | None = None
    captures_all_the_same: bool = False


class SidRuleBody(Struct, frozen=True, forbid_unknown_fields=True):
    """What every later charge of this sid is told by the card or bank; None lets it pay."""

    sid: Id20
    result_code: ResultCode | None = None


Body = TypeVar("Body")


def decoded(raw: bytes, type_: type[Body]) -> Body:
    """Raises Refused -2 for whatever is not the JSON object the type wants."""
    try:
        return msgspec.json.decode(raw, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(-2, str(error)) from error
