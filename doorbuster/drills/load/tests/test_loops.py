"""Closed and open loops: what is sent, how often, and from when latency counts."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from doorbuster.drills.load import BadPlan, Plan, Request, Route, read_plan, run, write_plan
from doorbuster.drills.load.payload import request_source
from doorbuster.drills.load.plan import due_times
from doorbuster.drills.load.tests.scripted_server import Asked, in_order, reply, serving

CREATED = reply(201, b'{"id":"order-1","state":"paid","code":"A-COUPON"}')
SOLD_OUT = reply(409, b'{"type":"about:blank","code":"sold_out"}', "content-type: application/problem+json")


def numbered(count: int, tag: str = "place") -> list[Request]:
    return [
        Request("POST", f"/api/v1/order?n={n}", body=f'{{"n":{n}}}', token="t", idempotency_key=f"key-{n}", tag=tag)
        for n in range(count)
    ]


async def created(asked: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(CREATED)


async def test_closed_loop_sends_each_request_once_and_counts_answers_by_kind(certificate: Path) -> None:
    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.001)
        writer.write(SOLD_OUT if int(asked.path.split("=")[1]) % 4 == 0 else CREATED)

    async with serving(answer, certificate) as server:
        result = await run(server.plan(connections=8, requests=numbered(200), record="each"))
    assert Counter(asked.path for asked in server.asked) == Counter(f"/api/v1/order?n={n}" for n in range(200))
    assert (result.requests, result.answered, result.not_issued) == (200, 200, 0)
    assert result.by_status == {"201": 150, "409": 50}
    assert result.by_code == {"sold_out": 50}
    assert [(tally.tag, tally.status, tally.code, tally.count) for tally in result.tallies] == [
        ("place", 201, "", 150),
        ("place", 409, "sold_out", 50),
    ]
    assert (result.max_in_flight, result.connects, server.connections) == (8, 8, 8)
    assert sorted(row.index for row in result.rows) == list(range(200))
    assert {(row.status, row.id, row.code, row.state) for row in result.rows} == {
        (201, "order-1", None, "paid"),
        (409, None, "sold_out", None),
    }
    assert all(0 <= row.due == row.sent <= row.done <= result.wall_s for row in result.rows)
    assert (
        result.latency_ms.count == 200 and 0 < result.latency_ms.p50 <= result.latency_ms.p99 <= result.latency_ms.max
    )
    assert result.rate_per_s == pytest.approx(200 / result.window_s, rel=0.01)
    assert result.cpu_s > 0 and result.cpu_us_per_request > 0


async def test_closed_loop_cycles_until_its_duration_and_leaves_the_warm_up_out(certificate: Path) -> None:
    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.01)
        writer.write(CREATED)

    async with serving(answer, certificate) as server:
        plan = server.plan(connections=4, requests=numbered(3), cycle=True, duration_s=0.6, warmup_s=0.3)
        result = await run(plan)
    assert 0.6 <= result.wall_s < 1.0
    assert result.window_s == pytest.approx(0.3)
    assert result.requests == len(server.asked) > 60
    assert 0 < result.latency_ms.count < result.requests
    assert result.rate_per_s == pytest.approx(result.tallies[0].in_window / 0.3, rel=0.01)
    assert not result.ran_out


async def test_a_plan_too_short_for_its_duration_says_so(certificate: Path) -> None:
    async with serving(created, certificate) as server:
        result = await run(server.plan(requests=numbered(5), duration_s=5.0))
    assert result.ran_out and result.requests == 5 and result.wall_s < 2.0


async def test_open_loop_latency_counts_from_the_due_time_when_the_server_stalls(certificate: Path) -> None:
    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.number in (40, 41):
            await asyncio.sleep(0.4)  # both connections
        writer.write(CREATED)

    async with serving(answer, certificate) as server:
        plan = server.plan(
            connections=2, mode="open", rate_per_s=200.0, duration_s=1.0, requests=numbered(500), record="each"
        )
        result = await run(plan)
    assert result.requests == 200 and result.not_issued == 0
    on_the_wire_ms = sorted((row.done - row.sent) * 1000 for row in result.rows)
    assert on_the_wire_ms[-3] < 200, "only the two stalled requests were slow on the wire"
    assert result.latency_ms.p99 > 350, "those that had to wait for a connection carry the stall"
    assert result.latency_ms.p90 > 200
    assert 60 <= result.max_backlog <= 90
    assert [row.due for row in in_order(result)] == pytest.approx([n / 200 for n in range(200)], abs=1e-6)


async def test_a_connection_that_gets_free_sends_what_is_due_next_without_delay(certificate: Path) -> None:
    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.002)
        writer.write(CREATED)

    async with serving(answer, certificate) as server:
        result = await run(server.plan(mode="open", rate_per_s=125.0, requests=numbered(60), record="each"))
    late_s = sorted(row.sent - row.due for row in result.rows)
    assert late_s[0] >= 0 and late_s[30] < 0.005


async def test_waiting_for_a_connection_is_latency_but_not_a_timeout(certificate: Path) -> None:
    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.05)
        writer.write(CREATED)

    async with serving(answer, certificate) as server:
        result = await run(
            server.plan(mode="open", rate_per_s=100.0, requests=numbered(12), timeout_s=0.2, drain_s=3.0)
        )
    assert result.by_status == {"201": 12}
    assert result.latency_ms.max > 300


async def test_open_loop_sheds_and_reports_a_backlog_beyond_its_limit(certificate: Path) -> None:
    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.5 if asked.number == 0 else 0)
        writer.write(CREATED)

    async with serving(answer, certificate) as server:
        plan = server.plan(mode="open", rate_per_s=200.0, requests=numbered(140), max_backlog=10, record="each")
        result = await run(plan)
    assert result.shed >= 50 and result.answered + result.shed == 140 == result.requests
    assert result.max_backlog <= 10
    shed = [row for row in result.rows if row.status == -2]
    assert len(shed) == result.shed and {row.sent for row in shed} == {-1.0}
    assert result.latency_ms.count == 140, "a shed request stays in the percentiles with the time it waited"


async def test_what_is_due_but_unsent_when_the_drain_ends_is_reported(certificate: Path) -> None:
    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(5)

    async with serving(answer, certificate) as server:
        plan = server.plan(mode="open", rate_per_s=100.0, requests=numbered(20), drain_s=0.2, timeout_s=3.0)
        result = await run(plan)
    assert (result.requests, result.timeouts, result.shed) == (20, 1, 19)
    assert result.wall_s < 1.0


def test_the_same_seed_gives_the_same_arrivals_and_another_seed_others() -> None:
    def arrivals(seed: int) -> list[float]:
        plan = Plan(
            host="h", port=1, ca_file="c", connections=1, mode="open", arrivals="uniform", rate_per_s=50.0,
            requests=numbered(100), seed=seed,
        )  # fmt: skip
        return list(due_times(plan))

    assert arrivals(7) == arrivals(7) != arrivals(8)
    assert arrivals(7) == sorted(arrivals(7)) and arrivals(7)[0] >= 0 and arrivals(7)[-1] <= 2.0


async def test_a_seeded_run_is_due_at_the_same_times_again(certificate: Path) -> None:
    async with serving(created, certificate) as server:
        plan = server.plan(
            connections=4,
            mode="open",
            arrivals="uniform",
            rate_per_s=400.0,
            requests=numbered(80),
            seed=3,
            record="each",
        )
        first, second = await run(plan), await run(plan)
    assert [(row.index, row.due) for row in in_order(first)] == [(row.index, row.due) for row in in_order(second)]


def test_rows_and_requests_make_the_same_bytes(tmp_path: Path) -> None:
    address = {"host": "h", "port": 8443, "ca_file": "c", "connections": 1}
    written = Plan(
        **address,  # type: ignore[arg-type]
        requests=[
            Request("POST", "/o", {"x-a": "1"}, '{"a":"é"}', "token-b", "key-1", "place"),
            Request("GET", "/d", tag="look"),
            Request("POST", "/o", {"x-a": "1"}, None, "token-a", None, "place"),
        ],
    )
    compact = Plan(
        **address,  # type: ignore[arg-type]
        routes=[Route("POST", "/o", {"x-a": "1"}, "place"), Route("GET", "/d", tag="look")],
        tokens=["token-a", "token-b"],
        bodies=['{"a":"é"}'],
        rows=[(0, 1, 0, "key-1"), (1, -1, -1, None), (0, 0, -1, None)],
    )
    for suffix in ("json", "msgpack"):
        write_plan(compact, tmp_path / f"plan.{suffix}")
        assert read_plan(tmp_path / f"plan.{suffix}") == compact
    one, other = request_source(written), request_source(compact)
    assert [one.payload(n) for n in range(3)] == [other.payload(n) for n in range(3)]
    assert [one.tag(n) for n in range(3)] == [other.tag(n) for n in range(3)] == ["place", "look", "place"]
    assert one.payload(0) == (
        b"POST /o HTTP/1.1\r\nhost: localhost:8443\r\nx-a: 1\r\ncontent-type: application/json\r\n"
        b"authorization: Bearer token-b\r\nidempotency-key: key-1\r\ncontent-length: 10\r\n\r\n" + '{"a":"é"}'.encode()
    )
    assert b"content-length: 0\r\n\r\n" in one.payload(2) and b"content-length" not in one.payload(1)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({}, "exactly one of requests and rows"),
        ({"requests": numbered(1), "rows": [(0, 0, 0, None)]}, "exactly one of"),
        ({"rows": [(0, 0, 0, None)]}, "rows point into"),
        ({"requests": numbered(1), "connections": 0}, "connections"),
        ({"requests": numbered(1), "mode": "open"}, "rate_per_s"),
        ({"requests": numbered(1), "cycle": True}, "a cycle needs"),
        ({"requests": numbered(1), "duration_s": 1.0, "warmup_s": 1.0}, "warmup_s"),
        ({"requests": [Request("HEAD", "/")]}, "no HEAD"),
        ({"requests": numbered(1)}, "ca_file"),
    ],
)
async def test_a_plan_that_can_not_be_run_is_refused(wrong: dict[str, object], says: str) -> None:
    plan = Plan(**({"host": "127.0.0.1", "port": 1, "ca_file": "/nowhere.pem", "connections": 1} | wrong))  # type: ignore[arg-type]
    with pytest.raises(BadPlan, match=says):
        await run(plan)
