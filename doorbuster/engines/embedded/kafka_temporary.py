"""A throw-away Kafka with Connect for tests, drills and benches: real, on free ports, and gone with its owner."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec

from doorbuster.engines.embedded import kafka_archive
from doorbuster.engines.embedded.kafka import KafkaPlace, connect_child, kafka_child, prepare_kafka
from doorbuster.engines.embedded.lock import exclusive, is_held
from doorbuster.engines.embedded.paths import prepare, remove_socket_dir, socket_dir
from doorbuster.engines.embedded.process_table import send
from doorbuster.engines.embedded.supervisor import Supervisor

_PREFIX = "dbkafka-"
_SWEEP_AFTER_S = 600.0


class TemporaryKafka(msgspec.Struct, frozen=True):
    """A running Kafka, kept by a supervisor: what is killed comes back by itself."""

    place: KafkaPlace
    supervisor: Supervisor

    def signal(self, name: str, what: signal.Signals) -> bool:
        """Signal `kafka` or `connect`; False when it does not run just now."""
        state = next(child for child in self.supervisor.state().children if child.name == name)
        return state.process is not None and send(state.process, what)


@contextlib.asynccontextmanager
async def temporary_kafka(dir: Path | None = None, *, short_lived: bool = False) -> AsyncIterator[TemporaryKafka]:
    """A fresh broker and a fresh Connect worker, stopped and removed at the end; about 10 s on two idle cores.

    `short_lived` gives up speed that only a longer run pays back.

    They end with the thread that entered here, even when that is killed. StartError without Java, Maven or the jars.
    """
    await asyncio.to_thread(_sweep)
    home = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=dir))
    try:
        paths = prepare(home)
        with exclusive(paths.lock):
            sockets = socket_dir(paths.run)
            place = prepare_kafka(home / "kafka", short_lived=short_lived)
            supervisor = Supervisor(paths, sockets)
            try:
                await supervisor.start(kafka_child(place))
                await supervisor.start(connect_child(place))
                yield TemporaryKafka(place, supervisor)
            finally:
                await _stop(supervisor, place)
                remove_socket_dir(sockets, paths.run)
    finally:
        await asyncio.to_thread(shutil.rmtree, home, True)


def _sweep() -> None:
    """Remove what killed owners left in the temporary folder: their lock is free though their folder stands."""
    for home in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if home.lstat().st_uid != os.geteuid() or time.time() - home.lstat().st_mtime < _SWEEP_AFTER_S:
            continue
        if not is_held(home / "lock"):
            shutil.rmtree(home, ignore_errors=True)


async def _stop(supervisor: Supervisor, place: KafkaPlace) -> None:
    """Kill them: nobody will read these files again. But the first time, the clean end that writes the archives."""
    if kafka_archive.are_complete(place.jars):
        supervisor.hurry()
    await supervisor.stop()
    await asyncio.to_thread(kafka_archive.adopt, place.jars, place.folder)
