"""What `doorbuster status` says of a run, for people and for programs."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from rich.table import Table

from doorbuster.engines.embedded import RunState, pss_bytes, pss_tree_bytes
from doorbuster.platform.clock import utc_now


def as_document(state: RunState | None, healthy: bool) -> dict[str, object]:
    """For programs: what runs, with ports, process ids and memory in bytes."""
    if state is None:
        return {"status": "stopped", "healthy": False, "url": "", "port": None, "pid": None, "processes": []}
    running = state.status in ("starting", "ready", "stopping")
    processes = [
        {
            "name": child.name,
            "pid": child.pid,
            "state": child.state,
            "restarts": child.restarts,
            "since": child.since,
            "address": child.address,
            "problem": child.problem,
            "pss_bytes": pss_tree_bytes(child.pid) if child.pid else 0,
        }
        for child in state.children
    ]
    return {
        "status": state.status,
        "healthy": healthy,
        "url": state.url,
        "port": int(state.url.rsplit(":", 1)[1]) if state.url else None,
        "pid": state.supervisor.pid if running else None,
        "since": state.since,
        "problem": state.problem,
        "processes": processes,
    }


def as_table(state: RunState) -> Table:
    """For people."""
    table = Table(title=f"{state.url or 'starting'}  ({state.status})", title_justify="left")
    for column in ("process", "pid", "state", "for", "restarts", "memory", "address"):
        table.add_column(column, justify="right" if column in ("pid", "restarts", "memory") else "left")
    colours = {"ready": "green", "starting": "yellow", "failing": "red", "stopped": "dim"}
    for child in state.children:
        memory = f"{pss_tree_bytes(child.pid) / 2**20:.0f} MB" if child.pid else ""
        colour = colours[child.state]
        table.add_row(
            child.name, str(child.pid or ""), f"[{colour}]{child.state}[/{colour}]", _age(child.since),
            str(child.restarts), memory, Path(child.address).name,
        )  # fmt: skip
    own = f"{pss_bytes(state.supervisor.pid) / 2**20:.0f} MB"
    table.add_row("supervisor", str(state.supervisor.pid), "[green]ready[/green]", _age(state.since), "", own, "")
    return table


def _age(since: str) -> str:
    """How long ago an ISO time was, in the largest two units: 45 s, 3 min 5 s, 2 h 10 min, 3 d 4 h."""
    seconds = max(0, int((utc_now() - datetime.fromisoformat(since)).total_seconds()))
    units = (("d", seconds // 86_400), ("h", seconds // 3_600 % 24), ("min", seconds // 60 % 60), ("s", seconds % 60))
    first = next((index for index, (_, amount) in enumerate(units) if amount), len(units) - 1)
    return " ".join(f"{amount} {unit}" for unit, amount in units[first : first + 2] if amount) or "0 s"
