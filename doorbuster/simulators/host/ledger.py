"""A durable ledger of any frozen value: one JSON line each, replayed when the process starts."""

import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

MAX_LINE_BYTES = 4 * 1024 * 1024
LOCK_WAIT_S = 0.5

E = TypeVar("E")


class LedgerDamaged(Exception):
    """A line before the last cannot be read: money facts are missing, so the provider must not start."""


class LedgerBusy(Exception):
    """Another process holds the ledger."""


class LedgerUnavailable(Exception):
    """The entry was not written (disk or books full, I/O error, too long); the ledger is as it was before."""


class Ledger(Generic[E]):
    """Guards the open file. Survives kill -9 of the process: an entry is in the kernel before its answer leaves.

    It does not fsync each entry, so a power cut may lose the last ones: a drill kills processes, not machines.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._size = os.fstat(fd).st_size

    def append(self, entry: E) -> None:
        line = msgspec.json.encode(entry) + b"\n"
        if len(line) > MAX_LINE_BYTES:
            raise LedgerUnavailable(f"an entry of {len(line)} bytes")
        try:
            written = os.write(self._fd, line)
        except OSError as error:
            raise LedgerUnavailable(str(error)) from error
        if written != len(line):
            # A full disk may take half a line; take it back, or the next entry would be glued to it.
            os.ftruncate(self._fd, self._size)
            raise LedgerUnavailable("the disk took only a part of the entry")
        self._size += written

    def cut(self, size: int) -> None:
        os.ftruncate(self._fd, size)
        self._size = size

    @property
    def size(self) -> int:
        return self._size

    def close(self) -> None:
        os.fsync(self._fd)
        os.close(self._fd)


def open_ledger(path: Path, decoder: "msgspec.json.Decoder[E]") -> tuple[Ledger[E], Iterator[E]]:
    """Open or create the ledger under an exclusive lock. The entries must be read to the end before any append.

    A torn last line (the process died inside its write) is cut off: its answer never left.
    Raises LedgerBusy, OSError, and while the entries are read LedgerDamaged.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        _lock(fd, path)
    except LedgerBusy:
        os.close(fd)
        raise
    ledger: Ledger[E] = Ledger(fd)
    return ledger, _replay(path, ledger, decoder)


def _lock(fd: int, path: Path) -> None:
    # A predecessor killed a moment ago may still be dying; give its lock a moment to vanish.
    give_up_at = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() >= give_up_at:
                raise LedgerBusy(f"{path} is used by another process") from error
            time.sleep(0.05)


def _replay(path: Path, ledger: Ledger[E], decoder: "msgspec.json.Decoder[E]") -> Iterator[E]:
    good_end, size = 0, ledger.size
    with path.open("rb") as lines:
        for number, line in enumerate(iter(lambda: lines.readline(MAX_LINE_BYTES + 1), b""), start=1):
            is_last = good_end + len(line) >= size
            if is_last and not line.endswith(b"\n"):
                break
            try:
                entry = decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                if is_last:
                    break
                raise LedgerDamaged(f"{path} line {number} cannot be read: {error}") from error
            good_end += len(line)
            yield entry
    if good_end != size:
        ledger.cut(good_end)
