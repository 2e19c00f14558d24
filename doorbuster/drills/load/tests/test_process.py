"""The load as a process of its own: result file, progress, early end, and what in flight means afterwards."""

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from doorbuster.drills.load import LoadFailed, Progress, Result, in_flight_at, read_result, run_process, write_plan
from doorbuster.drills.load.tests.scripted_server import Asked, in_order, reply, serving
from doorbuster.drills.load.tests.test_loops import CREATED, created, numbered


async def slowly(asked: Asked, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(0.02)
    writer.write(CREATED)


async def test_a_process_reports_progress_and_hands_back_the_result(certificate: Path) -> None:
    told: list[Progress] = []
    async with serving(slowly, certificate) as server:
        plan = server.plan(connections=8, requests=numbered(200), record="each", progress_every_s=0.1)
        with run_process(plan, told.append) as load:
            assert load.poll() is None and load.pid > 0
            result = await asyncio.to_thread(load.wait, 10.0)
        assert load.poll() == 0 and load.inflight() == 0
    assert result.by_status == {"201": 200} and len(result.rows) == 200
    assert len(told) >= 3 and told[-1].done == 200 and told[-1].expected == 200
    assert max(progress.inflight for progress in told) == 8
    middle = result.started_unix_s + result.wall_s / 2
    assert 1 <= len(in_flight_at(result, middle)) <= 8
    assert in_flight_at(result, result.started_unix_s - 1) == []


async def test_the_process_survives_what_its_own_event_loop_makes_of_failures(certificate: Path) -> None:
    """The other tests run on asyncio's loop, the process on uvloop's, whose TLS reports losses in its own way."""

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        kind = asked.number % 6
        if kind == 0:
            writer.transport.abort()
        elif kind == 1:
            await asyncio.sleep(1.0)
        elif kind == 2:
            writer.write(b"HTTP/1.1 200 OK\r\n\r\nuntil the end")
            writer.close()
        elif kind == 3:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nonly this")
            writer.close()
        elif kind == 4:
            writer.write(reply(409, b'{"code":"sold_out"}', "connection: close"))
        else:
            writer.write(CREATED)

    async with serving(answer, certificate) as server:
        plan = server.plan(requests=numbered(18), record="each", timeout_s=0.2)
        with run_process(plan) as load:
            result = await asyncio.to_thread(load.wait, 10.0)
    assert [row.status for row in in_order(result)] == [0, -1, 200, 0, 409, 201] * 3
    assert result.connects == 1 + 15


async def test_a_stopped_process_still_tells_what_it_sent(certificate: Path) -> None:
    async with serving(slowly, certificate) as server:
        plan = server.plan(connections=2, requests=numbered(2), cycle=True, duration_s=60.0, progress_every_s=0.05)
        load = run_process(plan)
        deadline = time.monotonic() + 5
        while load.progress() is None and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        result = await asyncio.to_thread(load.stop)
    assert result.stopped and result.by_status == {"201": len(server.asked)} and result.wall_s < 5


async def test_a_load_whose_caller_died_ends_by_itself(certificate: Path, tmp_path: Path) -> None:
    async with serving(slowly, certificate) as server:
        plan = server.plan(requests=numbered(2), cycle=True, duration_s=60.0, progress_every_s=0.05)
        write_plan(plan, tmp_path / "plan.json")
        command = [sys.executable, "-m", "doorbuster.drills.load", "--plan", str(tmp_path / "plan.json")]
        process = subprocess.Popen(
            [*command, "--out", str(tmp_path / "result.json"), "--progress-json"],
            stderr=subprocess.PIPE,
            cwd=Path(__file__).parents[4],
        )
        assert process.stderr is not None
        first = await asyncio.to_thread(process.stderr.readline)
        process.stderr.close()
        assert await asyncio.to_thread(process.wait, 10) == 0
    assert msgspec.json.decode(first, type=Progress).done > 0
    assert isinstance(result := read_result(tmp_path / "result.json"), Result) and result.stopped


async def test_a_process_that_finds_nobody_raises_with_its_reason(certificate: Path) -> None:
    async with serving(created, certificate) as server:
        plan = server.plan(requests=numbered(1), reconnect_give_up_s=0.1)
    with run_process(plan) as load, pytest.raises(LoadFailed, match="ConnectionRefused"):
        await asyncio.to_thread(load.wait, 10.0)
