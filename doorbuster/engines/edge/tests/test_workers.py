"""Between the edge and its workers: retries, deaths, crowds, and what travels with a request."""

from __future__ import annotations

import asyncio
import re

import pytest

from doorbuster.engines.edge.tests.client import Answer, ask
from doorbuster.engines.edge.tests.conftest import Shop
from doorbuster.engines.edge.tests.tokens import bearer

WRITE = "/api/v1/probe/write"


async def _crowd(
    shop: Shop, method: str, target: str, headers: dict[str, str], clients: int, each: int
) -> list[Answer]:
    async def client() -> list[Answer]:
        return [await ask(shop.port, method, target, headers) for _ in range(each)]

    return [answer for part in await asyncio.gather(*(client() for _ in range(clients))) for answer in part]


async def _counter(shop: Shop, name: str) -> int:
    """One of Envoy's counters, asked on its admin socket."""
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_unix_connection(shop.model.admin_socket)
        writer.write(f"GET /stats?filter=^{name}$ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
        text = (await reader.read()).decode()
        writer.close()
    return int(text.split(f"{name}: ")[1].split()[0])


async def test_a_dying_worker_costs_no_get(own_shop: Shop) -> None:
    load = asyncio.create_task(_crowd(own_shop, "GET", "/api/v1/catalog", {"x-test": "sleep=0.005"}, 8, 40))
    await asyncio.sleep(0.3)
    await own_shop.workers[0].die()
    answers = await load
    assert {answer.status for answer in answers} == {200}
    assert {answer.json["worker"] for answer in answers} == {"w0.sock", "w1.sock"}


async def test_a_dead_worker_costs_no_write_either_and_comes_back(own_shop: Shop) -> None:
    await own_shop.workers[0].die()
    answers = await _crowd(own_shop, "POST", WRITE, {}, 4, 15)
    assert {(answer.status, answer.json["worker"]) for answer in answers} == {(200, "w1.sock")}
    assert await _counter(own_shop, "cluster.shop.upstream_rq_retry") <= 12, "it is left alone after a few failures"
    await own_shop.workers[0].revive()
    async with asyncio.timeout(10):
        while (await ask(own_shop.port, "GET", "/api/v1/catalog")).json["worker"] != "w0.sock":
            await asyncio.sleep(0.02)


async def test_a_write_without_a_key_is_sent_once(shop: Shop) -> None:
    answer = await ask(shop.port, "POST", WRITE, {"x-test": "drop-first"}, b"{}")
    assert answer.is_problem(503, "unavailable")
    assert len(shop.book.seen) == 1


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [("GET", "/api/v1/catalog", {}), ("HEAD", "/api/v1/catalog", {}), ("POST", WRITE, {"idempotency-key": "k-1"})],
)
async def test_what_may_be_repeated_is_asked_again_at_the_other_worker(
    shop: Shop, method: str, target: str, headers: dict[str, str]
) -> None:
    answer = await ask(
        shop.port, method, target, headers | {"x-test": "drop-first"}, b"{}" if method == "POST" else b""
    )
    assert answer.status == 200
    first, second = shop.book.seen
    assert first.worker != second.worker
    assert first.header("x-request-id") == second.header("x-request-id")
    assert first.body_length == second.body_length


async def test_repeating_has_an_end(shop: Shop) -> None:
    answer = await ask(shop.port, "GET", "/api/v1/catalog", {"x-test": "drop"})
    assert answer.is_problem(503, "unavailable")
    assert len(shop.book.seen) == 3


async def test_a_standby_is_spared_while_the_worker_serves_and_takes_over_when_it_dies(guarded_shop: Shop) -> None:
    answers = await _crowd(guarded_shop, "POST", WRITE, {}, 8, 10)
    assert {answer.json["worker"] for answer in answers} == {"w0.sock"}
    await guarded_shop.workers[0].die()
    answers = await _crowd(guarded_shop, "POST", WRITE, {}, 8, 10)
    assert {(answer.status, answer.json["worker"]) for answer in answers} == {(200, "w1.sock")}
    await guarded_shop.workers[0].revive()
    async with asyncio.timeout(10):
        while (await ask(guarded_shop.port, "GET", "/api/v1/catalog")).json["worker"] != "w0.sock":
            await asyncio.sleep(0.02)


async def test_what_was_in_flight_at_a_worker_that_died_is_repeated_at_the_standby(guarded_shop: Shop) -> None:
    keyed = {"idempotency-key": "k", "x-test": "sleep=2"}
    load = asyncio.create_task(_crowd(guarded_shop, "POST", WRITE, keyed, 20, 1))
    async with asyncio.timeout(1.9):
        while len(guarded_shop.book.seen) < 20:
            await asyncio.sleep(0.01)
    await guarded_shop.workers[0].die()
    assert {(answer.status, answer.json["worker"]) for answer in await load} == {(200, "w1.sock")}
    assert {seen.worker for seen in guarded_shop.book.seen[:20]} == {"w0.sock"}


async def test_a_request_id_is_ours_and_the_same_on_both_sides(shop: Shop) -> None:
    answer = await ask(shop.port, "GET", "/api/v1/catalog", {"x-request-id": "chosen-by-the-client"})
    assert answer.headers["x-request-id"] == shop.book.seen[0].header("x-request-id")
    assert re.fullmatch(r"[0-9a-f-]{36}", answer.headers["x-request-id"])


async def _until_both_serve(shop: Shop) -> None:
    """A test before this one may have cut connections: for two seconds the edge then leaves that worker alone."""
    async with asyncio.timeout(15):
        while True:
            answers = await _crowd(shop, "GET", "/api/v1/catalog", {}, 1, 10)
            if {answer.json.get("worker") for answer in answers} == {"w0.sock", "w1.sock"}:
                return
            await asyncio.sleep(0.1)


async def test_a_crowd_is_served_over_both_workers(shop: Shop) -> None:
    await _until_both_serve(shop)
    # Long enough for all to be there at once, also on a busy machine: who is less busy then gets the next one.
    answers = await _crowd(shop, "GET", "/api/v1/order", bearer() | {"x-test": "sleep=1.5"}, 150, 1)
    assert {answer.status for answer in answers} == {200}
    by_worker = [sum(answer.json["worker"] == name for answer in answers) for name in ("w0.sock", "w1.sock")]
    assert min(by_worker) >= 40, by_worker


async def test_the_log_tells_of_failures_without_query_or_token(own_shop: Shop) -> None:
    await ask(own_shop.port, "GET", "/api/v1/catalog?secret=query", {"x-test": "drop"})
    await ask(own_shop.port, "GET", "/api/v1/order?secret=query")
    log = own_shop.directory / "access.log"
    async with asyncio.timeout(10):
        while not (text := log.read_text()):
            await asyncio.sleep(0.05)
    assert '"path":"/api/v1/catalog"' in text
    assert '"status":503' in text
    assert "secret" not in text
    assert "401" not in text
