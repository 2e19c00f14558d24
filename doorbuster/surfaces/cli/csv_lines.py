"""Physical lines of a UTF-8 text file, read within limits and with the byte offset of the first bad byte."""

from __future__ import annotations

import codecs
import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

MAX_FILE_BYTES = 512 * 1024 * 1024
MAX_LINE = 2 * 1024 * 1024
"""The longest physical line taken, in bytes (in characters when the source is already text)."""

_PHYSICAL_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class UnreadableFile(Exception):
    """The file as a whole cannot be read: nothing of it was taken. `line`, `column_name` and `byte_offset` say where,
    as far as it is known; the message names them too and says what to do."""

    def __init__(
        self, message: str, *, line: int | None = None, column_name: str = "", byte_offset: int | None = None
    ) -> None:
        super().__init__(message)
        self.line = line
        self.column_name = column_name
        self.byte_offset = byte_offset


class Lines:
    """An iterator over physical lines (with their line ends) that counts what it has read: `done` of `total` bytes
    (characters, and a `total` of None, when the source is a text stream). Raises `UnreadableFile`."""

    def __init__(self, source: BinaryIO | TextIO, total: int | None) -> None:
        self.done = 0
        self.total = total
        self._source = source
        self._lines = self._read()

    def __iter__(self) -> Iterator[str]:
        return self._lines

    def _read(self) -> Iterator[str]:
        number = 0
        while True:
            piece = self._next_piece(number + 1)
            if not piece:
                return
            if len(piece) > MAX_LINE:
                raise UnreadableFile(f"line {number + 1} is longer than {MAX_LINE} bytes", line=number + 1)
            text = self._decoded(piece, number + 1) if isinstance(piece, bytes) else piece
            self.done += len(piece)
            if self.done > MAX_FILE_BYTES:
                raise UnreadableFile(f"the file is larger than {MAX_FILE_BYTES // 2**20} MiB; split it and import each")
            if number == 0:
                text = text.removeprefix("\ufeff")
            # A lone carriage return ends a line too (old spreadsheets), which readline() on bytes does not know.
            for line in _PHYSICAL_LINE.findall(text) if "\r" in text else (text,):
                number += 1
                yield line

    def _next_piece(self, line: int) -> bytes | str:
        try:
            return self._source.readline(MAX_LINE + 1)
        except UnicodeDecodeError as error:
            raise UnreadableFile(f"line {line} or soon after it is not {error.encoding}", line=line) from error
        except OSError as error:
            raise UnreadableFile(f"reading stopped at line {line}: {error.strerror or error}", line=line) from error

    def _decoded(self, piece: bytes, line: int) -> str:
        try:
            return piece.decode("utf-8")
        except UnicodeDecodeError as error:
            offset = self.done + error.start
            hint = "save it as 'CSV UTF-8' in the spreadsheet program"
            if self.done == 0 and piece.startswith(_UTF16_MARKS):
                hint = f"it looks like UTF-16; {hint}"
            message = (
                f"the file is not UTF-8: byte 0x{piece[error.start]:02x} at byte offset {offset} (line {line}); {hint}"
            )
            raise UnreadableFile(message, line=line, byte_offset=offset) from error


@contextlib.contextmanager
def open_lines(source: Path | str | TextIO) -> Iterator[Lines]:
    """The lines of a file (a path) or of an open text stream, which stays open. Raises `UnreadableFile`."""
    if not isinstance(source, (str, Path)):
        yield Lines(source, None)
        return
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(Path(source).open("rb"))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else None
            raise UnreadableFile(f"cannot open {source}: {reason or error}") from error
        size = os.fstat(file.fileno()).st_size
        if size > MAX_FILE_BYTES:
            raise UnreadableFile(f"{source} is larger than {MAX_FILE_BYTES // 2**20} MiB; split it and import each")
        yield Lines(file, size)
