"""Classes of Kafka and Connect, parsed and verified once: Java's class data sharing takes a third off their start.

The first run writes an archive beside its data when it ends cleanly. The next start tries it, and moves it to the jars,
where every later Kafka of this checkout finds it. A Java that does not like an archive starts without it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from doorbuster.engines.embedded.kafka_jars import Jars, java

STORAGE_TOOL = "kafka.tools.StorageTool"
BROKER = "kafka.Kafka"
CONNECT = "org.apache.kafka.connect.cli.ConnectDistributed"
PROGRAMS = (STORAGE_TOOL, BROKER, CONNECT)
_TRY_TIMEOUT_S = 20.0
_QUIET = ("-Xlog:disable", "-Xlog:all=error:stderr")
_SUFFIX = ".jsa"


def flags(jars: Jars, folder: Path, main: str) -> list[str]:
    """What Java is told: to use the archive for this program, or to write one into `folder` when it ends."""
    archive = jars.lib.parent / f"{main}{_SUFFIX}"
    if archive.exists():
        return [f"-XX:SharedArchiveFile={archive}", *_QUIET]
    return [f"-XX:ArchiveClassesAtExit={folder / archive.name}", *_QUIET]


def are_complete(jars: Jars) -> bool:
    """Whether every program has its archive."""
    return all((jars.lib.parent / f"{main}{_SUFFIX}").exists() for main in PROGRAMS)


def adopt(jars: Jars, folder: Path) -> None:
    """Move the archives that a run has written into `folder` to the jars; those that Java refuses are removed."""
    for written in folder.glob(f"*{_SUFFIX}"):
        archive = jars.lib.parent / written.name
        if not archive.exists() and _is_whole(jars, written):
            # Copied beside and renamed: another Kafka may be about to read it, and folders may be on two disks.
            descriptor, part = tempfile.mkstemp(prefix="archive-", dir=archive.parent)
            os.close(descriptor)
            shutil.copyfile(written, part)
            Path(part).replace(archive)
        with contextlib.suppress(FileNotFoundError):
            written.unlink()


def _is_whole(jars: Jars, archive: Path) -> bool:
    """Whether Java maps this archive: one that was being written when its JVM was killed is not used."""
    argv = [java(), "-Xshare:on", f"-XX:SharedArchiveFile={archive}", "-cp", jars.classpath, "-version"]
    return subprocess.run(argv, capture_output=True, timeout=_TRY_TIMEOUT_S, check=False).returncode == 0
