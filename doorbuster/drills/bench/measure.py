"""The measurements: pgbench's single row, the hot item through the edge, one transaction per order, reserve alone."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import subprocess
import tempfile
import time
from collections.abc import Mapping
from uuid import UUID, uuid4

import asyncpg
import msgspec

from doorbuster import client
from doorbuster.domains.item import stock
from doorbuster.drills import load
from doorbuster.drills.temporary_shop import DrilledShop
from doorbuster.drills.timedeal.crowd_plan import Crowd, Sale
from doorbuster.drills.timedeal.hot_item import put_on_sale
from doorbuster.engines.embedded import binary, pss_tree_bytes, read_state
from doorbuster.platform import db, settings
from doorbuster.platform.calls import SYSTEM

SHOPPERS = 256
OPTIONS = 6
PGBENCH_CLIENTS = 32
PLENTY = 1_000_000
DURABLE = ("fsync", "full_page_writes", "synchronous_commit")


class LoadFigures(msgspec.Struct, frozen=True):
    """One load through the edge. Latencies in ms; the generator's CPU as a share of one core."""

    per_s: float
    p50_ms: float
    p99_ms: float
    answers: dict[str, int]
    generator_share_of_core: float


class NotDurable(Exception):
    """The server would acknowledge before data is safe; such figures are worth nothing."""


async def durability(dsn: str) -> dict[str, str]:
    """The settings that make a commit durable, as the server has them. Raises NotDurable when one is off."""
    connection = await asyncpg.connect(dsn, timeout=10)
    try:
        found = {name: str(await connection.fetchval(f"SHOW {name}")) for name in DURABLE}
    finally:
        await connection.close()
    if off := [name for name, value in found.items() if value != "on"]:
        raise NotDurable(f"{', '.join(off)} is not on")
    return found


def pgbench_single_row(shop: DrilledShop, seconds: int) -> float:
    """Transactions per second of `UPDATE … WHERE id = 1` by 32 clients: the limit of one transaction per order."""
    environment = os.environ | {
        "PGPASSWORD": shop.server.superuser_password, "PGOPTIONS": "-c client_min_messages=warning",
    }  # fmt: skip
    where = ["-h", str(shop.server.socket_dir), "-U", "postgres", "postgres"]
    table = "CREATE TABLE IF NOT EXISTS bench_hot (id int PRIMARY KEY, n bigint);"
    fill = "INSERT INTO bench_hot VALUES (1, 0) ON CONFLICT DO NOTHING"
    subprocess.run([binary("psql"), "-q", "-c", table, "-c", fill, *where], env=environment, check=True, timeout=30)
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write("UPDATE bench_hot SET n = n + 1 WHERE id = 1;\n")
        script.flush()
        done = subprocess.run(
            [
                binary("pgbench"), "-n", "-f", script.name, "-c", str(PGBENCH_CLIENTS), "-j", "2", "-M", "prepared",
                "-T", str(seconds), *where,
            ],
            env=environment, check=True, capture_output=True, text=True, timeout=seconds + 60,
        )  # fmt: skip
    found = re.search(r"tps = ([0-9.]+)", done.stdout)
    assert found is not None, done.stdout
    return float(found[1])


def hot_crowd() -> Crowd:
    """Plenty of units of one hot item of six options, and a limit that everybody stays under."""
    units = (PLENTY,) * OPTIONS
    allotment = tuple(count // 2 for count in units)
    return Crowd(seed=0, shoppers=SHOPPERS, wishes=(), stock=units, allotment=allotment, per_customer_limit=1_000_000)


async def prepare(shop: DrilledShop) -> Sale:
    """The hot item and its deal."""
    return await put_on_sale(shop, hot_crowd())


def plan_of(shop: DrilledShop, sale: Sale, *, pays: bool, seconds: float, rate: float | None, seed: int) -> load.Plan:
    """Orders of one to three of six options with deal, limit and key, by 256 shoppers."""
    draw = random.Random(seed)  # noqa: S311  (a repeatable load, no secret)
    bodies = []
    for _ in range(600):
        lines = [{"option_id": one, "quantity": 1} for one in draw.sample(list(sale.option_ids), draw.randint(1, 3))]
        payment = {"payment": {"method": "card", "instrument": "tok_visa"}} if pays else {}
        bodies.append(json.dumps({"lines": lines, "deal_id": str(sale.deal_id)} | payment))
    found = shop.as_client()
    count = int((rate or 6_000) * seconds) + SHOPPERS
    return load.Plan(
        host="localhost",
        port=shop.port,
        ca_file=str(found.authority),
        connections=SHOPPERS,
        mode="open" if rate else "closed",
        rate_per_s=rate,
        arrivals="uniform",
        duration_s=seconds,
        warmup_s=min(2.0, seconds / 4),
        seed=seed,
        routes=[load.Route("POST", "/api/v1/order", {"content-type": "application/json"})],
        tokens=client.shopper_tokens(found.settings, SHOPPERS),
        bodies=bodies,
        rows=[(0, n % SHOPPERS, n % len(bodies), uuid4().hex) for n in range(count)],
    )


def drive(
    shop: DrilledShop, sale: Sale, *, pays: bool, seconds: float, seed: int, rate: float | None = None
) -> LoadFigures:
    """Run one load and read its figures."""
    with load.run_process(plan_of(shop, sale, pays=pays, seconds=seconds, rate=rate, seed=seed)) as running:
        result = running.wait(seconds + 60)
    return LoadFigures(
        per_s=result.rate_per_s,
        p50_ms=result.latency_ms.p50,
        p99_ms=result.latency_ms.p99,
        answers={str(status): count for status, count in result.by_status.items()},
        generator_share_of_core=result.cpu_share_of_core,
    )


async def reserve_alone(shop: DrilledShop, sale: Sale, seconds: float) -> float:
    """Reservations per second of the batched writer by itself, called in this process by 512 shoppers at once."""
    settings.use(client.read_settings(shop.data))
    until = time.monotonic() + seconds
    options = [UUID(str(one)) for one in sale.option_ids]
    draw = random.Random(1)  # noqa: S311

    async def shopper() -> int:
        done, who = 0, uuid4()
        while time.monotonic() < until:
            lines = tuple(stock.Line(one, 1) for one in draw.sample(options, draw.randint(1, 3)))
            await stock.reserve(SYSTEM, stock.Reserve(uuid4(), who, lines, 60, UUID(str(sale.deal_id)), "bench"))
            done += 1
        return done

    began = time.monotonic()
    counts = await asyncio.gather(*(shopper() for _ in range(512)))
    took = time.monotonic() - began
    await db.close_all()
    return sum(counts) / took


def memory(shop: DrilledShop) -> dict[str, int]:
    """PSS in bytes of every process of the shop, and their sum under `all`."""
    state = read_state(shop.data)
    assert state is not None
    found = {child.name: pss_tree_bytes(child.pid) for child in state.children if child.pid}
    found["supervisor"] = pss_tree_bytes(state.supervisor.pid) - sum(found.values())
    return found | {"all": sum(found.values())}


def one_by_one() -> Mapping[str, object]:
    """Settings of the old way: one transaction per request, as many at once as the pool has connections."""
    return {"batch_limit": 1, "batch_writers": 8}
