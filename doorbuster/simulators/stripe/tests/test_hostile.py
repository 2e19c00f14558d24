"""Whatever is sent, nothing hostile moves money or gets more than a refusal; and a full disk changes nothing."""

import itertools
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from doorbuster.simulators.host.ledger import LedgerUnavailable
from doorbuster.simulators.host.tests.processes import SECRET
from doorbuster.simulators.host.wire import Answer, Request
from doorbuster.simulators.stripe.asks import CREATE
from doorbuster.simulators.stripe.books import Books, Entry
from doorbuster.simulators.stripe.provider import Provider, Ticket
from doorbuster.simulators.stripe.routes import ROUTES

if TYPE_CHECKING:
    from doorbuster.simulators.stripe.tests.conftest import Stripe

T0 = 1_700_000_000_000
AUTHORIZED = {"authorization": f"Bearer {SECRET}", "content-type": "application/x-www-form-urlencoded"}
PATHS = [
    f"/v1/{name}{rest}"
    for name in ("payment_intents", "refunds", "charges", "balance_transactions", "events")
    for rest in ("", "/x", "/x/confirm", "/x/capture", "/x/cancel", "/search")
]
NAMES = st.sampled_from(
    [*CREATE, "limit", "starting_after", "created[gte]", "query", "expand[]", "metadata[a]", "charge"]
)
# Without a payment method no amount or currency can take money, whatever the rest is.
FORMS = st.lists(st.tuples(NAMES | st.text(max_size=12), st.text(max_size=20)), max_size=6)


def provider(append: object = None) -> Provider:
    return Provider(Books(append or (lambda _entry: None)), SECRET, lambda: T0, lambda _event: None, ROUTES)  # type: ignore[arg-type]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    method=st.sampled_from(["GET", "POST", "DELETE"]),
    path=st.sampled_from(PATHS) | st.text(max_size=40),
    form=FORMS,
    junk=st.none() | st.binary(max_size=100),
    headers=st.dictionaries(
        st.sampled_from(["idempotency-key", "stripe-version", "stripe-account", "content-type"]), st.text(max_size=300)
    ),
)
def test_nothing_hostile_moves_money_or_breaks_it(
    method: str, path: str, form: list[tuple[str, str]], junk: bytes | None, headers: dict[str, str]
) -> None:
    simulated = provider()
    raw = urlencode(form, errors="surrogatepass")
    body = raw.encode() if junk is None else junk
    request = Request(method, path, {}, AUTHORIZED | headers, body, "http://x", raw if method == "GET" else "")
    admitted = simulated.admit(request)
    answer = admitted if isinstance(admitted, Answer) else simulated.decide(admitted, lambda: False)
    assert answer.status in (200, 400, 403, 404)
    assert answer.kind in ("read", "other")
    assert not any(intent.charges for intent in simulated.books.intents.values())


def request(key: str) -> Request:
    order = {
        "amount": "1000",
        "currency": "krw",
        "payment_method": "pm_card_visa",
        "payment_method_types[]": "card",
        "confirm": "true",
    }
    headers = {**AUTHORIZED, "idempotency-key": key}
    return Request("POST", "/v1/payment_intents", {}, headers, urlencode(order).encode(), "http://x")


def test_a_ledger_that_takes_nothing_leaves_everything_as_it_was() -> None:
    broken = [True]
    lines: list[Entry] = []

    def append(entry: Entry) -> None:
        if broken[0]:
            raise LedgerUnavailable("no disk")
        lines.append(entry)

    simulated = provider(append)
    ticket = simulated.admit(request("k"))
    assert isinstance(ticket, Ticket)
    with pytest.raises(LedgerUnavailable):
        simulated.decide(ticket, lambda: False)
    assert (simulated.books.intents, simulated.books.events, lines) == ({}, {}, [])
    broken[0] = False
    again = simulated.admit(request("k"))
    assert isinstance(again, Ticket), "the key is neither kept nor in progress"
    assert simulated.decide(again, lambda: False).kind == "capture"
    assert len(lines) == 1, "the money and the answer are one line"


def test_a_request_that_is_abandoned_frees_its_key() -> None:
    simulated = provider()
    first = simulated.admit(request("k"))
    assert isinstance(first, Ticket)
    in_use = simulated.admit(request("k"))
    assert isinstance(in_use, Answer) and in_use.status == 409
    simulated.abandon(first)
    assert isinstance(simulated.admit(request("k")), Ticket)


def test_ids_are_never_given_twice() -> None:
    simulated = provider()
    for number in itertools.islice(itertools.count(), 50):
        ticket = simulated.admit(request(f"k{number}"))
        assert isinstance(ticket, Ticket)
        simulated.decide(ticket, lambda: False)
    books = simulated.books
    assert (len(books.intents), len(books.intent_of_charge), len(books.events)) == (50, 50, 150)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET /v1/payment_intents HTTP/1.1\r\nAuthorization: Bearer \xff\xfe", b"401"),
        (b"GET /v1/payment_intents HTTP/1.1\r\nAuthorization: Basic \xff\xfe", b"401"),
        (b"GET /admin/rules HTTP/1.1\r\nAuthorization: Bearer \xff\xfe", b"401"),
        (b"POST /v1/payment_intents HTTP/1.1\r\nIdempotency-Key: \xff\r\nContent-Length: 0", b"400"),
        (b"POST /v1/payment_intents HTTP/1.1\r\nStripe-Account: \xff\r\nContent-Length: 0", b"403"),
        (b"POST /v1/payment_intents HTTP/1.1\r\nStripe-Version: \xff\r\nContent-Length: 0", b"400"),
        (b"POST /v1/payment_intents HTTP/1.1\r\nContent-Type: \xff\r\nContent-Length: 0", b"400"),
    ],
)
def test_bytes_that_are_no_text_in_a_header_are_refused_and_break_nothing(
    stripe: "Stripe", line: bytes, status: bytes
) -> None:
    key = b"" if b"Authorization" in line else f"\r\nAuthorization: Bearer {SECRET}".encode()
    with socket.create_connection(("127.0.0.1", stripe.port), timeout=5) as connection:
        connection.sendall(line + key + b"\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert connection.recv(65_536).split(b" ")[1] == status
