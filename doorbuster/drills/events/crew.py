"""The drill's processes: writers and consumers that are started again when they are killed, and only then."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

import doorbuster
from doorbuster.drills.events.parts import NEAR, SESSIONS, WORKERS, WRITERS, Ears, Load
from doorbuster.drills.events.place import Place
from doorbuster.drills.events.writer import ROLLED_BACK
from doorbuster.engines.embedded.launch import launch_argv

_MOST_STARTS = 200
_STOP_WITHIN_S = 10.0
_AFTER_A_CRASH_S = 0.5

Argv = Callable[[int], list[str] | None]
"""The arguments of the n-th process of a slot; None when it has nothing left to do."""


class Slot:
    """Guards one place in the crew: the process that fills it now, and whether its death is wanted."""

    def __init__(self, name: str, argv: Argv, log: Path) -> None:
        self.name = name
        self.crashes: list[str] = []
        self.starts = 0
        self.struck = asyncio.Event()
        self._argv = argv
        self._log = log
        self._process: Process | None = None
        self._wanted_dead = False
        self._ending = False

    @property
    def incarnation(self) -> str:
        """The name of the process that fills the place now, as it stands in the effects."""
        return f"{self.name}.{self.starts}"

    @property
    def pid(self) -> int | None:
        """The process that fills the place now."""
        alive = self._process is not None and self._process.returncode is None
        return self._process.pid if self._process is not None and alive else None

    async def run(self) -> None:
        """Fill the place until its work is done or `stop` is called. A process that was killed is replaced at once."""
        while not self._ending and self.starts < _MOST_STARTS:
            argv = self._argv(self.starts + 1)
            if argv is None:
                return
            self.starts += 1
            code = await self._one_life(argv)
            if code == 0 or self._ending:
                return
            if self._wanted_dead and code == -signal.SIGKILL:
                self._wanted_dead = False
                continue
            self.crashes.append(f"{self.incarnation} ended with {code}: {_last_line(self._log)}")
            await asyncio.sleep(_AFTER_A_CRASH_S)

    async def _one_life(self, argv: list[str]) -> int:
        environment = os.environ | {"PYTHONPATH": _path_of_this_package()}
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *launch_argv(argv, signal.SIGKILL), stdin=PIPE, stdout=PIPE, stderr=log, env=environment
            )
        assert self._process.stdout is not None and self._process.stdin is not None
        while line := await self._process.stdout.readline():
            if line.startswith(b"struck"):
                self.struck.set()
        code = await self._process.wait()
        with suppress(OSError, TimeoutError):
            # An order that the dead could not hear any more is nobody's error.
            await asyncio.wait_for(self._process.stdin.wait_closed(), 1.0)
        return code

    def arm(self, how: signal.Signals, which: str, point: str) -> None:
        """Have the process strike itself at its next passing of that point."""
        self.struck.clear()
        self._wanted_dead = how == signal.SIGKILL
        self.order(f"arm {how.name} {which} {point}")

    def order(self, words: str) -> None:
        """Tell the process something; nobody hears it when there is none just now."""
        if self._process is not None and self._process.stdin is not None and not self._process.stdin.is_closing():
            self._process.stdin.write(f"{words}\n".encode())

    def send(self, how: signal.Signals) -> bool:
        """Send a signal from outside; False when there is no process just now."""
        if self.pid is None:
            return False
        self._wanted_dead = self._wanted_dead or how == signal.SIGKILL
        os.kill(self.pid, how)
        return True

    async def stop(self) -> None:
        """End it for good: stdin closes, and what does not end by itself is killed."""
        self._ending = True
        if self._process is None or self._process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGCONT)
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), _STOP_WITHIN_S)
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._process.kill()


class Crew:
    """Guards all slots of one run and the tasks that keep them filled."""

    def __init__(self, place: Place, load: Load, consumers: tuple[str, ...], ears: Ears) -> None:
        self.writers = [_writer(place, load, number) for number in range(WRITERS)]
        self.workers = [_worker(place, consumer, number, ears) for consumer in consumers for number in range(WORKERS)]
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._notes = [notes_of(place, slot.name) for slot in self.writers]

    def start_workers(self) -> None:
        self._start(self.workers)

    def start_writers(self) -> None:
        self._start(self.writers)

    def _start(self, slots: list[Slot]) -> None:
        self._tasks |= {slot.name: asyncio.create_task(slot.run()) for slot in slots}

    def dawdle(self, seconds: float) -> None:
        """Have every session of the writers rest so long between two transactions, until told otherwise."""
        for slot in self.writers:
            slot.order(f"dawdle {seconds}")

    def acknowledged(self) -> int:
        """Facts whose COMMIT was acknowledged so far."""
        return sum(sum(promised(notes).values()) for notes in self._notes)

    def wrote_all(self) -> bool:
        """Whether every writer has published its share."""
        return all(slot.name in self._tasks and self._tasks[slot.name].done() for slot in self.writers)

    def promises(self) -> tuple[dict[str, int], list[str]]:
        """Transactions that were acknowledged, with their number of facts, and those that were rolled back."""
        kept: dict[str, int] = {}
        undone: list[str] = []
        for notes in self._notes:
            kept |= promised(notes)
            undone += [line.split()[0] for line in _lines(notes) if line.endswith(f" {ROLLED_BACK}")]
        return kept, undone

    async def stop(self) -> None:
        """End all processes."""
        slots = [*self.writers, *self.workers]
        await asyncio.gather(*(slot.stop() for slot in slots))
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=_STOP_WITHIN_S)

    def crashes(self) -> list[str]:
        """Who ended without having been killed, and the last it said."""
        return [said for slot in (*self.writers, *self.workers) for said in slot.crashes]


def notes_of(place: Place, name: str) -> Path:
    """Where a writer notes what became of its transactions."""
    return place.folder / f"{name}.notes"


def promised(notes: Path) -> dict[str, int]:
    """The transactions that a writer was told are committed, with their number of facts."""
    words = (line.split() for line in _lines(notes))
    return {name: int(facts) for name, facts in words if facts != ROLLED_BACK}


def _lines(notes: Path) -> list[str]:
    """Whole lines only: while a writer writes, or if it died writing, the last one may be there in part."""
    return notes.read_text().rpartition("\n")[0].splitlines() if notes.exists() else []


def _writer(place: Place, load: Load, number: int) -> Slot:
    name = f"writer-{number}"
    notes = notes_of(place, name)
    share = load.events // WRITERS + (number < load.events % WRITERS)

    def argv(start: int) -> list[str] | None:
        left = share - sum(promised(notes).values())
        own = msgspec.structs.replace(
            load, name=name, incarnation=start, events=left, sessions=SESSIONS // WRITERS, notes=str(notes)
        )
        return _python("writer", place, own) if left > 0 else None

    return Slot(name, argv, place.folder / f"{name}.log")


def _worker(place: Place, consumer: str, number: int, ears: Ears) -> Slot:
    name = f"{'near' if consumer == NEAR else 'far'}-{number}"

    def argv(start: int) -> list[str] | None:
        return _python("worker", place, msgspec.structs.replace(ears, name=f"{name}.{start}", consumer=consumer))

    return Slot(name, argv, place.folder / f"{name}.log")


def _python(module: str, place: Place, told: msgspec.Struct) -> list[str]:
    arguments = [str(place.settings_file), msgspec.json.encode(told).decode()]
    return [sys.executable, "-m", f"doorbuster.drills.events.{module}", *arguments]


def _path_of_this_package() -> str:
    here = str(Path(doorbuster.__file__).parent.parent)
    return os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])


def _last_line(log: Path) -> str:
    said = log.read_text(errors="replace").strip().splitlines()
    return said[-1][:300] if said else "it said nothing"
