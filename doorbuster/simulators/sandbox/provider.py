"""The provider itself: a table of routes, and for each what it decides and records; no sockets in here."""

import hmac
import secrets
from collections.abc import Callable
from datetime import date
from typing import TypeVar
from urllib.parse import parse_qsl

import msgspec

from doorbuster.simulators.host.faults import CommonFaults, Dice
from doorbuster.simulators.host.ledger import LedgerUnavailable
from doorbuster.simulators.host.summary import MAX_LISTED
from doorbuster.simulators.sandbox.books import Books, BooksFull
from doorbuster.simulators.sandbox.faults import Behaviour, behaviour_of, parse_faults
from doorbuster.simulators.sandbox.ledger import Charge, Refund
from doorbuster.simulators.sandbox.settlements import WrongRows, page_of, parse_wrong_rows, settle
from doorbuster.simulators.sandbox.wire import (
    KEY_PATTERN,
    Answer,
    ChargeBody,
    ChargeView,
    Drop,
    Later,
    Outcome,
    RefundBody,
    Refused,
    Request,
    charge_answer,
    charge_view,
    ok,
    problem,
    refund_view,
    refused,
    timestamp,
)

MAX_IN_PROGRESS = 10_000
MAX_PAGE = 1000
REPLAYED = b"idempotent-replayed: true\r\n"

_decode_charge = msgspec.json.Decoder(ChargeBody).decode
_decode_refund = msgspec.json.Decoder(RefundBody).decode


class Provider:
    """Guards the books, the faults in force and the keys whose first request has not been decided yet."""

    def __init__(self, books: Books, faults: CommonFaults, secret: bytes) -> None:
        self.books = books
        self.dice = Dice(faults)
        self.wrong_rows = WrongRows()
        self.in_progress: set[str] = set()
        self._secret = secret

    def handle(self, request: Request) -> Outcome:
        """Every expected refusal comes back as an answer; an exception out of here is a bug."""
        path = request.path
        if self.dice.faults.down and not path.startswith(("/admin/", "/v1/ledger/")):
            return Drop()
        try:
            handler = self._route(request)
            if path != "/livez":
                self._authenticate(request)
            return handler(self, request)
        except Refused as refusal:
            return refusal.answer

    def decide(self, key: str, verdict: Callable[[], Answer | Drop], delay_s: float) -> Outcome:
        """Run `verdict` now or after `delay_s`; until it ran, the key counts as in progress."""
        if not delay_s:
            return self._settled(verdict)
        if len(self.in_progress) >= MAX_IN_PROGRESS:
            raise refused(503, "overloaded", "Too many requests are in progress.")
        self.in_progress.add(key)

        def then() -> Answer | Drop:
            self.in_progress.discard(key)
            return self._settled(verdict)

        return Later(delay_s, then)

    def _settled(self, verdict: Callable[[], Answer | Drop]) -> Answer | Drop:
        try:
            return verdict()
        except Refused as refusal:
            return refusal.answer
        except (LedgerUnavailable, BooksFull) as error:
            return problem(503, "api_error", "ledger_unavailable", f"Nothing was recorded: {error}.")

    def _route(self, request: Request) -> "Handler":
        methods = ROUTES.get(request.path)
        if methods is None and request.path.startswith("/v1/charges/"):
            methods = CHARGE_BY_ID
        if methods is None:
            raise refused(404, "unknown_path", "There is nothing at this path.")
        handler = methods.get(request.method)
        if handler is None:
            allow = b"allow: " + b", ".join(methods) + b"\r\n"
            raise refused(405, "method_not_allowed", "This path does not know the method.", allow)
        return handler

    def _authenticate(self, request: Request) -> None:
        scheme, _, credential = request.headers.get(b"authorization", b"").partition(b" ")
        matches = hmac.compare_digest(credential.strip(), self._secret)
        if not matches or scheme.lower() != b"bearer":
            raise refused(
                401, "invalid_secret", "The bearer secret is missing or wrong.", b"www-authenticate: Bearer\r\n"
            )


Handler = Callable[[Provider, Request], Outcome]
Body = TypeVar("Body", ChargeBody, RefundBody, CommonFaults, WrongRows)


def post_charge(provider: Provider, request: Request) -> Outcome:
    """Capture or decline once per key. Another key with the same reference is another capture, as with a real PSP."""
    key = _idempotency_key(request)
    body = _decoded(_decode_charge, request)
    behaviour = behaviour_of(body.instrument)
    if behaviour is None:
        raise refused(400, "invalid_instrument", "An instrument begins with tok_.")
    if (struck := _struck_before(provider, behaviour)) is not None:
        return struck
    seen = provider.books.by_key.get(key)
    if seen is not None:
        asked = (body.reference, body.amount_minor, body.currency, body.instrument)
        if not isinstance(seen, Charge) or asked != (seen.reference, seen.amount_minor, seen.currency, seen.instrument):
            raise _key_reused()
        return _after_latency(provider, charge_answer(seen, REPLAYED))
    _refuse_if_in_progress(provider, key)
    delay_s = provider.dice.delay_s() + behaviour.delay_s
    return provider.decide(key, lambda: _charge(provider, key, body, behaviour), delay_s)


def _charge(provider: Provider, key: str, body: ChargeBody, behaviour: Behaviour) -> Answer | Drop:
    decline_code = behaviour.decline_code or ("card_declined" if provider.dice.declines() else None)
    charge = Charge(
        id="ch_" + secrets.token_hex(12),
        key=key,
        reference=body.reference,
        amount_minor=body.amount_minor,
        currency=body.currency,
        instrument=body.instrument,
        created_at=timestamp(),
        decline_code=decline_code,
    )
    provider.books.record(charge)
    answer = charge_answer(charge)
    if decline_code is not None:
        return answer
    match behaviour.after or provider.dice.after_capture():
        case "error":
            return _internal_error()
        case "timeout":
            return Drop(after_s=provider.dice.faults.hold_ms / 1000)
        case "reset":
            return Drop(reset=True)
        case "malformed":
            return Answer(200, answer.body[: len(answer.body) // 2])
        case _:  # CommonFaults throws no others.
            return answer


def post_refund(provider: Provider, request: Request) -> Outcome:
    """Give back at most what is left of a capture, once per key."""
    key = _idempotency_key(request)
    body = _decoded(_decode_refund, request)
    if (struck := _struck_before(provider, None)) is not None:
        return struck
    seen = provider.books.by_key.get(key)
    if seen is not None:
        asked = (body.charge_id, body.amount_minor, body.reference)
        if not isinstance(seen, Refund) or asked != (seen.charge_id, seen.amount_minor, seen.reference):
            raise _key_reused()
        return _after_latency(provider, ok(refund_view(seen), REPLAYED))
    _refuse_if_in_progress(provider, key)
    return provider.decide(key, lambda: _refund(provider, key, body), provider.dice.delay_s())


def _refund(provider: Provider, key: str, body: RefundBody) -> Answer | Drop:
    books = provider.books
    charge = books.charge_by_id.get(body.charge_id)
    if charge is None:
        raise refused(404, "charge_not_found", "There is no such charge.")
    if charge.decline_code is not None:
        raise refused(400, "charge_not_captured", "A declined charge has nothing to refund.")
    if body.amount_minor > books.refundable_minor(charge):
        raise refused(400, "refund_exceeds_capture", f"{books.refundable_minor(charge)} of the capture is left.")
    refund = Refund("re_" + secrets.token_hex(12), key, charge.id, body.reference, body.amount_minor, timestamp())
    books.record(refund)
    if provider.dice.loses_refund_answer():
        return Drop(reset=True)
    return ok(refund_view(refund))


def find_charges(provider: Provider, request: Request) -> Outcome:
    """The charges of one reference, oldest first, at most MAX_LISTED; `has_more` says when some were left out."""
    _refuse_if_inquiry_down(provider)
    charges = provider.books.charges_by_reference.get(_reference(request), ())
    views = [_inquired(provider, charge) for charge in charges[:MAX_LISTED]]
    return _after_latency(provider, ok({"data": views, "has_more": len(charges) > MAX_LISTED}))


def get_charge(provider: Provider, request: Request) -> Outcome:
    _refuse_if_inquiry_down(provider)
    charge = provider.books.charge_by_id.get(request.path.removeprefix("/v1/charges/"))
    if charge is None:
        raise refused(404, "charge_not_found", "There is no such charge.")
    return _after_latency(provider, ok(_inquired(provider, charge)))


def find_refunds(provider: Provider, request: Request) -> Outcome:
    """The refunds of one reference, oldest first, at most MAX_LISTED; `has_more` says when some were left out."""
    _refuse_if_inquiry_down(provider)
    refunds = provider.books.refunds_by_reference.get(_reference(request), ())
    views = [refund_view(refund) for refund in refunds[:MAX_LISTED]]
    return _after_latency(provider, ok({"data": views, "has_more": len(refunds) > MAX_LISTED}))


def get_summary(provider: Provider, _request: Request) -> Outcome:
    return ok(provider.books.summary())


def list_charges(provider: Provider, request: Request) -> Outcome:
    """Every charge in the order it was recorded; `seq` starts at 1, `next_after` is null on the last page."""
    asked = _query(request, allowed=("after", "limit"))
    after = _number(asked.get("after", "0"), "after", at_least=0, at_most=10**12)
    limit = _number(asked.get("limit", str(MAX_PAGE)), "limit", at_least=1, at_most=MAX_PAGE)
    charges = provider.books.charges
    views = [
        msgspec.structs.replace(
            _inquired(provider, charge), seq=seq, idempotency_key=charge.key, instrument=charge.instrument
        )
        for seq, charge in enumerate(charges[after : after + limit], start=after + 1)
    ]
    return ok({"data": views, "next_after": after + limit if after + limit < len(charges) else None})


def get_faults(provider: Provider, _request: Request) -> Outcome:
    return ok(provider.dice.faults)


def put_faults(provider: Provider, request: Request) -> Outcome:
    """Replace all faults and reseed; what is left out goes back to its default."""
    provider.dice = Dice(_decoded(parse_faults, request))
    return ok(provider.dice.faults)


def list_settlements(provider: Provider, request: Request) -> Outcome:
    """The rows of a day; see doorbuster.simulators.sandbox.settlements."""
    if (struck := _struck_before(provider, None)) is not None:
        return struck
    asked = _query(request, allowed=("date", "page"))
    rows, _ = settle(provider.books, _day(asked), provider.wrong_rows)
    page = _number(asked.get("page", "1"), "page", at_least=1, at_most=10**6)
    return _after_latency(provider, ok(page_of(rows, page)))


def get_wrong_rows(provider: Provider, request: Request) -> Outcome:
    """What is wrong on purpose; with a date, which rows of that day are."""
    asked = _query(request, allowed=("date",))
    if not asked:
        return ok(provider.wrong_rows)
    return ok({"wrong": settle(provider.books, _day(asked), provider.wrong_rows)[1]})


def put_wrong_rows(provider: Provider, request: Request) -> Outcome:
    """Replace what is wrong; what is left out goes back to nothing."""
    provider.wrong_rows = _decoded(parse_wrong_rows, request)
    return ok(provider.wrong_rows)


def get_livez(_provider: Provider, _request: Request) -> Outcome:
    return ok({"status": "ok"})


ROUTES: dict[str, dict[bytes, Handler]] = {
    "/v1/charges": {b"GET": find_charges, b"POST": post_charge},
    "/v1/refunds": {b"GET": find_refunds, b"POST": post_refund},
    "/v1/ledger/summary": {b"GET": get_summary},
    "/v1/ledger/charges": {b"GET": list_charges},
    "/v1/settlements": {b"GET": list_settlements},
    "/admin/settlements": {b"GET": get_wrong_rows, b"PUT": put_wrong_rows},
    "/admin/faults": {b"GET": get_faults, b"PUT": put_faults},
    "/livez": {b"GET": get_livez},
}
CHARGE_BY_ID: dict[bytes, Handler] = {b"GET": get_charge}


def _struck_before(provider: Provider, behaviour: Behaviour | None) -> Answer | Drop | None:
    """A fault that hits before anything happens; it hits replays too, for it knows nothing of keys."""
    match (behaviour.before if behaviour else None) or provider.dice.before():
        case "reset":
            return Drop(reset=True)
        case "error":
            return _internal_error()
        case _:
            return None


def _after_latency(provider: Provider, answer: Answer) -> Outcome:
    delay_s = provider.dice.delay_s()
    return Later(delay_s, lambda: answer) if delay_s else answer


def _inquired(provider: Provider, charge: Charge) -> ChargeView:
    refunded_minor = provider.books.refunded_minor.get(charge.id, 0)
    return msgspec.structs.replace(charge_view(charge), decline_code=charge.decline_code, refunded_minor=refunded_minor)


def _idempotency_key(request: Request) -> str:
    raw = request.headers.get(b"idempotency-key", b"")
    if not raw:
        raise refused(400, "idempotency_key_required", "This request needs an Idempotency-Key.")
    if KEY_PATTERN.match(raw) is None:
        raise refused(400, "idempotency_key_invalid", "An Idempotency-Key is 1 to 255 visible ASCII characters.")
    return raw.decode("ascii")


def _refuse_if_in_progress(provider: Provider, key: str) -> None:
    if key in provider.in_progress:
        raise refused(409, "idempotency_in_progress", "The first request with this key is still in progress.")


def _refuse_if_inquiry_down(provider: Provider) -> None:
    if provider.dice.faults.inquiry_down:
        raise refused(503, "inquiry_unavailable", "Inquiry is out of order.")


def _key_reused() -> Refused:
    return refused(409, "idempotency_key_reused", "This key belongs to a request with another body.")


def _internal_error() -> Answer:
    return problem(500, "api_error", "internal_error", "The provider failed.")


def _decoded(decode: Callable[[bytes], Body], request: Request) -> Body:
    media_type = request.headers.get(b"content-type", b"application/json").partition(b";")[0].strip().lower()
    if media_type != b"application/json":
        raise refused(415, "unsupported_media_type", "The body must be application/json.")
    try:
        return decode(request.body)
    except msgspec.ValidationError as error:
        raise refused(400, "invalid_body", str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise refused(400, "invalid_json", f"The body is not JSON: {error}") from error


def _reference(request: Request) -> str:
    reference = _query(request, allowed=("reference",)).get("reference")
    if not reference:
        raise refused(400, "reference_required", "Ask for one reference: ?reference=R.")
    return reference


def _day(asked: dict[str, str]) -> date:
    try:
        return date.fromisoformat(asked["date"])
    except (KeyError, ValueError):
        raise refused(400, "invalid_query", "Ask for one day: ?date=2026-11-23.") from None


def _query(request: Request, allowed: tuple[str, ...]) -> dict[str, str]:
    try:
        pairs = parse_qsl(request.query, keep_blank_values=True, strict_parsing=bool(request.query), max_num_fields=8)
    except ValueError as error:
        raise refused(400, "invalid_query", "The query cannot be read.") from error
    asked = dict(pairs)
    if len(asked) != len(pairs) or not asked.keys() <= set(allowed):
        raise refused(400, "invalid_query", f"The query takes {' and '.join(allowed)}, once each.")
    return asked


def _number(text: str, name: str, at_least: int, at_most: int) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 13 and at_least <= int(text) <= at_most:
        return int(text)
    raise refused(400, "invalid_query", f"{name} is a number from {at_least} to {at_most}.")
