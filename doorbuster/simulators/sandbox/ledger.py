"""The durable ledger: one JSON line per captured, declined or refunded fact, replayed when the process starts."""

import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

MAX_LINE_BYTES = 4096
LOCK_WAIT_S = 0.5


class Charge(Struct, frozen=True, gc=False, tag_field="kind", tag="charge", omit_defaults=True):
    """Declined if `decline_code` is set, else captured. `key` is the caller's idempotency key."""

    id: str
    key: str
    reference: str
    amount_minor: int
    currency: str
    instrument: str
    created_at: str
    decline_code: str | None = None


class Refund(Struct, frozen=True, gc=False, tag_field="kind", tag="refund"):
    id: str
    key: str
    charge_id: str
    reference: str
    amount_minor: int
    created_at: str


Record = Charge | Refund


class LedgerDamaged(Exception):
    """A line before the last cannot be read: money facts are missing, so the provider must not start."""


class LedgerBusy(Exception):
    """Another process holds the ledger."""


class LedgerUnavailable(Exception):
    """The record was not written (disk full, I/O error); the ledger is as it was before."""


class Ledger:
    """Guards the open file. Survives kill -9 of the process: a record is in the kernel before its answer leaves.

    It does not fsync each record, so a power cut may lose the last ones; the shop's own database is the one that must
    not, and a drill kills processes, not machines.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._size = os.fstat(fd).st_size

    def append(self, record: Record) -> None:
        line = msgspec.json.encode(record) + b"\n"
        assert len(line) <= MAX_LINE_BYTES, "every field is bounded, so is the line"
        try:
            written = os.write(self._fd, line)
        except OSError as error:
            raise LedgerUnavailable(str(error)) from error
        if written != len(line):
            # A full disk may take half a line; take it back, or the next record would be glued to it.
            os.ftruncate(self._fd, self._size)
            raise LedgerUnavailable("the disk took only a part of the record")
        self._size += written

    def close(self) -> None:
        os.fsync(self._fd)
        os.close(self._fd)


def open_ledger(path: Path) -> tuple[Ledger, Iterator[Record]]:
    """Open or create the ledger under an exclusive lock. The records must be read to the end before any append.

    A torn last line (the process died inside its write) is cut off: its answer never left.
    Raises LedgerBusy, OSError, and while the records are read LedgerDamaged.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        _lock(fd, path)
    except LedgerBusy:
        os.close(fd)
        raise
    ledger = Ledger(fd)
    return ledger, _replay(fd, path, ledger)


def _lock(fd: int, path: Path) -> None:
    # A predecessor killed a moment ago may still be dying; give its lock a moment to vanish.
    give_up_at = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() >= give_up_at:
                raise LedgerBusy(f"{path} is used by another sandbox") from error
            time.sleep(0.05)


def _replay(fd: int, path: Path, ledger: Ledger) -> Iterator[Record]:
    decoder = msgspec.json.Decoder(Record)
    good_end = 0
    size = ledger._size
    with path.open("rb") as lines:
        for number, line in enumerate(iter(lambda: lines.readline(MAX_LINE_BYTES + 1), b""), start=1):
            is_last = good_end + len(line) >= size
            if is_last and not line.endswith(b"\n"):
                break
            try:
                record = decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                if is_last:
                    break
                raise LedgerDamaged(f"{path} line {number} cannot be read: {error}") from error
            good_end += len(line)
            yield record
    if good_end != size:
        os.ftruncate(fd, good_end)
        ledger._size = good_end
