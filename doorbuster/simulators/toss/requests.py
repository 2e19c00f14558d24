"""The bodies and queries of Toss Payments as typed values: everything is hostile until it was decoded here.

Fields and limits: the request parameters of docs.tosspayments.com/reference. Unknown fields are ignored, as the vendor
does (a later version may send them); a wrong type or length is 400 INVALID_REQUEST.
"""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from doorbuster.simulators.toss.errors import DECLINES, Refused
from doorbuster.simulators.toss.payment import Method
from doorbuster.simulators.toss.views import KST

MAX_AMOUNT = 999_999_999_999
MAX_PAGE = 5000
DEFAULT_PAGE = 100

Amount = Annotated[int, Meta(ge=1, le=MAX_AMOUNT)]
PartAmount = Annotated[int, Meta(ge=0, le=MAX_AMOUNT)]
PaymentKey = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"\A[\x21-\x7e]+\Z")]
OrderId = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_\-.=@]{6,64}\Z")]
Text100 = Annotated[str, Meta(min_length=1, max_length=100)]
CustomerKey = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_\-.=@]{2,300}\Z")]


class ConfirmBody(Struct, frozen=True, rename="camel"):
    payment_key: PaymentKey
    order_id: OrderId
    amount: Amount


class RefundAccount(Struct, frozen=True, rename="camel"):
    bank: Annotated[str, Meta(min_length=1, max_length=20)]
    account_number: Annotated[str, Meta(pattern=r"\A[0-9]{1,20}\Z")]
    holder_name: Annotated[str, Meta(min_length=1, max_length=60)]


class CancelBody(Struct, frozen=True, rename="camel"):
    cancel_reason: Annotated[str, Meta(min_length=1, max_length=200)]
    cancel_amount: Annotated[int, Meta(ge=-MAX_AMOUNT, le=MAX_AMOUNT)] | None = None
    tax_free_amount: PartAmount | None = None
    refundable_amount: PartAmount | None = None
    refund_receive_account: RefundAccount | None = None


class IssueBillingBody(Struct, frozen=True, rename="camel"):
    auth_key: PaymentKey
    customer_key: CustomerKey


class ChargeBillingBody(Struct, frozen=True, rename="camel"):
    customer_key: CustomerKey
    amount: Amount
    order_id: OrderId
    order_name: Text100
    tax_free_amount: PartAmount | None = None
    card_installment_plan: Annotated[int, Meta(ge=0, le=12)] | None = None
    customer_email: Annotated[str, Meta(max_length=100)] | None = None
    customer_name: Annotated[str, Meta(max_length=100)] | None = None


class VirtualAccountBody(Struct, frozen=True, rename="camel"):
    amount: Amount
    order_id: OrderId
    order_name: Text100
    customer_name: Text100
    bank: Annotated[str, Meta(min_length=1, max_length=20)]
    valid_hours: Annotated[int, Meta(ge=1, le=720)] = 168
    tax_free_amount: PartAmount | None = None


class BuyerBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What the test says the buyer does in the window. `decline_code` is what the issuer answers to the confirm."""

    order_id: OrderId
    amount: Amount
    order_name: Text100 = "order"
    method: Method = "카드"
    tax_free_amount: PartAmount = 0
    authenticates: bool = True
    decline_code: str | None = None
    partial_cancelable: bool = True
    installment_months: Annotated[int, Meta(ge=0, le=36)] = 0
    customer_name: Text100 = "buyer"
    success_url: Annotated[str, Meta(max_length=2000)] | None = None

    def __post_init__(self) -> None:
        if self.decline_code is not None and self.decline_code not in DECLINES:
            raise ValueError(f"decline_code is one of {', '.join(sorted(DECLINES))}")
        if self.tax_free_amount > self.amount:
            raise ValueError("taxFreeAmount is more than the amount")


class BillingBuyerBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The buyer registers a card in the window; `decline_code` is what its issuer answers to every later charge."""

    customer_key: CustomerKey
    decline_code: str | None = None

    def __post_init__(self) -> None:
        if self.decline_code is not None and self.decline_code not in DECLINES:
            raise ValueError(f"decline_code is one of {', '.join(sorted(DECLINES))}")


class WhichBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    payment_key: PaymentKey


Body = TypeVar("Body")


def decoded(raw: bytes, type_: type[Body]) -> Body:
    """Raises Refused INVALID_REQUEST for whatever is not the JSON object the type wants."""
    try:
        return msgspec.json.decode(raw, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused("INVALID_REQUEST", str(error)) from error


class Page(Struct, frozen=True):
    """A span of time, both ends in milliseconds, the first included and the second not."""

    from_ms: int
    until_ms: int
    limit: int
    skip: int = 0
    starting_after: str | None = None
    by_paid_out: bool = False


def transactions_page(query: Mapping[str, str]) -> Page:
    """`startDate`, `endDate` (ISO 8601, Seoul when without an offset), `startingAfter`, `limit` (≤ 5000)."""
    start, end = _moment(query, "startDate"), _moment(query, "endDate")
    limit = _number(query, "limit", DEFAULT_PAGE, 1, MAX_PAGE)
    # The whole last second belongs to the span: the vendor's example for one day ends at 23:59:59.
    return Page(start, end + 1000, limit, starting_after=query.get("startingAfter"))


def settlements_page(query: Mapping[str, str]) -> Page:
    """`startDate`, `endDate` (yyyy-MM-dd, both included), `dateType` soldDate or paidOutDate, `page` from 1, `size`."""
    start, end = _day(query, "startDate"), _day(query, "endDate")
    kind = query.get("dateType", "soldDate")
    if kind not in ("soldDate", "paidOutDate"):
        raise Refused("INVALID_REQUEST", "dateType")
    size = _number(query, "size", DEFAULT_PAGE, 1, MAX_PAGE)
    page = _number(query, "page", 1, 1, 1_000_000)
    return Page(start, end + 86_400_000, size, skip=(page - 1) * size, by_paid_out=kind == "paidOutDate")


def _moment(query: Mapping[str, Any], name: str) -> int:
    try:
        moment = datetime.fromisoformat(query[name])
        moment = moment if moment.tzinfo else moment.replace(tzinfo=KST)
        return int(moment.timestamp() * 1000)
    except (KeyError, ValueError, OverflowError) as error:
        raise Refused("INVALID_REQUEST", name) from error


def _day(query: Mapping[str, Any], name: str) -> int:
    try:
        day = date.fromisoformat(query[name])
        return int(datetime(day.year, day.month, day.day, tzinfo=KST).timestamp() * 1000)
    except (KeyError, ValueError, OverflowError) as error:
        raise Refused("INVALID_REQUEST", name) from error


def _number(query: Mapping[str, str], name: str, default: int, at_least: int, at_most: int) -> int:
    text = query.get(name, str(default))
    if text.isascii() and text.isdigit() and len(text) <= 9 and at_least <= int(text) <= at_most:
        return int(text)
    raise Refused("INVALID_REQUEST", name)
