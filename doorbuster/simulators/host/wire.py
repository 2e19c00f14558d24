"""Requests and answers as a simulated PSP sees them: values, no sockets."""

from collections.abc import Callable, Mapping
from typing import Literal

from msgspec import Struct

# What an answer did, so that a fault can strike after it: took money, gave it back, was declined, only read, or else.
Kind = Literal["capture", "refund", "decline", "read", "other"]


class Request(Struct, frozen=True):
    """`path` and `raw_query` are as they came, undecoded; `headers` has lower-case names; `origin` is the address the
    caller used.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    origin: str
    raw_query: str = ""


class Answer(Struct, frozen=True):
    """A JSON answer; `charset` is the one its body is written in.

    `fails` is for a PSP that remembers its own failures: the 500 it gives in place of this answer, and from then on.
    """

    status: int
    body: bytes
    kind: Kind = "other"
    charset: str = "utf-8"
    headers: Mapping[str, str] = {}
    fails: Callable[[], "Answer"] | None = None
