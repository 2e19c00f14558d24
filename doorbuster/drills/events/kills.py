"""Who is struck, where and when: drawn from the seed, done while there is traffic."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from doorbuster.drills.events import hooks, plants
from doorbuster.drills.events.crew import Crew, Slot
from doorbuster.drills.events.findings import PAUSE, Kill, Wanted
from doorbuster.drills.events.parts import FAR, NEAR, PUBLISHER
from doorbuster.drills.events.place import Place, connect
from doorbuster.drills.events.server import KillableServer
from doorbuster.drills.events.transport import Carrier
from doorbuster.drills.events.watch import GONE, Recorder

WRITER, CONSUMER, DATABASE, TRANSPORT = "writer", "consumer", "database", "transport"
POINTS: dict[str, tuple[str, str]] = {
    "before_commit": (hooks.WRITE, hooks.BEFORE),
    "at_commit": (hooks.WRITE, hooks.AT),
    "after_commit": (hooks.WRITE, hooks.AFTER),
    "before_lease": (hooks.LEASE, hooks.BEFORE),
    "at_lease": (hooks.LEASE, hooks.AT),
    "after_lease": (hooks.LEASE, hooks.AFTER),
    "after_read": (hooks.WRITE, hooks.READ),
    "in_handler": (hooks.WRITE, hooks.INSIDE),
}
ANYTIME = "anytime"
POSTMASTER, BACKEND_OF_WRITER, BACKEND_OF_CONSUMER = "postmaster", "backend_of_writer", "backend_of_consumer"
KINDS: dict[str, tuple[str, ...]] = {
    WRITER: ("before_commit", "at_commit", "after_commit", ANYTIME),
    CONSUMER: (
        "before_commit", "at_commit", "after_commit", "after_read", ANYTIME, "before_lease", "at_lease", "after_lease",
    ),
    DATABASE: (POSTMASTER, BACKEND_OF_WRITER, BACKEND_OF_CONSUMER),
    PAUSE: ("after_read", "in_handler", "before_commit", ANYTIME),
}  # fmt: skip
_DECK = (CONSUMER, WRITER, DATABASE, CONSUMER, WRITER, CONSUMER, CONSUMER, WRITER, DATABASE, CONSUMER)
_DECK_WITH_PARTS = (
    TRANSPORT, CONSUMER, WRITER, CONSUMER, TRANSPORT, DATABASE, CONSUMER, WRITER, CONSUMER, CONSUMER,
)  # fmt: skip
_FIRST_SHARE, _LAST_SHARE = 0.05, 0.9
_STRIKES_WITHIN_S = 20.0
_AT_WORK_WITHIN_S = 15.0
_TAKEN_WITHIN_LEASES = 6.0
_LOOK_S = 0.05
_KILLS_PER_PAUSE = 5


class Blow(msgspec.Struct, frozen=True):
    """One planned blow: at which share of the facts, whom, where."""

    share: float
    whom: str
    where: str

    @property
    def kind(self) -> str:
        return f"{self.whom}_{self.where}"


def plan(wanted: Wanted, parts: tuple[str, ...] = ()) -> list[Blow]:
    """All blows of a run in their order: as many kills as asked for, and a frozen worker for every five of them.

    `parts` are what the transport has beside PostgreSQL that can be killed.
    """
    dice = random.Random(f"{wanted.seed}/blows")  # noqa: S311  (a repeatable storm, no secret)
    if wanted.plant:
        victims = _for_plant(wanted)
    else:
        deck = _DECK_WITH_PARTS if parts else _DECK
        victims = [deck[n % len(deck)] for n in range(wanted.kills)]
        pauses = -(-wanted.kills // _KILLS_PER_PAUSE)
        for n in range(pauses):
            victims.insert(min(len(victims), 2 + n * (_KILLS_PER_PAUSE + 1)), PAUSE)
    kinds = {**KINDS, TRANSPORT: parts}
    decks = {whom: dice.sample(points, len(points)) for whom, points in kinds.items()}
    if wanted.plant:
        decks = {CONSUMER: ["after_commit"], PAUSE: ["after_read"]}
    width = (_LAST_SHARE - _FIRST_SHARE) / max(1, len(victims))
    blows = []
    for n, whom in enumerate(victims):
        nth = victims[:n].count(whom)
        share = _FIRST_SHARE + width * (n + dice.random() * 0.8)
        blows.append(Blow(share, whom, decks[whom][nth % len(decks[whom])]))
    return blows


def _for_plant(wanted: Wanted) -> list[str]:
    """Only what brings the planted fault to light, so that nothing hides it."""
    return {plants.NO_INBOX: [CONSUMER] * 3, plants.NO_EPOCH: [PAUSE] * 2}.get(wanted.plant, [])


class Conductor:
    """Guards the course of one run's blows."""

    def __init__(
        self,
        place: Place,
        carrier: Carrier,
        crew: Crew,
        recorder: Recorder,
        wanted: Wanted,
        tell: Callable[[str], None],
        dawdle_s: float = 0.0,
    ) -> None:
        self.kills: list[Kill] = []
        self._place = place
        self._carrier = carrier
        self._crew = crew
        self._recorder = recorder
        self._lease_s = wanted.lease_s
        self._dice = random.Random(f"{wanted.seed}/victims")  # noqa: S311
        self._began = 0.0
        self._tell = tell
        self._dawdle_s = dawdle_s

    async def conduct(self, blows: Sequence[Blow], events: int) -> None:
        """Every blow when its share of the facts is written; those that come too late are left out."""
        self._began = time.monotonic()
        for blow in blows:
            while self._crew.acknowledged() < blow.share * events:
                if self._crew.wrote_all():
                    return
                await asyncio.sleep(_LOOK_S)
            if self._crew.wrote_all():
                return
            strike = {PAUSE: self._pause, DATABASE: self._crash, TRANSPORT: self._cut}.get(blow.whom, self._kill)
            if blow.whom != WRITER:
                self._crew.dawdle(self._dawdle_s)
            self.kills.append(await strike(blow))
            self._crew.dawdle(0.0)
            self._tell(f"{blow.kind.replace('_', ' ')}: {self.kills[-1].victim}")

    def _now_s(self) -> float:
        return round(time.monotonic() - self._began, 3)

    async def _kill(self, blow: Blow) -> Kill:
        places = self._crew.writers if blow.whom == WRITER else self._crew.workers
        slot = self._dice.choice([one for one in places if one.pid is not None] or places)
        at_s, name = self._now_s(), slot.incarnation
        return Kill(blow.kind, name, at_s, await self._strike(slot, signal.SIGKILL, blow.where))

    async def _strike(self, slot: Slot, how: signal.Signals, where: str) -> bool:
        """Whether the blow fell: where it was meant to, or, at any time, on a living process."""
        if where == ANYTIME:
            await asyncio.sleep(self._dice.random() * 0.1)
            return await _within(_STRIKES_WITHIN_S, lambda: slot.send(how))
        give_up, armed = time.monotonic() + _STRIKES_WITHIN_S, 0
        while time.monotonic() < give_up:
            if armed and slot.struck.is_set():
                return True
            if slot.starts != armed and slot.pid is not None:
                # Anew in each process that fills the place: what was told to one that died is not known to the next.
                slot.arm(how, *POINTS[where])
                armed = slot.starts
            await asyncio.sleep(_LOOK_S / 5)
        slot.order("disarm")
        return False

    async def _pause(self, blow: Blow) -> Kill:
        """Freeze a worker until others have all it owned, then wake it: what it has in hand must not be committed."""
        slot = self._dice.choice(self._crew.workers)
        owner = await self._name_in_cursors(slot)
        at_s, name = self._now_s(), slot.incarnation
        struck = owner is not None and await self._strike(slot, signal.SIGSTOP, blow.where)
        frozen_at = time.monotonic()
        taken_after = None
        if (
            owner is not None
            and struck
            and await _within(_TAKEN_WITHIN_LEASES * self._lease_s, lambda: self._recorder.owned_by(owner) == 0)
        ):
            taken_after = round(time.monotonic() - frozen_at, 3)
        slot.send(signal.SIGCONT)
        return Kill(blow.kind, name, at_s, struck, taken_after)

    async def _name_in_cursors(self, slot: Slot) -> str | None:
        """Who the worker is in its consumer's cursors, once it owns some of them; None when it does not get to work."""
        consumer = NEAR if slot.name.startswith("near") else FAR
        give_up = time.monotonic() + _AT_WORK_WITHIN_S
        while time.monotonic() < give_up:
            with suppress(*GONE):
                admin = await self._place.superuser(consumer)
                try:
                    owner: str | None = await admin.fetchval(
                        "SELECT owner FROM effect WHERE worker = $1 ORDER BY n DESC LIMIT 1", slot.incarnation
                    )
                finally:
                    admin.terminate()
                if owner is not None and self._recorder.owned_by(owner):
                    return owner
            await asyncio.sleep(_LOOK_S)
        return None

    async def _crash(self, blow: Blow) -> Kill:
        server, at_s = self._place.server, self._now_s()
        if blow.where == POSTMASTER:
            back_s = round(await server.kill(), 3)
            await self._carrier.flows()
            return Kill(blow.kind, "postmaster", at_s, True, back_s)
        role = PUBLISHER if blow.where == BACKEND_OF_WRITER else self._dice.choice((NEAR, FAR))
        pid = await _busy_backend(server, role.replace(".", "_"))
        if pid is None:
            return Kill(blow.kind, "no backend was found", at_s, False)
        os.kill(pid, signal.SIGKILL)
        # PostgreSQL takes all its backends down and recovers: give it a moment to notice.
        await asyncio.sleep(_LOOK_S)
        back_s = round(await server.until_it_answers(), 3)
        await self._carrier.flows()
        return Kill(blow.kind, f"backend {pid}", at_s, True, back_s)

    async def _cut(self, blow: Blow) -> Kill:
        at_s = self._now_s()
        return Kill(blow.kind, blow.where, at_s, True, round(await self._carrier.kill(blow.where), 3))


async def _busy_backend(server: KillableServer, role: str) -> int | None:
    """A backend of a role, in the middle of a transaction when there is one."""
    give_up = time.monotonic() + _STRIKES_WITHIN_S
    while time.monotonic() < give_up:
        try:
            admin = await connect(server.postgres, "postgres")
            try:
                pid = await admin.fetchval(
                    "SELECT pid FROM pg_stat_activity WHERE usename = $1 ORDER BY (state = 'idle'), random() LIMIT 1",
                    role,
                )
            finally:
                admin.terminate()
        except GONE:
            pid = None
        if pid is not None and _is_postgres(pid):
            return int(pid)
        await asyncio.sleep(_LOOK_S)
    return None


def _is_postgres(pid: int) -> bool:
    try:
        return b"postgres" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


async def _within(seconds: float, happens: Callable[[], bool]) -> bool:
    """Wait until it does, at most so long."""
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        if happens():
            return True
        await asyncio.sleep(_LOOK_S / 5)
    return False
