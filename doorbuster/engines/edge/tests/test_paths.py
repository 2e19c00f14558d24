"""Default-deny: which requests reach a worker, told from the map, and the tricks that must not."""

from __future__ import annotations

import re

import pytest

from doorbuster.engines.edge.tests.client import ask, parse, send
from doorbuster.engines.edge.tests.conftest import Shop
from doorbuster.engines.edge.tests.tokens import bearer
from doorbuster.map import ROUTES, Access, Route

REFUSED = {400, 401, 404, 405}
TRICKS = (
    "/API/v1/order",
    "/api/V1/order",
    "/api/v1/Order",
    "/api/v1/ORDER/7",
    "/api/v1/order;x=1",
    "/api/v1/order;",
    "/api/v1;x=1/order",
    "/api;x/v1/order",
    "/api/v1/order/7;a=b/pay",
    "/api%2Fv1%2Forder",
    "/api%2fv1/order",
    "/api/v1%2Forder",
    "/api/v1/%2Forder",
    "/api/v1/catalog%2F..%2Forder",
    "/api/v1/catalog/..%2Forder",
    "/api/v1/catalog/%2e%2e/order",
    "/api/v1/catalog/%2E%2E%2Forder",
    "/api/v1/catalog/%252e%252e/order",
    "/api/v1/catalog/../order",
    "/api/v1/catalog/./../order",
    "/api/v1/catalog/media/../../order",
    "/api/v1/catalog/..;/order",
    "/api/v1/catalog\\..\\order",
    "/api/v1/catalog/..%5Corder",
    "/api/v1/catalog/..%5corder",
    "//api/v1/order",
    "/api//v1/order",
    "/api/v1//order",
    "/api/v1/order//",
    "///api///v1///order",
    "/api/v1/%6frder",
    "/api/v1/%6F%72%64%65%72",
    "/%61pi/v1/order",
    "/api/v1/order/",
    "/api/v1/order/.",
    "/api/v1/order/..",
    "/./api/v1/order",
    "/../api/v1/order",
    "/api/v1/order.json",
    "/api/v1/order%20",
    "/api/v1/order%09",
    "/api/v1/order%00",
    "/api/v1/%00order",
    "/api/v1/order%00.json",
    "/api/v1/order%0d%0ax-door-sub:%20admin",
    "/api/v1/order?x=/api/v1/catalog",
    "/api/v1/order?/../catalog",
    "/api/v1/order#/api/v1/catalog",
    "/api/v1/ord\u0435r",
    "/api/v1/\uff4frder",
    "/api/v1/order\u200b",
    "/api/v1/order%c0%af",
    "/api/v1/%c0%ae%c0%ae/order",
    "https://localhost/api/v1/order",
    "http://localhost/api/v1/order",
    "https://localhost//api/v1/order",
    "https://api@localhost/api/v1/order",
    "https://localhost:1/api/v1/catalog/../order",
    "api/v1/order",
    "*",
    "/api/v1/order/7/timeline/",
    "/internal/v1/commerce.order.place",
    "/api/v1/catalog/../../../internal/v1/x",
    "/metrics",
)
"""Ways to ask for something protected, or for what is not in the map, without a token."""


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_no_path_trick_reaches_a_worker_without_a_token(shop: Shop, method: str) -> None:
    assert len(TRICKS) >= 30
    for target in TRICKS:
        answer = await ask(shop.port, method, target)
        assert answer.status in REFUSED, (target, answer.status)
        assert answer.headers["content-type"] == "application/problem+json", target
    assert shop.book.seen == [], [seen.target for seen in shop.book.seen]


async def test_no_method_trick_reaches_a_protected_path_without_a_token(shop: Shop) -> None:
    overrides = {
        "x-http-method-override": "GET",
        "x-original-url": "/api/v1/catalog",
        "x-rewrite-url": "/api/v1/catalog",
    }
    for method in ("get", "GeT", "TRACE", "PATCH", "OPTIONS", "PROPFIND", "HEAD", "DELETE"):
        answer = await ask(shop.port, method, "/api/v1/order", overrides)
        assert answer.status in REFUSED, method
    preflight = {"origin": "https://evil.test", "access-control-request-method": "GET"}
    assert (await ask(shop.port, "OPTIONS", "/api/v1/order", preflight)).is_problem(405, "method_not_allowed")
    assert shop.book.seen == []


async def test_a_request_smuggled_behind_another_reaches_no_worker(shop: Shop) -> None:
    inner = b"GET /api/v1/order HTTP/1.1\r\nhost: x\r\nx-door-sub: u-1\r\n\r\n"
    body = b"0\r\n\r\n" + inner
    for lengths in (
        b"transfer-encoding: chunked, identity",
        b"transfer-encoding: xchunked",
        b"transfer-encoding : chunked",
    ):
        raw = b"POST /api/v1/probe/write HTTP/1.1\r\nhost: x\r\n%s\r\ncontent-length: %d\r\n\r\n" % (lengths, len(body))
        answer = parse(await send(shop.port, raw + body))
        assert answer.status >= 400, lengths
    assert [seen.target for seen in shop.book.seen if seen.target == "/api/v1/order"] == []


def _concrete(route: Route) -> str:
    return re.sub(r"\{[^}]+\}", "0198-some_id.Tail~", route.path)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
async def test_a_route_of_the_map_is_open_only_if_the_map_says_so(shop: Shop, route: Route) -> None:
    target = _concrete(route)
    without = await ask(shop.port, route.method, target)
    if route.access is Access.OPEN:
        assert without.status == 200
    else:
        assert without.is_problem(401, "unauthenticated")
        assert shop.book.seen == []
        assert (await ask(shop.port, route.method, target, bearer())).status == 200
    if target not in ("/readyz",):
        assert [(seen.method, seen.target) for seen in shop.book.seen] == [(route.method, target)]


async def test_an_exact_path_wins_over_a_template_for_its_own_method_only(shop: Shop) -> None:
    assert (await ask(shop.port, "POST", "/api/v1/catalog/import")).status == 401
    assert (await ask(shop.port, "GET", "/api/v1/catalog/import")).status == 200, "an item may be called import"
    assert (await ask(shop.port, "PUT", "/api/v1/catalog/import")).status == 401


async def test_head_is_answered_where_get_is(shop: Shop) -> None:
    assert (await ask(shop.port, "HEAD", "/api/v1/catalog")).status == 200
    assert (await ask(shop.port, "HEAD", "/api/v1/order")).status == 401
    assert [seen.method for seen in shop.book.seen] == ["HEAD"]


async def test_what_a_browser_may_write_differently_is_the_same_path(shop: Shop) -> None:
    for target in ("/api/v1//order", "/api/v1/x/../order", "/api/v1/%6frder"):
        assert (await ask(shop.port, "GET", target, bearer())).status == 200, target
    assert {seen.target for seen in shop.book.seen} == {"/api/v1/order"}
