"""The clock of a simulated PSP: the machine's, moved forward on demand, and still moved after a restart."""

import os
import time
from pathlib import Path

MAX_OFFSET_MS = 10 * 366 * 86_400_000


class Clock:
    """Guards the offset, which lives in a file beside the ledger. It only moves forward."""

    def __init__(self, file: Path) -> None:
        self._file = file
        text = file.read_text("ascii") if file.exists() else "0"
        if not (text.strip().isdigit() and int(text) <= MAX_OFFSET_MS):
            raise ValueError(f"{file} is not an offset in milliseconds")
        self.offset_ms = int(text)

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + self.offset_ms

    def advance(self, ms: int) -> None:
        """Durable when it returns. Raises ValueError for a step back or more than ten years in all."""
        offset_ms = self.offset_ms + ms
        if ms < 0 or offset_ms > MAX_OFFSET_MS:
            raise ValueError("the clock moves forward, ten years at most")
        draft = self._file.with_name(f".{self._file.name}.{os.getpid()}")
        draft.write_text(str(offset_ms), "ascii")
        draft.replace(self._file)
        self.offset_ms = offset_ms
