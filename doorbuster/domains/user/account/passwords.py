"""argon2id in two threads of its own, so that hashing never stops the event loop and never takes all the memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import VerifyMismatchError

from doorbuster.platform.errors import Unavailable

T = TypeVar("T")

# OWASP Password Storage Cheat Sheet: argon2id with 19 MiB, 2 passes, 1 lane.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1, type=Type.ID)
_THREADS = ThreadPoolExecutor(max_workers=2, thread_name_prefix="argon2")
_QUEUE_LIMIT = 64
_waiting = 0

_NOBODY = "$argon2id$v=19$m=19456,t=2,p=1$c29tZSBzYWx0IG9mIDE2Yg$bm9ib2R5IGhhcyB0aGlzIHBhc3N3b3JkLCBldmVyIQA"
"""A well-formed hash of no known password, so that an unknown address takes as long as a known one."""


async def hashed(password: str) -> str:
    """The encoded argon2id hash of a password."""
    return await _in_thread(lambda: _HASHER.hash(password))


async def fits(password: str, encoded: str | None) -> bool:
    """Whether the password made this hash; takes the same time without one (`None`), and says no."""
    matches = await _in_thread(lambda: _verify(encoded or _NOBODY, password))
    return matches and encoded is not None


def _verify(encoded: str, password: str) -> bool:
    try:
        return _HASHER.verify(encoded, password)
    except VerifyMismatchError:
        return False


async def _in_thread(work: Callable[[], T]) -> T:
    """Run in one of the two threads; `Unavailable` when 64 are waiting (about a second's work)."""
    global _waiting
    if _waiting >= _QUEUE_LIMIT:
        raise Unavailable("Too many people are logging in", retry_after_s=2)
    _waiting += 1
    try:
        return await asyncio.get_running_loop().run_in_executor(_THREADS, work)
    finally:
        _waiting -= 1
