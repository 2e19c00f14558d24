"""Group commit: everybody gets an answer, their own, and in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import asyncpg
import pytest

from doorbuster.platform.batching import Batcher
from doorbuster.platform.errors import InvalidRequest, NotFound, OutcomeUnknown, Refusal, Unavailable

Answers = Sequence[int | Refusal]


class Runs:
    """Guards a record of batches; `fault` may raise for a batch."""

    def __init__(self, fault: Callable[[Sequence[int]], None] = lambda batch: None, pause_s: float = 0.0) -> None:
        self.batches: list[list[int]] = []
        self._fault = fault
        self._pause_s = pause_s

    async def __call__(self, requests: Sequence[int]) -> Answers:
        self.batches.append(list(requests))
        await asyncio.sleep(self._pause_s)
        self._fault(requests)
        return [number * 10 if number >= 0 else InvalidRequest() for number in requests]


async def test_who_submits_again_right_after_an_answer_is_not_forgotten() -> None:
    batcher: Batcher[int, int] = Batcher("test.again", Runs())
    async with asyncio.timeout(10):
        assert [await batcher.submit(number) for number in range(50)] == [number * 10 for number in range(50)]


async def test_requests_that_queue_while_a_batch_runs_share_the_next() -> None:
    runs = Runs(pause_s=0.02)
    batcher: Batcher[int, int] = Batcher("test.share", runs)
    first = asyncio.create_task(batcher.submit(0))
    await asyncio.sleep(0.01)
    assert await asyncio.gather(*(batcher.submit(number) for number in range(1, 100))) == list(range(10, 1000, 10))
    assert await first == 0
    assert [len(batch) for batch in runs.batches] == [1, 99]


async def test_a_batch_never_exceeds_its_limit() -> None:
    runs = Runs()
    batcher: Batcher[int, int] = Batcher("test.limit", runs, limit=8)
    await asyncio.gather(*(batcher.submit(number) for number in range(30)))
    assert max(len(batch) for batch in runs.batches) == 8


async def test_a_refusal_is_its_own_requests_only() -> None:
    batcher: Batcher[int, int] = Batcher("test.refusal", Runs())
    answers = await asyncio.gather(*(batcher.submit(number) for number in (1, -1, 2)), return_exceptions=True)
    assert [answers[0], type(answers[1]), answers[2]] == [10, InvalidRequest, 20]


@pytest.mark.parametrize(
    "error", [asyncpg.CheckViolationError("no"), AssertionError("a bug"), KeyError("a bug"), asyncpg.DataError("no")]
)
async def test_one_bad_request_does_not_fail_its_neighbours(error: Exception) -> None:
    def fault(batch: Sequence[int]) -> None:
        if 13 in batch:
            raise error

    batcher: Batcher[int, int] = Batcher("test.bad", Runs(fault))
    answers = await asyncio.gather(*(batcher.submit(number) for number in range(40)), return_exceptions=True)
    assert answers[13] is error
    assert [answer for answer in answers if answer is not error] == [n * 10 for n in range(40) if n != 13]


async def test_a_lost_race_is_run_again_and_nobody_notices() -> None:
    errors = [asyncpg.DeadlockDetectedError("x"), asyncpg.UniqueViolationError("x"), asyncpg.LockNotAvailableError("x")]

    def fault(_: Sequence[int]) -> None:
        if errors:
            raise errors.pop()

    batcher: Batcher[int, int] = Batcher("test.race", Runs(fault))
    assert await asyncio.gather(*(batcher.submit(number) for number in range(3))) == [0, 10, 20]


async def test_rows_that_stay_locked_are_unavailable_and_not_a_bug() -> None:
    def fault(_: Sequence[int]) -> None:
        raise asyncpg.LockNotAvailableError("locked")

    batcher: Batcher[int, int] = Batcher("test.locked", Runs(fault))
    with pytest.raises(Unavailable):
        await batcher.submit(1)


async def test_an_unknown_outcome_is_asked_again_until_it_is_known() -> None:
    lost = [OutcomeUnknown("lost"), Unavailable("away")]

    def fault(_: Sequence[int]) -> None:
        if lost:
            raise lost.pop()

    runs = Runs(fault)
    batcher: Batcher[int, int] = Batcher("test.lost", runs)
    assert await asyncio.gather(*(batcher.submit(number) for number in (1, 2))) == [10, 20]
    assert runs.batches == [[1, 2]] * 3, "the same batch whole, for its ids say what was done already"


async def test_patience_ends_and_then_the_next_batch_is_tried() -> None:
    away = [True]

    def fault(_: Sequence[int]) -> None:
        if away[0]:
            raise Unavailable("away")

    batcher: Batcher[int, int] = Batcher("test.patience", Runs(fault), patience_s=0.2)
    with pytest.raises(Unavailable):
        await batcher.submit(1)
    away[0] = False
    assert await batcher.submit(2) == 20


async def test_a_full_queue_is_unavailable_at_once() -> None:
    batcher: Batcher[int, int] = Batcher("test.full", Runs(pause_s=0.05), limit=1, queue_limit=2)
    first = [asyncio.create_task(batcher.submit(number)) for number in (1, 2)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable) as refused:
        await batcher.submit(3)
    assert refused.value.retry_after_s >= 1
    assert await asyncio.gather(*first) == [10, 20]


async def test_who_waited_longer_than_patience_is_not_begun() -> None:
    runs = Runs(pause_s=0.15)
    batcher: Batcher[int, int] = Batcher("test.old", runs, limit=1, patience_s=0.1)
    answers = await asyncio.gather(*(batcher.submit(number) for number in range(4)), return_exceptions=True)
    assert answers[0] == 0
    assert isinstance(answers[-1], Unavailable)
    assert [3] not in runs.batches


async def test_who_went_away_before_the_batch_began_is_left_out() -> None:
    runs = Runs(pause_s=0.02)
    batcher: Batcher[int, int] = Batcher("test.gone", runs, limit=1)
    first, gone = (asyncio.create_task(batcher.submit(number)) for number in (1, 2))
    await asyncio.sleep(0.01)
    gone.cancel()
    assert await first == 10
    assert await batcher.submit(3) == 30
    assert runs.batches == [[1], [3]]


async def test_a_batch_that_forgets_an_answer_hangs_nobody() -> None:
    async def forgetful(requests: Sequence[int]) -> Answers:
        return list(requests)[1:]

    batcher: Batcher[int, int] = Batcher("test.forgetful", forgetful)
    async with asyncio.timeout(10):
        answers = await asyncio.gather(batcher.submit(1), batcher.submit(2), return_exceptions=True)
    assert [type(answer) for answer in answers] == [AssertionError, AssertionError]


async def test_an_ended_writer_leaves_no_one_waiting() -> None:
    async def ended(requests: Sequence[int]) -> Answers:
        if 1 in requests:
            raise asyncio.CancelledError
        return [NotFound() for _ in requests]

    batcher: Batcher[int, int] = Batcher("test.ended", ended, limit=1)
    async with asyncio.timeout(10):
        answers = await asyncio.gather(batcher.submit(1), batcher.submit(2), return_exceptions=True)
    assert [type(answer) for answer in answers] == [asyncio.CancelledError, NotFound]
