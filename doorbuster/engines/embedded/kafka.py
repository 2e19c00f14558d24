"""Apache Kafka and Kafka Connect as supervised children: one broker and one worker, on the loopback only.

    place = prepare_kafka(paths.root / "kafka")
    await supervisor.start(kafka_child(place))
    await supervisor.start(connect_child(place))

The broker has its data in the folder; Connect keeps its own in topics of the broker.
"""

from __future__ import annotations

import asyncio
import base64
import socket
import string
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import aiohttp
import msgspec
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from doorbuster.engines.embedded import kafka_archive
from doorbuster.engines.embedded.child import Child
from doorbuster.engines.embedded.errors import StartError
from doorbuster.engines.embedded.kafka_jars import RECIPE, Jars, ensure_jars, java
from doorbuster.engines.embedded.preflight import port_taken

HOST = "127.0.0.1"
HEAP = "512m"
_FORMAT_TIMEOUT_S = 60.0
_PROBE_TIMEOUT_S = 2.0


class Ports(msgspec.Struct, frozen=True):
    """Where the broker, its controller and Connect listen."""

    broker: int
    controller: int
    connect: int


class KafkaPlace(msgspec.Struct, frozen=True):
    """One Kafka on one machine: its folder, its ports and its program."""

    folder: Path
    ports: Ports
    jars: Jars
    short_lived: bool = False
    """Started for a minute or so: Java's second compiler would cost more than it brings."""

    @property
    def bootstrap(self) -> str:
        """What clients are told."""
        return f"{HOST}:{self.ports.broker}"

    @property
    def connect_url(self) -> str:
        """The REST interface of Connect."""
        return f"http://{HOST}:{self.ports.connect}"

    @property
    def secrets(self) -> Path:
        """The folder (0700) whose files connectors may name in their configuration."""
        return self.folder / "secrets"


def prepare_kafka(folder: Path, ports: Ports | None = None, *, short_lived: bool = False) -> KafkaPlace:
    """Fetch the jars, choose ports (those of the last time while they are free) and write the configuration.

    Call it while holding the lock of the data directory; nothing runs yet. StartError when Java or Maven is missing, or
    a port that was asked for is taken.
    """
    jars = ensure_jars()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    kafka_archive.adopt(jars, folder)
    (folder / "secrets").mkdir(mode=0o700, exist_ok=True)
    if ports is not None:
        for port in msgspec.structs.astuple(ports):
            if not _is_free(port):
                raise port_taken(port)
    place = KafkaPlace(folder.absolute(), ports or _kept_ports(folder / "ports.json"), jars, short_lived)
    (folder / "ports.json").write_bytes(msgspec.json.encode(place.ports))
    values = {
        "folder": place.folder, "broker_port": place.ports.broker, "controller_port": place.ports.controller,
        "connect_port": place.ports.connect, "plugins": place.jars.plugins, "secrets": place.secrets,
    }  # fmt: skip
    for name in ("server.properties", "connect.properties", "log4j2.properties"):
        text = (RECIPE / name).read_text()
        filled = text if name.startswith("log4j2") else string.Template(text).substitute(values)
        (folder / name).write_text(filled)
    return place


def kafka_child(place: KafkaPlace) -> Child:
    """The broker, named `kafka`; ready when it takes part in its cluster and answers clients."""
    config = str(place.folder / "server.properties")

    async def format_once() -> None:
        if not (place.folder / "log" / "meta.properties").exists():
            await asyncio.to_thread(_format, place, config)

    async def ready() -> bool:
        return await asyncio.to_thread(_has_broker, place)

    return Child(
        name="kafka",
        argv=_argv(place, kafka_archive.BROKER, [config]),
        ready=ready,
        env=_environment(),
        address=place.bootstrap,
        ready_within_s=120.0,
        # A clean stop writes the indexes; a broker that was killed reads its logs again at the next start.
        stop_grace_s=20.0,
        before_start=format_once,
        explain=_explain,
    )


def connect_child(place: KafkaPlace) -> Child:
    """The Connect worker, named `connect`; ready when it has joined its group and can be configured."""

    async def ready() -> bool:
        return await _is_healthy(place.connect_url)

    return Child(
        name="connect",
        argv=_argv(place, kafka_archive.CONNECT, [str(place.folder / "connect.properties")]),
        ready=ready,
        env=_environment(),
        address=place.connect_url,
        ready_within_s=120.0,
        stop_grace_s=15.0,
        explain=_explain,
    )


def _argv(place: KafkaPlace, main: str, arguments: Sequence[str]) -> list[str]:
    return [
        java(), f"-Xmx{HEAP}", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError", "-Djava.awt.headless=true",
        *(["-XX:TieredStopAtLevel=1"] if place.short_lived else []),
        *kafka_archive.flags(place.jars, place.folder, main),
        f"-Dlog4j2.configurationFile={place.folder / 'log4j2.properties'}",
        "-cp", place.jars.classpath, main, *arguments,
    ]  # fmt: skip


def _environment() -> Mapping[str, str]:
    """Nothing of the user's shell: KAFKA_* and JAVA_TOOL_OPTIONS there belong to somebody else's Kafka."""
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"}


def _format(place: KafkaPlace, config: str) -> None:
    """Write the cluster's id and first quorum into an empty log folder. Killed half-way, it is simply run again."""
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    argv = _argv(place, kafka_archive.STORAGE_TOOL, ["format", "--standalone", "--ignore-formatted"])
    done = subprocess.run(
        # In one word: every 64th id begins with a dash.
        [*argv, f"--cluster-id={cluster}", "-c", config],
        capture_output=True, text=True, timeout=_FORMAT_TIMEOUT_S, check=False, env=_environment(),
    )  # fmt: skip
    if done.returncode != 0:
        raise OSError(f"Kafka could not format {place.folder / 'log'}: {(done.stderr or done.stdout).strip()[-300:]}")


def _has_broker(place: KafkaPlace) -> bool:
    try:
        with socket.create_connection((HOST, place.ports.broker), _PROBE_TIMEOUT_S):
            pass
        admin = AdminClient({"bootstrap.servers": place.bootstrap, "log_level": 0})
        return bool(admin.list_topics(timeout=_PROBE_TIMEOUT_S).brokers)
    except (OSError, KafkaException):
        return False


async def _is_healthy(url: str) -> bool:
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_PROBE_TIMEOUT_S)) as session,
            session.get(f"{url}/health") as answer,
        ):
            return answer.status == 200
    except (aiohttp.ClientError, OSError, TimeoutError):
        return False


def _explain(said: str) -> StartError | None:
    """The fault the user can mend, read from what a JVM wrote."""
    if "Address already in use" in said:
        return StartError("A port of Kafka or Connect is already taken.", "Stop the program that has it; try again.")
    if "Could not reserve enough space" in said or "insufficient memory" in said:
        return StartError("There is not enough memory for Kafka.", "Stop other programs and start again.")
    if "No space left on device" in said:
        return StartError("Kafka stopped because the disk is full.", "Free some space, then start again.")
    return None


def _kept_ports(file: Path) -> Ports:
    """The ports of the last run while all are free, so that clients find the broker again; else free ones."""
    if file.exists():
        try:
            kept = msgspec.json.decode(file.read_bytes(), type=Ports)
        except msgspec.DecodeError:
            return _free_ports()
        if all(_is_free(port) for port in msgspec.structs.astuple(kept)):
            return kept
    return _free_ports()


def _free_ports() -> Ports:
    """Three ports that are free now, held together so that no two are the same."""
    held = [socket.socket() for _ in range(3)]
    try:
        for each in held:
            each.bind((HOST, 0))
        return Ports(*(each.getsockname()[1] for each in held))
    finally:
        for each in held:
            each.close()


def _is_free(port: int) -> bool:
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((HOST, port))
        except OSError:
            return False
    return True
