"""Runs a plan: each slot (a shopper) sends, waits and retries; a closed or an open loop hands it the next request."""

import asyncio
import resource
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime

from doorbuster.drills.load.dialer import Dialer, Told
from doorbuster.drills.load.ledger import Clocked, Counted, Ledger, Try
from doorbuster.drills.load.payload import request_source
from doorbuster.drills.load.plan import Plan, check_plan, due_times, requests_to_issue
from doorbuster.drills.load.result import CONNECTION_ERROR, NOT_SENT, SHED, TIMEOUT, Progress, Result
from doorbuster.drills.load.wire import Wire

WATCH_EVERY_S = 0.025
STOP_DRAIN_S = 2.0
# An open loop with every slot busy looks at its backlog this often; uvloop's timers count whole milliseconds.
BUSY_TICK_S = 0.02
TIMER_STEP_S = 0.001

_FAILURES = {"connection_error": CONNECTION_ERROR, "timeout": TIMEOUT}


class _Slot:
    """One shopper: a connection and the request it holds (index -1: none)."""

    __slots__ = (
        "due",
        "first_status",
        "index",
        "last_status",
        "losses",
        "number",
        "on_wire",
        "payload",
        "sent",
        "tag",
        "timer",
        "try_no",
        "wire",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.wire: Wire | None = None
        self.index = -1
        self.on_wire = False
        self.try_no = 0
        self.due = 0.0
        self.sent = 0.0
        self.first_status = 0
        self.last_status = 0
        self.losses = 0
        self.payload = b""
        self.tag = ""
        self.timer: asyncio.TimerHandle | None = None


class Generator:
    """Guards the state of a run. Everything happens on one event loop; times are seconds since the start."""

    def __init__(self, plan: Plan, on_progress: Callable[[Progress], None] | None) -> None:
        check_plan(plan)
        self._plan = plan
        self._on_progress = on_progress
        self._source = request_source(plan)
        self._total = requests_to_issue(plan)
        self._dues = due_times(plan) if plan.mode == "open" else None
        self._ledger = Ledger(keep_rows=plan.record == "each", extract=plan.extract, warmup_s=plan.warmup_s)
        retry = plan.retry_same_key
        self._retry_on = frozenset(_FAILURES.get(str(kind), kind) for kind in retry.on) if retry else frozenset()
        self._max_tries = retry.max_tries if retry else 1
        self._retry_backoff_s = retry.backoff_ms / 1000 if retry else 0.0
        self._slots = [_Slot(number) for number in range(plan.connections)]
        self._idle: deque[_Slot] = deque()
        self._dialer = Dialer(plan, self, Told(self._connected, self._gave_up))
        self._loop = asyncio.get_running_loop()
        self._zero = time.monotonic()
        self._begun = False
        self._closing = False
        self._stopped = False
        self._next = 0
        self._released = 0
        self._holding = 0
        self._in_flight = 0
        self._max_in_flight = 0
        self._max_backlog = 0
        self._alive = plan.connections
        self._drain_until_s = float("inf")
        self._ticker: asyncio.TimerHandle | None = None

    async def run(self) -> Result:
        """Connect, send, drain; the Result. LoadFailed when no connection could be made at all."""
        cpu_entry = _cpu_s()
        try:
            await self._dialer.dial_all()
            cpu_start = _cpu_s()
            started = time.time()
            self._begin()
            await self._watch()
            wall_s, cpu_s = self._now(), _cpu_s() - cpu_start
        finally:
            await self._tear_down()
        return self._ledger.result(
            Clocked(
                started_at=datetime.fromtimestamp(started, UTC).isoformat(),
                started_unix_s=started,
                wall_s=round(wall_s, 6),
                window_s=round(max(0.0, self._window_end_s(wall_s) - self._plan.warmup_s), 6),
                cpu_s=round(cpu_s, 6),
                cpu_setup_s=round(cpu_start - cpu_entry, 6),
            ),
            Counted(
                not_issued=self._total - self._next if self._plan.duration_s is None or self._dues else 0,
                max_in_flight=self._max_in_flight,
                max_backlog=self._max_backlog,
                connects=self._dialer.connects,
                connect_failures=self._dialer.failures,
                stopped=self._stopped,
                ran_out=self._ran_out(),
                error=self._cut_short(wall_s),
            ),
        )

    def stop(self) -> None:
        """Start nothing new, give what is out STOP_DRAIN_S, then end with what there is."""
        if self._stopped or not self._begun:
            self._stopped = True
            return
        self._stopped = True
        self._ledger.end_s = min(self._ledger.end_s, self._now())
        self._drain_until_s = min(self._drain_until_s, self._now() + STOP_DRAIN_S)

    # The loop's clockwork

    def _begin(self) -> None:
        self._zero = time.monotonic()
        self._begun = True
        plan = self._plan
        span_s = self._total / plan.rate_per_s if self._dues and plan.rate_per_s else float("inf")
        self._ledger.end_s = min(span_s, float("inf") if plan.duration_s is None else plan.duration_s)
        self._drain_until_s = plan.limit_s
        if self._ledger.end_s < float("inf"):
            drain_s = plan.timeout_s if plan.drain_s is None else plan.drain_s
            self._drain_until_s = min(plan.limit_s, self._ledger.end_s + drain_s)
        for slot in self._slots:
            if slot.wire is not None:
                self._next_for(slot)
        if self._dues and self._ticker is None:
            self._arm(0.0)

    async def _watch(self) -> None:
        """Until all is answered or the drain is over: find timeouts, tell the progress."""
        told_s, told_done = 0.0, 0
        pause_s = min(WATCH_EVERY_S, self._plan.timeout_s / 4)
        while True:
            now = self._now()
            over = self._alive == 0 or now >= self._drain_until_s or (not self._holding and self._nothing_left(now))
            if now - told_s >= self._plan.progress_every_s or over:
                self._tell(now, told_s, told_done)
                told_s, told_done = now, self._ledger.done
            if over:
                return
            oldest = now - self._plan.timeout_s
            for slot in self._slots:
                if slot.on_wire and slot.sent < oldest:
                    self._drop(slot)
                    self._outcome(slot, TIMEOUT, b"", 0)
            await asyncio.sleep(pause_s)

    def _tell(self, now: float, told_s: float, told_done: int) -> None:
        if self._on_progress is None:
            return
        rate = (self._ledger.done - told_done) / (now - told_s) if now > told_s else 0.0
        self._on_progress(
            Progress(
                elapsed_s=round(now, 3),
                done=self._ledger.done,
                inflight=self._in_flight,
                rate_per_s=round(rate, 1),
                backlog=self._released - self._next if self._dues else 0,
                failures=self._ledger.failures,
                expected=self._total if self._dues or self._plan.duration_s is None else None,
            )
        )

    def _nothing_left(self, now: float) -> bool:
        if self._next >= self._total or self._stopped:
            return True
        return self._dues is None and now >= self._ledger.end_s

    def _tick(self) -> None:
        """Open loop: hand what is due to idle slots, shed the oldest above the limit, sleep until the next is due."""
        self._ticker = None
        if self._closing or self._stopped or self._next >= self._total:
            return
        now = self._now()
        self._release(now)
        while self._next < self._released and self._idle:
            self._start(self._idle.popleft(), now)
        while self._released - self._next > self._plan.max_backlog:
            self._shed(now)
        self._max_backlog = max(self._max_backlog, self._released - self._next)
        self._arm(now)

    def _arm(self, now: float) -> None:
        """Tick again when the next request is due; with no slot free, only now and then, to look at the backlog."""
        assert self._dues is not None
        pause_s = BUSY_TICK_S
        if self._idle and self._released < self._total:
            pause_s = max(TIMER_STEP_S, self._dues[self._released] - now)
        if self._ticker is not None:
            self._ticker.cancel()
        self._ticker = self._loop.call_later(pause_s, self._tick)

    def _release(self, now: float) -> None:
        """Count what has become due."""
        assert self._dues is not None
        dues, total, released = self._dues, self._total, self._released
        while released < total and dues[released] <= now:
            released += 1
        self._released = released

    def _shed(self, now: float) -> None:
        assert self._dues is not None
        index, self._next = self._next, self._next + 1
        due, tag = self._dues[index], self._source.tag(index % self._source.size)
        self._ledger.tried(Try(index, tag, 1, due, NOT_SENT, now), SHED, 0, b"")
        self._ledger.ended(tag, SHED, b"", due, now)

    # One slot: take, send, outcome

    def _next_for(self, slot: _Slot) -> None:
        """A connected slot without a request: give it the next one, or let it idle."""
        now = self._now()
        if self._dues:
            self._release(now)
            if self._next < self._released and not self._stopped:
                self._start(slot, now)
            else:
                self._idle.append(slot)
                if len(self._idle) == 1:
                    self._arm(now)  # the tick was slow while nobody was free
        elif not self._nothing_left(now):
            self._start(slot, now)

    def _start(self, slot: _Slot, now: float) -> None:
        index, self._next = self._next, self._next + 1
        position = index % self._source.size
        slot.index = index
        slot.due = self._dues[index] if self._dues else now
        slot.tag = self._source.tag(position)
        slot.payload = self._source.payload(position)
        slot.try_no = 0
        self._holding += 1
        self._send(slot, now)

    def _send(self, slot: _Slot, now: float) -> None:
        assert slot.wire is not None and not slot.on_wire
        slot.try_no += 1
        slot.sent = now
        slot.on_wire = True
        self._in_flight += 1
        if self._in_flight > self._max_in_flight:
            self._max_in_flight = self._in_flight
        slot.wire.send(slot.payload)

    def answered(self, wire: Wire, status: int, body: bytes, size: int, reusable: bool) -> None:
        slot = self._slots[wire.shopper]
        if slot.wire is not wire:
            return  # given up before, by a timeout
        asked = slot.on_wire
        slot.losses = 0 if asked else slot.losses + 1
        if not reusable or not asked:
            # What comes unasked (a 408 for an idle connection) must not be taken for the next answer.
            self._drop(slot, politely=True)
        if asked:
            self._outcome(slot, status, body, size)

    def lost(self, wire: Wire) -> None:
        slot = self._slots[wire.shopper]
        if slot.wire is not wire or self._closing:
            return
        slot.losses += 1
        self._drop(slot)
        if slot.on_wire:
            self._outcome(slot, CONNECTION_ERROR, b"", 0)

    def _outcome(self, slot: _Slot, status: int, body: bytes, size: int) -> None:
        """A try ended: again with the same bytes, or it was the last one."""
        now = self._now()
        slot.on_wire = False
        self._in_flight -= 1
        tried = Try(slot.index, slot.tag, slot.try_no, slot.due, slot.sent, now)
        self._ledger.tried(tried, status, size, body)
        slot.last_status = status
        if slot.try_no == 1:
            slot.first_status = status
        if slot.try_no < self._max_tries and status in self._retry_on and now < self._drain_until_s:
            slot.timer = self._loop.call_later(self._retry_backoff_s, self._again, slot)
            return
        self._end(slot, status, body, now)
        if slot.wire is not None:
            self._next_for(slot)

    def _again(self, slot: _Slot) -> None:
        slot.timer = None
        if slot.wire is not None:
            self._send(slot, self._now())

    def _end(self, slot: _Slot, status: int, body: bytes, now: float) -> None:
        self._ledger.ended(slot.tag, status, body, slot.due, now)
        if slot.try_no > 1:
            self._ledger.retried(slot.first_status, status)
        slot.index = -1
        self._holding -= 1

    # Connections

    def _connected(self, number: int, wire: Wire) -> None:
        slot = self._slots[number]
        slot.wire = wire
        if slot.index < 0:
            if self._begun:
                self._next_for(slot)
        elif slot.timer is None:
            self._send(slot, self._now())

    def _gave_up(self, number: int) -> None:
        """This shopper goes home; the request it still wanted to repeat ends as its last try did."""
        self._alive -= 1
        slot = self._slots[number]
        if slot.index >= 0:
            self._end(slot, slot.last_status, b"", self._now())

    def _drop(self, slot: _Slot, politely: bool = False) -> None:
        """Part with the connection and look for another; what still comes from the old one is ignored."""
        wire, slot.wire = slot.wire, None
        if wire is not None:
            (wire.close if politely else wire.abort)()
        if slot in self._idle:
            self._idle.remove(slot)
        if not self._closing:
            self._dialer.dial(slot.number, slot.losses)

    async def _tear_down(self) -> None:
        """Whatever has no outcome yet gets one: unanswered is a timeout, waiting to be repeated stays what it was."""
        self._closing = True
        await self._dialer.close()
        self._max_tries = 0
        for slot in self._slots:
            wire, slot.wire = slot.wire, None
            if wire is not None:
                wire.abort()
            if slot.on_wire:
                self._outcome(slot, TIMEOUT, b"", 0)
            elif slot.index >= 0:
                self._end(slot, slot.last_status, b"", self._now())
        while self._dues and not self._stopped and self._next < self._released:
            self._shed(self._now())
        await asyncio.sleep(0)

    # Figures

    def _now(self) -> float:
        return time.monotonic() - self._zero

    def _ran_out(self) -> bool:
        plan = self._plan
        if plan.duration_s is None or plan.cycle or self._stopped or self._next < self._total:
            return False
        return self._total < plan.duration_s * plan.rate_per_s - 1 if plan.rate_per_s and self._dues else True

    def _cut_short(self, wall_s: float) -> str | None:
        if not self._alive:
            return f"every connection was lost for good: {self._dialer.last_refusal}"
        return f"limit_s = {self._plan.limit_s} was reached" if wall_s >= self._plan.limit_s else None

    def _window_end_s(self, wall_s: float) -> float:
        """The end of the load as planned, or, when the requests ran out before, the last answer."""
        if self._dues is None and self._next >= self._total:
            return min(self._ledger.end_s, self._ledger.last_done_s)
        return min(self._ledger.end_s, wall_s)


async def run(plan: Plan, on_progress: Callable[[Progress], None] | None = None) -> Result:
    """Run the plan on this event loop. BadPlan or LoadFailed at the start; losses on the way are in the Result."""
    return await Generator(plan, on_progress).run()


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
