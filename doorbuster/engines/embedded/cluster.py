"""The shop's own PostgreSQL cluster: made on the first start, judged before every start, explained when it fails."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import asyncpg

from doorbuster.engines.embedded import postgres
from doorbuster.engines.embedded.child import Child
from doorbuster.engines.embedded.errors import StartError
from doorbuster.engines.embedded.paths import DataPaths
from doorbuster.engines.embedded.postgres import PostgresServer
from doorbuster.engines.embedded.preflight import MIN_FREE_BYTES, check_room

_NEEDED_FILES = ("global/pg_control", "postgresql.conf", "pg_hba.conf", "pg_ident.conf")
_NEEDED_FOLDERS = ("base", "global", "pg_wal", "pg_xact", "pg_multixact", "pg_tblspc", "pg_subtrans", "pg_replslot")
_KEEP_HINT = "Nothing was changed or deleted. Restore the directory from a backup, or start a new shop with --data."
_IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]{0,62}")


def prepare_cluster(paths: DataPaths, socket_dir: Path, min_free_bytes: int = MIN_FREE_BYTES) -> PostgresServer:
    """The cluster of this data directory, made if there is none and checked if there is; it does not run yet.

    Call it while holding the lock of the directory. Takes about a second the first time. StartError for a disk without
    room, files that are damaged, of another major version or another user.
    """
    check_room(paths.root, min_free_bytes)
    for abandoned in paths.root.glob(
        ".pg-building-*"
    ):  # an initdb that was killed; we hold the lock, so it is no one's
        shutil.rmtree(abandoned, ignore_errors=True)
    if not paths.pg.exists():
        postgres.initialise(paths.pg, postgres.kept_password(paths.superuser_password))
    else:
        if not paths.superuser_password.exists():
            raise _damaged(paths.superuser_password, "is missing")
        check_cluster(paths.pg)
        postgres.give_to_server(paths.pg)
    postgres.give_to_server(socket_dir)
    return PostgresServer(paths.pg, socket_dir, postgres.kept_password(paths.superuser_password))


def _damaged(file: Path, how: str) -> StartError:
    return StartError(f"The data directory is damaged: {file} {how}.", _KEEP_HINT)


def check_cluster(pg: Path) -> None:
    """StartError naming the file, unless this is a cluster that the wheel's PostgreSQL can be started on."""
    if not pg.is_dir():
        raise _damaged(pg, "is not a directory")
    owner = pg.stat().st_uid
    if owner not in (os.geteuid(), 65534):
        raise StartError(f"The database in {pg} belongs to the user with id {owner}.", "Start Doorbuster as that user.")
    try:
        version = (pg / "PG_VERSION").read_text(errors="replace").strip()
    except OSError as error:
        raise _damaged(
            pg / "PG_VERSION", "is missing" if isinstance(error, FileNotFoundError) else str(error)
        ) from error
    if not re.fullmatch(r"\d{1,3}", version):
        raise _damaged(pg / "PG_VERSION", "does not hold a version")
    if int(version) != postgres.major_version():
        raise StartError(
            f"The database in {pg} was made by PostgreSQL {version}; this program brings {postgres.major_version()}.",
            f"Use the Doorbuster it was made with, or move the data with pg_upgrade. {_KEEP_HINT}",
        )
    for name in _NEEDED_FOLDERS:
        if not (pg / name).is_dir():
            raise _damaged(pg / name, "is missing")
    for name in _NEEDED_FILES:
        if not (pg / name).is_file() or (pg / name).stat().st_size == 0:
            raise _damaged(pg / name, "is missing or empty")
    _check_control_file(pg)


def _check_control_file(pg: Path) -> None:
    argv = [postgres.binary("pg_controldata"), "-D", str(pg)]
    done = subprocess.run(
        argv, capture_output=True, text=True, timeout=10, check=False, env=postgres.server_environment()
    )
    if done.returncode != 0 or done.stderr.strip():  # a checksum that is wrong is a warning there
        raise _damaged(pg / "global" / "pg_control", "does not match its checksum")


_FULL_DISK = re.compile(r"No space left on device|Check free disk space")
_DAMAGE = re.compile(
    r"(?:FATAL|PANIC):\s+("
    r"could not (?:open|read|access) (?:file|directory|status)[^\n]*|could not locate a valid checkpoint record[^\n]*|"
    r"[^\n]*contains invalid data[^\n]*|[^\n]*invalid (?:page|magic|checkpoint|primary)[^\n]*|[^\n]*corrupt[^\n]*)"
)


def explain_postgres(said: str) -> StartError | None:
    """The fault the user can mend, read from what PostgreSQL wrote since its start; None when it is none of those."""
    if _FULL_DISK.search(said):
        return StartError(
            "PostgreSQL stopped because the disk is full.", "Free some space; the data is safe. Then start again."
        )
    if damage := _DAMAGE.search(said):
        return StartError(f"The database is damaged: {damage.group(1)[:200]}.", _KEEP_HINT)
    if f'password authentication failed for user "{postgres.SUPERUSER}"' in said:
        return StartError("The kept superuser password is not the one of this database.", _KEEP_HINT)
    if "could not map anonymous shared memory" in said or "could not fork" in said:
        return StartError("There is not enough memory for PostgreSQL.", "Stop other programs and start again.")
    return None


def postgres_child(server: PostgresServer, settings: Mapping[str, str] | None = None) -> Child:
    """PostgreSQL as a supervised child named `postgres`: fast shutdown on stop, also when the supervisor is killed.

    After a kill -9 of the postmaster its backends may hold the shared memory for a moment; the new one then refuses to
    start and the supervisor tries again, a little later each time. Nothing is removed by hand.
    """

    async def ready() -> bool:
        return await postgres.accepts_connections(server)

    async def forget_other_pid() -> None:
        forget_stale_lock(server.data_dir)

    return Child(
        name="postgres",
        argv=postgres.postgres_argv(server.data_dir, server.socket_dir, settings),
        ready=ready,
        env=postgres.server_environment(),
        address=str(server.socket_dir / postgres.SOCKET_NAME),
        ready_within_s=300.0,  # crash recovery replays up to max_wal_size
        stop_signal=signal.SIGINT,
        stop_grace_s=30.0,
        death_signal=signal.SIGINT,
        before_start=forget_other_pid,
        explain=explain_postgres,
        launch=postgres.confined_argv,
    )


def forget_stale_lock(data_dir: Path) -> bool:
    """Rename a postmaster.pid whose process id now belongs to a program that is not PostgreSQL; True when it did.

    After a hard reset ids begin anew, and in a container they are small: PostgreSQL sees *some* process of that id and
    refuses to start for ever. The real interlock, its shared memory, is not touched.
    """
    lock = data_dir / "postmaster.pid"
    try:
        program = Path(f"/proc/{int(lock.read_text().splitlines()[0])}/exe").readlink()
    except (OSError, ValueError, IndexError):
        return False
    if program.name.split(" ")[0] == "postgres":
        return False
    lock.rename(lock.with_name("postmaster.pid.stale"))
    return True


async def ensure_role(server: PostgresServer, role: str, password: str) -> None:
    """Make a login role without any other right, unless it is there; its password is the one given, also if it is."""
    assert _IDENTIFIER.fullmatch(role), f"{role} is not a plain lower-case name"
    connection = await asyncpg.connect(server.dsn(), timeout=10)
    try:
        if not await connection.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", role, timeout=10):
            await connection.execute(f"CREATE ROLE {role} LOGIN", timeout=10)
        quoted = await connection.fetchval("SELECT quote_literal($1::text)", password, timeout=10)
        await connection.execute(f"ALTER ROLE {role} LOGIN PASSWORD {quoted}", timeout=10)
    finally:
        await connection.close(timeout=5)


async def ensure_database(server: PostgresServer, name: str) -> None:
    """Make a database that only its owner (the superuser) and roles granted CONNECT may enter, unless it is there."""
    assert _IDENTIFIER.fullmatch(name), f"{name} is not a plain lower-case name"
    connection = await asyncpg.connect(server.dsn(), timeout=10)
    try:
        if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", name, timeout=10):
            await connection.execute(f"CREATE DATABASE {name}", timeout=60)
        await connection.execute(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC", timeout=10)
    finally:
        await connection.close(timeout=5)
