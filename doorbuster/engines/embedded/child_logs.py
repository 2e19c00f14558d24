"""The log files of children: appended by the child itself, kept under a size, read back to say why it ended.

A child writes to the file and not to a pipe of the supervisor, so its last words are on disk whoever is killed, and a
busy log costs the supervisor nothing.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

LIMIT_BYTES = 8 * 1024 * 1024
_TAIL_BYTES = 16 * 1024


def open_for_append(path: Path) -> int:
    """A descriptor that appends to the log (mode 0600); the caller closes it."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def cap(path: Path, limit_bytes: int = LIMIT_BYTES) -> bool:
    """When the log has outgrown `limit_bytes`, keep it as `NAME.1` and begin again; True when it did.

    The file is emptied in place because the child holds it open. What is written between the copy and the cut is lost.
    """
    try:
        if path.stat().st_size <= limit_bytes:
            return False
    except FileNotFoundError:
        return False
    shutil.copyfile(path, path.with_name(path.name + ".1"))
    os.truncate(path, 0)
    return True


def size(path: Path) -> int:
    """Bytes in the log now; 0 when there is none."""
    return path.stat().st_size if path.exists() else 0


def said_since(path: Path, offset: int) -> str:
    """The end (at most 16 KiB) of what was written after `offset`."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            start = 0 if end < offset else offset  # the log was cut meanwhile
            file.seek(max(start, end - _TAIL_BYTES))
            return file.read(_TAIL_BYTES).decode(errors="replace")
    except FileNotFoundError:
        return ""


def last_line(said: str) -> str:
    """The last line with anything on it, shortened to what fits a message."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it wrote nothing to its log"
