"""Memory as it is really used: proportional set size, in which a shared page is counted once among its sharers."""

from __future__ import annotations

from pathlib import Path

import psutil


def pss_bytes(pid: int) -> int:
    """The proportional set size of one process in bytes; 0 when it is gone or may not be read."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
    return 0


def pss_tree_bytes(pid: int) -> int:
    """The same for a process and all it started (PostgreSQL's backends, a server's workers)."""
    try:
        below = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return 0
    return pss_bytes(pid) + sum(pss_bytes(each.pid) for each in below)
