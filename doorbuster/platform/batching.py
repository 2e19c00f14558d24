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
from typing import Generic, TypeVar

import asyncpg
from prometheus_client import Histogram

from doorbuster.platform.errors import OutcomeUnknown, Refusal, Unavailable

Q = TypeVar("Q")
A = TypeVar("A")

BATCH_SIZE = Histogram(
    "doorbuster_batch_size", "Requests per batch", ["batch"], buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
)
_RETRYABLE = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.LockNotAvailableError,
    asyncpg.UniqueViolationError,
)


class Batcher(Generic[Q, A]):
    """Guards one queue and its writer tasks.

    `run(requests)` executes a batch and returns, in the same order, an answer or a `Refusal` per request. It must be
    idempotent by the ids inside the requests, because a batch whose commit was lost is run again:

    - refused by the database before COMMIT: tried again whole (deadlock, lock timeout, lost insert race), at most
      3 times, then one by one, so that one bad request does not fail its neighbours;
    - outcome unknown or database away: run again until `patience_s` has passed, then `Unavailable` to each.
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
        self._queue: deque[tuple[Q, asyncio.Future[A]]] = deque()
        self._active: set[asyncio.Task[None]] = set()
        self._size = BATCH_SIZE.labels(name)

    async def submit(self, request: Q) -> A:
        """Queue one request and wait for its own answer; raises its `Refusal`, or `Unavailable`."""
        if len(self._queue) >= self._queue_limit:
            raise Unavailable(f"{self.name} has {self._queue_limit} requests waiting", retry_after_s=2)
        future: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._queue.append((request, future))
        if len(self._active) < self._writers:
            task = asyncio.get_running_loop().create_task(self._write())
            self._active.add(task)
        return await future

    async def _write(self) -> None:
        try:
            # One turn of the loop first: requests parsed in the same turn join this batch instead of the next.
            await asyncio.sleep(0)
            while self._queue:
                batch = [self._queue.popleft() for _ in range(min(self._limit, len(self._queue)))]
                # A caller who went away (disconnect, deadline) before its batch began has not been promised anything.
                batch = [(request, future) for request, future in batch if not future.done()]
                if batch:
                    self._size.observe(len(batch))
                    await self._settle(batch)
        finally:
            # Now, not in a done callback: a caller woken by the last batch may submit before such a callback runs, and
            # would believe that this writer still takes the queue.
            self._active.discard(asyncio.current_task())  # type: ignore[arg-type]  # inside a task there is one

    async def _settle(self, batch: Sequence[tuple[Q, asyncio.Future[A]]]) -> None:
        try:
            answers = await self._run_with_patience([request for request, _ in batch])
        except asyncpg.PostgresError as error:
            if len(batch) == 1:
                _fail(batch[0][1], error)
                return
            for one in batch:
                await self._settle([one])
            return
        except BaseException as error:
            for _, future in batch:
                _fail(future, error)
            if not isinstance(error, Exception):
                raise
            return
        assert len(answers) == len(batch), f"{self.name} answered {len(answers)} of {len(batch)} requests"
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
