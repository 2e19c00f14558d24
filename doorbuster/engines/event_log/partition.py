"""Which partition a key belongs to: murmur2 as Kafka's Java client computes it, so that both transports agree."""

from __future__ import annotations

import functools
import struct

PARTITIONS = 16
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """The 32-bit murmur2 hash with Kafka's seed 0x9747b28c, as an unsigned number."""
    length = len(data)
    h = (0x9747B28C ^ length) & _MASK
    # Runs for each fact of a batch, so each step is masked only where a wider number would change the result.
    for k in struct.unpack_from(f"<{length >> 2}I", data):
        k = k * _M & _MASK
        h = (h * _M ^ (k ^ k >> 24) * _M) & _MASK
    if tail := data[length - length % 4 :]:
        h = (h ^ int.from_bytes(tail, "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return h ^ h >> 15


@functools.lru_cache(maxsize=4_096)  # several facts of one key follow each other closely
def partition_of(key: str, partitions: int = PARTITIONS) -> int:
    """The partition of a key: positive murmur2 modulo the number of partitions."""
    return (murmur2(key.encode()) & 0x7FFFFFFF) % partitions
