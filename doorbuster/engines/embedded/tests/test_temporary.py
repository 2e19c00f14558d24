"""The throw-away PostgreSQL that every other test stands on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import pytest

import doorbuster
from doorbuster.engines.embedded import ensure_database, ensure_role, postgres, pss_tree_bytes, temporary_postgres
from doorbuster.engines.embedded.process_table import identify


async def test_a_temporary_server_keeps_every_promise_of_durability_and_privacy() -> None:
    async with temporary_postgres() as server:
        connection = await asyncpg.connect(server.dsn())
        asked = [
            *("fsync", "full_page_writes", "synchronous_commit", "data_checksums"),
            *("listen_addresses", "password_encryption", "server_encoding"),
        ]
        shown = {name: await connection.fetchval(f"SHOW {name}") for name in asked}
        assert shown == {
            **dict.fromkeys(("fsync", "full_page_writes", "synchronous_commit", "data_checksums"), "on"),
            "listen_addresses": "",
            "password_encryption": "scram-sha-256",
            "server_encoding": "UTF8",
        }
        rules = await connection.fetch("SELECT DISTINCT auth_method FROM pg_hba_file_rules")
        assert [rule["auth_method"] for rule in rules] == ["scram-sha-256"]
        assert await connection.fetchval("SELECT upper('ärger') || ('Z' < 'a')::text") == "ÄRGERtrue"
        await connection.close()
        assert server.socket_dir.stat().st_mode & 0o777 == 0o700
        assert server.data_dir.stat().st_mode & 0o777 == 0o700
        assert 10e6 < pss_tree_bytes(server.pid) < 200e6
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(server.dsn(password="guess"))
        assert server.superuser_password not in repr(server)
        pid, home = server.pid, server.data_dir.parent
    assert identify(pid) is None
    assert not home.exists()


async def test_two_temporary_servers_share_nothing() -> None:
    async with temporary_postgres() as one, temporary_postgres() as two:
        assert one.data_dir != two.data_dir
        first, second = await asyncpg.connect(one.dsn()), await asyncpg.connect(two.dsn())
        await first.execute("CREATE TABLE here (x int)")
        assert await second.fetchval("SELECT to_regclass('here')") is None
        await first.close()
        await second.close()


async def test_a_deep_directory_gets_its_socket_elsewhere(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    async with temporary_postgres(deep) as server:
        assert server.data_dir.is_relative_to(deep)
        assert server.socket_dir.stat().st_mode & 0o777 == 0o700
        assert await postgres.accepts_connections(server)
    assert not server.socket_dir.exists()


async def test_a_role_enters_with_its_password_and_only_where_it_may() -> None:
    async with temporary_postgres() as server:
        await ensure_database(server, "shop")
        for password in ("first", "it's \\ second"):  # a second call changes the password
            await ensure_role(server, "item_stock", password)
        await ensure_database(server, "shop")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await asyncpg.connect(server.dsn("item_stock", "shop", "it's \\ second"))
        admin = await asyncpg.connect(server.dsn(database="shop"))
        await admin.execute("GRANT CONNECT ON DATABASE shop TO item_stock")
        await admin.close()
        role = await asyncpg.connect(server.dsn("item_stock", "shop", "it's \\ second"))
        assert await role.fetchval("SELECT current_user") == "item_stock"
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await role.execute("CREATE TABLE public.mine (x int)")
        await role.close()
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(server.dsn("item_stock", "shop", "first"))


def test_the_server_ends_with_an_owner_that_is_killed() -> None:
    code = (
        "import asyncio; from doorbuster.engines.embedded import temporary_postgres\n"
        "async def main():\n"
        "    async with temporary_postgres() as server:\n"
        "        print(server.pid, server.data_dir.parent, flush=True); await asyncio.sleep(600)\n"
        "asyncio.run(main())"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(doorbuster.__file__).parents[1])}
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    assert owner.stdout is not None
    with owner:
        pid, home = owner.stdout.readline().split()
        server = identify(int(pid))
        assert server is not None
        owner.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while identify(server.pid) == server:
        assert time.monotonic() < deadline, "PostgreSQL outlived its owner"
        time.sleep(0.02)
    shutil.rmtree(home)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="the fallback is for root with setpriv")
async def test_where_namespaces_are_closed_root_runs_it_as_nobody(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(postgres, "choose_privileges", lambda: "setpriv")
    async with temporary_postgres(tmp_path) as server:
        status = Path(f"/proc/{server.pid}/status").read_text()
        assert "\nUid:\t65534\t65534\t65534\t65534\n" in status
        connection = await asyncpg.connect(server.dsn())
        assert await connection.fetchval("SHOW data_checksums") == "on"
        await connection.close()
        pid = server.pid
    assert identify(pid) is None


def test_a_child_of_the_fallback_ends_with_its_parent_too() -> None:
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("the fallback is for root with setpriv")
    code = (
        "import subprocess, signal, time; from doorbuster.engines.embedded.postgres import confined_argv\n"
        "p = subprocess.Popen(confined_argv(['/bin/sleep', '600'], signal.SIGINT, 'setpriv'))\n"
        "print(p.pid, flush=True); time.sleep(600)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(doorbuster.__file__).parents[1])}
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    assert owner.stdout is not None
    with owner:
        child = identify(int(owner.stdout.readline()))
        assert child is not None
        deadline = time.monotonic() + 10
        while Path(f"/proc/{child.pid}/comm").read_text() != "sleep\n":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        owner.send_signal(signal.SIGKILL)
    while identify(child.pid) == child:
        assert time.monotonic() < deadline, "it outlived its parent"
        time.sleep(0.02)
