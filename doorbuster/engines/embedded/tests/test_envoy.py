"""The real Envoy as a supervised child: ready, drained, stopped, and its faults told."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import aiohttp
import pytest

from doorbuster.engines.embedded import StartError, Supervisor, ask_admin, envoy_child, prepare
from doorbuster.engines.embedded.envoy import drain, is_ready, validate
from doorbuster.engines.embedded.paths import remove_socket_dir, socket_dir


def _free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        return int(trial.getsockname()[1])


def _bootstrap(folder: Path, admin: Path, port: int, upstream_port: int = 1) -> Path:
    """One listener that answers /here itself and sends everything else to a cluster."""
    upstream = {"socket_address": {"address": "127.0.0.1", "port_value": upstream_port}}
    cluster = {
        "name": "up",
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": "up",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": upstream}}]}],
        },
    }
    here = {"match": {"path": "/here"}, "direct_response": {"status": 200, "body": {"inline_string": "hello"}}}
    there = {"match": {"prefix": "/"}, "route": {"cluster": "up"}}
    kind = "type.googleapis.com/envoy.extensions.filters"
    connection = {
        "@type": f"{kind}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "edge",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [here, there]}]},
        "http_filters": [
            {"name": "router", "typed_config": {"@type": f"{kind}.http.router.v3.Router"}},
        ],
    }
    listener = {
        "name": "edge",
        "enable_reuse_port": False,
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": connection}]}],
    }
    file = folder / "bootstrap.json"
    content = {
        "admin": {"address": {"pipe": {"path": str(admin), "mode": 0o600}}},
        "static_resources": {"listeners": [listener], "clusters": [cluster]},
    }
    file.write_text(json.dumps(content))
    return file


async def test_envoy_serves_when_ready_and_a_request_in_flight_survives_the_stop(tmp_path: Path) -> None:
    paths = prepare(tmp_path / "shop")
    sockets, port, arrived = socket_dir(paths.run), _free_port(), asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        arrived.set()
        await asyncio.sleep(0.5)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
        await writer.drain()

    admin = sockets / "envoy-admin.sock"
    async with await asyncio.start_server(slow, "127.0.0.1", 0) as upstream, aiohttp.ClientSession() as client:
        bootstrap = _bootstrap(paths.edge, admin, port, upstream.sockets[0].getsockname()[1])
        validate(bootstrap)
        one = Supervisor(paths, sockets)
        try:
            await one.start(envoy_child(bootstrap, admin, port))
            assert admin.stat().st_mode & 0o777 == 0o600
            async with client.get(f"http://127.0.0.1:{port}/here") as answer:
                assert await answer.text() == "hello"
            status, statistics = await ask_admin(admin, "/stats")
            assert status == 200
            assert b"http.edge.downstream_rq_total: 1\n" in statistics
            waiting = asyncio.create_task(client.get(f"http://127.0.0.1:{port}/slow"))
            await asyncio.wait_for(arrived.wait(), 5)
        finally:
            await one.stop()
        assert await (await asyncio.wait_for(waiting, 5)).text() == "done"
    remove_socket_dir(sockets, paths.run)
    assert list(paths.run.iterdir()) == []


async def test_a_port_taken_meanwhile_is_told_by_envoy_too(tmp_path: Path) -> None:
    paths = prepare(tmp_path / "shop")
    sockets = socket_dir(paths.run)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        bootstrap = _bootstrap(paths.edge, sockets / "admin.sock", port)
        one = Supervisor(paths, sockets)
        try:
            with pytest.raises(StartError, match=f"Port {port} is already taken"):
                await one.start(envoy_child(bootstrap, sockets / "admin.sock", port))
        finally:
            await one.stop()
    remove_socket_dir(sockets, paths.run)


async def test_a_configuration_envoy_does_not_accept_is_told(tmp_path: Path) -> None:
    paths = prepare(tmp_path / "shop")
    sockets = socket_dir(paths.run)
    bootstrap = paths.edge / "bootstrap.json"
    bootstrap.write_text('{"static_resources": {"listeners": [{"nonsense": 1}]}}')
    with pytest.raises(StartError, match="nonsense"):
        validate(bootstrap)
    one = Supervisor(paths, sockets)
    try:
        with pytest.raises(StartError, match="Envoy does not accept its configuration"):
            await one.start(envoy_child(bootstrap, sockets / "admin.sock", 1))
    finally:
        await one.stop()


async def test_an_envoy_that_is_away_is_not_ready_and_needs_no_draining(tmp_path: Path) -> None:
    assert await is_ready(tmp_path / "none.sock") is False
    await asyncio.wait_for(drain(tmp_path / "none.sock"), 2)
