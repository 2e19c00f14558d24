"""kill -9 of a worker, of a PostgreSQL backend and of the postmaster, each while the crowd has orders in the air."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import asyncpg
import msgspec

from doorbuster.drills.load import RunningLoad
from doorbuster.drills.temporary_shop import DrilledShop
from doorbuster.drills.timedeal.shop_findings import Kill
from doorbuster.engines.embedded import ChildState, read_state
from doorbuster.provision import role_of

WORKER, BACKEND, POSTMASTER = "worker", "backend", "postmaster"
KILLS = (WORKER, BACKEND, POSTMASTER)
# Shares of the orders answered at which the three fall due: all while there is still stock to fight for.
DUE_SHARES = (0.10, 0.24, 0.38)
JITTER = 0.04
BACK_WITHIN_S = 30.0
_POLL_S = 0.01
_FIND_WITHIN_S = 10.0
_HOT = ("commerce.order", "item.stock", "commerce.payment")


class KillFailed(Exception):
    """A process to kill could not be found; the drill proves nothing without it."""


class _Victim(msgspec.Struct, frozen=True):
    pid: int
    name: str


async def wreak(
    shop: DrilledShop, load: RunningLoad, orders: int, seed: int, tell: Callable[[str], None]
) -> tuple[Kill, ...]:
    """The three kills in an order and at moments drawn from the seed; waits for each thing to come back.

    Returns those that were done before the load ended. Raises KillFailed.
    """
    dice = random.Random(seed * 7919 + 1)  # noqa: S311  a repeatable storm, no secret
    order = dice.sample(KILLS, len(KILLS))
    dues = [share + dice.uniform(-JITTER, JITTER) for share in DUE_SHARES]
    watches: list[asyncio.Task[Kill]] = []
    for what, due in zip(order, dues, strict=True):
        if not await _until_busy(load, round(due * orders)):
            break
        victim = await _find(shop, what, dice)
        told = load.inflight()
        os.kill(victim.pid, signal.SIGKILL)
        kill = Kill(what, victim.name, victim.pid, time.time(), None, told)
        tell(f"kill -9 {victim.name} (process {victim.pid}) with {told} orders in flight")
        watches.append(asyncio.create_task(_watch_return(shop, kill)))
    return tuple(await asyncio.gather(*watches))


async def _until_busy(load: RunningLoad, done: int) -> bool:
    """Wait until so many orders were answered and others are in flight; False when the load ended first."""
    while load.poll() is None:
        progress = load.progress()
        if progress is not None and progress.done >= done and progress.inflight > 0:
            return True
        await asyncio.sleep(_POLL_S)
    return False


async def _find(shop: DrilledShop, what: str, dice: random.Random) -> _Victim:
    if what == WORKER:
        state = read_state(shop.data)
        workers = [child for child in state.children if _is_worker(child)] if state else []
        alive = [child for child in workers if child.pid is not None]
        if not alive:
            raise KillFailed("no worker runs")
        chosen = dice.choice(alive)
        assert chosen.pid is not None
        return _Victim(chosen.pid, chosen.name)
    if what == POSTMASTER:
        pid = shop.server.pid
        if not _is_postgres(pid):
            raise KillFailed(f"process {pid} is not the postmaster")
        return _Victim(pid, "postmaster")
    return await _find_backend(shop)


def _is_worker(child: ChildState) -> bool:
    """One that serves requests: a worker with everything, or a service of its own."""
    return Path(child.address).name == f"{child.name}.sock"


async def _find_backend(shop: DrilledShop) -> _Victim:
    """A backend that serves a hot domain; one in the middle of a transaction when there is one."""
    roles = [role_of(domain) for domain in _HOT]
    give_up = time.monotonic() + _FIND_WITHIN_S
    idle: _Victim | None = None
    while time.monotonic() < give_up:
        try:
            connection = await asyncpg.connect(shop.dsn, timeout=5)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
            await asyncio.sleep(0.1)  # another kill is being recovered from
            continue
        try:
            for _ in range(200):
                row = await connection.fetchrow(
                    "SELECT pid, usename, state FROM pg_stat_activity WHERE backend_type = 'client backend'"
                    " AND usename = ANY($1) ORDER BY (state = 'idle'), random() LIMIT 1",
                    roles,
                    timeout=5,
                )
                if row is not None and _is_postgres(row["pid"]):
                    idle = _Victim(row["pid"], f"backend of {row['usename']} ({row['state']})")
                    if row["state"] != "idle":
                        return idle
                await asyncio.sleep(_POLL_S)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
            continue
        finally:
            connection.terminate()
        if idle is not None:
            return idle
    raise KillFailed("no PostgreSQL backend of a hot domain was found")


def _is_postgres(pid: int) -> bool:
    try:
        return b"postgres" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


async def _watch_return(shop: DrilledShop, kill: Kill) -> Kill:
    """The same kill with how long it took until the shop had what was killed again; None when it never had."""
    await asyncio.sleep(_POLL_S)
    while (passed := time.time() - kill.at_unix_s) < BACK_WITHIN_S:
        if await (_worker_is_back(shop, kill) if kill.what == WORKER else _database_is_back(shop, kill)):
            return msgspec.structs.replace(kill, back_after_s=round(time.time() - kill.at_unix_s, 3))
        await asyncio.sleep(0.05)
    assert passed >= BACK_WITHIN_S
    return kill


async def _worker_is_back(shop: DrilledShop, kill: Kill) -> bool:
    state = read_state(shop.data)
    found = next((child for child in state.children if child.name == kill.victim), None) if state else None
    return found is not None and found.state == "ready" and found.pid not in (None, kill.pid)


async def _database_is_back(shop: DrilledShop, kill: Kill) -> bool:
    """A connection answers, and the killed process is gone."""
    if _is_postgres(kill.pid):
        return False
    try:
        connection = await asyncpg.connect(shop.dsn, timeout=2)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
        return False
    try:
        return bool(await connection.fetchval("SELECT true", timeout=2))
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
        return False
    finally:
        connection.terminate()
