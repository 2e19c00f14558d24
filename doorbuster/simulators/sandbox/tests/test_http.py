"""What the server does with bytes: strict bodies, bounded sizes and times, order under pipelining, clean stop."""

import json
import os
import re
import signal
import socket
import string
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from doorbuster.simulators.sandbox.tests.conftest import Sandbox, Start

SECRET = "test-secret-of-the-sandbox"
GOOD = {"reference": "pay_1.1", "amount_minor": 1, "currency": "USD", "instrument": "tok_visa"}
SHARED = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def charge_bytes(key: str, body: dict[str, Any] | bytes, extra: str = "") -> bytes:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"POST /v1/charges HTTP/1.1\r\nHost: s\r\nAuthorization: Bearer {SECRET}\r\nIdempotency-Key: {key}\r\n"
    return (head + extra + f"Content-Length: {len(raw)}\r\n\r\n").encode() + raw


def status_of(received: bytes) -> int:
    assert received.startswith(b"HTTP/1.1 "), received
    return int(received[9:12])


def test_every_wrong_field_is_400_and_captures_nothing(sandbox: "Sandbox") -> None:
    wrong: list[dict[str, Any]] = [{k: v for k, v in GOOD.items() if k != missing} for missing in GOOD]
    wrong += [GOOD | {"amount_minor": bad} for bad in (0, -1, 1.0, "1", True, None, 10**12, 10**30)]
    wrong += [GOOD | {"reference": bad} for bad in ("", "x" * 65, "a b", "a\n", "é", 7, None)]
    wrong += [GOOD | {"currency": bad} for bad in ("", "usd", "USDX", "USD\n", 1)]
    wrong += [GOOD | {"instrument": bad} for bad in ("", "card", "TOK_visa", "tok" + "_" * 62, 1)]
    wrong += [GOOD | {"extra": 1}]
    for body in wrong:
        answer = sandbox.call("POST", "/v1/charges", body, key="k1")
        assert answer.status == 400, body
        assert answer.json["error"].keys() == {"type", "code", "message"}
    for raw in (b"", b"{", b"[]", b"null", b'{"reference":"\\ud800"}', b"\xff", json.dumps(GOOD).encode() + b"x"):
        assert sandbox.call("POST", "/v1/charges", raw, key="k1").status == 400
    assert sandbox.call("POST", "/v1/charges", GOOD | {"instrument": "visa"}, key="k").code == "invalid_instrument"
    assert sandbox.summary()["charges"] == 0
    assert sandbox.call("POST", "/v1/charges", GOOD, key="k1").status == 200


def test_any_json_is_answered_and_counted_as_it_was_answered(sandbox: "Sandbox") -> None:
    answered = {200: 0, 402: 0}
    scalar = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=70)
    likely = {
        "reference": st.text(string.printable, max_size=66) | scalar,
        "amount_minor": st.integers(-2, 10**12 + 1) | scalar,
        "currency": st.sampled_from(["USD", "KRW", "usd"]) | scalar,
        "instrument": st.sampled_from(["tok_a", "tok_expired", "x"]) | scalar,
    }
    bodies = st.fixed_dictionaries(likely, optional={"more": scalar}) | st.dictionaries(st.text(max_size=9), scalar)
    counter = iter(range(10_000))

    @SHARED
    @given(body=bodies)
    def fuzz(body: dict[str, Any]) -> None:
        raw = json.dumps(body).encode("utf-8", "surrogatepass")
        answer = sandbox.call("POST", "/v1/charges", raw, key=f"fuzz-{next(counter)}")
        assert answer.status in (200, 400, 402), (body, answer.raw)
        if answer.status != 400:
            answered[answer.status] += 1
            assert set(body) == set(GOOD)

    fuzz()
    summary = sandbox.summary()
    assert (summary["captured"], summary["declined"]) == (answered[200], answered[402])


def test_any_bytes_leave_the_server_standing(sandbox: "Sandbox") -> None:
    good = charge_bytes("k", GOOD)

    @SHARED
    @given(at=st.integers(0, len(good)), noise=st.binary(max_size=40), rest=st.booleans())
    def fuzz(at: int, noise: bytes, rest: bool) -> None:
        with sandbox.connect() as sock:
            sock.sendall(good[:at] + noise + (good[at:] if rest else b""))
            sock.shutdown(socket.SHUT_WR)
            received = b""
            while part := sock.recv(65536):
                received += part
        assert received == b"" or 200 <= status_of(received) < 500 or status_of(received) == 505

    fuzz()
    assert sandbox.call("GET", "/livez", secret="").status == 200


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: a\r\nBad Header: b\r\n\r\n", 400),
        (b"GET /livez HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"GET /livez HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n", 400),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"POST /v1/charges HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (
            b"POST /v1/charges HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (b"POST /v1/charges HTTP/1.1\r\nHost: a\r\nContent-Length: 65537\r\n\r\n", 413),
        (b"POST /v1/charges HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", 400),
        (b"POST /v1/charges HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10001\r\n" + b"x" * 65537, 413),
        (b"POST /v1/charges HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n" + b"x" * 900_000, 413),
        (b"GET /" + b"x" * 3000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 20_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 20_000, 431),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 70, 431),
    ],
)
def test_what_is_not_a_bounded_request_gets_its_4xx_and_the_end(sandbox: "Sandbox", sent: bytes, status: int) -> None:
    received = sandbox.raw(sent)
    assert status_of(received) == status
    assert b"connection: close\r\n" in received
    assert json.loads(received.partition(b"\r\n\r\n")[2])["error"].keys() == {"type", "code", "message"}


def test_paths_methods_secrets_keys_and_media_types_are_told_apart(sandbox: "Sandbox") -> None:
    assert sandbox.call("GET", "/nowhere").code == "unknown_path"
    wrong_method = sandbox.call("DELETE", "/v1/charges")
    assert (wrong_method.status, wrong_method.headers["allow"]) == (405, "GET, POST")
    assert sandbox.call("HEAD", "/v1/charges").status == 405
    assert sandbox.call("POST", "/v1/ledger/summary").status == 405
    for path in ("/v1/charges?reference=a", "/v1/charges/x", "/v1/ledger/summary", "/admin/faults"):
        for secret in ("", "wrong", SECRET + "x"):
            assert sandbox.call("GET", path, secret=secret).status == 401
    assert sandbox.call("POST", "/v1/charges", GOOD).code == "idempotency_key_required"
    assert sandbox.call("POST", "/v1/charges", GOOD, key="k" * 256).code == "idempotency_key_invalid"
    assert sandbox.call("POST", "/v1/charges", GOOD, key="a b").code == "idempotency_key_invalid"
    assert sandbox.call("GET", "/v1/charges").code == "reference_required"
    assert sandbox.call("GET", "/v1/charges?reference=a&reference=b").code == "invalid_query"
    assert sandbox.call("GET", "/v1/charges?ref=a").code == "invalid_query"
    assert sandbox.call("GET", "/v1/charges/ch_none").code == "charge_not_found"
    form = charge_bytes("k", GOOD, extra="Content-Type: text/plain\r\nConnection: close\r\n")
    assert status_of(sandbox.raw(form)) == 415
    twice = charge_bytes("k", GOOD, extra="Idempotency-Key: other\r\n")
    assert status_of(sandbox.raw(twice)) == 400
    assert sandbox.summary()["charges"] == 0


def test_pipelined_requests_are_answered_in_order_also_across_latency(sandbox: "Sandbox") -> None:
    requests = b"".join(
        charge_bytes(f"k{n}", GOOD | {"amount_minor": n, "instrument": "tok_visa"}) for n in range(1, 200)
    )
    requests += b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\nnonsense\r\n\r\n"
    for _ in range(2):
        received = sandbox.raw(requests)
        amounts = [int(n) for n in re.findall(rb'"amount_minor":(\d+)', received)]
        assert amounts == list(range(1, 200))
        assert received.count(b"HTTP/1.1 200 OK") == 200
        assert received.endswith(b'not HTTP/1.1."}}')
        sandbox.faults(latency_ms=1)
    assert sandbox.summary()["captured"] == 199


def test_a_half_closed_client_still_gets_its_delayed_answer(sandbox: "Sandbox") -> None:
    sandbox.faults(latency_ms=100)
    with sandbox.connect() as sock:
        sock.sendall(charge_bytes("k1", GOOD))
        sock.shutdown(socket.SHUT_WR)
        received = sock.recv(65536)
        assert status_of(received) == 200
        assert sock.recv(1) == b""


def test_a_request_in_pieces_with_100_continue_and_http_1_0_work(sandbox: "Sandbox") -> None:
    with sandbox.connect() as sock:
        head, _, body = charge_bytes("k1", GOOD, extra="Expect: 100-continue\r\n").partition(b"\r\n\r\n")
        for at in range(0, len(head), 40):
            sock.sendall(head[at : at + 40])
        sock.sendall(b"\r\n\r\n")
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        for at in range(0, len(body), 10):
            sock.sendall(body[at : at + 10])
            time.sleep(0.001)
        assert status_of(sock.recv(65536)) == 200
    received = sandbox.raw(b"GET /livez HTTP/1.0\r\n\r\n")
    assert status_of(received) == 200


def test_idle_and_trickling_connections_are_ended(start: "Start") -> None:
    sandbox = start("--idle-timeout-s", "0.3", "--request-timeout-s", "0.3")
    began = time.monotonic()
    assert sandbox.raw(b"") == b""
    assert status_of(sandbox.raw(b"GET /livez HT")) == 408
    assert status_of(sandbox.raw(charge_bytes("k1", GOOD)[:-1])) == 408
    assert status_of(sandbox.raw(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")) == 200
    assert time.monotonic() - began < 3
    assert sandbox.summary()["charges"] == 0


def test_sigterm_finishes_what_is_in_hand_cuts_what_is_held_and_exits_0(sandbox: "Sandbox") -> None:
    sandbox.faults(latency_ms=300)
    with sandbox.connect() as waiting, sandbox.connect() as held, sandbox.connect() as idle:
        held.sendall(charge_bytes("k0", GOOD | {"instrument": "tok_timeout_after_capture"}))
        time.sleep(0.4)
        waiting.sendall(charge_bytes("k1", GOOD))
        time.sleep(0.1)
        began = time.monotonic()
        os.kill(sandbox.pid, signal.SIGTERM)
        received = waiting.recv(65536)
        assert status_of(received) == 200
        assert b"connection: close" in received
        assert idle.recv(1) == b""
        waiting.close()
        with pytest.raises(ConnectionResetError):
            if held.recv(1) == b"":
                raise ConnectionResetError
    assert sandbox.end() == 0
    assert time.monotonic() - began < 2
    sandbox.start()
    assert sandbox.summary()["captured"] == 2
