"""What the crowd was told: the load's rows read as orders, refusals and repeats. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from doorbuster.drills.load import CONNECTION_ERROR, TIMEOUT, Result, TryRow, in_flight_at
from doorbuster.drills.load.result import OUTCOME_NAMES
from doorbuster.drills.timedeal.crowd_plan import Crowd
from doorbuster.drills.timedeal.shop_findings import Answers, Became, Kill, KillReport, Slice

EXPECTED_REFUSALS = frozenset({"sold_out", "limit_exceeded", "price_changed"})
"""What a shopper of this crowd may be refused for."""
COME_AGAIN = {503: frozenset({"unavailable", "outcome_unknown"}), 504: frozenset({"upstream_timeout"})}
"""Statuses and codes that say: send the same request again."""
SLICE_S = 0.25
MAX_SLICES = 400
_NAMED_MOST = 20


def read_answers(crowd: Crowd, result: Result) -> Answers:
    """Everything the marks and the report need from the rows of a load that recorded each try."""
    last = _last_tries(result.rows)
    kinds: Counter[str] = Counter(_kind(row) for row in last.values())
    ids_of_key: defaultdict[str, set[str]] = defaultdict(set)
    acknowledged: set[str] = set()
    for row in result.rows:
        if row.status in (201, 202) and row.id:
            ids_of_key[crowd.wishes[row.index].key].add(row.id)
            if row.status == 201:
                acknowledged.add(row.id)
    odd = Counter(f"{_name(row.status)} {row.code or 'without a code'}" for row in result.rows if _is_odd(row))
    return Answers(
        sent=len(last),
        tries=len(result.rows),
        by_kind=dict(kinds.most_common()),
        acknowledged=frozenset(acknowledged),
        accepted=frozenset(one for ids in ids_of_key.values() for one in ids),
        split_keys=tuple(key for key, ids in ids_of_key.items() if len(ids) > 1)[:_NAMED_MOST],
        unanswered=sum(row.status in (CONNECTION_ERROR, TIMEOUT) or row.status >= 500 for row in last.values()),
        not_issued=result.not_issued,
        odd_tries=dict(odd),
        retried=result.retries.requests,
        retry_tries=result.retries.tries,
        became=tuple(
            Became(_name(one.first_status), _name(one.last_status), one.requests) for one in result.retries.became
        ),
        error=result.error,
    )


def read_kills(kills: Sequence[Kill], result: Result, found: frozenset[str]) -> tuple[KillReport, ...]:
    """Each kill against the exact times of the tries; `found` are the order ids that exist afterwards."""
    reports = []
    for kill in kills:
        moment = kill.at_unix_s - result.started_unix_s
        before = {row.id for row in result.rows if row.status == 201 and row.done <= moment and row.id}
        reports.append(
            KillReport(
                what=kill.what,
                victim=kill.victim,
                pid=kill.pid,
                at_s=round(moment, 3),
                sent_before=len({row.index for row in result.rows if 0 <= row.sent <= moment}),
                in_flight=len(in_flight_at(result, kill.at_unix_s)),
                acknowledged_before=len(before),
                found_after=len(before & found),
                back_after_s=kill.back_after_s,
            )
        )
    return tuple(reports)


def read_slices(result: Result) -> tuple[Slice, ...]:
    """The run in slices of SLICE_S (longer when it was long), for the charts."""
    if not result.rows:
        return ()
    width = max(SLICE_S, result.wall_s / MAX_SLICES)
    last = _last_tries(result.rows)
    first_sent = {row.index: row.sent for row in result.rows if row.try_no == 1}
    kinds: defaultdict[int, Counter[str]] = defaultdict(Counter)
    latencies: defaultdict[int, list[float]] = defaultdict(list)
    failed: Counter[int] = Counter()
    for row in result.rows:
        place = int(row.done / width)
        if row.status <= 0 or row.status >= 500:
            failed[place] += 1
        if last[row.index] is row:
            kinds[place][_kind(row)] += 1
            latencies[place].append((row.done - first_sent[row.index]) * 1000)
    return tuple(
        Slice(
            from_s=round(place * width, 3),
            kinds=dict(kinds[place]),
            failed_tries=failed[place],
            p50_ms=_quantile(latencies[place], 0.5),
            p99_ms=_quantile(latencies[place], 0.99),
        )
        for place in range(int(max(row.done for row in result.rows) / width) + 1)
    )


def _last_tries(rows: Sequence[TryRow]) -> dict[int, TryRow]:
    last: dict[int, TryRow] = {}
    for row in rows:
        if row.index not in last or row.try_no >= last[row.index].try_no:
            last[row.index] = row
    return last


def _kind(row: TryRow) -> str:
    """One word for an answer: the order's state, or the code of the refusal, or how it failed."""
    if row.status in (201, 202):
        return row.state or str(row.status)
    return row.code or _name(row.status)


def _is_odd(row: TryRow) -> bool:
    """An answer that nobody who acts on codes could use. A connection that broke is no answer."""
    if row.status in (CONNECTION_ERROR, TIMEOUT):
        return False
    if row.status in (201, 202):
        return not row.id or not row.state
    if row.status in COME_AGAIN:
        return row.code not in COME_AGAIN[row.status]
    return row.status >= 500 or row.code not in EXPECTED_REFUSALS


def _name(status: int) -> str:
    return OUTCOME_NAMES.get(status, str(status))


def _quantile(values: list[float], share: float) -> float:
    if not values:
        return 0.0
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)
