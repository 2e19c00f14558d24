"""One owner at a time: a lock on a file that the kernel lets go of when its holder ends, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


class Locked(Exception):
    """Somebody else holds the lock."""


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock on `path` (made when absent, mode 0600); Locked at once when another process has it.

    The file stays: removing it would let two owners each lock a file of the same name. The descriptor is not inherited
    by children, so a child that lingers does not keep the lock.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Locked(str(path)) from error
        yield
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """True while a process (also this one) holds the lock on `path`."""
    if not path.exists():
        return False
    try:
        with exclusive(path):
            return False
    except Locked:
        return True
