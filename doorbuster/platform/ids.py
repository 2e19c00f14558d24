"""Identifiers: time-ordered UUIDv7 for new things, and ids derived from an idempotency key (UUIDv8, RFC 9562)."""

from __future__ import annotations

import hashlib
import os
import time
from uuid import UUID

_VARIANT = 0x8000_0000_0000_0000


def uuid7() -> UUID:
    """A new UUIDv7: 48 bits of Unix milliseconds, then 74 random bits. Sorts by time; unique across processes."""
    milliseconds = time.time_ns() // 1_000_000
    noise = int.from_bytes(os.urandom(10), "big")
    high = (milliseconds & 0xFFFF_FFFF_FFFF) << 16 | 0x7000 | (noise >> 62) & 0x0FFF
    return UUID(int=high << 64 | _VARIANT | noise & 0x3FFF_FFFF_FFFF_FFFF)


def derived_id(namespace: str, *parts: str) -> UUID:
    """The one id (UUIDv8) that belongs to these parts: the same parts give the same id in every process, for ever.

    Parts are length-prefixed before hashing, so ("ab", "c") and ("a", "bc") differ.
    """
    text = namespace + "".join(f"\x1f{len(part)}\x1f{part}" for part in parts)
    digest = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")
    digest = digest & ~(0xF << 76) | 0x8 << 76
    return UUID(int=digest & ~(0x3 << 62) | 0x2 << 62)


def request_hash(*parts: bytes) -> bytes:
    """16 bytes that stand for a request's content, to tell a repeated request from another one under the same key."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(4, "big") + part)
    return digest.digest()[:16]
