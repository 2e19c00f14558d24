"""What the edge itself refuses: one format, stable codes, a way out for the client."""

from __future__ import annotations

import asyncio

from doorbuster.engines.edge.tests.client import ask, parse, send
from doorbuster.engines.edge.tests.conftest import Shop
from doorbuster.engines.edge.tests.tokens import bearer


async def test_no_token_is_401(shop: Shop) -> None:
    answer = await ask(shop.port, "POST", "/api/v1/order")
    assert answer.is_problem(401, "unauthenticated")
    assert answer.json["request_id"] == answer.headers["x-request-id"]
    assert shop.book.seen == []


async def test_a_token_for_somebody_else_is_403(shop: Shop) -> None:
    answer = await ask(shop.port, "GET", "/api/v1/order", bearer(aud="another-shop"))
    assert answer.is_problem(403, "forbidden")


async def test_unknown_path_is_404(shop: Shop) -> None:
    for target in ("/api/v1/nothing", "/stats", "/internal/v1/item.stock.reserve", "/api/v1/order/"):
        assert (await ask(shop.port, "GET", target, bearer())).is_problem(404, "not_found")
    assert shop.book.seen == []


async def test_wrong_method_is_405_and_names_the_right_ones(shop: Shop) -> None:
    allowed = {
        "/api/v1/order": "GET, HEAD, POST",
        "/api/v1/order/7/pay": "POST",
        "/api/v1/catalog/7": "GET, HEAD, PUT",
        "/api/v1/catalog/import": "GET, HEAD, POST, PUT",
        "/": "GET, HEAD",
    }
    for target, allow in allowed.items():
        answer = await ask(shop.port, "PATCH", target, bearer())
        assert answer.is_problem(405, "method_not_allowed")
        assert answer.headers["allow"] == allow, target


async def test_slow_headers_and_slow_bodies_are_408(shop: Shop) -> None:
    slow_headers = parse(await send(shop.port, b"GET / HTTP/1.1\r\nhost: x\r\nx-half: "))
    assert slow_headers.is_problem(408, "request_timeout")
    head = b"POST /api/v1/probe/write HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nhalf"
    assert parse(await send(shop.port, head)).is_problem(408, "request_timeout")
    assert shop.book.seen == []


async def test_a_large_body_is_413_and_a_body_at_the_limit_passes(shop: Shop) -> None:
    small = "/api/v1/probe/small"
    assert (await ask(shop.port, "POST", small, body=b"x" * 101)).is_problem(413, "body_too_large")
    assert (await ask(shop.port, "POST", small, body=b"x" * 100)).status == 200
    chunked = b"POST /api/v1/probe/small HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nff\r\n" + b"y" * 255
    assert parse(await send(shop.port, chunked + b"\r\n0\r\n\r\n")).is_problem(413, "body_too_large")
    assert (await ask(shop.port, "GET", "/", body=b"x" * 1025)).is_problem(413, "body_too_large")
    assert [seen.body_length for seen in shop.book.seen] == [100]


async def test_an_import_of_eight_megabytes_arrives_whole(shop: Shop) -> None:
    body = b"x" * 8_388_608
    answer = await ask(shop.port, "POST", "/api/v1/catalog/import", bearer(roles="merchant"), body)
    assert answer.status == 200
    assert shop.book.seen[0].body_length == len(body)


async def test_too_many_requests_are_429_with_or_without_an_idempotency_key(shop: Shop) -> None:
    keyed = [{"idempotency-key": str(number)} if number % 2 else {} for number in range(16)]
    answers = [await ask(shop.port, "POST", "/api/v1/probe/limited", headers) for headers in keyed]
    refused = [answer for answer in answers if answer.status == 429]
    assert 10 <= len(answers) - len(refused) <= 12, "a burst of 5 s at 2/s, and what trickled in meanwhile"
    assert all(answer.is_problem(429, "rate_limited") for answer in refused)
    assert {answer.headers["retry-after"] for answer in refused} == {"1"}


async def test_large_headers_and_too_many_headers_are_431(shop: Shop) -> None:
    large = await ask(shop.port, "GET", "/", {"x-large": "a" * 33 * 1024})
    assert large.is_problem(431, "headers_too_large")
    many = await ask(shop.port, "GET", "/", {f"x-{number}": "1" for number in range(120)})
    assert many.is_problem(431, "headers_too_large")
    assert shop.book.seen == []


async def test_a_slow_worker_is_504(shop: Shop) -> None:
    answer = await ask(shop.port, "GET", "/api/v1/probe/slow", {"x-test": "sleep=2"})
    assert answer.is_problem(504, "upstream_timeout")
    assert len(shop.book.seen) == 1, "a timeout is not a reason to ask again"


async def test_a_worker_that_talks_nonsense_is_502_or_503(shop: Shop) -> None:
    answer = await ask(shop.port, "POST", "/api/v1/probe/write", {"x-test": "garbage"})
    assert answer.is_problem(answer.status, "unavailable")
    assert answer.status in (502, 503)
    assert answer.headers["retry-after"] == "1"


async def test_no_worker_at_all_is_503_and_tells_when_to_return(own_shop: Shop) -> None:
    for worker in own_shop.workers:
        await worker.die()
    for _ in range(3):
        answer = await ask(own_shop.port, "GET", "/api/v1/catalog")
        assert answer.is_problem(503, "unavailable")
        assert answer.headers["retry-after"] == "1"
        await asyncio.sleep(0.1)


async def test_bad_http_is_400(shop: Shop) -> None:
    bad = {
        "an encoded slash": b"GET /api/v1/catalog/a%2Fb HTTP/1.1\r\nhost: x\r\n\r\n",
        "an underscore": b"GET / HTTP/1.1\r\nhost: x\r\nx_door_sub: u-1\r\n\r\n",
        "two lengths": b"POST /api/v1/probe/write HTTP/1.1\r\nhost: x\r\n"
        b"content-length: 1\r\ncontent-length: 2\r\n\r\nab",
        "length and chunks": b"POST /api/v1/probe/write HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n"
        b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "no host": b"GET / HTTP/1.1\r\n\r\n",
        "no HTTP": b"hello\r\n\r\n",
    }
    for case, raw in bad.items():
        assert parse(await send(shop.port, raw)).is_problem(400, "bad_request"), case
    assert shop.book.seen == []


async def test_any_other_refusal_of_the_edge_has_the_same_format(shop: Shop) -> None:
    old = parse(await send(shop.port, b"GET / HTTP/1.0\r\nhost: x\r\n\r\n"))
    assert old.is_problem(426, "bad_request")


async def test_a_workers_own_refusal_passes_untouched(shop: Shop) -> None:
    answer = await ask(shop.port, "POST", "/api/v1/probe/write", {"x-test": "problem"})
    assert answer.status == 409
    assert answer.json == {"code": "sold_out", "detail": "of the worker"}
    assert answer.headers["server"] == "doorbuster"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "x-envoy-upstream-service-time" not in answer.headers
