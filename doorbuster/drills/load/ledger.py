"""Counts and times what became of every request, cheaply while the load runs and exactly when it is over."""

from array import array
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple, TypeVar

from doorbuster.drills.load.result import (
    CONNECTION_ERROR,
    OUTCOME_NAMES,
    SHED,
    TIMEOUT,
    Became,
    Latency,
    Result,
    Retries,
    Tally,
    TryRow,
)

# A server that puts something unique into "code" must not grow the table without bound.
MAX_KINDS = 1_000
MAX_FIELD_BYTES = 128

Key = TypeVar("Key", int, str)


_Found = tuple[bytes | None, bytes | None, bytes | None]


class Try(NamedTuple):
    """Which request, which time, and when; sent is NOT_SENT when it never left."""

    request: int
    tag: str
    try_no: int
    due: float
    sent: float
    done: float


class Clocked(NamedTuple):
    """Process figures that the ledger only passes on."""

    started_at: str
    started_unix_s: float
    wall_s: float
    window_s: float
    cpu_s: float
    cpu_setup_s: float


class Counted(NamedTuple):
    """Connection figures that the ledger only passes on."""

    not_issued: int
    max_in_flight: int
    max_backlog: int
    connects: int
    connect_failures: int
    stopped: bool
    ran_out: bool
    error: str | None


class _Kind:
    """All requests that ended the same way: (tag, status, code)."""

    __slots__ = ("count", "in_window", "latencies_s")

    def __init__(self) -> None:
        self.count = 0
        self.in_window = 0
        self.latencies_s = array("d")


class Ledger:
    """Guards the running counts. Times are seconds since the start; the window is [warmup_s, end_s]."""

    def __init__(self, *, keep_rows: bool, extract: bool, warmup_s: float) -> None:
        self.done = 0
        self.failures = 0
        self.last_done_s = 0.0
        self.end_s = float("inf")
        self._keep_rows = keep_rows
        self._extract = extract
        self._warmup_s = warmup_s
        self._kinds: dict[tuple[str, int, bytes | None], _Kind] = {}
        self._became: Counter[tuple[int, int]] = Counter()
        self._retry_tries = 0
        self._rows: list[tuple[Try, int, int, _Found]] = []

    def tried(self, at: Try, status: int, size: int, body: bytes) -> None:
        """One try ended. Kept as a row when the plan says "each"."""
        if at.try_no > 1:
            self._retry_tries += 1
        if not self._keep_rows:
            return
        found: _Found = (None, None, None)
        if self._extract and body:
            found = (field(body, b"id"), field(body, b"code") if status >= 400 else None, field(body, b"state"))
        self._rows.append((at, status, size, found))

    def ended(self, tag: str, status: int, body: bytes, due: float, done: float) -> None:
        """A request has its final outcome."""
        # Only a problem has a code; an order may well carry a coupon's.
        code = field(body, b"code") if status >= 400 and self._extract else None
        key = (tag, status, code)
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds.setdefault(key if len(self._kinds) < MAX_KINDS else ("", status, b"other"), _Kind())
        kind.count += 1
        self.done += 1
        self.last_done_s = done
        if status <= 0:
            self.failures += 1
        if self._warmup_s <= done <= self.end_s:
            kind.in_window += 1
        if due >= self._warmup_s and status != CONNECTION_ERROR:
            kind.latencies_s.append(done - due)

    def retried(self, first_status: int, last_status: int) -> None:
        """A request that needed more than one try has its final outcome."""
        self._became[first_status, last_status] += 1

    def result(self, clocked: Clocked, counted: Counted) -> Result:
        """Everything, summed up."""
        tallies = [
            _tally(tag, status, code, kind, clocked.window_s)
            for (tag, status, code), kind in sorted(
                self._kinds.items(), key=lambda item: (*item[0][:2], item[0][2] or b"")
            )
        ]
        ends = _sums((tally.status, tally.count) for tally in tallies)
        answered_in_window = sum(tally.in_window for tally in tallies if tally.status > 0)
        by_tag: dict[str, list[array[float]]] = {}
        for (tag, _, _), kind in self._kinds.items():
            by_tag.setdefault(tag, []).append(kind.latencies_s)
        return Result(
            **clocked._asdict(),
            **counted._asdict(),
            requests=self.done,
            answered=sum(count for status, count in ends.items() if status > 0),
            connection_errors=ends.get(CONNECTION_ERROR, 0),
            timeouts=ends.get(TIMEOUT, 0),
            shed=ends.get(SHED, 0),
            by_status={OUTCOME_NAMES.get(status, str(status)): count for status, count in sorted(ends.items())},
            by_code=_sums((tally.code, tally.count) for tally in tallies if tally.code),
            rate_per_s=_per(answered_in_window, clocked.window_s),
            latency_ms=latency(value for arrays in by_tag.values() for part in arrays for value in part),
            latency_by_tag_ms={
                tag: latency(value for part in arrays for value in part) for tag, arrays in sorted(by_tag.items())
            },
            tallies=tallies,
            retries=Retries(
                requests=self._became.total(),
                tries=self._retry_tries,
                became=[Became(first, last, count) for (first, last), count in sorted(self._became.items())],
            ),
            cpu_share_of_core=_per(clocked.cpu_s, clocked.wall_s),
            cpu_us_per_request=_per(clocked.cpu_s * 1e6, self.done),
            rows=[_row(*row) for row in self._rows],
        )


def field(body: bytes, name: bytes) -> bytes | None:
    """The first string value under that name anywhere in a JSON text: a search, so escapes stay as they are."""
    for mark in (b'"%b":"' % name, b'"%b": "' % name):
        found = body.find(mark)
        if found >= 0:
            start = found + len(mark)
            end = body.find(b'"', start, start + MAX_FIELD_BYTES)
            return body[start:end] if end >= 0 else None
    return None


def latency(seconds: Iterable[float]) -> Latency:
    """Nearest-rank percentiles over all values, nothing bucketed."""
    ordered = sorted(seconds)
    if not ordered:
        return Latency()

    def rank(per_mille: int) -> float:
        return round(ordered[-(-per_mille * len(ordered) // 1000) - 1] * 1000, 3)

    return Latency(
        count=len(ordered),
        mean=round(sum(ordered) / len(ordered) * 1000, 3),
        p50=rank(500),
        p90=rank(900),
        p99=rank(990),
        p999=rank(999),
        max=rank(1000),
    )


def _order(item: tuple[tuple[str, int, bytes | None], _Kind]) -> tuple[str, int, bytes]:
    tag, status, code = item[0]
    return tag, status, code or b""


def _tally(tag: str, status: int, code: bytes | None, kind: _Kind, window_s: float) -> Tally:
    return Tally(
        tag=tag,
        status=status,
        code=_text(code) or "",
        count=kind.count,
        in_window=kind.in_window,
        rate_per_s=_per(kind.in_window, window_s),
        latency_ms=latency(kind.latencies_s),
    )


def _row(at: Try, status: int, size: int, found: _Found) -> TryRow:
    found_id, code, state = map(_text, found)
    return TryRow(at.request, at.tag, at.try_no, at.due, at.sent, at.done, status, size, found_id, code, state)


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode("utf-8", "replace")


def _sums(pairs: Iterable[tuple[Key, int]]) -> dict[Key, int]:
    sums: dict[Key, int] = {}
    for key, count in pairs:
        sums[key] = sums.get(key, 0) + count
    return sums


def _per(amount: float, whole: float) -> float:
    return round(amount / whole, 3) if whole > 0 else 0.0
