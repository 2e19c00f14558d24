"""The contract of a payment provider: what it can do, what it is told, and the small Protocols its flows keep.

A provider is one module under `providers/` with `CAPABILITY` and, for each flow named there, the functions of that
flow's Protocol: they build a request or read an answer, and do nothing else (no I/O, no clock). A flow that the
provider lacks is not in the record and its functions do not exist. How to add one: docs/how-to/add-a-psp.md.

All readers promise: never an exception; SUCCEEDED and DECLINED only with exact evidence; what is not listed is UNKNOWN.
`now` is an aware UTC time, ages are seconds, amounts are minor units.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from enum import StrEnum
from typing import NoReturn, Protocol

import msgspec

from doorbuster.engines.payment_router.outcome import ChargeOrder, HttpAnswer, HttpCall, RefundOrder, Result


class Flow(StrEnum):
    """What can be done at a provider. FLOW_FUNCTIONS names the functions each demands."""

    PREPARE = "prepare"
    """Open a window session by a call to the provider."""
    PREPARE_HERE = "prepare_here"
    """Open a window session without a call: the browser does it with what it gets from us."""
    CONFIRM = "confirm"
    """Take the money with the token that the window gave the buyer."""
    CHARGE = "charge"
    """Take the money from a billing key or portable instrument."""
    CAPTURE = "capture"
    VOID = "void"
    INQUIRY = "inquiry"
    REFUND = "refund"
    REFUND_INQUIRY = "refund_inquiry"
    NETCANCEL = "netcancel"
    WEBHOOK = "webhook"
    SETTLEMENT = "settlement"
    SETTLEMENT_CSV = "settlement_csv"


class Method(StrEnum):
    """How a buyer pays."""

    CARD = "card"
    """A billing key or portable instrument, charged from here without the buyer."""
    WINDOW = "window"
    """In the provider's window; its token is bound to the provider."""
    VIRTUAL_ACCOUNT = "virtual_account"
    """Chosen in the window, paid later by bank transfer; the provider tells by webhook."""


class WebhookKind(StrEnum):
    """What a webhook is worth before the payment is read again."""

    SIGNED = "signed"
    HINT = "hint"
    """Nobody signed it: anybody may have sent it, so it may cause a look and nothing else."""


class AmountLimit(msgspec.Struct, frozen=True):
    """Between these amounts a payment in this currency is taken; minor units, both ends included."""

    currency: str
    least_minor: int
    most_minor: int


class Idempotency(msgspec.Struct, frozen=True):
    """How long a key sent again is answered with the first answer, and what a key is valid for."""

    retention_s: float
    scope: str
    max_length: int


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds to wait for a connection, and for the complete answer from the first byte sent."""

    connect_s: float
    answer_s: float


class WebhookReply(msgspec.Struct, frozen=True):
    """What the provider takes as a receipt, with status 200; anything else makes it send again."""

    content_type: str
    body: bytes


class Capability(msgspec.Struct, frozen=True):
    """What a provider can do. The router chooses by this and by nothing it knows of a provider's name."""

    name: str
    flows: frozenset[Flow]
    methods: frozenset[Method]
    amounts: tuple[AmountLimit, ...]
    timeouts: Timeouts
    instrument_prefix: str = ""
    """How its tokens for instruments begin. Empty: only keys that are kept with us are charged."""
    instalment_months: frozenset[int] = frozenset()
    instalment_least_minor: int = 0
    partial_refund: bool = False
    inquiry_by_reference: bool = False  # else an inquiry needs `ChargeOrder.provider_id`
    idempotency: Idempotency | None = None
    """None: a request sent again may be executed again. Ask, never repeat."""
    rate_limit_precedes_execution: bool = False  # a 429 proves that nothing was done
    not_found_horizon_s: float | None = None
    """So long after an attempt began, "no such payment" is final. None: it never is; a person decides."""
    netcancel_within_s: float | None = None
    """So long after an attempt began its unknown outcome may, and must, be cancelled by reference."""
    webhook: WebhookKind | None = None
    webhook_reply: WebhookReply | None = None
    retryable_declines: frozenset[str] = frozenset()
    """Codes of DECLINED after which another provider may be asked, if the instrument is portable."""

    @property
    def separate_capture(self) -> bool:
        """Whether money can be authorised first and taken later."""
        return Flow.CAPTURE in self.flows

    def why_not(self, method: str, amount_minor: int, currency: str, instalment_months: int = 0) -> str:
        """Why a payment of this kind cannot be sent here at all, for the record of a decision; empty: it can."""
        if method not in self.methods:
            return "method"
        limits = [limit for limit in self.amounts if limit.currency == currency]
        if not limits:
            return "currency"
        if not limits[0].least_minor <= amount_minor <= limits[0].most_minor:
            return "amount"
        split = instalment_months in self.instalment_months and amount_minor >= self.instalment_least_minor
        return "" if split or instalment_months <= 1 else "instalments"

    def takes(self, method: str, amount_minor: int, currency: str, instalment_months: int = 0) -> bool:
        """Whether a payment of this kind may be sent here at all."""
        return not self.why_not(method, amount_minor, currency, instalment_months)


class Secret:
    """Guards a secret against being printed, logged, encoded or pickled by accident. `reveal()` is the only way out."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The secret itself, for a header or a signature."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __repr__(self) -> str:
        return "Secret(hidden)"

    def __format__(self, spec: str) -> str:
        return "Secret(hidden)"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret is not pickled or copied")


class Login(msgspec.Struct, frozen=True):
    """How one merchant is known to one provider."""

    base_url: str
    """`https://host`, without credentials, path or query; for building nothing but the address of a call."""
    secret: Secret
    client_key: str = ""
    """The public half, which a browser may see."""
    webhook_secrets: tuple[Secret, ...] = ()
    """All that are valid now: two while one is being replaced."""
    merchant: str = ""
    """The merchant's id at the provider, where a request names it."""
    account: str = ""
    """A sub-account (Stripe Connect), where a request names it."""

    def __post_init__(self) -> None:
        scheme, _, rest = self.base_url.partition("://")
        if scheme not in ("http", "https") or not rest or set(rest) & set("@?#/\\ \r\n"):
            raise ValueError("base_url is scheme://host[:port] and nothing else")

    def __repr__(self) -> str:
        return f"Login({self.base_url}, hidden)"


class ReturnUrls(msgspec.Struct, frozen=True):
    """Where the window sends the buyer back to."""

    success: str
    failure: str
    cancel: str


class Prepared(msgspec.Struct, frozen=True):
    """A window session stands. `client` is for the browser; `provider_id` goes into the attempt before it is used."""

    client: dict[str, str | int]
    provider_id: str = ""

    def __repr__(self) -> str:
        return f"Prepared({self.provider_id!r}, {sorted(self.client)})"


class WindowReturn(msgspec.Struct, frozen=True):
    """With what the buyer came back. `token` empty: without having paid, for the reason in `code`.

    A browser brought this, so it is evidence of nothing: with a token confirm, without one inquire.
    """

    token: str = ""
    code: str = ""

    def __repr__(self) -> str:
        return f"WindowReturn(token={'hidden' if self.token else 'none'}, code={self.code!r})"


class WebhookHint(msgspec.Struct, frozen=True):
    """A payment to read again. One of `reference` (ours) and `provider_id` is always there.

    `event_id` is the same for the same event however often it is delivered: the key of deduplication.
    """

    event_id: str
    kind: str
    reference: str = ""
    provider_id: str = ""


class NotForUs(msgspec.Struct, frozen=True):
    """Well-formed (and well signed, where it is signed), but about nothing we keep: acknowledge and forget."""

    kind: str


class Forged(msgspec.Struct, frozen=True):
    """Not to be believed: unreadable, unsigned, wrongly signed, too old. Answer 400 and change nothing."""

    why: str


class SettlementRow(msgspec.Struct, frozen=True):
    """One movement of money as the provider accounts for it. A refund's amount is negative; so may be its fee."""

    provider: str
    provider_id: str
    """The provider's id of the payment."""
    transaction_id: str
    """The provider's id of this movement, its own for each."""
    reference: str
    """Ours where the row names it, else empty."""
    amount_minor: int
    fee_minor: int
    """What the provider keeps, taxes on its fee included."""
    currency: str
    sold_on: dt.date
    paid_on: dt.date | None = None
    fee_currency: str = ""
    """Where the fee is taken in another currency than the sale; empty: the same."""

    @property
    def is_refund(self) -> bool:
        return self.amount_minor < 0


class SettlementPage(msgspec.Struct, frozen=True):
    """Some rows of a day. `next_page` goes into the next call; empty: that was all."""

    rows: tuple[SettlementRow, ...]
    next_page: str = ""


class Unreadable(msgspec.Struct, frozen=True):
    """The provider's answer or file is not what it documents. No row of it is used: half a day proves nothing."""

    why: str


class Provider(Protocol):
    """What every provider module has."""

    CAPABILITY: Capability

    def wire_reference(self, reference: str) -> str:
        """Our reference in the provider's charset and length; injective. ValueError: not a reference of ours."""

    def our_reference(self, wire_id: str) -> str:
        """The reverse; empty when it is none of ours."""


class Prepares(Protocol):
    def prepare_call(self, order: ChargeOrder, urls: ReturnUrls, login: Login, now: dt.datetime) -> HttpCall: ...

    def read_prepare(self, order: ChargeOrder, answer: HttpAnswer) -> Prepared | Result:
        """A Result is never SUCCEEDED here: nothing was taken, and nothing can be in a window nobody was sent to.

        So after any Result of a preparation another provider may be asked.
        """


class PreparesHere(Protocol):
    def prepare_here(self, order: ChargeOrder, urls: ReturnUrls, login: Login, now: dt.datetime) -> Prepared: ...


class Confirms(Protocol):
    def read_return(self, order: ChargeOrder, form: Mapping[str, str], login: Login) -> WindowReturn | Forged:
        """What the window sent the buyer back with (query or form fields), checked against the order."""

    def confirm_call(self, order: ChargeOrder, login: Login, now: dt.datetime) -> HttpCall:
        """`order.token` is the one that read_return gave, and `order.provider_id` the one of Prepared."""

    def read_confirm(self, order: ChargeOrder, answer: HttpAnswer) -> Result: ...


class Charges(Protocol):
    def charge_call(self, order: ChargeOrder, login: Login, now: dt.datetime) -> HttpCall: ...

    def read_charge(self, order: ChargeOrder, answer: HttpAnswer) -> Result: ...


class Captures(Protocol):
    def capture_call(self, order: ChargeOrder, login: Login, now: dt.datetime) -> HttpCall:
        """`order.provider_id` names what was authorised; `amount_minor` is taken in full."""

    def read_capture(self, order: ChargeOrder, answer: HttpAnswer) -> Result: ...


class Voids(Protocol):
    def void_call(self, order: ChargeOrder, login: Login, now: dt.datetime) -> HttpCall:
        """End what is open or authorised under `order.provider_id`, so that it can never take money."""

    def read_void(self, order: ChargeOrder, answer: HttpAnswer) -> Result:
        """NOT_EXECUTED (`voided`) when it is ended; SUCCEEDED when it had been captured: refund it. Else UNKNOWN."""


class Inquires(Protocol):
    def inquiry_call(self, order: ChargeOrder, login: Login, now: dt.datetime) -> HttpCall:
        """Where the capability says not `inquiry_by_reference`, ValueError without `order.provider_id`."""

    def read_inquiry(self, order: ChargeOrder, answer: HttpAnswer, *, age_s: float) -> Result: ...


class Refunds(Protocol):
    def refund_call(self, order: RefundOrder, login: Login, now: dt.datetime) -> HttpCall: ...

    def read_refund(self, order: RefundOrder, answer: HttpAnswer) -> Result: ...


class InquiresRefunds(Protocol):
    def refund_inquiry_call(self, order: RefundOrder, login: Login, now: dt.datetime) -> HttpCall: ...

    def read_refund_inquiry(self, order: RefundOrder, answer: HttpAnswer, *, age_s: float) -> Result:
        """NOT_EXECUTED only past the horizon without a trace of this refund; DECLINED when it failed."""


class NetCancels(Protocol):
    def netcancel_call(self, order: ChargeOrder, login: Login, now: dt.datetime) -> HttpCall: ...

    def read_netcancel(self, order: ChargeOrder, answer: HttpAnswer) -> Result:
        """NOT_EXECUTED (`voided`) when nothing is held any more. Else UNKNOWN."""


class Webhooks(Protocol):
    def read_webhook(
        self, headers: Mapping[str, str], body: bytes, login: Login, now: dt.datetime
    ) -> WebhookHint | NotForUs | Forged:
        """`headers` with names in lower case; `body` as it came, byte for byte."""


class Settlements(Protocol):
    def settlement_call(self, day: dt.date, page: str, login: Login, now: dt.datetime) -> HttpCall:
        """`day` is the provider's own calendar day; the first `page` is empty."""

    def read_settlement(self, day: dt.date, page: str, answer: HttpAnswer) -> SettlementPage | Unreadable: ...


class SettlementFiles(Protocol):
    def read_settlement_csv(self, file: bytes) -> SettlementPage | Unreadable: ...


FLOW_FUNCTIONS: Mapping[Flow, tuple[str, ...]] = {
    Flow.PREPARE: ("prepare_call", "read_prepare"),
    Flow.PREPARE_HERE: ("prepare_here",),
    Flow.CONFIRM: ("read_return", "confirm_call", "read_confirm"),
    Flow.CHARGE: ("charge_call", "read_charge"),
    Flow.CAPTURE: ("capture_call", "read_capture"),
    Flow.VOID: ("void_call", "read_void"),
    Flow.INQUIRY: ("inquiry_call", "read_inquiry"),
    Flow.REFUND: ("refund_call", "read_refund"),
    Flow.REFUND_INQUIRY: ("refund_inquiry_call", "read_refund_inquiry"),
    Flow.NETCANCEL: ("netcancel_call", "read_netcancel"),
    Flow.WEBHOOK: ("read_webhook",),
    Flow.SETTLEMENT: ("settlement_call", "read_settlement"),
    Flow.SETTLEMENT_CSV: ("read_settlement_csv",),
}
"""What a module must have for each flow it names, and must not have for one it does not."""
