"""What guards NICEPAY's books: who may call, which requests are in work, what is told; no sockets, no waiting."""

import base64
import hmac
import secrets
from collections.abc import Callable

from msgspec import Struct

from doorbuster.simulators.host.ledger import LedgerUnavailable
from doorbuster.simulators.host.wire import Request
from doorbuster.simulators.nicepay.books import Billing, Books, Entry, Token
from doorbuster.simulators.nicepay.errors import Refused
from doorbuster.simulators.nicepay.payment import Payment, expired
from doorbuster.simulators.nicepay.views import View, compact, webhook_view

MID = "nictest00m"
# Payment method and medium as they stand in a tid: developers.nicepay.co.kr/tip.php.
CARD_TID, ACCOUNT_TID, BILLING_TID = "0101", "0301", "0116"
TIDS_A_SECOND = 10_000
TOKEN_MS = 30 * 60_000


class Rules(Struct, frozen=True):
    """How this provider deviates from strictness; changed by the admin endpoint."""

    over_refund: bool = False
    reused_order_ids: bool = False
    any_order_date: bool = False


class Keys(Struct, frozen=True):
    """A shop's pair. A secret key is of one kind: with `is_bearer` it only buys tokens, else it is sent itself."""

    client: str
    secret: str
    is_bearer: bool = False


class Provider:
    """Guards the books, the requests in work and the webhooks that are to be sent."""

    def __init__(
        self, books: Books, keys: Keys, now_ms: Callable[[], int], send: Callable[[str, View, int], None]
    ) -> None:
        self.books = books
        self.keys = keys
        self.rules = Rules()
        self.now_ms = now_ms
        self.in_work: set[str] = set()
        self.declines: Callable[[], bool] = lambda: False
        self._send = send
        self._made = 0

    def authenticate(self, request: Request) -> None:
        """Raises Refused U104, or U103 for a key of the other kind."""
        scheme, _, credential = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            token = self.books.token
            valid = token is not None and self.now_ms() < token.issued_at_ms + TOKEN_MS
            if token is None or not valid or not same(credential.strip(), token.value):
                raise Refused("U104")
            return
        expected = base64.b64encode(f"{self.keys.client}:{self.keys.secret}".encode()).decode()
        if scheme.lower() != "basic" or not same(credential.strip(), expected):
            raise Refused("U104")
        if self.keys.is_bearer:
            raise Refused("U103")

    def authenticate_for_token(self, request: Request) -> None:
        """Raises Refused with the cause, which only this call names."""
        scheme, _, credential = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic" or not credential.strip():
            raise Refused("U304")
        try:
            plain = base64.b64decode(credential.strip().encode(), validate=True).decode()
        except ValueError as error:
            raise Refused("U101") from error
        client, colon, secret = plain.partition(":")
        if not colon:
            raise Refused("U304")
        if not client or not secret:
            raise Refused("U117")
        if not same(plain, f"{self.keys.client}:{self.keys.secret}"):
            raise Refused("U116")
        if not self.keys.is_bearer:
            raise Refused("U103")

    def token(self) -> Token:
        """The token in force, or a new one: asked again within its time, it is the same with the same end."""
        now_ms = self.now_ms()
        token = self.books.token
        if token is None or now_ms >= token.issued_at_ms + TOKEN_MS:
            token = Token(secrets.token_hex(20), now_ms)
            self.books.record(Entry(now_ms, token=token))
        return token

    def find(self, tid: str) -> Payment:
        """Raises Refused U107: an authentication that was not approved is no transaction."""
        self.sweep()
        payment = self.books.payments.get(tid)
        if payment is None or payment.status == "authenticated":
            raise Refused("U107")
        return payment

    def sweep(self) -> None:
        """End the accounts nobody paid into in time."""
        for payment in self.books.overdue(self.now_ms()):
            self.record(expired(payment), self.now_ms())

    def record(self, payment: Payment, now_ms: int, spent: str | None = None) -> None:
        """Durable, and then told."""
        before = self.books.payments.get(payment.tid)
        entry = Entry(now_ms, payment=payment, spent=spent)
        self.books.record(entry)
        self._tell(before, entry)

    def record_billing(self, billing: Billing) -> None:
        self.books.record(Entry(self.now_ms(), billing=billing))

    def replay(self, entry: Entry) -> None:
        """An entry of an earlier life; its webhooks have the ids and bodies they had."""
        before = None if entry.payment is None else self.books.payments.get(entry.payment.tid)
        self.books.apply(entry)
        self._tell(before, entry)

    def new_tid(self, kind: str) -> str:
        """30 characters: shop, method, medium, second and four digits. Raises LedgerUnavailable, 10,000 a second."""
        return self._unused(f"{MID}{kind}{compact(self.now_ms())}", self.books.tids.__contains__)

    def new_bid(self) -> str:
        """30 characters, as in the manual's BIKYnictest00m1104191651325596."""
        return self._unused(f"BIKY{MID}{compact(self.now_ms())}", self.books.billings.__contains__)

    def is_taken(self, order_id: str) -> bool:
        return not self.rules.reused_order_ids and self.books.is_used(order_id)

    def _unused(self, prefix: str, is_used: Callable[[str], bool]) -> str:
        for _ in range(TIDS_A_SECOND):
            self._made += 1
            name = f"{prefix}{self._made % TIDS_A_SECOND:04d}"
            if not is_used(name):
                return name
        raise LedgerUnavailable("no number is left in this second")

    def _tell(self, before: Payment | None, entry: Entry) -> None:
        """What succeeded is told: an approval, an account, a deposit, a cancel. A decline and an end are not."""
        payment = entry.payment
        if payment is None or payment.status in ("authenticated", "failed", "expired"):
            return
        if before is not None and (before.status, before.cancels) == (payment.status, payment.cancels):
            return
        id_ = f"{payment.tid[-16:]}-{self.books.entries}"
        self._send(id_, webhook_view(payment, entry.at_ms, self.keys.secret), entry.at_ms)


def same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(errors="surrogateescape"), other.encode())
