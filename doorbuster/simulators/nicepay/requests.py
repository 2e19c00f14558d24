"""The bodies and queries of NICEPAY read field by field: everything is hostile until it was read here.

Fields, types and lengths in bytes: the request tables of api/*.md of github.com/nicepayments/nicepay-manual. Which code
a wrong field gets: common/code.md there, and code/nicepay-code.md of github.com/SeokRae/nicepay-manual-eng. Unknown
fields are ignored, as the vendor does.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from doorbuster.simulators.host.wire import Request
from doorbuster.simulators.nicepay.errors import DECLINES, NET_CANCELLED, Refused
from doorbuster.simulators.nicepay.payment import CancelAsk, PayMethod
from doorbuster.simulators.nicepay.signing import fits

MAX_AMOUNT = 999_999_999_999
MAX_EDI_DATE_BYTES = 64
CHARSETS = ("utf-8", "euc-kr")

# What AUTHNICE.requestPay calls a method, and what answers call it.
METHODS: dict[str, PayMethod] = {
    "card": "card",
    "vbank": "vbank",
    "naverpayCard": "naverpay",
    "kakaopay": "kakaopay",
    "kakaopayCard": "kakaopay",
    "kakaopayMoney": "kakaopay",
    "samsungpayCard": "samsungpay",
    "payco": "payco",
    "ssgpay": "ssgpay",
    "cardAndEasyPay": "card",
}


class Fields(Struct, frozen=True):
    """The fields of one request, each read with its type and its length; all raise Refused."""

    values: Mapping[str, Any]

    def text(self, name: str, max_bytes: int) -> str:
        value = self.text_or_none(name, max_bytes)
        if value is None:
            raise Refused("U100", name)
        return value

    def text_or_none(self, name: str, max_bytes: int) -> str | None:
        """An empty text is no text."""
        value = self.values.get(name)
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            raise Refused("U133", name)
        try:
            size = len(value.encode())
        except UnicodeEncodeError as error:
            raise Refused("U133", name) from error
        if size > max_bytes:
            raise Refused("U105", f"{name}[max:{max_bytes}, realLength:{size}]")
        return value

    def order_id(self) -> str:
        order_id = self.text("orderId", 64)
        if any(character.isspace() for character in order_id):
            raise Refused("U154", "orderId")
        return order_id

    def amount(self) -> int:
        value = self.whole("amount")
        if value is None:
            raise Refused("U100", "amount")
        if not 1 <= value <= MAX_AMOUNT:
            raise Refused("U127")
        return value

    def whole(self, name: str) -> int | None:
        value = self.values.get(name)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            raise Refused("U133", name)
        return value

    def tax_free(self, amount: int | None) -> int:
        value = self.whole("taxFreeAmt") or 0
        if value < 0:
            raise Refused("U133", "taxFreeAmt")
        if amount is not None and value > amount:
            raise Refused("U321")
        return value

    def truth(self, name: str) -> bool:
        value = self.values.get(name)
        if value is None:
            raise Refused("U100", name)
        if not isinstance(value, bool):
            raise Refused("U133", name)
        return value

    def check_charset(self) -> None:
        value = self.text_or_none("returnCharSet", 10)
        if value is not None and value.lower() not in CHARSETS:
            raise Refused("U132", "returnCharSet")

    def check_signature(self, secret: str, *parts: object) -> None:
        """signData where it was sent: hex(sha256(parts + ediDate + SecretKey)). ediDate is only text in it."""
        sign_data = self.text_or_none("signData", 256)
        edi_date = self.text_or_none("ediDate", MAX_EDI_DATE_BYTES)
        if sign_data is None:
            return
        if edi_date is None:
            raise Refused("U100", "ediDate")
        if not fits(sign_data, *parts, edi_date, secret):
            raise Refused("U312")


def fields_of(request: Request) -> Fields:
    """Of a GET the query, of a POST its JSON object. Raises Refused U125 for anything else."""
    if request.method == "GET":
        return Fields(request.query)
    try:
        values = msgspec.json.decode(request.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Refused("U125") from error
    if not isinstance(values, dict):
        raise Refused("U125")
    return Fields(values)


def charset_of(fields: Fields) -> str:
    """What the answer is to be written in; UTF-8 for whatever is not offered."""
    value = fields.values.get("returnCharSet")
    return "euc-kr" if isinstance(value, str) and value.lower() == "euc-kr" else "utf-8"


def cancel_ask(fields: Fields) -> CancelAsk:
    """api/cancel.md; the three refund fields belong together."""
    reason = fields.text("reason", 100)
    amount = fields.whole("cancelAmt")
    if amount is not None and amount <= 0:
        raise Refused("U142", "cancelAmt")
    if amount is not None and amount > MAX_AMOUNT:
        raise Refused("U127")
    account = (
        fields.text_or_none("refundAccount", 16),
        fields.text_or_none("refundBankCode", 3),
        fields.text_or_none("refundHolder", 10),
    )
    return CancelAsk(reason, amount, fields.tax_free(amount), all(part is not None for part in account))


Code = Annotated[str, Meta(min_length=4, max_length=4)]
Text = Annotated[str, Meta(min_length=1, max_length=100)]


def is_decline(code: str) -> None:
    """Raises ValueError for what the network does not say."""
    if code not in DECLINES and code not in NET_CANCELLED:
        raise ValueError(f"a decline code is one of {', '.join(sorted([*DECLINES, *NET_CANCELLED]))}")


class BuyerBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What the test says the buyer does in the window. `decline_code` is what the network answers to the approval."""

    order_id: Annotated[str, Meta(min_length=1, max_length=64)]
    amount: Annotated[int, Meta(ge=1, le=MAX_AMOUNT)]
    goods_name: Text = "goods"
    method: str = "card"
    mall_reserved: Annotated[str, Meta(max_length=500)] | None = None
    mall_user_id: Text | None = None
    buyer_name: Text | None = None
    buyer_tel: Text | None = None
    buyer_email: Text | None = None
    tax_free_amt: Annotated[int, Meta(ge=0, le=MAX_AMOUNT)] = 0
    card_quota: Annotated[int, Meta(ge=0, le=99)] = 0
    card_no: Annotated[str, Meta(pattern=r"\A[0-9]{13,16}\Z")] | None = None
    can_part_cancel: bool = True
    vbank_holder: Text = "buyer"
    vbank_valid_hours: Annotated[int, Meta(ge=1, le=9999)] = 168
    authenticates: bool = True
    decline_code: Code | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method is one of {', '.join(METHODS)}")
        if self.decline_code is not None:
            is_decline(self.decline_code)
        if self.tax_free_amt > self.amount:
            raise ValueError("taxFreeAmt is more than the amount")


class BidBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """`decline_code` is what the network answers to every later charge of this billing key; null lets it pay."""

    bid: Text
    decline_code: Code | None = None

    def __post_init__(self) -> None:
        if self.decline_code is not None:
            is_decline(self.decline_code)


class WhichBody(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    tid: Text
