"""Java and the jars of Kafka, Kafka Connect and Debezium: found, or fetched once by Maven with deploy/kafka/pom.xml.

`python -m doorbuster.engines.embedded.kafka_jars` fetches them and says where they are.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from doorbuster.engines.embedded.errors import StartError
from doorbuster.engines.embedded.paths import prepare

REPOSITORY = Path(__file__).resolve().parents[3]
RECIPE = REPOSITORY / "deploy" / "kafka"
_OLDEST_JAVA = 17
_FETCH_TIMEOUT_S = 300.0
_ASK_TIMEOUT_S = 10.0


class Jars(msgspec.Struct, frozen=True):
    """Where the jars are: Kafka's own, and the folder of connectors."""

    lib: Path
    plugins: Path

    @property
    def classpath(self) -> str:
        """What Java is told: always the same words, for an archive of classes holds for one class path only."""
        return f"{self.lib}/*"


@functools.cache
def java() -> str:
    """The path of a Java that is new enough (JAVA_HOME, else the PATH); StartError when there is none."""
    home = os.environ.get("JAVA_HOME", "")
    found = shutil.which("java", path=str(Path(home) / "bin")) if home else None
    program = found or shutil.which("java")
    hint = f"Install a Java runtime, version {_OLDEST_JAVA} or newer."
    if program is None:
        raise StartError("Kafka needs Java, and there is none.", hint)
    done = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=_ASK_TIMEOUT_S, check=False)
    version = re.search(r'version "(\d+)', done.stderr + done.stdout)
    if version is None or int(version.group(1)) < _OLDEST_JAVA:
        raise StartError(f"{program} is not a Java {_OLDEST_JAVA}.", hint)
    return program


def ensure_jars(root: Path | None = None) -> Jars:
    """The jars under `root` (default: .doorbuster of this checkout), fetched if they are not there: about 10 s once.

    Safe to call at once from several processes. StartError without Java, Maven, the checkout, or an answer of Maven's
    repository.
    """
    java()
    if not (RECIPE / "pom.xml").exists():
        raise StartError("Kafka runs from a checkout of Doorbuster only.", "Clone the repository and start it there.")
    recipe = hashlib.sha256((RECIPE / "pom.xml").read_bytes()).hexdigest()[:12]
    place = (root or prepare(REPOSITORY / ".doorbuster").root) / "kafka-jars"
    place.mkdir(parents=True, exist_ok=True)
    ready = place / recipe
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two tests or shops that start at once fetch once; ends with the process
        if not ready.exists():
            _fetch(place, ready)
    return Jars(ready / "lib", ready / "plugins")


def _fetch(place: Path, ready: Path) -> None:
    """Have Maven put everything into a folder beside, and rename it: a kill leaves nothing half."""
    maven = shutil.which("mvn")
    if maven is None:
        raise StartError("Kafka's jars are fetched by Maven, and there is none.", "Install Maven (3.8 or newer).")
    building = Path(tempfile.mkdtemp(prefix="fetching-", dir=place))
    try:
        argv = [maven, "--batch-mode", "--quiet", "--file", str(RECIPE / "pom.xml"), "package", f"-Dinto={building}"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_FETCH_TIMEOUT_S, check=False)
        if done.returncode != 0:
            errors = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line]
            raise StartError(f"Maven could not fetch Kafka: {' '.join(errors[:1])[:400]}", "Is Maven's network there?")
        building.rename(ready)
    except subprocess.TimeoutExpired as error:
        raise StartError(f"Maven has not fetched Kafka within {_FETCH_TIMEOUT_S:g} s.", "Try again.") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def main() -> int:
    """Fetch, and print where."""
    try:
        jars = ensure_jars()
    except StartError as error:
        print(f"{error.message}\n{error.hint}", file=sys.stderr)
        return 1
    print(f"Kafka's jars: {jars.lib}\nconnectors:   {jars.plugins}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
