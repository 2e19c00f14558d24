"""What committed rows prove: which facts were lost, heard twice, heard out of order, or never happened. Pure functions.

The outbox says what became true, the effects say what was made of it, and the writers' notes say what was promised.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec


class Published(msgspec.Struct, frozen=True):
    """A fact as it stands in the outbox. `transaction` names the write it came from, which published `of` facts."""

    id: str
    key: str
    version: int
    type: str
    transaction: str
    of: int
    committed_at: float


class Effect(msgspec.Struct, frozen=True):
    """One event as a consumer took it in, in the order of its numbers. `owner` is who the cursor's row said may."""

    id: str
    partition: int
    key: str
    version: int
    worker: str
    owner: str | None
    at: float


class Faults(msgspec.Struct, frozen=True):
    """What one consumer did wrong. All are counts of events."""

    lost: int = 0
    duplicated: int = 0
    inversions: int = 0
    gaps: int = 0
    invented: int = 0
    unfenced: int = 0


class PublishFaults(msgspec.Struct, frozen=True):
    """What the publishing side did wrong: facts without their change, halves of transactions, broken promises."""

    versions_wrong: int = 0
    torn: int = 0
    promised_missing: int = 0
    rolled_back_found: int = 0


class CursorSample(msgspec.Struct, frozen=True):
    """Where one cursor stood at one look: snapshots as PostgreSQL writes them, `xmin:xmax:xip,xip`."""

    consumer: str
    partition: int
    owner: str
    epoch: int
    snapshot: str
    upto: str | None
    last_seq: int


def faults(published: Sequence[Published], types: frozenset[str], effects: Sequence[Effect]) -> Faults:
    """Compare what one consumer should have heard with its effects, which are in the order in which they were made.

    `inversions`: events whose first effect came after that of a later event of their key. `gaps`: events handled while
    an earlier one of their key had never been handled. `invented`: effects of facts that are not in the outbox.
    `unfenced`: effects of a worker at whose commit the cursor belonged to another one.
    """
    wanted = {fact.id: fact for fact in published if fact.type in types}
    due: dict[str, list[int]] = defaultdict(list)
    for fact in wanted.values():
        due[fact.key].append(fact.version)
    place = {key: {version: n for n, version in enumerate(sorted(versions))} for key, versions in due.items()}
    times: Counter[str] = Counter()
    furthest: dict[str, int] = defaultdict(lambda: -1)
    heard: dict[str, set[int]] = defaultdict(set)
    next_due: dict[str, int] = defaultdict(int)
    inversions = gaps = invented = 0
    for effect in effects:
        if effect.id not in wanted:
            invented += 1
            continue
        times[effect.id] += 1
        if times[effect.id] > 1:
            continue
        n = place[effect.key][effect.version]
        inversions += n < furthest[effect.key]
        gaps += n > next_due[effect.key]
        furthest[effect.key] = max(furthest[effect.key], n)
        heard[effect.key].add(n)
        while next_due[effect.key] in heard[effect.key]:
            next_due[effect.key] += 1
    return Faults(
        lost=len(wanted) - len(times),
        duplicated=sum(times.values()) - len(times),
        inversions=inversions,
        gaps=gaps,
        invented=invented,
        unfenced=_unfenced(effects),
    )


def _unfenced(effects: Iterable[Effect]) -> int:
    """Effects under somebody else's name. Each worker has one name in the cursors: the one of its first effect."""
    name_of: dict[str, str] = {}
    worker_of: dict[str, str] = {}
    wrong = 0
    for effect in effects:
        if effect.owner is not None:
            name = name_of.setdefault(effect.worker, effect.owner)
            worker = worker_of.setdefault(effect.owner, effect.worker)
            wrong += name != effect.owner or worker != effect.worker
    return wrong


def publish_faults(
    published: Sequence[Published], versions: Mapping[str, int], promised: Mapping[str, int], rolled_back: Iterable[str]
) -> PublishFaults:
    """Compare the outbox with the aggregates (`versions` by key) and with what writers were told at COMMIT.

    `promised` are the transactions whose COMMIT was acknowledged, with their number of facts; `rolled_back` those that
    were rolled back. A transaction whose COMMIT got no answer may stand there or not, but whole.
    """
    by_key: dict[str, list[int]] = defaultdict(list)
    found: Counter[str] = Counter()
    size: dict[str, int] = {}
    for fact in published:
        by_key[fact.key].append(fact.version)
        found[fact.transaction] += 1
        size[fact.transaction] = fact.of
    wrong = 0
    for key in versions.keys() | by_key.keys():
        have, want = Counter(by_key[key]), Counter(range(1, versions.get(key, 0) + 1))
        wrong += sum(((have - want) + (want - have)).values())
    return PublishFaults(
        versions_wrong=wrong,
        torn=sum(count != size[name] for name, count in found.items()),
        promised_missing=sum(max(0, count - found[name]) for name, count in promised.items()),
        rolled_back_found=sum(found[name] for name in rolled_back),
    )


def went_back(before: CursorSample, after: CursorSample) -> bool:
    """Whether a cursor saw less than before. Both are of the same consumer and partition."""
    if before.snapshot != after.snapshot:
        return not _sees_all_of(after.snapshot, before.snapshot)
    if before.upto is None:
        return False
    return after.upto != before.upto or after.last_seq < before.last_seq


def _sees_all_of(later: str, earlier: str) -> bool:
    """Whether what the earlier snapshot sees, the later one sees too."""
    _, later_end, later_open = _snapshot(later)
    _, earlier_end, earlier_open = _snapshot(earlier)
    return later_end >= earlier_end and {xid for xid in later_open if xid < earlier_end} <= earlier_open


def _snapshot(text: str) -> tuple[int, int, set[int]]:
    low, high, still_open = text.split(":")
    return int(low), int(high), {int(xid) for xid in still_open.split(",") if xid}


def epoch_fault(before: CursorSample, after: CursorSample) -> bool:
    """Whether a partition changed hands without a higher epoch, or its epoch fell."""
    if after.epoch < before.epoch:
        return True
    return after.epoch == before.epoch and bool(after.owner) and bool(before.owner) and after.owner != before.owner


def delays_ms(published: Sequence[Published], effects: Sequence[Effect]) -> list[float]:
    """Milliseconds from the commit of each fact to its first effect, sorted."""
    committed = {fact.id: fact.committed_at for fact in published}
    first: dict[str, float] = {}
    for effect in effects:
        if effect.id in committed:
            first.setdefault(effect.id, effect.at)
    return sorted((at - committed[one]) * 1_000 for one, at in first.items())


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which this share (0 to 1) of the sorted values lies; 0 without values."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
