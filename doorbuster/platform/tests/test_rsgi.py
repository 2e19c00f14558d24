"""The bridge between the server's interface and the framework's, over a real server and real connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
from litestar import Litestar, Request, Response, get, post
from litestar.params import FromPath
from litestar.response import Stream

from doorbuster.platform.errors import Refusal
from doorbuster.platform.http import render_error
from doorbuster.platform.rsgi import Protocol, Scope, answer, body_of, serve_asgi
from doorbuster.platform.tests.serving import served

LIMIT = 1_000_000


@post("/echo")
async def echo(request: Request[Any, Any, Any]) -> Response[bytes]:
    body = await request.body()
    seen = {"x-said": request.headers.get("x-say", ""), "x-query": request.url.query}
    return Response(body, status_code=201, headers=seen, media_type="application/octet-stream")


@get("/named/{name:str}")
async def named(name: FromPath[str]) -> dict[str, str]:
    return {"name": name}


@get("/parts")
async def parts() -> Stream:
    async def counted() -> AsyncIterator[bytes]:
        for number in range(100):
            await asyncio.sleep(0)
            yield f"{number},".encode()

    return Stream(counted())


@get("/broken")
async def broken() -> None:
    raise ZeroDivisionError


async def lean(scope: Scope, protocol: Protocol) -> None:
    """A plain application that limits its body by itself."""
    try:
        body = await body_of(scope, protocol, 100)
    except Refusal as error:
        answer(protocol, error.status, [], b"")
    else:
        answer(protocol, 200, [("content-type", "text/plain")], str(len(body)).encode())


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    handlers = [echo, named, parts, broken]
    app = Litestar(handlers, request_max_body_size=LIMIT, exception_handlers={Exception: render_error}, debug=False)
    async with served(serve_asgi(app, LIMIT)) as one:
        yield one


@pytest.mark.parametrize("body", [b"", b"x", bytes(range(256)) * 3_000])
async def test_a_body_goes_in_and_comes_out_unchanged(client: httpx.AsyncClient, body: bytes) -> None:
    got = await client.post("/echo?a=1&b=%20", content=body, headers={"x-say": "~ hello"})
    assert (got.status_code, got.content) == (201, body)
    assert got.headers["x-said"] == "~ hello"
    assert got.headers["x-query"] == "a=1&b=%20"
    assert got.headers["content-length"] == str(len(body))


async def chunks() -> AsyncIterator[bytes]:
    for _ in range(5):
        yield b"0123456789"


async def test_a_body_without_a_length_is_refused(client: httpx.AsyncClient) -> None:
    got = await client.post("/echo", content=chunks())
    assert (got.status_code, got.json()["code"]) == (400, "invalid_request")


async def test_a_body_over_the_limit_is_refused(client: httpx.AsyncClient) -> None:
    got = await client.post("/echo", content=b"x" * (LIMIT + 1))
    assert (got.status_code, got.json()["code"]) == (413, "body_too_large")
    assert (await client.get("/named/still-there")).status_code == 200


async def test_an_escaped_path_is_decoded_once(client: httpx.AsyncClient) -> None:
    assert (await client.get("/named/a%20b%2541")).json() == {"name": "a b%41"}


async def test_head_is_get_without_a_body(client: httpx.AsyncClient) -> None:
    get_answer, head_answer = await client.get("/named/x"), await client.head("/named/x")
    assert (head_answer.status_code, head_answer.content) == (200, b"")
    assert head_answer.headers["content-length"] == get_answer.headers["content-length"]


async def test_an_answer_in_parts_arrives_whole(client: httpx.AsyncClient) -> None:
    assert (await client.get("/parts")).text == "".join(f"{number}," for number in range(100))


async def test_a_bug_is_a_problem_without_details(client: httpx.AsyncClient) -> None:
    got = await client.get("/broken")
    assert (got.status_code, got.json()["code"]) == (500, "internal_error")
    assert "ZeroDivision" not in got.text


async def test_a_client_that_went_away_breaks_nothing(client: httpx.AsyncClient) -> None:
    with pytest.raises(httpx.TimeoutException):
        await client.get("/parts", timeout=0.000_1)
    assert (await client.get("/named/y")).status_code == 200


async def test_a_plain_application_limits_its_body() -> None:
    async with served(lean) as one:
        assert (await one.post("/", content=b"x" * 100)).text == "100"
        assert (await one.post("/", content=b"x" * 101)).status_code == 413
        assert (await one.post("/", content=chunks())).status_code == 400


@pytest.mark.parametrize("kind", ["lean", "framework"])
async def test_half_a_body_is_never_taken_for_a_whole_one(kind: str) -> None:
    bodies: list[bytes] = []

    async def noting(scope: Scope, protocol: Protocol) -> None:
        with suppress(Refusal):
            bodies.append(await body_of(scope, protocol, LIMIT))
        answer(protocol, 200, [], b"")

    @post("/")
    async def note(request: Request[Any, Any, Any]) -> None:
        bodies.append(await request.body())

    app = noting if kind == "lean" else serve_asgi(Litestar([note], debug=False), LIMIT)
    async with served(app) as one:
        assert (await one.post("/", content=b"whole")).is_success
        uds = one._transport._pool._uds  # type: ignore[attr-defined]
        for head in (b"content-length: 100", b"transfer-encoding: chunked"):
            half = b"[1, 2]" if b"length" in head else b"6\r\n[1, 2]\r\n"
            _, writer = await asyncio.open_unix_connection(uds)
            writer.write(b"POST / HTTP/1.1\r\nhost: x\r\n" + head + b"\r\n\r\n" + half)
            await writer.drain()
            await asyncio.sleep(0.05)
            writer.transport.abort()
        await asyncio.sleep(0.3)
        assert (await one.post("/", content=b"still")).is_success
    assert bodies == [b"whole", b"still"]
