"""The services apart: each has its own database and key, and the death of one is felt by its own routes only."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import msgspec
import pytest

from doorbuster import client, map, provision
from doorbuster.drills.temporary_shop import DrilledShop, free_port
from doorbuster.engines.embedded import prepare, read_state
from doorbuster.platform.settings import Settings

SERVICES = ("user", "item", "commerce", "activation", "storefront")
_CLI = [sys.executable, "-m", "doorbuster.surfaces.cli.main"]


def own_settings(shop: DrilledShop, service: str) -> Settings:
    return msgspec.json.decode((shop.paths.run / f"settings-{service}.json").read_bytes(), type=Settings)


def pid_of(shop: DrilledShop, service: str) -> int:
    state = read_state(shop.data)
    assert state is not None
    (child,) = [child for child in state.children if child.name == service]
    assert child.pid is not None and child.state == "ready"
    return child.pid


async def make_item(merchant: client.Client, handle: str, on_hand: int = 5) -> str:
    draft = {"handle": handle, "title": "Mug", "status": "active", "option_names": ["Size"]}
    item = await merchant.call("POST", "/api/v1/catalog", draft | {"options": [{"values": ["one"]}]})
    option: str = item["options"][0]["id"]
    await merchant.call("PUT", f"/api/v1/price/option/{option}", {"currency": "USD", "list_minor": 900})
    await merchant.call("PUT", f"/api/v1/stock/{option}", {"on_hand": on_hand})
    return option


async def buy(shopper: client.Client, option: str, key: str) -> Any:
    wish = {
        "lines": [{"option_id": option, "quantity": 1}],
        "payment": {"method": "card", "instrument": "tok_visa"},
    }
    return await shopper.call("POST", "/api/v1/order", wish, {"idempotency-key": key})


async def test_an_order_crosses_every_service_and_comes_back(apart: DrilledShop) -> None:
    shop = apart.as_client()
    async with client.Client(shop) as merchant, client.Client(shop, "shopper") as shopper:
        option = await make_item(merchant, "mug-1")
        placed = await buy(shopper, option, "k-1")
        assert placed["state"] == "paid"
        assert await buy(shopper, option, "k-1") == placed
        cancelled = await shopper.call("POST", f"/api/v1/order/{placed['id']}/cancel", {}, {"idempotency-key": "k-2"})
        assert cancelled["state"] == "cancelled"
        level = await merchant.call("GET", f"/api/v1/stock/{option}")
        assert (level["on_hand"], level["reserved"], level["sold"]) == (5, 0, 0)
        with pytest.raises(client.ShopRefused, match="sold_out"):
            wish = {"lines": [{"option_id": option, "quantity": 6}]}
            await shopper.call("POST", "/api/v1/order", wish, {"idempotency-key": "k-3"})


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_told_what_it_needs_and_no_more(apart: DrilledShop, service: str) -> None:
    told = own_settings(apart, service)
    own = {domain.id for domain in map.BUILT if domain.group == service}
    assert set(told.databases) == own
    assert set(told.addresses) == {domain.id for domain in map.BUILT} - own
    heard = {fact.split(".")[0] for domain in map.BUILT if domain.id in own for fact in domain.hears}
    assert set(told.outboxes) == heard
    assert (apart.paths.run / f"settings-{service}.json").stat().st_mode & 0o077 == 0


async def test_a_group_cannot_enter_another_groups_database(apart: DrilledShop) -> None:
    login = own_settings(apart, "commerce").databases["commerce.order"]
    where = provision.databases(apart=True)
    assert len({*where.values()}) == len({domain.group for domain in map.BUILT})
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(
            host=login.host, user=login.user, password=login.password, database=where["item.stock"], timeout=10
        )


def test_status_names_each_service(apart: DrilledShop) -> None:
    said = subprocess.run([*_CLI, "status", "--json", "--data", str(apart.data)], capture_output=True, check=True)
    names = {process["name"] for process in msgspec.json.decode(said.stdout)["processes"]}
    assert names == {"postgres", "psp-sandbox", "envoy", *SERVICES}


@pytest.mark.parametrize("killed", ["item", "commerce"])
async def test_while_a_service_is_away_its_callers_say_so_and_the_same_request_works_later(
    apart: DrilledShop, killed: str
) -> None:
    """The supervisor brings it back; until then nothing is half done, and others go on."""
    shop = apart.as_client()
    async with client.Client(shop) as merchant, client.Client(shop, "shopper") as shopper:
        option = await make_item(merchant, f"mug-{killed}")
        pid = pid_of(apart, killed)
        os.kill(pid, signal.SIGKILL)
        refused: list[str] = []
        deadline = time.monotonic() + 30
        while True:
            try:
                placed = await buy(shopper, option, f"k-{killed}")
                break
            except client.ShopRefused as refusal:
                refused.append(str(refusal))
                assert time.monotonic() < deadline, refused
                await asyncio.sleep(0.05)
        assert placed["state"] == "paid"
        assert all("unavailable" in one or "outcome_unknown" in one or "upstream" in one for one in refused), refused
        level = await merchant.call("GET", f"/api/v1/stock/{option}")
        assert (level["reserved"], level["sold"]) == (0, 1)


def test_the_layout_of_a_data_directory_stays(tmp_path: Path) -> None:
    paths = prepare(tmp_path / "shop")
    paths.pg.mkdir(exist_ok=True)
    (paths.pg / "PG_VERSION").write_text("18\n")
    argv = [*_CLI, "up", "--split", "--port", str(free_port()), "--data", str(tmp_path / "shop")]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert said.returncode == 1
    assert "was made with everything in one database" in said.stderr
    assert "without --split" in said.stderr


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["brand", "--listen", "unix:/tmp/x.sock"], "There is no service 'brand' to run"),
        (["shop", "--listen", "unix:/tmp/x.sock"], "There is no service 'shop' to run"),
        (["item", "--listen", "127.0.0.1:0"], "anybody could claim to be the edge"),
        (["user", "--listen", "unix:/tmp/x.sock"], "says no database for user.account"),
    ],
)
def test_serve_says_what_is_missing(apart: DrilledShop, arguments: list[str], why: str) -> None:
    file = apart.paths.run / "settings-item.json"
    argv = [*_CLI, "serve", *arguments, "--settings", str(file)]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (said.returncode, why in said.stderr) == (1, True), said.stderr


async def test_on_a_network_a_service_believes_the_edge_alone(apart: DrilledShop, tmp_path: Path) -> None:
    secret = "s" * 32
    (tmp_path / "edge-secret").write_text(secret)
    file = tmp_path / "settings.json"
    told = msgspec.structs.replace(own_settings(apart, "item"), edge_secret_file=str(tmp_path / "edge-secret"))
    file.write_bytes(msgspec.json.encode(told))
    port = free_port()
    argv = [*_CLI, "serve", "item.catalog", "item.price", "--listen", f"127.0.0.1:{port}", "--settings", str(file)]
    process = subprocess.Popen(argv)
    admin = {"x-door-sub": "6f0d4c1e-6d0b-4a53-9f0e-d00b57e40000", "x-door-roles": "admin"}
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            deadline = time.monotonic() + 30
            while await status(session, "/readyz") != 200:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)
            assert await status(session, "/metrics", admin) == 401
            assert await status(session, "/metrics", admin | {"x-door-edge": "s" * 31}) == 401
            assert await status(session, "/metrics", admin | {"x-door-edge": secret}) == 200
            assert await status(session, "/api/v1/catalog", {"x-door-edge": secret}) == 200
            assert await status(session, "/api/v1/deal", {"x-door-edge": secret}) == 404
            async with session.post("/internal/v1/item.price.quote", data=b"{}") as said:
                assert said.status == 401
    finally:
        process.terminate()
        process.wait(20)


async def status(session: aiohttp.ClientSession, path: str, headers: dict[str, str] | None = None) -> int:
    try:
        async with session.get(path, headers=headers) as answer:
            return answer.status
    except aiohttp.ClientError:
        return 0
