"""The pass marks: what the log has promised, one by one, against what the run has left in the tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from doorbuster.drills.events.findings import PAUSE, Evidence, Heard
from doorbuster.drills.events.history import Faults
from doorbuster.drills.timedeal.findings import Mark


def marks(seen: Evidence) -> tuple[Mark, ...]:
    """Every mark; the drill passes when all of them do."""
    return (
        _of_each("nothing_lost", seen, lambda f: f.lost, "every committed fact has an effect"),
        _of_each("nothing_twice", seen, lambda f: f.duplicated, "no fact has two effects"),
        _of_each("order_kept", seen, lambda f: f.inversions, "each key was heard in the order of its versions"),
        _of_each("nothing_skipped", seen, lambda f: f.gaps, "nothing was handled before an earlier fact of its key"),
        _of_each("nothing_invented", seen, lambda f: f.invented, "no effect without a committed fact"),
        _of_each("frozen_workers_commit_nothing", seen, lambda f: f.unfenced, "only a partition's owner committed"),
        _sums(seen),
        _facts_are_changes(seen),
        _promises_kept(seen),
        _none(
            "nothing_set_aside", [f"{h.consumer} {h.set_aside}" for h in seen.heard if h.set_aside], "no dead letter"
        ),
        _cursors(seen),
        _none("epochs_rise", seen.epoch_faults, "a partition changed hands only with a higher epoch"),
        Mark("drained", seen.drained, f"{seen.drain_s:.1f} s after the last write, bound {seen.wanted.drain_s:g} s"),
        _all_struck(seen),
        _taken_over(seen),
        _none("nobody_else_died", seen.crashes, "only what was killed ended"),
    )


def _none(name: str, faults: Sequence[str], detail: str) -> Mark:
    """Passed without faults; else the first few of them."""
    more = f" … and {len(faults) - 3} more" if len(faults) > 3 else ""
    return Mark(name, not faults, "; ".join(faults[:3]) + more if faults else detail)


def _of_each(name: str, seen: Evidence, count: Callable[[Faults], int], detail: str) -> Mark:
    faults = [
        f"{heard.consumer}: {count(heard.faults)} of {heard.expected}" for heard in seen.heard if count(heard.faults)
    ]
    whole = ", ".join(f"{heard.consumer} {heard.expected:,}" for heard in seen.heard)
    return _none(name, faults, f"{detail} ({whole})")


def _sums(seen: Evidence) -> Mark:
    faults = [f"{heard.consumer}: {heard.sums_wrong} keys" for heard in seen.heard if heard.sums_wrong]
    return _none("sums_agree", faults, "what was added up event by event is the number of facts of each key")


def _facts_are_changes(seen: Evidence) -> Mark:
    found = seen.publishing
    faults = []
    if found.versions_wrong:
        faults.append(f"{found.versions_wrong} versions without their fact, or facts without their change")
    if found.torn:
        faults.append(f"{found.torn} transactions are there in part")
    return _none("facts_are_changes", faults, f"{seen.published:,} facts, one for each change, whole transactions only")


def _promises_kept(seen: Evidence) -> Mark:
    found = seen.publishing
    faults = []
    if found.promised_missing:
        faults.append(f"{found.promised_missing} facts whose COMMIT was acknowledged are gone")
    if found.rolled_back_found:
        faults.append(f"{found.rolled_back_found} facts were rolled back and are there")
    return _none("commits_kept", faults, f"all facts of {seen.transactions:,} acknowledged transactions are there")


def _cursors(seen: Evidence) -> Mark:
    if not seen.cursor_samples:
        return Mark("cursors_never_go_back", False, "no cursor was ever seen")
    return _none("cursors_never_go_back", seen.regressions, f"{seen.cursor_samples:,} looks at the cursors")


def _all_struck(seen: Evidence) -> Mark:
    """Not a promise of the log but of the drill: a blow that never fell proves nothing."""
    missed = [f"{kill.kind} of {kill.victim}" for kill in seen.kills if not kill.struck]
    if len(seen.kills) < seen.planned_kills:
        missed.append(f"{seen.planned_kills - len(seen.kills)} came too late: ask for more events or fewer kills")
    return _none("every_blow_fell", missed, f"{len(seen.kills)} blows, each at its point")


def _taken_over(seen: Evidence) -> Mark:
    bound = seen.taken_over_leases * seen.wanted.lease_s
    took = [(kill.victim, kill.back_after_s) for kill in seen.kills if kill.struck and kill.kind.startswith(PAUSE)]
    faults = [f"{victim}: {after}" for victim, after in took if after is None or after > bound]
    slowest = max((after for _, after in took if after is not None), default=0.0)
    return _none(
        "taken_over_in_time", faults, f"frozen workers' partitions had others after {slowest:.1f} s, bound {bound:g} s"
    )


def worst(heard: Sequence[Heard], count: Callable[[Faults], int]) -> int:
    """The sum over all consumers."""
    return sum(count(one.faults) for one in heard)
