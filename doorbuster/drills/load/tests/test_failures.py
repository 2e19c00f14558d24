"""Resets, timeouts, odd answers and servers that go away: recorded, retried with the same bytes, survived."""

import asyncio
import time
from collections import defaultdict
from pathlib import Path

import pytest

from doorbuster.drills.load import LoadFailed, RetrySameKey, run
from doorbuster.drills.load.tests.scripted_server import Asked, Server, in_order, reply, serving, write_certificate
from doorbuster.drills.load.tests.test_loops import CREATED, created, numbered

BUSY = reply(503, b'{"code":"busy"}')


async def test_resets_are_recorded_and_retried_with_the_same_key_and_identical_bytes(certificate: Path) -> None:
    seen: dict[str | None, list[bytes]] = defaultdict(list)

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        key = asked.header("idempotency-key")
        seen[key].append(asked.raw)
        number = int(asked.path.split("=")[1])
        if len(seen[key]) == 1 and number % 5 == 0:
            writer.transport.abort()
        elif len(seen[key]) == 1 and number % 5 == 1:
            writer.write(BUSY)
        else:
            writer.write(CREATED)

    async with serving(answer, certificate) as server:
        retry = RetrySameKey(max_tries=3, backoff_ms=5, on=("connection_error", 503))
        result = await run(server.plan(connections=4, requests=numbered(40), record="each", retry_same_key=retry))
    assert result.by_status == {"201": 40}
    assert {key: len(raws) for key, raws in seen.items()} == {
        f"key-{n}": 2 if n % 5 in (0, 1) else 1 for n in range(40)
    }
    assert all(len(set(raws)) == 1 for raws in seen.values()), "a retry sends identical bytes"
    assert (result.retries.requests, result.retries.tries) == (16, 16)
    assert [(b.first_status, b.last_status, b.requests) for b in result.retries.became] == [(0, 201, 8), (503, 201, 8)]
    tries = {n: [(r.try_no, r.status) for r in in_order(result) if r.index == n] for n in (0, 1, 2)}
    assert tries[0] == [(1, 0), (2, 201)] and tries[1] == [(1, 503), (2, 201)] and tries[2] == [(1, 201)]
    first, second = (row for row in in_order(result) if row.index == 0)
    assert first.due == second.due and first.done + 0.003 <= second.sent
    assert result.connects == 4 + 8


async def test_a_retry_that_never_succeeds_ends_after_max_tries(certificate: Path) -> None:
    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(BUSY)

    async with serving(answer, certificate) as server:
        result = await run(server.plan(requests=numbered(2), retry_same_key=RetrySameKey(3, 1)))
    assert len(server.asked) == 6
    assert result.by_status == {"503": 2} and result.retries.tries == 4


async def test_without_retry_a_reset_is_final_and_the_plan_goes_on(certificate: Path) -> None:
    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.number == 3:
            writer.transport.abort()
        else:
            writer.write(CREATED)

    async with serving(answer, certificate) as server:
        result = await run(server.plan(requests=numbered(10), record="each"))
    assert (result.connection_errors, result.answered, len(server.asked)) == (1, 9, 10)
    assert [row.index for row in result.rows if row.status == 0] == [3]
    assert result.latency_ms.count == 9, "a lost request has no latency"


async def test_a_server_that_always_resets_does_not_eat_the_plan(certificate: Path) -> None:
    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with serving(answer, certificate) as server:
        plan = server.plan(requests=numbered(1000), duration_s=0.5, reconnect_backoff_max_ms=100.0)
        result = await run(plan)
    assert 3 <= result.connection_errors <= 25


async def test_timeouts_are_recorded_and_the_connection_replaced(certificate: Path) -> None:
    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.number == 1:
            await asyncio.sleep(5)
        writer.write(CREATED)

    async with serving(answer, certificate) as server:
        result = await run(server.plan(requests=numbered(4), record="each", timeout_s=0.2))
    assert [(row.index, row.status) for row in result.rows] == [(0, 201), (1, -1), (2, 201), (3, 201)]
    assert result.timeouts == 1 and result.connects == 2
    assert 200 <= result.latency_ms.max < 400, "a timeout stays in the percentiles with the time it waited"


async def test_chunked_interim_closing_and_close_delimited_answers_are_read(certificate: Path) -> None:
    answers = [
        b'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\n{"id\r\n8\r\n":"abc"}\r\n0\r\n\r\n',
        b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + reply(201, b'{"id":"hinted"}'),
        reply(200, b'{"id":"closing"}', "connection: close"),
        b'HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n{"id":"until the end"}',
        b"HTTP/1.1 204 No Content\r\n\r\n",
        reply(200, b'{"id":"' + b"x" * 100 + b'"}' + b" " * 300_000),
    ]

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        whole = answers[asked.number]
        for start in (0, 20):  # in two packets
            writer.write(whole[start:20] if start == 0 else whole[start:])
            await writer.drain()
            await asyncio.sleep(0.01)
        if asked.number in (2, 3):
            writer.close()

    async with serving(answer, certificate) as server:
        result = await run(server.plan(requests=numbered(6), record="each"))
    assert [(row.status, row.id, row.bytes) for row in result.rows] == [
        (200, "abc", 12),
        (201, "hinted", 15),
        (200, "closing", 16),
        (200, "until the end", 22),
        (204, None, 0),
        (200, "x" * 100, 300_109),
    ]
    assert result.connection_errors == 0 and result.connects == 3


@pytest.mark.parametrize(
    "broken",
    [
        b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nonly this",
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nonly this",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabc",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"SSH-2.0-something else\r\n\r\n",
        b"",
    ],
)
async def test_a_truncated_or_senseless_answer_is_a_connection_error(certificate: Path, broken: bytes) -> None:
    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(CREATED if asked.number else broken)
        if asked.number == 0:
            writer.close()

    async with serving(answer, certificate) as server:
        result = await run(server.plan(requests=numbered(2), record="each"))
    assert [row.status for row in result.rows] == [0, 201]


async def test_what_comes_unasked_is_not_taken_for_an_answer(certificate: Path) -> None:
    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(CREATED)
        if asked.number == 0:
            await asyncio.sleep(0.05)
            writer.write(reply(408, b"", "connection: close"))

    async with serving(answer, certificate) as server:
        plan = server.plan(mode="open", rate_per_s=5.0, requests=numbered(2), record="each")
        result = await run(plan)
    assert [row.status for row in result.rows] == [201, 201]
    assert result.connects == 2


async def test_a_server_that_goes_and_comes_back_is_found_again(certificate: Path) -> None:
    async def slowly(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.01)
        writer.write(CREATED)

    async with serving(slowly, certificate) as server:
        retry = RetrySameKey(50, 10, ("connection_error",))
        plan = server.plan(connections=4, requests=numbered(120), record="each", retry_same_key=retry)
        load = asyncio.create_task(run(plan))
        await asyncio.sleep(0.2)
    assert not load.done()
    await asyncio.sleep(0.2)
    async with serving(slowly, certificate, server):
        result = await asyncio.wait_for(load, 5)
    assert result.by_status == {"201": 120} and result.connect_failures > 0
    assert result.retries.requests == 4 and result.error is None


async def test_a_run_whose_server_stays_away_ends_and_says_so(certificate: Path) -> None:
    async with serving(created, certificate) as server:
        plan = server.plan(
            connections=2, mode="open", rate_per_s=50.0, requests=numbered(400), reconnect_give_up_s=0.3,
            retry_same_key=RetrySameKey(9, 1),
        )  # fmt: skip
        load = asyncio.create_task(run(plan))
        await asyncio.sleep(0.2)
    result = await asyncio.wait_for(load, 5)
    assert result.error is not None and "lost for good" in result.error
    assert result.answered > 0 and result.not_issued > 300
    assert result.requests + result.not_issued == 400


async def test_nobody_there_or_a_strange_certificate_is_a_clear_failure(certificate: Path, tmp_path: Path) -> None:
    write_certificate(tmp_path)
    began = time.monotonic()
    async with serving(created, certificate) as server:
        stranger = Server(tmp_path / "ca.pem", port=server.port)
        with pytest.raises(LoadFailed, match="certificate verify failed"):
            await run(stranger.plan(requests=numbered(1)))
    with pytest.raises(LoadFailed, match="ConnectionRefused"):
        await run(server.plan(requests=numbered(1), reconnect_give_up_s=0.1))
    assert time.monotonic() - began < 3.0
