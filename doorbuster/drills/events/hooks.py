"""Fault hooks in the drill's own processes: the next transaction that passes a chosen point dies or freezes there.

They wrap asyncpg's connection, which the code under test uses without knowing; nothing in that code has a switch.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg

BEFORE, AT, AFTER, READ, INSIDE = "before", "at", "after", "read", "inside"
"""Points of a transaction: before COMMIT is sent, sent and not answered, answered; events read and no transaction
begun yet; in the handler."""

WRITE, LEASE = "write", "lease"
"""Which transactions: those that publish or make effects, or those that only move leases."""


class Trap:
    """Guards what is armed in this process. One trap at a time; it strikes once."""

    def __init__(self) -> None:
        self._armed: tuple[signal.Signals, str, str] | None = None
        self._writing: set[int] = set()

    def arm(self, how: signal.Signals, which: str, point: str) -> None:
        """Strike (SIGKILL or SIGSTOP) at the next passing of `point` by a transaction of kind `which`."""
        self._armed = (how, which, point)

    def disarm(self) -> None:
        """Strike nobody: the drill has given this blow up."""
        self._armed = None

    def writes(self) -> None:
        """The current task's open transaction publishes or makes effects. Passes the point INSIDE."""
        self._writing.add(id(asyncio.current_task()))
        self.passes(WRITE, INSIDE)

    def passes(self, which: str, point: str) -> None:
        """Strike here if this is what was armed."""
        if self._armed is not None and self._armed[1:] == (which, point):
            how, self._armed = self._armed[0], None
            # Said before the blow: the drill counts only blows that fell where they were meant to.
            sys.stdout.write(f"struck {how.name} {which} {point}\n")
            sys.stdout.flush()
            os.kill(os.getpid(), how)

    def kind_at_commit(self) -> str:
        """Of the transaction that the current task ends; forgets it."""
        task = id(asyncio.current_task())
        kind = WRITE if task in self._writing else LEASE
        self._writing.discard(task)
        return kind

    def waits_at(self, which: str) -> bool:
        """Whether the point AT is armed for this kind."""
        return self._armed is not None and self._armed[1:] == (which, AT)


trap = Trap()


def install() -> None:
    """Wrap asyncpg's connection in this process."""
    execute, fetch = asyncpg.Connection.execute, asyncpg.Connection.fetch

    async def watched_execute(self: Any, query: str, *args: Any, **more: Any) -> Any:
        if query.rstrip("; ") != "COMMIT":
            return await execute(self, query, *args, **more)
        kind = trap.kind_at_commit()
        trap.passes(kind, BEFORE)
        if trap.waits_at(kind):
            return await _struck_at(execute(self, query, *args, **more), kind)
        ended = await execute(self, query, *args, **more)
        trap.passes(kind, AFTER)
        return ended

    async def watched_fetch(self: Any, query: str, *args: Any, **more: Any) -> Any:
        rows = await fetch(self, query, *args, **more)
        if ".outbox" in query and any(row["seq"] is not None for row in rows):
            trap.passes(WRITE, READ)
        return rows

    asyncpg.Connection.execute = watched_execute  # type: ignore[method-assign]
    asyncpg.Connection.fetch = watched_fetch  # type: ignore[method-assign]


async def _struck_at(commit: Awaitable[Any], kind: str) -> Any:
    """Send COMMIT and strike somewhere between its sending and its answer: the server may have committed or not."""
    answer = asyncio.ensure_future(commit)
    for _ in range(2):  # a loop may gather what is written and send it at the end of its turn
        await asyncio.sleep(0)
    await asyncio.wait([answer], timeout=random.choice((0, 0.0002, 0.0005, 0.001, 0.002)))  # noqa: S311
    trap.passes(kind, AT)
    return await answer


def obey(line: str, others: Callable[[list[str]], None] | None = None) -> None:
    """An order of the drill from stdin: `arm SIGKILL write at`, `disarm`; others go to `others`."""
    words = line.split()
    if words[:1] == ["arm"]:
        trap.arm(signal.Signals[words[1]], words[2], words[3])
    elif words[:1] == ["disarm"]:
        trap.disarm()
    elif words and others is not None:
        others(words)


async def listen(others: Callable[[list[str]], None] | None = None) -> None:
    """Take orders until stdin ends, which is when the drill is gone."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        obey(line.decode(), others)
