"""Group commit: one writer takes whatever queued while the previous batch was committing and runs it as one batch.

Under load the cost of a transaction (locks, round trips, fsync) is shared by everyone in the batch; a lone request is
never made to wait for company. Each request gets its own answer.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Generic, TypeVar, cast

import asyncpg
from prometheus_client import Histogram

from doorbuster.platform import tracing
from doorbuster.platform.errors import OutcomeUnknown, Refusal, Unavailable

Q = TypeVar("Q")
A = TypeVar("A")

BATCH_SIZE = Histogram(
    "doorbuster_batch_size", "Requests per batch", ["batch"], buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
)
_BUSY = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.LockNotAvailableError)
_RETRYABLE = (*_BUSY, asyncpg.UniqueViolationError)
_Waiting = tuple[Q, asyncio.Future[A], float, str]
_Taken = tuple[Q, asyncio.Future[A], str]
_causes: ContextVar[Mapping[int, str] | None] = ContextVar("causes", default=None)


def cause_of(request: object) -> str:
    """The traceparent under which a request of the running batch was submitted, for what it makes true to carry on.

    Empty for one that was not traced. Outside a batch, and for what is no request of it: what is being traced now.
    """
    causes = _causes.get()
    if causes is None or (cause := causes.get(id(request))) is None:
        return tracing.current_traceparent()
    return cause


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
        self._waits, self._works = f"wait for {name}", f"batch of {name}"

    async def submit(self, request: Q) -> A:
        """Queue one request and wait for its own answer; raises its `Refusal`, or `Unavailable`."""
        if len(self._queue) >= self._queue_limit:
            raise Unavailable(f"{self.name} has {self._queue_limit} requests waiting", retry_after_s=2)
        future: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        if not tracing.is_on():
            self._queue.append((request, future, time.monotonic(), ""))
            self._start_writer()
            return await future
        with tracing.span(self._waits):
            self._queue.append((request, future, time.monotonic(), tracing.current_traceparent()))
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
            request, future, since, cause = self._queue.popleft()
            if future.done():
                continue  # a caller who went away before its batch began has not been promised anything
            if since < too_old:
                _fail(future, Unavailable(f"{self.name} did not get to this request in time", retry_after_s=2))
                continue
            batch.append((request, future, cause))
        return batch

    async def _settle(self, batch: Sequence[_Taken[Q, A]]) -> None:
        try:
            answers = await self._run_traced(batch)
            assert len(answers) == len(batch), f"{self.name} answered {len(answers)} of {len(batch)} requests"
        except Unavailable as error:
            for _, future, _ in batch:
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
            for _, future, _ in batch:
                future.cancel()
            raise
        else:
            for (_, future, _), answer in zip(batch, answers, strict=True):
                if isinstance(answer, Refusal):
                    _fail(future, answer)
                elif not future.done():
                    future.set_result(answer)

    async def _run_traced(self, batch: Sequence[_Taken[Q, A]]) -> Sequence[A | Refusal]:
        requests = [request for request, _, _ in batch]
        if not tracing.is_on():
            return await self._run_with_patience(requests)
        token = _causes.set({id(request): cause for request, _, cause in batch})
        try:
            causes = [cause for _, _, cause in batch]
            with tracing.joined(self._works, tracing.INTERNAL, causes, {"door.batch.size": len(batch)}):
                return await self._run_with_patience(requests)
        finally:
            _causes.reset(token)

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
