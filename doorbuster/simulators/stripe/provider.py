"""The Stripe API itself: who is let in, what an idempotency key means, what is recorded; no sockets, no waiting.

Sources: docs.stripe.com/api/authentication, …/idempotent_requests, …/request_ids, …/versioning and /error-low-level.
"""

import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Mapping

import msgspec
from msgspec import Struct, structs

from doorbuster.simulators.host.settlement import Row, Seeds
from doorbuster.simulators.host.wire import Answer, Kind, Request
from doorbuster.simulators.stripe.answers import answer_of
from doorbuster.simulators.stripe.books import Books, Entry, Kept, Said
from doorbuster.simulators.stripe.confirmation import turned
from doorbuster.simulators.stripe.errors import (
    API_ERROR,
    KEY_IN_USE,
    Invalid,
    KeyConflict,
    Refused,
    error_body,
    key_of_another,
    unauthorized,
)
from doorbuster.simulators.stripe.events import Happened
from doorbuster.simulators.stripe.form import Tree, read_form
from doorbuster.simulators.stripe.intent import Intent
from doorbuster.simulators.stripe.views import VERSION

MAX_KEY_CHARS = 255
# docs.stripe.com/search: searchable within a minute under normal conditions; not for reading what was just written.
SEARCH_DELAY_MS = 60_000
SEARCHES_PER_SECOND = 20


class Call(Struct, frozen=True):
    """A request that was let in. `target` is the id in its path; `scope` is where its idempotency key counts."""

    id: str
    endpoint: str
    target: str
    tree: Tree
    origin: str
    account: str | None = None
    key: str | None = None
    scope: str | None = None
    fingerprint: str = ""


class Ticket(Struct, frozen=True):
    call: Call
    handle: Callable[["Provider", Call], Answer]


class Rules(Struct):
    """How this provider deviates from strictness; changed by the admin endpoints.

    `failing` is how many requests fail with a 500 after they began: nothing happens, and the key keeps the 500.
    """

    over_refund: bool = False
    search_delay_ms: int = SEARCH_DELAY_MS
    searches_per_second: int = SEARCHES_PER_SECOND
    failing: int = 0
    seeds: Seeds = Seeds()


Handler = Callable[["Provider", Call], Answer]
Routes = tuple[tuple[str, re.Pattern[str], Handler], ...]


class Provider:
    """Guards the books, the keys in progress and the events that are to be told."""

    def __init__(
        self,
        books: Books,
        secret: str,
        now_ms: Callable[[], int],
        tell: Callable[[Happened], None],
        routes: Routes,
    ) -> None:
        self.books = books
        self.rules = Rules()
        self.now_ms = now_ms
        self._tell = tell
        self._secret = secret.encode()
        self._routes = routes
        self._searches = (0, 0)
        self._in_progress: dict[str, tuple[str, str]] = {}
        self.issuer_declines: Callable[[], bool] = lambda: False
        # The balance as it was last listed; see lists.balance_rows.
        self.rows: tuple[tuple[int, str | None, Seeds], list[Row]] | None = None

    def admit(self, request: Request) -> Answer | Ticket:
        """Authentication, routing and idempotency. A ticket must be given to `decide` or to `abandon`."""
        id_ = new_id("req")
        try:
            self._authenticate(request)
            ticket = self._read(request, id_)
            return self._check_key(ticket) if ticket.call.scope is not None else ticket
        except (Invalid, KeyConflict) as error:
            headers = {"www-authenticate": 'Basic realm="Stripe"'} if error.info.status == 401 else {}
            headers |= base_headers(request, id_)
            return Answer(error.info.status, error_body(error.info), headers=headers)

    def decide(self, ticket: Ticket, declines: Callable[[], bool]) -> Answer:
        """What happens now. Raises LedgerUnavailable, and then nothing happened and the key stays unused."""
        call = ticket.call
        self.issuer_declines = declines
        try:
            self.sweep()
            if self.rules.failing and call.endpoint.startswith("POST"):
                self.rules.failing -= 1
                raise Refused(API_ERROR)
            answer = ticket.handle(self, call)
        except Invalid as error:
            answer = Answer(error.info.status, error_body(error.info))
        except Refused as refusal:
            answer = self._refuse(call, refusal)
        finally:
            # The dice are those of this request: a buyer who pays in the browser throws none.
            self.issuer_declines = lambda: False
            self.abandon(ticket)
        return self._dressed(answer, call)

    def abandon(self, ticket: Ticket) -> None:
        """The request ended; its key is no longer in progress."""
        if ticket.call.scope is not None:
            self._in_progress.pop(ticket.call.scope, None)

    def sweep(self) -> None:
        """Do what is overdue: banks answer, authorizations end, charges and refunds settle."""
        now_ms = self.now_ms()
        for intent in self.books.overdue(now_ms):
            self.record(Entry(now_ms, intent=turned(intent, now_ms, new_id)))

    def record(self, entry: Entry) -> None:
        """Durable, and then told."""
        for event in self.books.record(entry):
            self._tell(event)

    def replay(self, entry: Entry) -> None:
        """An entry of an earlier life; its events have the ids they had."""
        for event in self.books.apply(entry):
            self._tell(event)

    def answer(self, call: Call, intent: Intent | None, said: Said, kind: Kind = "other") -> Answer:
        """Record what became of the intent together with the answer, and give it."""
        kept = None
        if call.scope is not None:
            kept = Kept(call.scope, call.endpoint, call.fingerprint, call.id, said)
        entry = Entry(self.now_ms(), intent=intent, kept=kept, request=call.id, key=call.key)
        if entry.intent is not None or kept is not None:
            self.record(entry)
        return structs.replace(answer_of(entry, said), kind=kind)

    def show(self, call: Call, intent: Intent, said: Said) -> Answer:
        """What is so, without a trace."""
        return structs.replace(answer_of(Entry(self.now_ms(), intent=intent), said), kind="read")

    def count_search(self) -> None:
        """docs.stripe.com/search: 20 a second over all searches. Raises Invalid, a 429, beyond."""
        second = self.now_ms() // 1000
        count = self._searches[1] + 1 if self._searches[0] == second else 1
        self._searches = (second, count)
        if count > self.rules.searches_per_second:
            raise Invalid("Too many searches; come back later.", "rate_limit", status=429)

    def find(self, call: Call, id_: str, param: str = "intent", status: int = 404) -> Intent:
        intent = self.books.intents.get(id_)
        if intent is None or intent.account != call.account:
            raise Invalid(f"There is no payment_intent {id_[:100]!r}.", "resource_missing", param, status)
        return intent

    def _refuse(self, call: Call, refusal: Refused) -> Answer:
        said = Said(refusal.info, origin=call.origin)
        if call.scope is None:
            return answer_of(Entry(self.now_ms(), intent=refusal.intent), said)
        return self.answer(call, refusal.intent, said)

    def _authenticate(self, request: Request) -> None:
        scheme, _, credential = request.headers.get("authorization", "").partition(" ")
        credential = credential.strip()
        if scheme.lower() == "basic":
            try:
                credential = base64.b64decode(credential.encode(), validate=True).decode().partition(":")[0]
            except (binascii.Error, UnicodeError) as error:
                raise unauthorized("The credential is base64 of the secret key and a colon.") from error
        elif scheme.lower() != "bearer":
            credential = ""
        if not credential:
            raise unauthorized("There is no API key in the Authorization header.")
        if not hmac.compare_digest(credential.encode(), self._secret):
            raise unauthorized("The API key is not valid.")

    def _read(self, request: Request, id_: str) -> Ticket:
        headers = request.headers
        version = headers.get("stripe-version", VERSION)
        if not re.fullmatch(r"20\d\d-[01]\d-[0-3]\d(\.[a-z]{1,40})?", version):
            raise Invalid("The API version cannot be read.")
        account = headers.get("stripe-account")
        if account is not None and not re.fullmatch(r"acct_[A-Za-z0-9]{1,64}", account):
            raise Invalid("The key has no access to this account.", "account_invalid", status=403)
        handle, target = self._route(request)
        tree = read_form(_form_text(request))
        call = Call(id_, f"{request.method} {request.path}", target, tree, request.origin, account)
        key = headers.get("idempotency-key")
        if key is None or request.method != "POST":
            return Ticket(call, handle)
        if not (1 <= len(key) <= MAX_KEY_CHARS and key.isascii() and key.isprintable()):
            raise Invalid(f"An idempotency key has 1 to {MAX_KEY_CHARS} visible characters of ASCII.")
        # The account is part of the scope, the endpoint is not: a key used for another endpoint is an error.
        canonical = msgspec.json.encode(tree, order="deterministic")
        call = structs.replace(
            call, key=key, scope=f"{account or ''} {key}", fingerprint=hashlib.sha256(canonical).hexdigest()
        )
        return Ticket(call, handle)

    def _route(self, request: Request) -> tuple[Handler, str]:
        for method, pattern, handler in self._routes:
            if method == request.method and (match := pattern.fullmatch(request.path)) is not None:
                return handler, match[1] if match.groups() else ""
        raise Invalid(f"There is nothing at {request.method} {request.path[:200]}.", status=404)

    def _check_key(self, ticket: Ticket) -> Answer | Ticket:
        call = ticket.call
        assert call.scope is not None and call.key is not None
        kept = self.books.kept_answer(call.scope, self.now_ms())
        first = self._in_progress.get(call.scope)
        if kept is not None and kept.kept is not None:
            first = (kept.kept.endpoint, kept.kept.fingerprint)
        if first is not None and first[0] != call.endpoint:
            raise key_of_another("endpoint", call.key)
        if first is not None and first[1] != call.fingerprint:
            raise key_of_another("parameters", call.key)
        if kept is not None and kept.kept is not None:
            replayed = {"idempotent-replayed": "true", "original-request": kept.kept.request}
            answer = self._dressed(answer_of(kept, kept.kept.said), call)
            return structs.replace(answer, fails=None, headers={**answer.headers, **replayed})
        if first is not None:
            raise KeyConflict(KEY_IN_USE)
        self._in_progress[call.scope] = (call.endpoint, call.fingerprint)
        return ticket

    def _dressed(self, answer: Answer, call: Call) -> Answer:
        headers = {"request-id": call.id, "stripe-version": VERSION}
        if call.key is not None:
            headers |= {"idempotency-key": call.key, "original-request": call.id}
        if answer.status >= 500:
            # The SDK's own comment: a 500 is expected to say so, for a retry would be given the same 500.
            headers["stripe-should-retry"] = "false"
        return structs.replace(answer, headers=headers, fails=lambda: self._fail(call))

    def _fail(self, call: Call) -> Answer:
        """A 500 after it happened: it is what the key answers from now on."""
        now_ms = self.now_ms()
        said = Said(API_ERROR)
        if call.scope is not None:
            kept = Kept(call.scope, call.endpoint, call.fingerprint, call.id, said)
            self.record(Entry(now_ms, kept=kept))
        return self._dressed(answer_of(Entry(now_ms), said), call)


def base_headers(request: Request, id_: str) -> Mapping[str, str]:
    headers = {"request-id": id_, "stripe-version": VERSION}
    key = request.headers.get("idempotency-key")
    if key is not None and key.isascii() and key.isprintable():
        headers["idempotency-key"] = key
    return headers


def new_id(prefix: str) -> str:
    """An id no other has, in the vendor's form."""
    return f"{prefix}_3{secrets.token_hex(12)}"


def _form_text(request: Request) -> str:
    """Raises Invalid for a body that is no form, JSON above all."""
    if request.method == "GET":
        return request.raw_query
    if request.raw_query:
        raise Invalid("The parameters of a POST are in its body.")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.body and kind != "application/x-www-form-urlencoded":
        raise Invalid("The content type of a POST is application/x-www-form-urlencoded.")
    try:
        return request.body.decode("ascii")
    except UnicodeDecodeError as error:
        raise Invalid("A form is ASCII with the rest percent-encoded.") from error
