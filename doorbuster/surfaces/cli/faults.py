"""What a user can mend."""

from __future__ import annotations


class UserFault(Exception):
    """Something the user can mend: one line what is wrong, one what to do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
