"""The shop's own cluster: it survives kills, and every fault of its surroundings is one clear line."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from doorbuster.engines.embedded import (
    DataPaths,
    PostgresServer,
    StartError,
    Supervisor,
    check_cluster,
    cluster,
    postgres,
    postgres_child,
    prepare,
    prepare_cluster,
)
from doorbuster.engines.embedded.paths import remove_socket_dir, socket_dir

_MB = 1024 * 1024


@contextlib.asynccontextmanager
async def _running(paths: DataPaths) -> AsyncIterator[tuple[Supervisor, PostgresServer]]:
    sockets = socket_dir(paths.run)
    one = Supervisor(paths, sockets)
    try:
        server = prepare_cluster(paths, sockets)
        await one.start(postgres_child(server))
        yield one, server
    finally:
        await one.stop()
        remove_socket_dir(sockets, paths.run)


@pytest.fixture
def made(tmp_path: Path) -> DataPaths:
    """A data directory with a cluster that does not run."""
    paths = prepare(tmp_path / "shop")
    prepare_cluster(paths, paths.run)
    return paths


async def test_an_acknowledged_commit_survives_a_kill_of_the_postmaster_and_a_second_up(tmp_path: Path) -> None:
    paths = prepare(tmp_path / "shop")
    async with _running(paths) as (one, server):
        connection = await asyncpg.connect(server.dsn())
        await connection.execute("CREATE TABLE orders (id int PRIMARY KEY)")
        for each in range(50):
            await connection.execute("INSERT INTO orders VALUES ($1)", each)
        # A backend that is busy when its postmaster dies holds the shared memory until it looks up.
        busy = asyncio.create_task(connection.execute("SELECT count(*) FROM generate_series(1, 20000000)"))
        await asyncio.sleep(0.1)
        os.kill(server.pid, signal.SIGKILL)
        with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            await busy
        async with asyncio.timeout(30):
            while not (one.state().children[0].restarts and one.state().children[0].state == "ready"):
                await asyncio.sleep(0.05)
        assert await _count(server) == 50
    async with _running(paths) as (_, server):
        assert await _count(server) == 50
        assert "database system was shut down" in (paths.logs / "postgres.log").read_text(), "the stop was a clean one"
    assert list(paths.run.iterdir()) == []


async def _count(server: PostgresServer) -> int:
    connection = await asyncpg.connect(server.dsn(), timeout=5)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM orders"))
    finally:
        await connection.close()


def _spoil_control_file(paths: DataPaths) -> None:
    file = paths.pg / "global" / "pg_control"
    content = bytearray(file.read_bytes())
    content[100] ^= 0xFF
    file.write_bytes(content)


_DAMAGES: dict[str, tuple[Callable[[DataPaths], object], str]] = {
    "no version": (lambda paths: (paths.pg / "PG_VERSION").unlink(), "PG_VERSION is missing"),
    "bad version": (lambda paths: (paths.pg / "PG_VERSION").write_bytes(b"\xff\x00"), "PG_VERSION does not hold"),
    "other major": (lambda paths: (paths.pg / "PG_VERSION").write_text("15\n"), "was made by PostgreSQL 15; this"),
    "bad control": (_spoil_control_file, "pg_control does not match its checksum"),
    "no control": (lambda paths: (paths.pg / "global/pg_control").unlink(), "pg_control is missing"),
    "no wal": (lambda paths: (paths.pg / "pg_wal").rename(paths.pg / "gone"), "pg_wal is missing"),
    "empty hba": (lambda paths: (paths.pg / "pg_hba.conf").write_text(""), "pg_hba.conf is missing or empty"),
    "no password": (lambda paths: paths.superuser_password.unlink(), "postgres-superuser is missing"),
    "a file": (
        lambda paths: paths.pg.rename(paths.root / "x").joinpath("PG_VERSION").rename(paths.pg),
        "not a directory",
    ),
}


@pytest.mark.parametrize("damage", sorted(_DAMAGES))
def test_a_damaged_cluster_is_told_by_file_and_nothing_is_deleted(made: DataPaths, damage: str) -> None:
    spoil, says = _DAMAGES[damage]
    spoil(made)
    before = sorted(made.root.rglob("*"))
    with pytest.raises(StartError, match=says) as raised:
        prepare_cluster(made, made.run)
    assert "\n" not in raised.value.message
    assert "Nothing was changed or deleted" in raised.value.hint
    assert sorted(made.root.rglob("*")) == before


@pytest.mark.parametrize("spoiled", ["pg_wal", "global/pg_filenode.map"])
async def test_damage_that_only_postgresql_finds_is_told_in_one_line(made: DataPaths, spoiled: str) -> None:
    target = made.pg / spoiled
    for file in [target] if target.is_file() else [each for each in target.iterdir() if each.is_file()]:
        file.write_bytes(b"\0" * file.stat().st_size)
    with pytest.raises(StartError, match="The database is damaged: ") as raised:
        async with _running(made):
            pass
    assert "\n" not in raised.value.message


async def test_a_password_that_is_not_the_clusters_is_told(made: DataPaths) -> None:
    made.superuser_password.write_text("from another shop")
    with pytest.raises(StartError, match="superuser password is not the one of this database"):
        async with _running(made):
            pass


async def test_a_cluster_killed_in_the_making_leaves_nothing_half_made(tmp_path: Path) -> None:
    paths = prepare(tmp_path / "shop")
    half = paths.root / ".pg-building-abc"
    (half / "cluster").mkdir(parents=True)
    async with _running(paths) as (_, server):
        assert await postgres.accepts_connections(server)
    assert not half.exists()


async def test_a_lock_file_that_names_another_program_does_not_stop_the_start(made: DataPaths) -> None:
    (made.pg / "postmaster.pid").write_text(f"{os.getpid()}\n{made.pg}\n1\n5432\n\n\n")
    async with _running(made) as (one, server):
        assert await postgres.accepts_connections(server)
        assert one.state().children[0].restarts == 0
    assert (made.pg / "postmaster.pid.stale").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts a file system of so many megabytes; skipped where that is not allowed."""
    mounted: list[Path] = []

    def mount(size_mb: int, options: str = "rw") -> Path:
        place = tmp_path / f"disk{len(mounted)}"
        place.mkdir()
        argv = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m,{options}", "tmpfs", str(place)]
        if os.geteuid() != 0 or subprocess.run(argv, capture_output=True, check=False).returncode != 0:
            pytest.skip("mounting a small file system is not allowed here")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_disk_with_little_room_is_told_before_anything_is_made(small_disk: Callable[[int], Path]) -> None:
    paths = prepare(small_disk(40) / "shop")
    with pytest.raises(StartError, match=r"has (39|40) MB free; at least 300 MB are needed"):
        prepare_cluster(paths, paths.run)
    assert not paths.pg.exists()


def test_a_disk_that_fills_while_the_cluster_is_made_leaves_nothing_half_made(
    small_disk: Callable[[int], Path],
) -> None:
    paths = prepare(small_disk(20) / "shop")
    with pytest.raises(StartError, match="There is no room left on the disk that holds"):
        prepare_cluster(paths, paths.run, min_free_bytes=0)
    assert [each.name for each in paths.root.iterdir() if "pg" in each.name] == []


async def test_a_disk_that_fills_under_a_running_server_is_told_and_loses_nothing(
    small_disk: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "MIN_FREE_BYTES", 0)
    paths = prepare(small_disk(90) / "shop")
    sockets = socket_dir(paths.run)
    one = Supervisor(paths, sockets)
    try:
        server = prepare_cluster(paths, sockets, min_free_bytes=0)
        await one.start(postgres_child(server))
        connection = await asyncpg.connect(server.dsn())
        await connection.execute("CREATE TABLE orders (id int, filler text)")
        await connection.execute("INSERT INTO orders VALUES (1, '')")
        with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            for _ in range(40):  # WAL and table grow until there is no room
                await connection.execute("INSERT INTO orders SELECT 2, repeat('x', 1000) FROM generate_series(1, 4000)")
        async with asyncio.timeout(20):
            while "No space left on device" not in (paths.logs / "postgres.log").read_text():
                await asyncio.sleep(0.05)
        said = cluster.explain_postgres((paths.logs / "postgres.log").read_text())
        assert said is not None
        assert said.message == "PostgreSQL stopped because the disk is full."
        argv = ["mount", "-o", "remount,size=500m", str(paths.root.parent)]
        subprocess.run(argv, check=True)  # somebody makes room, and the supervisor does the rest
        async with asyncio.timeout(30):
            while not await postgres.accepts_connections(server):
                await asyncio.sleep(0.05)
        connection = await asyncpg.connect(server.dsn())
        assert await connection.fetchval("SELECT count(*) FROM orders WHERE id = 1") == 1
        await connection.close()
    finally:
        await one.stop()
        remove_socket_dir(sockets, paths.run)


def test_a_directory_that_cannot_be_written_is_told(small_disk: Callable[..., Path]) -> None:
    with pytest.raises(StartError, match="cannot be used: Read-only file system"):
        prepare(small_disk(1, "ro") / "shop")


def test_a_path_below_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match=r"file/shop cannot be used: Not a directory\."):
        prepare(tmp_path / "file" / "shop")


def test_a_directory_with_somebody_elses_files_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("…")
    mode = tmp_path.stat().st_mode
    with pytest.raises(StartError, match="is not empty and is not a Doorbuster data directory"):
        prepare(tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["thesis.tex"]
    assert tmp_path.stat().st_mode == mode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_cluster_of_another_user_is_told(made: DataPaths) -> None:
    os.chown(made.pg, 12345, 12345)
    with pytest.raises(StartError, match="belongs to the user with id 12345"):
        check_cluster(made.pg)
