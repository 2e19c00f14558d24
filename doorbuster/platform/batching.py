"""Group commit: one writer takes whatever queued while the previous batch was committing and runs it as one batch.

Under load the cost of a transaction (locks, round trips, fsync) is shared by everyone in the batch; a lone request is
never made to wait for company. Each request gets its own answer.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar, cast

import asyncpg
from prometheus_client import Histogram

from doorbuster.platform.errors import OutcomeUnknown, Refusal, Unavailable

Q = TypeVar("Q")
A = TypeVar("A")

BATCH_SIZE = Histogram(
    "doorbuster_batch_size", "Requests per batch", ["batch"], buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
)
_BUSY = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.LockNotAvailableError)
_RETRYABLE = (*_BUSY, asyncpg.UniqueViolationError)
_Waiting = tuple[Q, asyncio.Future[A], float]
_Taken = tuple[Q, asyncio.Future[A]]


class Batcher(Generic[Q, A]):
    """Guards one queue and its writer tasks.

    `run(requests)` executes a batch and returns, in the same order, an answer or a `Refusal` per request. It must be
    idempotent by the ids inside the requests, because a batch whose commit was lost is run again:

    - refused by the database before COMMIT, or broken by a bug: run again whole where that may help (deadlock, lock
      timeout, lost insert race; at most 3 times), then in halves, so that one bad request does not fail its neighbours;
    - outcome unknown or database away: run again until `patience_s` has passed, then `Unavailable` to each;
    - not begun `patience_s` after it was queued: `Unavailable`, so that a queue never outlives those who wait in it.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[Sequence[Q]], Awaitable[Sequence[A | Refusal]]],
        *,
        limit: int = 512,
        writers: int = 1,
        queue_limit: int = 20_000,
        patience_s: float = 8.0,
    ) -> None:
        assert limit >= 1 and writers >= 1
        self.name = name
        self._run = run
        self._limit = limit
        self._writers = writers
        self._queue_limit = queue_limit
        self._patience_s = patience_s
        self._queue: deque[_Waiting[Q, A]] = deque()
        self._active: set[asyncio.Task[None]] = set()
        self._size = BATCH_SIZE.labels(name)

    async def submit(self, request: Q) -> A:
        """Queue one request and wait for its own answer; raises its `Refusal`, or `Unavailable`."""
        if len(self._queue) >= self._queue_limit:
            raise Unavailable(f"{self.name} has {self._queue_limit} requests waiting", retry_after_s=2)
        future: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._queue.append((request, future, time.monotonic()))
        self._start_writer()
        return await future

    def _start_writer(self) -> None:
        if len(self._active) < self._writers:
            task = asyncio.get_running_loop().create_task(self._write())
            self._active.add(task)

    async def _write(self) -> None:
        try:
            # One turn of the loop first: requests parsed in the same turn join this batch instead of the next.
            await asyncio.sleep(0)
            while self._queue:
                if batch := self._take():
                    self._size.observe(len(batch))
                    await self._settle(batch)
        finally:
            # In the same turn in which the queue was found empty, not in a callback of the task: whoever this writer
            # just answered may submit again before such a callback runs, and would wait for a writer that is gone.
            self._active.discard(cast("asyncio.Task[None]", asyncio.current_task()))
            if self._queue:
                self._start_writer()

    def _take(self) -> Sequence[_Taken[Q, A]]:
        batch: list[_Taken[Q, A]] = []
        too_old = time.monotonic() - self._patience_s
        while self._queue and len(batch) < self._limit:
            request, future, since = self._queue.popleft()
            if future.done():
                continue  # a caller who went away before its batch began has not been promised anything
            if since < too_old:
                _fail(future, Unavailable(f"{self.name} did not get to this request in time", retry_after_s=2))
                continue
            batch.append((request, future))
        return batch

    async def _settle(self, batch: Sequence[_Taken[Q, A]]) -> None:
        try:
            answers = await self._run_with_patience([request for request, _ in batch])
            assert len(answers) == len(batch), f"{self.name} answered {len(answers)} of {len(batch)} requests"
        except Unavailable as error:
            for _, future in batch:
                _fail(future, error)
        except Exception as error:
            if len(batch) > 1:
                middle = len(batch) // 2
                await self._settle(batch[:middle])
                await self._settle(batch[middle:])
            elif isinstance(error, _BUSY):
                unavailable = Unavailable(f"{self.name} is busy with the same rows")
                unavailable.__cause__ = error
                _fail(batch[0][1], unavailable)
            else:
                _fail(batch[0][1], error)
        except BaseException:
            for _, future in batch:
                future.cancel()
            raise
        else:
            for (_, future), answer in zip(batch, answers, strict=True):
                if isinstance(answer, Refusal):
                    _fail(future, answer)
                elif not future.done():
                    future.set_result(answer)

    async def _run_with_patience(self, requests: Sequence[Q]) -> Sequence[A | Refusal]:
        started, pause, refused = time.monotonic(), 0.05, 0
        while True:
            try:
                return await self._run(requests)
            except _RETRYABLE:
                refused += 1
                if refused > 3:
                    raise
                await asyncio.sleep(random.uniform(0, 0.02 * refused))  # noqa: S311  (jitter, not a secret)
            except (OutcomeUnknown, Unavailable):
                if time.monotonic() - started + pause > self._patience_s:
                    raise
                await asyncio.sleep(pause)
                pause = min(pause * 2, 1.0)


def _fail(future: asyncio.Future[A], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
