"""Turns PostgreSQL's deadlock report into one that names rows and statements, by the drill's own record of both."""

from __future__ import annotations

import re
from collections.abc import Mapping

import asyncpg
import msgspec

from doorbuster.drills.timedeal.findings import Cycle, Cycled
from doorbuster.drills.timedeal.sessions import Trace

# The server's own wording, from DeadLockReport() in PostgreSQL's deadlock.c.
_EDGE = re.compile(r"Process (\d+) waits for (.+?); blocked by process (\d+)\.")


class _Edge(msgspec.Struct, frozen=True):
    pid: int
    waits_for: str
    blocked_by: int


def describe_cycle(
    victim_pid: int,
    error: asyncpg.DeadlockDetectedError,
    traces: Mapping[int, Trace],
    seen_by_server: Mapping[int, str],
) -> Cycle:
    """The cycle behind one 40P01, to be called at once: the surviving processes move on within a round trip.

    `seen_by_server` holds the last query text sampled from pg_stat_activity for each waiting process.
    """
    detail = error.detail or ""
    edges = [_Edge(int(pid), what, int(by)) for pid, what, by in _EDGE.findall(detail)]
    processes = tuple(_process(edge, traces.get(edge.pid, Trace()), seen_by_server) for edge in edges)
    by_pid = {process.pid: process for process in processes}
    return Cycle(
        victim_pid=victim_pid,
        sqlstate=error.sqlstate or "",
        message=error.message or str(error),
        detail=detail,
        context=error.context or "",
        processes=processes,
        explained=bool(processes) and all(_is_explained(process, by_pid) for process in processes),
    )


def _process(edge: _Edge, trace: Trace, seen_by_server: Mapping[int, str]) -> Cycled:
    last = trace.statements[-1] if trace.statements else None
    return Cycled(
        pid=edge.pid,
        order_no=trace.order.number if trace.order else 0,
        wanted=str(trace.order) if trace.order else "",
        waits_for=edge.waits_for,
        blocked_by=edge.blocked_by,
        waits_for_row=last.row if last else "",
        # Without the statement it waited in: when both answers arrive in one turn of the event loop, a survivor's may
        # be on record as done before the victim's error is looked at.
        changed_rows=tuple(statement.row for statement in trace.statements[:-1] if statement.changed),
        statement=last.sql if last else "",
        statement_seen_by_server=seen_by_server.get(edge.pid, ""),
    )


def _is_explained(process: Cycled, by_pid: Mapping[int, Cycled]) -> bool:
    """Either the blocker changed the row, or it stands before this process in the queue for that row."""
    blocker = by_pid.get(process.blocked_by)
    if blocker is None or not process.waits_for_row:
        return False
    if "tuple" in process.waits_for:
        return blocker.waits_for_row == process.waits_for_row
    return process.waits_for_row in blocker.changed_rows


def clearer(one: Cycle | None, other: Cycle) -> Cycle:
    """Of two cycles the one that is easier to follow; the first of equals."""
    return other if one is None else min(one, other, key=_effort)


def _effort(cycle: Cycle) -> tuple[bool, bool, int, bool]:
    """Explained, closed by row locks alone, short, and, as in the incident, over the item: the less the clearer."""
    over_item = any(process.waits_for_row.startswith("item") for process in cycle.processes)
    return (not cycle.explained, "tuple" in cycle.detail, len(cycle.processes), not over_item)


def as_text(cycle: Cycle) -> str:
    """The error as the client received it, word for word, then what each process had done and wanted."""
    lines = [f"ERROR:  {cycle.message} (SQLSTATE {cycle.sqlstate})"]
    lines += [f"DETAIL:  {line}" if n == 0 else f"  {line}" for n, line in enumerate(cycle.detail.splitlines())]
    if cycle.context:
        lines.append(f"CONTEXT:  {cycle.context}")
    lines += ["", "Behind it, by the drill's own record of each process's statements:"]
    for process in cycle.processes:
        had = ", ".join(process.changed_rows) or "no row yet"
        victim = ", rolled back as the victim" if process.pid == cycle.victim_pid else ""
        lines += [
            f"Process {process.pid} (order {process.order_no} of {process.wanted}{victim})",
            f"  had changed {had}",
            f"  waits for {process.waits_for_row}, blocked by process {process.blocked_by}: {process.statement}",
        ]
        if process.statement_seen_by_server:
            lines.append(f"  pg_stat_activity showed it waiting in: {process.statement_seen_by_server}")
    return "\n".join(lines)
