"""What the drill says when it cannot do what it was asked for."""

from __future__ import annotations


class CannotCarry(Exception):
    """This transport is not to be had here, or not so; the message says why and what to do."""
