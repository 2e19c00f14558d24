"""The one failure this engine shows to a person: what is wrong, in one line, and what to do about it."""

from __future__ import annotations


class StartError(Exception):
    """The program cannot start (or go on) for a reason the user can do something about.

    `message` is one line that names the thing (port, file, directory); `hint` is one line that says what to do.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
